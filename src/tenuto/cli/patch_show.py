"""A patch as a person reads it: who proposed what and why, the difference, and what is wrong with it."""

from __future__ import annotations

from tenuto.cli import show
from tenuto.cli.complain import entry_lines
from tenuto.cli.out import clean
from tenuto.cli.values import is_object, obj, seq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tenuto.cli.out import Out

_WIDE = 2000
_SIGNS = (("added", "+"), ("removed", "-"), ("changed", "~"))


def summary(patch: dict[str, Any]) -> str:
    """Return what a patch changes on one line: `+extra ~last +first->extra`, or why it cannot be applied."""
    changed = obj(patch.get("changed"))
    parts = [
        f"{sign}{name}" for what in ("nodes", "edges") for how, sign in _SIGNS for name in seq(changed.get(f"{what}_{how}"))
    ]
    findings = seq(patch.get("findings"))
    if not parts and findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        return clean(f"{obj(findings[0]).get('message')}{more}")
    return clean(" ".join(parts))


def patch_lines(out: Out, patch: dict[str, Any]) -> Iterator[str]:
    """Yield a patch as lines: head, difference in colour, findings."""
    by, step = f"{patch.get('by') or ''} ({patch.get('author')})".strip(), patch.get("step")
    head = [
        ("patch", clean(patch.get("id"))),
        ("workflow", clean(f"{patch['workflow']}@{patch.get('tag')}") if patch.get("workflow") else ""),
        ("what", clean(patch.get("title") or "")),
        ("status", show.status(out, patch.get("status"))),
        ("by", clean(by) + (f", step {clean(step)}" if step and patch.get("by") != f"step {step}" else "")),
        ("reason", clean(patch.get("reason") or "")),
        ("when", show.ago(patch.get("at")) if patch.get("at") else ""),
        ("made for", clean(patch.get("base_digest") or "")),
        ("leads to", clean(patch.get("digest") or "")),
        ("graph", clean(patch.get("number") or "")),
        ("asks", clean(patch.get("asks") or "")),
        ("note", clean(patch.get("note") or "")),
        ("expected", saving(patch.get("expected"))),
        ("decided", decision_of(patch)),
        ("ticket", clean(patch.get("ticket") or "")),
        ("takes back or brings back", clean(patch.get("takes") or "")),
        ("evidence", show.brief(patch["evidence"], 500) if patch.get("evidence") else ""),
    ]
    width = max(len(name) for name, value in head if value)
    yield from (f"{out.paint(name.ljust(width), 'dim')}  {value}" for name, value in head if value)
    if is_object(patch.get("difference")):
        yield ""
        yield from difference_lines(out, obj(patch["difference"]))
    elif patch.get("operations"):
        yield ""
        yield out.paint("operations", "dim")
        yield from (f"  {show.brief(one, _WIDE)}" for one in seq(patch["operations"]))
    if is_object(patch.get("gain")):
        yield ""
        yield out.paint("what it saved", "dim")
        yield from (f"  {line}" for line in gain_lines(out, obj(patch["gain"])))
    findings = seq(patch.get("findings"))
    if findings:
        yield ""
        yield out.paint("why it cannot be applied", "red")
        for one in findings:
            yield from entry_lines(one)


def decision_of(patch: dict[str, Any]) -> str:
    """Return who decided a proposal, when and why."""
    if not patch.get("decided_by"):
        return ""
    why = f": {patch['decision_reason']}" if patch.get("decision_reason") else ""
    return clean(f"by {patch['decided_by']}, {show.ago(patch.get('decided_at'))}{why}")


