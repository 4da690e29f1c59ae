"""The public events, from the table that names them."""

from __future__ import annotations

from scripts.docs_pages.markdown import code, opening, table
from tenuto.domain.runs.public import PROVISIONAL, TABLE

GROUPS = {"run": "Runs", "step": "Steps", "call": "Calls", "ticket": "Tickets"}


def page() -> str:
    """Return the page."""
    text = opening(
        "Events", "tenuto/domain/runs/public.py",
        "Every stream, `GET /runs/{id}/events` and `tenuto run events` speak these names.",
        "An event has `id`, `run`, `type`, `at`, `step`, `node` and `data`; the table lists the fields of `data`.",
        "The `id` is `seq.i`: the record and the place in it; give it back as `after` or `Last-Event-ID` to go on from there.",
        "Schemas of all of them are in the [OpenAPI document](http.md).",
    )  # fmt: skip
    for prefix, title in GROUPS.items():
        rows = [
            (
                code(entry.name),
                entry.says + _marks(entry.error, entry.final),
                ", ".join(code(f) for f in entry.fields.values()),
            )
            for entry in TABLE.values()
            if entry.name.startswith(prefix + ".")
        ]
        text += f"\n## {title}\n\n" + table(["type", "says", "data"], rows)
    text += "\n## Without a place\n\nShown to live streams of the worker's process only; they have no `id` and are kept nowhere.\n\n"
    return text + table(["type", "says"], [(code(name), entry.says) for name, entry in PROVISIONAL.items()])


def _marks(error: bool, final: bool) -> str:
    return (" *Error.*" if error else "") + (" *Ends the stream.*" if final else "")
