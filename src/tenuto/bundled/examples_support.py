"""Three workflows of a help desk: `triage`, `stripe_refund` and `conditional`."""

from __future__ import annotations

from typing import Any

from tenuto.bundled import examples_ledger as ledger
from tenuto.bundled.examples_model import OfflineModel, chooses
from tenuto.ports.model import ModelReply, ModelRequest
from tenuto.sdk.app import App

TRIAGE_MODEL = "offline:triage"
BANK_HOOK = "bank_status"
APPROVAL_LIMIT_CENTS = 10_000

_WORDS = {
    "refund": ("refund", "money back", "charged", "cancel", "reimburse"),
    "technical": ("technical", "error", "crash", "broken", "login", "does not work"),
}
_POLICIES = {
    "refund": "Unused tickets are refunded in full within fourteen days.",
    "technical": "Faults of the app are looked at within four hours.",
}


def register(app: App) -> None:
    """Add the workflows, with their tools and their model."""
    app.model(TRIAGE_MODEL, OfflineModel(_triage_answer))
    app.status_hook(BANK_HOOK)(ledger.outcome)
    app.tool(effect="pure")(lookup_policy)
    app.tool(effect="pure")(get_charge)
    app.tool(effect="effect", unknown=BANK_HOOK)(create_refund)
    app.tool(effect="effect", unknown=BANK_HOOK)(send_receipt)
    _triage(app)
    _stripe_refund(app)
    _conditional(app)


# --- triage ----------------------------------------------------------------------------------------------------


def intake(intent: str, message: str = "") -> dict[str, str]:
    """Bring what a customer wrote into one form."""
    return {"intent": intent.strip().lower(), "text": f"{intent.strip()}. {message.strip()}".strip()}


def lookup_policy(topic: str) -> dict[str, str]:
    """Look up what the house has decided on a topic.

    Args:
        topic: What it is about, such as refund.
    """
    return {"topic": topic, "policy": _POLICIES.get(topic, "Somebody answers within one day.")}


def _triage(app: App) -> None:
    answer = "Write to the customer. What is known:"
    (
        app.workflow("triage", description="A supervisor sends a customer's request to the right desk.")
        .input_schema({
            "type": "object",
            "properties": {"intent": {"type": "string", "minLength": 1}, "message": {"type": "string"}},
            "required": ["intent"],
        })
        .budget(tokens=20_000, tool_calls=10, wall_clock_s=120)
        .step(intake)
        .agent(
            "classify", "supervisor", model=TRIAGE_MODEL, prompt="${nodes.intake.output.text}",
            choices=["refund", "technical", "other"], after="intake",
        )
        .tool(lookup_policy, id="refund", args={"topic": "refund"})
        .agent(
            "technical", "swarm", n=2, merge="vote", model=TRIAGE_MODEL, tools=[lookup_policy],
            prompt="What went wrong here? ${nodes.intake.output.text}",
        )
        .agent("other", "pipeline", model=TRIAGE_MODEL, prompt="Summarise: ${nodes.intake.output.text}")
        .agent("answer", "pipeline", model=TRIAGE_MODEL, system=answer, after=["refund", "technical", "other"])
        .edge("classify", "refund", when="output.decision == 'refund'")
        .edge("classify", "technical", when="output.decision == 'technical'")
        .edge("classify", "other", when="output.decision == 'other'")
    )


def _triage_answer(prompt: str, request: ModelRequest) -> ModelReply:
    if request.choices:
        return chooses(_WORDS, "other")(prompt, request)
    desk = next((name for name in ("refund", "technical") if name in prompt.lower()), "other")
    policy = _POLICIES.get(desk, "Somebody answers within one day.")
    return ModelReply(content=f"Thank you for writing. {policy}")


# --- stripe_refund ---------------------------------------------------------------------------------------------


def get_charge(charge: str, amount_cents: int) -> dict[str, Any]:
    """Read a charge from the bank.

    Args:
        charge: Its id.
        amount_cents: What was paid.
    """
    return {"charge": charge, "amount_cents": amount_cents, "currency": "eur", "customer": f"cus_{charge[-4:]}"}


def create_refund(charge: str, amount_cents: int, idempotency_key: str = "") -> dict[str, Any]:
    """Give money back; the bank of this example would do it again when asked again.

    Args:
        charge: The charge to give back.
        amount_cents: How much of it.
    """
    return ledger.write("refund", idempotency_key, {"charge": charge, "amount_cents": amount_cents})


def send_receipt(customer: str, text: str, idempotency_key: str = "") -> dict[str, Any]:
    """Send a customer a receipt.

    Args:
        customer: Who gets it.
        text: What it says.
    """
    return ledger.write("receipt", idempotency_key, {"customer": customer, "text": text})


def _stripe_refund(app: App) -> None:
    amount = "${nodes.charge.output.amount_cents}"
    (
        app.workflow("stripe_refund", description="Gives money back once, after a person agreed to large amounts.")
        .input_schema({
            "type": "object",
            "properties": {
                "charge": {"type": "string", "minLength": 4}, "amount_cents": {"type": "integer", "minimum": 1},
            },
            "required": ["charge", "amount_cents"],
        })
        .budget(tool_calls=5)
        .tool(get_charge, id="charge", args={"charge": "${input.charge}", "amount_cents": "${input.amount_cents}"})
        .switch("size", after="charge")
        .approval("approve", "Refund " + amount + " cents of ${input.charge}?")
        .join("agreed", "any", after="approve")
        .tool(create_refund, id="refund", args={"charge": "${input.charge}", "amount_cents": amount}, after="agreed")
        .tool(
            send_receipt, id="receipt", after="refund",
            args={"customer": "${nodes.charge.output.customer}", "text": "We refunded " + amount + " cents."},
        )
        .transform("declined", template={"refunded": False, "charge": "${input.charge}"})
        .edge("size", "approve", when=f"nodes.charge.output.amount_cents > {APPROVAL_LIMIT_CENTS}")
        .edge("size", "agreed", on="default")
        .edge("approve", "declined", on="rejected")
    )


# --- conditional -----------------------------------------------------------------------------------------------


def _conditional(app: App) -> None:
    (
        app.workflow("conditional", description="A branch that joins again; the branch not taken is skipped.")
        .input_schema({"type": "object", "properties": {"score": {"type": "number"}}, "required": ["score"]})
        .transform("scale", "{'percent': double(input.score) * 100.0}")
        .switch("pass", after="scale")
        .transform("praise", "'well done'")
        .transform("repeat", "'once more'")
        .transform("record", template={"percent": "${nodes.scale.output.percent}"}, after=["praise", "repeat"])
        .edge("pass", "praise", when="nodes.scale.output.percent >= 60.0")
        .edge("pass", "repeat", on="default")
    )