def saving(found: Any) -> str:
    """Return what a run saves in words, `12 ms, 1 step`; what it takes more has a minus; empty when nothing is known."""
    gain, parts = obj(found), list[str]()
    for name, unit in (("ms", "ms"), ("steps", "step"), ("requests", "request")):
        value = gain.get(name)
        if isinstance(value, int | float) and value:
            many = "s" if unit != "ms" and abs(value) != 1 else ""
            parts.append(f"{value:.4g} {unit}{many}")
    cost = gain.get("cost_usd_micros")
    if isinstance(cost, int | float) and cost:
        parts.append(f"{cost / 1_000_000:.6f} USD")
    return ", ".join(parts)


def gain_lines(out: Out, gain: dict[str, Any]) -> Iterator[str]:
    """Yield what a change saved: expected beside measured, or why nobody can tell yet; and how to undo what got worse."""
    yield f"expected {saving(gain.get('expected')) or 'nothing that is known'}"
    if gain.get("status") == "measured":
        before, after = obj(gain.get("before")), obj(gain.get("after"))
        yield f"measured {saving(gain.get('measured')) or 'no difference'}  {out.paint(clean(gain.get('note')), 'dim')}"
        yield f"a run took {_took(before)}, and now takes {_took(after)}"
    else:
        yield clean(gain.get("note"))
    if not gain.get("in_force"):
        yield "taken back since"
    if gain.get("worse"):
        yield out.paint(f"it made things worse: {clean(gain['worse'])}", "red")
    if gain.get("undo"):
        yield f"undo it:  {clean(gain['undo'])}"


def _took(measured: dict[str, Any]) -> str:
    ms = measured.get("p50_ms")
    time = f"{ms:.0f} ms" if isinstance(ms, int | float) else "an unknown time"
    return f"{time} in {measured.get('steps') or 0:.3g} steps"


def difference_lines(out: Out, found: dict[str, Any]) -> Iterator[str]:
    """Yield what a patch changes: added in green, removed in red, changed fields before and after."""
    whole = obj(found.get("nodes"))
    for name in seq(found.get("nodes_added")):
        node = obj(whole.get(str(name)))
        kind = f" ({node['kind']})" if node.get("kind") else ""
        yield _sign(out, "+", f"node {name}{kind}")
        for field, value in node.items():
            if field not in ("id", "kind") and value not in (None, "", {}, []):
                yield _sign(out, "+", f"    {field}: {show.brief(value, _WIDE)}")
    for name in seq(found.get("nodes_removed")):
        yield _sign(out, "-", f"node {name}")
    for name, fields in obj(found.get("nodes_changed")).items():
        yield _sign(out, "~", f"node {name}")
        for one in map(obj, seq(fields)):
            yield from _field(out, one)
    for how, sign in _SIGNS:
        for edge in map(obj, seq(found.get(f"edges_{how}"))):
            yield _sign(out, sign, _edge(edge))


def _field(out: Out, one: dict[str, Any]) -> Iterator[str]:
    """Yield one field of a node before and after; of an object only the keys that differ."""
    name, before, after = one.get("field"), one.get("before"), one.get("after")
    if is_object(before) and is_object(after):
        for key in dict.fromkeys([*before, *after]):
            if before.get(key) != after.get(key):
                yield from _field(out, {"field": f"{name}.{key}", "before": before.get(key), "after": after.get(key)})
        return
    if before is not None:
        yield _sign(out, "-", f"    {name}: {show.brief(before, _WIDE)}")
    if after is not None:
        yield _sign(out, "+", f"    {name}: {show.brief(after, _WIDE)}")


def _edge(edge: dict[str, Any]) -> str:
    on = f" on {edge['on']}" if edge.get("on") not in (None, "", "success") else ""
    when = f" if {edge['when']}" if edge.get("when") else ""
    loop = f" (at most {edge['max_iterations']} passes)" if edge.get("max_iterations") else ""
    return f"edge {edge.get('from')} -> {edge.get('to')}{on}{when}{loop}"


def _sign(out: Out, sign: str, text: str) -> str:
    return out.paint(f"{sign} {clean(text)}", {"+": "green", "-": "red"}.get(sign, "yellow"))
