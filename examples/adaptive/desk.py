"""A claims desk whose graph changes while it works: `assess` may ask for more looks at a parcel than anybody drew.

`python examples/adaptive` plays the whole story; this file is the program it serves.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any

import tenuto
from tenuto.ports.model import ModelReply, ModelRequest, OnDelta, ToolCall

READING_S = 0.05
SHOP = os.environ.get("SHOP_URL", "http://127.0.0.1:8099")
app = tenuto.App("desk")


# --- steps -----------------------------------------------------------------------------------------------------------


@app.step(effect="pure")
def read(claim: dict[str, Any]) -> dict[str, Any]:
    """Find the order in a letter, in the time that reading takes."""
    time.sleep(READING_S)
    found = re.search(r"\b([A-Z]-\d+)\b", claim["letter"])
    if found is None:
        raise tenuto.Permanent("the letter names no order, such as A-17", code="claim.no_order")
    return {"order": found.group(1), "letter": claim["letter"].strip()}


@app.step(effect="pure")
def topics(claim: dict[str, Any]) -> list[str]:
    """Say what the letter is about, reading it once more."""
    time.sleep(READING_S)
    return [word for word in ("broken", "missing", "late") if word in claim["letter"].lower()]


@app.step(effect="pure")
def damage(seen: dict[str, Any]) -> str:
    """Say how a parcel came to harm, from what it weighed and what its photographs show."""
    return "on its way" if seen["lost_g"] > 0 and seen["photos"]["seal"] == "torn" else "not on its way"


@app.step(effect="pure")
def verdict(facts: dict[str, Any]) -> dict[str, Any]:
    """Say what the shop owes, in the time that weighing it takes."""
    time.sleep(READING_S)
    harmed = facts.get("damage") == "on its way"
    owed = facts["order"]["paid_cents"] if harmed else 0
    return {"owed_cents": owed, "to": facts["order"]["customer"], "about": facts["topics"]}


@app.step
async def pay(ctx: tenuto.Context, owed: dict[str, Any]) -> dict[str, Any]:
    """Tell somebody that money is on its way."""
    return await answer(ctx, owed["to"], f"you get {owed['owed_cents'] / 100:.2f} EUR back", owed["owed_cents"])


@app.step
async def decline(ctx: tenuto.Context, owed: dict[str, Any]) -> dict[str, Any]:
    """Tell somebody that none is."""
    return await answer(ctx, owed["to"], "there is nothing we owe you", 0)


async def answer(ctx: tenuto.Context, to: str, says: str, cents: int) -> dict[str, Any]:
    """Write an answer, and keep it as an artifact."""
    kept = await ctx.artifacts.put(f"Dear {to},\n\n{says}.\n".encode(), media_type="text/plain", name="answer.txt")
    return {"refund_cents": cents, "answer": kept["artifact"]}


# --- the model -------------------------------------------------------------------------------------------------------


def look(lost_g: int) -> list[dict[str, Any]]:
    """Return the patch that asks for photographs, and lets the verdict know what they show."""
    photos = {"id": "photos", "kind": "http", "timeout_s": 10, "config": {"url": SHOP + "/photos/${nodes.read.output.order}"}}
    seen = {"photos": "${nodes.photos.output.body}", "lost_g": lost_g}
    harm = {"id": "damage", "kind": "function", "config": {"handler": "damage"}, "input": seen}
    edges = (("assess", "photos"), ("photos", "damage"), ("damage", "verdict"))
    return [
        {"op": "add", "path": "/nodes/-", "value": photos},
        {"op": "add", "path": "/nodes/-", "value": harm},
        *({"op": "add", "path": "/edges/-", "value": {"from": source, "to": target}} for source, target in edges),
        {"op": "add", "path": "/nodes/verdict/input/damage", "value": "${nodes.damage.output}"},
    ]


class Assessor:
    """Stands for a model, without a key and without a network: it wants to look closer where weights differ."""

    async def request(self, request: ModelRequest, *, key: str, on_delta: OnDelta | None = None) -> ModelReply:
        """Propose to look closer, once; then say what came of it."""
        told = [message.content for message in request.messages if message.role == "tool"]
        prompt = request.messages[-1].content if not told else ""
        sent, arrived = (int(n) for n in re.findall(r"(\d+) g", prompt)[:2]) if not told else (0, 0)
        if sent != arrived:
            reason = f"{sent - arrived} g are missing: look at the photographs before anybody pays"
            asked = {"operations": look(sent - arrived), "reason": reason}
            reply = ModelReply(content="", tool_calls=(ToolCall("look", "propose_patch", asked),), stop="tools")
        elif told:
            reply = ModelReply(content=f"asked for a closer look: {json.loads(told[0]).get('status', 'refused')}")
        else:
            reply = ModelReply(content="the parcel weighed on arrival what it weighed before")
        return reply

    def bound(self, request: ModelRequest) -> tuple[int, int]:
        """Return the most tokens a request may use; they cost nothing."""
        return sum(len(message.content) for message in request.messages) // 4 + request.max_tokens, 0


app.model("offline:assessor", Assessor())

# --- the graph -------------------------------------------------------------------------------------------------------

(
    app.workflow("claims", description="Reads a letter, looks at the order and its parcel, and answers.")
    .patches(approval=["agent", "optimizer"])
    .step(read, input="${input}")
    .step(topics, input="${nodes.read.output}", after="read")
    .http("order", SHOP + "/orders/${nodes.read.output.order}", after="topics", timeout_s=10)
    .http("parcel", SHOP + "/parcels/${nodes.order.output.body.parcel}", after="order", timeout_s=10)
    .agent(
        "assess", "loop", model="offline:assessor", tools=["propose_patch"], after="parcel",
        prompt="A parcel weighed ${nodes.parcel.output.body.sent_g} g when it was sent and "
        "${nodes.parcel.output.body.arrived_g} g when it arrived.\nIs that all we have to know?",
    )
    .step(
        verdict, after="assess",
        input={"order": "${nodes.order.output.body}", "topics": "${nodes.topics.output}"},
    )
    .approval("sign", "Pay ${nodes.verdict.output.owed_cents} cents to ${nodes.verdict.output.to}?")
    .step(pay, input="${nodes.verdict.output}", after="sign")
    .step(decline, input="${nodes.verdict.output}")
    .edge("verdict", "sign", when="output.owed_cents > 0")
    .edge("verdict", "decline", on="default")
    .edge("sign", "decline", on="rejected")
)  # fmt: skip
