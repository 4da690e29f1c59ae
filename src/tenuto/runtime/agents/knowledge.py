"""What one agent found out and later ones should know: findings taken from outputs, and shown in prompts."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, cast

import msgspec

from tenuto.domain.graph.agents import Knowledge
from tenuto.ports.model import Message, ModelRequest
from tenuto.runtime.agents.extras import ask_if_paid, shown
from tenuto.runtime.agents.loop import Loop
from tenuto.runtime.agents.step import Step

CATEGORIES = ("constraint", "decision", "discovery", "reference", "gotcha", "architecture")
FINDINGS = "findings"
"""Where findings stand in a node's output."""
SEEN = 4000
_FOUND: dict[str, Any] = {
    "type": "object", "required": ["findings"],
    "properties": {"findings": {"type": "array", "items": {
        "type": "object", "required": ["category", "text"],
        "properties": {"category": {"enum": list(CATEGORIES)}, "text": {"type": "string", "minLength": 1}},
    }}},
}  # fmt: skip


def digest_of(text: str) -> str:
    """Return what two findings that say the same have in common."""
    return sha256(" ".join(text.lower().split()).encode()).hexdigest()[:16]


def findings_in(output: Any) -> list[dict[str, Any]]:
    """Return the findings in an agent's output, each with its `id`; findings that say the same have the same."""
    findings: Any = cast("dict[str, Any]", output).get(FINDINGS) if isinstance(output, dict) else None
    found: list[dict[str, Any]] = []
    for item in cast("list[Any]", findings) if isinstance(findings, list) else []:
        if isinstance(item, dict) and isinstance(cast("dict[str, Any]", item).get("text"), str):
            fields = cast("dict[str, Any]", item)
            found.append({**fields, "id": digest_of(fields["text"])})
    return found


async def known(step: Step) -> list[dict[str, Any]]:
    """Return the findings of the run's completed steps, the newest first, each once, deleted ones included."""
    found: dict[str, dict[str, Any]] = {}
    for name, output in await step.finished():
        for item in findings_in(output):
            found.setdefault(item["id"], {**item, "step": name})
    return list(found.values())


async def kept(step: Step) -> list[dict[str, Any]]:
    """Return what is known and nobody has deleted."""
    found = await known(step)
    deleted = await step.deleted_findings() if found else frozenset[str]()
    return [item for item in found if item["id"] not in deleted]


async def injected(loop: Loop, rule: Knowledge) -> str:
    """Return what earlier steps found, as far as it fits.

    It is recorded, because nothing that is found or deleted later may change it.
    """
    key = "knowledge"
    text = "" if loop.ctx.begun(key) else _listed(await kept(loop.step), rule.max_chars)
    return await loop.ctx.note(key, text, kind="knowledge", name="inject")


def _listed(findings: list[dict[str, Any]], most: int) -> str:
    lines: list[str] = []
    left = most
    for item in findings:
        line = f"- [{item.get('category', 'discovery')}] {item['text']}"
        if len(line) + 1 > left:
            continue
        left -= len(line) + 1
        lines.append(line)
    return "\n".join(lines)


async def extracted(loop: Loop, rule: Knowledge, content: str) -> dict[str, Any]:
    """Return what an output adds to what the run knows: `{findings}`, and why where nobody looked.

    What somebody deleted is known all the same, so that it does not come back when another agent finds it again.
    """
    if len(content) < rule.min_chars:
        return {FINDINGS: []}
    text = (
        "Which findings in this text should others who work on the same thing know? Name each once, in one sentence, "
        f"with its category ({', '.join(CATEGORIES)}). None is a good answer.\n\n{shown(content, SEEN)}"
    )
    request = ModelRequest(
        model=rule.model or loop.own.model, messages=(Message("user", text),), schema=_FOUND,
        max_tokens=loop.own.max_tokens, purpose="knowledge_extraction",
    )
    reply, why = await ask_if_paid(loop, request, "knowledge/extract")
    if reply is None:
        return {FINDINGS: [], "findings_skipped": why}
    before = await loop.ctx.note(
        "knowledge/before",
        [] if loop.ctx.begun("knowledge/before") else [digest_of(item["text"]) for item in await known(loop.step)],
        kind="knowledge", name="known",
    )
    seen = set(cast("list[str]", before))
    found: list[dict[str, Any]] = []
    for item in _read(reply.data):
        digest = digest_of(item["text"])
        if digest not in seen:
            seen.add(digest)
            found.append({**item, "id": digest})
    return {FINDINGS: found}


def _read(data: Any) -> list[dict[str, str]]:
    """Return the findings in an answer; an unknown category counts as a discovery."""
    items: Any = cast("dict[str, Any]", data).get(FINDINGS) if isinstance(data, dict) else None
    found: list[dict[str, str]] = []
    for item in cast("list[Any]", items) if isinstance(items, list) else []:
        fields = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
        text, category = fields.get("text"), fields.get("category")
        if isinstance(text, str) and text.strip():
            found.append({"category": category if category in CATEGORIES else "discovery", "text": text.strip()})
    return found


def rule_of(config: dict[str, Any]) -> Knowledge | None:
    """Return a node's rule, if it has one."""
    return msgspec.convert(config["knowledge"], Knowledge) if config.get("knowledge") else None
