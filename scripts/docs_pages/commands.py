"""The command line, from what every command declares."""

from __future__ import annotations

from typing import Any

from scripts.docs_pages.markdown import code, opening, table
from tenuto.cli.parse import Parser, load
from tenuto.cli.table import COMMANDS, GROUPS, SECTIONS, overview


class Declared(Parser):
    """Keeps what a command declares."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__("")
        self.entries: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    def option(self, *names: str, **settings: Any) -> None:
        """Keep one declaration."""
        self.entries.append((names, settings))


def page() -> str:
    """Return the page."""
    text = opening(
        "Command line", "tenuto/cli", "`tenuto COMMAND --help` says the same, shorter.",
        "Every command takes `--output pretty|json|compact`, `--api-url` and `--token`.",
    ) + f"\n```text\n{overview()}\n```\n"  # fmt: skip
    for title, names in SECTIONS:
        text += f"\n## {title}\n"
        for name in names:
            members = [words for words in COMMANDS if words == name or words.startswith(f"{name} ")]
            if name in GROUPS:
                text += f"\n{GROUPS[name]}.\n"
            text += "".join(command(words) for words in members)
    return text


def command(words: str) -> str:
    """Return the part about one command."""
    declare, _ = load(words)
    parser = Declared()
    declare(parser)
    usage = " ".join(["tenuto", words, *(_usage(names, rest) for names, rest in parser.entries)])
    rows = [(_shown(names, rest), _says(rest)) for names, rest in parser.entries]
    listing = "\n" + table(["argument", "meaning"], rows) if rows else ""
    return f"\n### `tenuto {words}`\n\n{COMMANDS[words][2]}.\n\n```text\n{_wrapped(usage)}\n```\n{listing}"


def _usage(names: tuple[str, ...], rest: dict[str, Any]) -> str:
    if not names[0].startswith("-"):
        word = _value(names, rest)
        return {"?": f"[{word}]", "*": f"[{word} ...]"}.get(str(rest.get("nargs")), word)
    text = _flag(names[0], names, rest)
    return text if rest.get("required") else f"[{text}]"


def _flag(name: str, names: tuple[str, ...], rest: dict[str, Any]) -> str:
    return name if rest.get("action") == "store_true" else f"{name} {_value(names, rest)}"


def _value(names: tuple[str, ...], rest: dict[str, Any]) -> str:
    if "metavar" in rest:
        return str(rest["metavar"])
    if "choices" in rest:
        return "|".join(rest["choices"])
    return names[-1].lstrip("-").replace("-", "_").upper()


def _shown(names: tuple[str, ...], rest: dict[str, Any]) -> str:
    if not names[0].startswith("-"):
        return code(_value(names, rest))
    return ", ".join(code(_flag(name, names, rest)) for name in names)


def _says(rest: dict[str, Any]) -> str:
    text = str(rest.get("help", ""))
    if rest.get("action") == "append" and "repeated" not in text:
        text += "; may be repeated"
    return text


def _wrapped(text: str, width: int = 96) -> str:
    lines = [""]
    for word in text.replace(" [", "\0[").split("\0"):
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append(" " * 7)
        lines[-1] += f" {word}" if lines[-1].strip() else word
    return "\n".join(lines)
