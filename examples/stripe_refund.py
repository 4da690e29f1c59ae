"""Give money back exactly once, whatever fails meanwhile, and ask a person first when it is much.

A dictionary stands for the bank. What it says of a key settles a call whose answer was lost.
"""

import asyncio
import sys
from typing import Any

import tenuto

BANK: dict[str, dict[str, object]] = {}

app = tenuto.App("refunds")


@app.tool(effect="effect", unknown="bank_status")
def create_refund(charge: str, amount_cents: int, idempotency_key: str) -> dict[str, object]:
    """Refund a charge."""
    return BANK.setdefault(idempotency_key, {"charge": charge, "amount_cents": amount_cents})


@app.status_hook("bank_status")
def bank_status(key: str) -> object:
    """Say what became of a refund."""
    return ("succeeded", BANK[key]) if key in BANK else "retry"


(
    app.workflow("stripe_refund")
    .switch("size")
    .approval("approve", "Refund ${input.amount_cents} cents of ${input.charge}?")
    .join("agreed", "any", after="approve")
    .tool(
        create_refund, id="refund", after="agreed", retry=3,
        args={"charge": "${input.charge}", "amount_cents": "${input.amount_cents}"},
    )
    .transform("declined", template={"refunded": False})
    .edge("size", "approve", when="input.amount_cents > 10000")
    .edge("size", "agreed", on="default")
    .edge("approve", "declined", on="rejected")
)


async def main(amount_cents: int) -> object:
    """Refund a charge, and ask on the command line when a person has to be asked."""
    async with app.engine() as engine:
        run = await engine.runs.start("stripe_refund", {"charge": "ch_4711", "amount_cents": amount_cents})
        for ticket in await open_tickets(engine, run.id, amount_cents):
            answer = await asyncio.to_thread(input, f"{ticket.message} [approve/reject] ")
            await engine.tickets.decide(ticket.id, answer, reason="asked on the command line", by="operator")
        return (await engine.runs.result(run.id)).output


async def open_tickets(engine: tenuto.Engine, run_id: str, amount_cents: int) -> list[Any]:
    """Return the questions of a run, once it has any."""
    if amount_cents <= 10_000:
        return []
    while not (found := (await engine.tickets.list(run=run_id, state="open")).items):
        await engine.runs.get(run_id, wait_s=0.1)
    return found


if __name__ == "__main__":
    print(tenuto.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 4_900)))
