"""What `workflow validate` finds beside faults: every id, how grave it is, and an example of it."""

from __future__ import annotations

from scripts.docs_pages.finding_examples import EXAMPLES
from scripts.docs_pages.markdown import code, opening, table
from tenuto.domain.graph.analysis import RULES

_FAULTS = (
    ("graph.unreachable", "a node that no entry leads to"),
    ("graph.cycle", "a cycle without `max_iterations`"),
    ("graph.cache", "a cache on a node that says it has an effect"),
    ("graph.approval_missing", "something irreversible without an approval before it"),
)


def page() -> str:
    """Return the page."""
    text = opening(
        "Findings", "tenuto/domain/graph/analysis and scripts/docs_pages/finding_examples.py",
        "`tenuto workflow validate FILE` and `POST /workflows/validate` look for more than faults: for what will go wrong when the workflow runs.",
        "A finding has an id, a severity, the place (a JSON pointer), a message and what to do.",
        "Only what the definition itself shows is reported; what depends on data, on code or on choices of a run is left alone.",
        "",
        "The command exits with 1 when there are faults or findings of severity `error`, with `--strict` for warnings too.",
        "Findings keep no workflow from being published; faults do, and have codes of their own ([Errors](errors.md)), among them:",
        "",
        *(f"- {code(name)}: {meaning}" for name, meaning in _FAULTS),
    )  # fmt: skip
    rows = [(f"[`{id}`](#{_anchor(id)})", rule.severity, rule.meaning) for id, rule in RULES.items()]
    text += "\n" + table(["id", "severity", "means"], rows)
    for id, rule in RULES.items():
        bad, good = EXAMPLES[id]
        text += f"\n## {id} {{ #{_anchor(id)} }}\n\n{rule.meaning}\nTo put it right: {rule.fix}.\n\nFound:\n\n"
        text += f"```yaml\nname: example{bad}```\n\nNot found:\n\n```yaml\nname: example{good}```\n"
    return text


def _anchor(id: str) -> str:
    return id.replace(".", "-").replace("_", "-")
