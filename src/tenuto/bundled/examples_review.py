"""Reviews the papers of a ferry line: agents read every document, judge it, and a panel decides. All offline.

Every finding is filed with the outside world, which does not notice repeats: the ledger shows that nothing was
filed twice, whatever happened to the workers meanwhile.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from tenuto.bundled import examples_ledger as ledger
from tenuto.bundled.examples_documents import document, fields_of, library
from tenuto.bundled.examples_model import OfflineModel
from tenuto.ports.model import ModelReply, ModelRequest
from tenuto.sdk.app import App

READER, JUDGE, PANEL, CLERK = "offline:reader", "offline:judge", "offline:panel", "offline:clerk"
REGISTRY_HOOK = "registry_status"
LIMIT_EUR = 1_500_000
THINK_S = 0.7
AT_ONCE = 3
RISKS = ("low", "medium", "high")

FACTS = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["contract", "incident"]},
        "party": {"type": "string", "minLength": 1},
        "value_eur": {"type": "integer", "minimum": 0},
        "notice_days": {"type": "integer", "minimum": 0},
        "concerns": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["kind", "party", "value_eur", "notice_days", "concerns"],
}
VERDICT = {
    "type": "object",
    "properties": {"risk": {"enum": list(RISKS)}, "reason": {"type": "string"}},
    "required": ["risk", "reason"],
}
_CONCERNS = {
    "unlimited liability": "unlimited",
    "renews by itself": "automatically",
    "data processing still open": "agreed at a later date",
    "penalty": "penalty",
    "tied to one supplier": "from kolbe only",
    "no compensation": "no other compensation|no right to a|refuses a refund",
}
_GRAVE = frozenset({"unlimited liability", "data processing still open", "tied to one supplier"})


def register(app: App) -> None:
    """Add the workflows `review` and `data-extraction`, with their tools and models."""
    for name, answer in {READER: _read, JUDGE: _judge, PANEL: _vote, CLERK: _write}.items():
        app.model(name, OfflineModel(answer, think_s=THINK_S, counted=True))
    app.model("offline:extractor", OfflineModel(_read))
    app.status_hook(REGISTRY_HOOK)(ledger.outcome)
    app.tool(effect="pure")(read_document)
    app.tool(effect="effect", unknown=REGISTRY_HOOK)(file_finding)
    app.tool(effect="effect", unknown=REGISTRY_HOOK)(publish_summary)
    _review(app)
    _extraction(app)


# --- review ----------------------------------------------------------------------------------------------------


def _review(app: App) -> None:
    body = (
        app.body()
        .tool(read_document, id="read", args={"name": "${item}"})
        .agent("extract", model=READER, schema=FACTS, prompt="${nodes.read.output.text}", after="read")
        .agent("judge", model=JUDGE, schema=VERDICT, prompt="${nodes.extract.output.data}", after="extract")
        .tool(
            file_finding, id="file", after="judge",
            args={
                "name": "${item}", "facts": "${nodes.extract.output.data}", "verdict": "${nodes.judge.output.data}",
            },
        )
    )
    (
        app.workflow("review", description="Agents read, judge and file every document; a panel decides.")
        .input_schema({
            "type": "object",
            "properties": {
                "documents": {"type": "array", "items": {"type": "string"}},
                "limit_eur": {"type": "integer", "minimum": 0},
            },
        })
        .budget(tokens=200_000, tool_calls=200, per_tool={"publish_summary": 1}, wall_clock_s=3600)
        .step(collect)
        .map("documents", "${nodes.collect.output.documents}", body, concurrency=AT_ONCE, after="collect")
        .step(
            weigh, after="documents",
            input={"findings": "${nodes.documents.output}", "limit_eur": "${nodes.collect.output.limit_eur}"},
        )
        .agent("panel", "swarm", n=3, merge="vote", model=PANEL, prompt="${nodes.weigh.output}", after="weigh")
        .switch("decide", after="panel")
        .transform("escalate", template={"to": "the board", "why": "${nodes.weigh.output.high}"})
        .transform("accept", template={"to": "the archive", "why": []})
        .agent("summary", model=CLERK, prompt="${nodes.weigh.output}", after=["escalate", "accept"])
        .tool(publish_summary, id="publish", args={"text": "${nodes.summary.output.content}"}, after="summary")
        .edge("decide", "escalate", when="nodes.panel.output.merged == 'escalate'")
        .edge("decide", "accept", on="default")
    )


def collect(documents: list[str] | None = None, limit_eur: int = LIMIT_EUR) -> dict[str, Any]:
    """List the documents to review; without any, all that there are."""
    return {"documents": documents or list(library()), "limit_eur": limit_eur}


def read_document(name: str) -> dict[str, Any]:
    """Read a document.

    Args:
        name: Its name in the library.
    """
    return {"name": name, "text": document(name)}


def file_finding(
    name: str, facts: dict[str, Any], verdict: dict[str, Any], idempotency_key: str = ""
) -> dict[str, Any]:
    """File what was found in a document with the registry.

    Args:
        name: Which document.
        facts: What was read in it.
        verdict: What was thought of it.
    """
    finding = {"document": name, "value_eur": facts["value_eur"], **verdict}
    return ledger.write("finding", idempotency_key, finding)


def publish_summary(text: str, idempotency_key: str = "") -> dict[str, Any]:
    """Publish the outcome of a review.

    Args:
        text: What everyone is told.
    """
    return ledger.write("summary", idempotency_key, {"text": text})


def weigh(findings: list[dict[str, Any]], limit_eur: int) -> dict[str, Any]:
    """Add up what the findings amount to, and whether that is above the limit."""
    at_risk = sum(finding["value_eur"] for finding in findings if finding["risk"] == "high")
    counts = Counter(finding["risk"] for finding in findings)
    return {
        "documents": len(findings), "risks": {risk: counts[risk] for risk in RISKS}, "at_risk_eur": at_risk,
        "limit_eur": limit_eur, "over": at_risk > limit_eur,
        "high": [finding["document"] for finding in findings if finding["risk"] == "high"],
    }


# --- data-extraction -------------------------------------------------------------------------------------------


def _extraction(app: App) -> None:
    (
        app.workflow("data-extraction", description="Reads one document into a record of a fixed shape.")
        .input_schema({
            "type": "object", "properties": {"document": {"type": "string", "minLength": 1}}, "required": ["document"],
        })
        .tool(read_document, id="read", args={"name": "${input.document}"})
        .agent(
            "extract", model="offline:extractor", schema=FACTS, prompt="${nodes.read.output.text}", after="read",
            retry=2,
        )
        .transform("record", template="${nodes.extract.output.data}", after="extract")
    )


# --- what the offline models know ------------------------------------------------------------------------------


def _read(prompt: str, request: ModelRequest) -> ModelReply:
    """Read a document: its fields, and the clauses somebody should look at."""
    fields = fields_of(prompt)
    text = " ".join(prompt.split()).lower()
    facts = {
        "kind": fields.get("kind", "contract"),
        "party": fields.get("party", "unknown"),
        "value_eur": _digits(fields.get("value", "")),
        "notice_days": _digits(fields.get("notice", "")),
        "concerns": [name for name, words in _CONCERNS.items() if re.search(words, text)],
    }
    return ModelReply(content=fields.get("title", ""), data=facts)


def _judge(prompt: str, request: ModelRequest) -> ModelReply:
    concerns = [name for name in _CONCERNS if name in prompt]
    long = re.search(r'"notice_days":(\d+)', prompt)
    if long and int(long[1]) > 100:
        concerns.append(f"notice of {long[1]} days")
    risk = "high" if _GRAVE & set(concerns) else ("medium" if concerns else "low")
    return ModelReply(content=risk, data={"risk": risk, "reason": ", ".join(concerns) or "nothing to note"})


def _vote(prompt: str, request: ModelRequest) -> ModelReply:
    return ModelReply(content="escalate" if '"over":true' in prompt else "accept")


def _write(prompt: str, request: ModelRequest) -> ModelReply:
    at_risk = re.search(r'"at_risk_eur":(\d+)', prompt)
    high = re.search(r'"high":(\d+)', prompt)
    over = '"over":true' in prompt
    return ModelReply(
        content=f"{high[1] if high else 0} documents of high risk, EUR {int(at_risk[1]) if at_risk else 0:,} in all: "
        + ("above the limit, so the board decides." if over else "within the limit, nothing to do.")
    )


def _digits(text: str) -> int:
    return int(re.sub(r"\D", "", text) or 0)
