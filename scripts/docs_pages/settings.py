"""The settings, from their declaration."""

from __future__ import annotations

from typing import Any

from scripts.docs_pages.markdown import code, opening, table
from tenuto.settings import describe


def page() -> str:
    """Return the page."""
    text = opening(
        "Settings", "tenuto/settings",
        "A flag beats an environment variable, which beats `tenuto.toml` in the working directory (or the file `TENUTO_CONFIG` names), which beats the default.",
        "An unknown key or a bad value is refused at the start, all of them at once.",
        "Lists are separated by commas in variables and are arrays in the file.",
        "A key with dots is in a table of the file; its first word is also a variable, such as `TENUTO_CAPS`, that holds the whole table as JSON.",
    )  # fmt: skip
    rows = [
        (
            code(item["name"]),
            _default(item["default"]),
            item["help"],
            ", ".join(code(v) for v in item["variables"]),
        )
        for item in describe()
    ]
    text += "\n" + table(["key", "default", "what it does", "variables"], rows)
    return text + (
        "\nA file looks like this:\n\n"
        '```toml title="tenuto.toml"\ndatabase = "sqlite:///.tenuto/tenuto.db"\nport = 8321\nlog_format = "json"\n\n[caps]\nday_usd = 20\n```\n\n'
        "The command line also reads `TENUTO_API_URL` (the server to talk to) and `TENUTO_TOKEN` (the token to show there).\n"
    )


def _default(value: Any) -> str:
    if value in ("", ()) or value == {}:
        return "none"
    return code(
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
