"""A step that acts on the world and is cut off follows its policy, whatever cut it off; nothing acts twice unasked."""

from __future__ import annotations

from typing import Any

import pytest

from features.harness import Gate, ended, events, seen, steps
from tenuto import App, Budget, Context
from tenuto.runtime.services.engine import Engine

TIMEOUT_S = 0.05


class Bank:
    """An app with one step that acts, then hangs for ever the first time; its hook answers as the test says."""

    def __init__(self, policy: str, answers: list[Any] | None = None, timeout_s: float | None = TIMEOUT_S) -> None:
        """Cut the step off after a while, if at all."""
        self.acted: list[str] = []
        self.asked: list[str] = []
        self.answers = answers or []
        self.gate = Gate()
        self.app = App("t")

        @self.app.step(effect="effect", on_unknown=policy, timeout_s=timeout_s)
        async def act(ctx: Context) -> str:
            self.acted.append(ctx.key)
            if len(self.acted) == 1 or self.answers == ["retry"] * 3:
                await self.gate()
            return "acted"

        @self.app.status_hook("look")
        def look(key: str) -> Any:
            self.asked.append(key)
            answer = self.answers[len(self.asked) - 1]
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.app.workflow("w").step(act)

    async def start(self, engine: Engine) -> str:
        """Start the run."""
        return (await engine.runs.start("w", {})).id


async def test_a_timed_out_effect_is_asked_about():
    bank = Bank("ask")
    async with bank.app.engine("memory:") as engine:
        run = await bank.start(engine)
        opened = await seen(engine, run, "ticket.opened")
        assert opened.data["kind"] == "unknown_outcome"
        await engine.tickets.decide(opened.data["ticket"], "retry", by="ann")
        assert (await ended(engine, run)).output == {"act": "acted"}
    assert len(bank.acted) == 2
    assert len(set(bank.acted)) == 1


async def test_a_timed_out_effect_that_may_be_repeated_is_under_the_same_key():
    bank = Bank("retry")
    async with bank.app.engine("memory:") as engine:
        run = await bank.start(engine)
        assert (await ended(engine, run)).output == {"act": "acted"}
        (cut,) = [event for event in await events(engine, run) if event.type == "step.interrupted"]
    assert cut.data["error"]["code"] == "attempt.timeout"
    assert len(bank.acted) == 2
    assert len(set(bank.acted)) == 1


@pytest.mark.parametrize(
    ("answer", "status", "acted"),
    [(("succeeded", "found"), "completed", 1), ("failed", "failed", 1), ("retry", "completed", 2)],
)
async def test_a_timed_out_effect_follows_what_its_status_hook_says(answer: Any, status: str, acted: int):
    bank = Bank("look", [answer])
    async with bank.app.engine("memory:") as engine:
        view = await ended(engine, await bank.start(engine))
    assert view.status == status
    assert len(bank.acted) == acted
    assert bank.asked == [steps(view)["act"].key]
    if acted == 1 and status == "completed":
        assert view.output == {"act": "found"}
    if status == "failed":
        assert steps(view)["act"].error.code == "effect.failed"


async def test_a_hook_that_cannot_say_leaves_it_to_a_person():
    """It is asked again within the limit of attempts without an outcome; the effect is not made meanwhile."""
    bank = Bank("look", [RuntimeError("the bank is closed"), "who knows"])
    async with bank.app.engine("memory:") as engine:
        run = await bank.start(engine)
        opened = await seen(engine, run, "ticket.opened")
        assert opened.data["kind"] == "unknown_outcome"
        assert "'who knows'" in opened.data["message"]
        await engine.tickets.decide(opened.data["ticket"], "succeeded", data="by phone", by="ann")
        assert (await ended(engine, run)).output == {"act": "by phone"}
    assert (len(bank.acted), len(bank.asked)) == (1, 2)


async def test_an_effect_that_is_always_cut_off_does_not_go_round_for_ever():
    bank = Bank("look", ["retry"] * 3)
    async with bank.app.engine("memory:") as engine:
        run = await bank.start(engine)
        await seen(engine, run, "ticket.opened")
        assert len(bank.acted) == 3


@pytest.mark.parametrize(
    ("policy", "answer", "step", "unknown"),
    [
        ("ask", None, "cancelled", True),
        ("retry", None, "cancelled", True),
        ("look", ("succeeded", "found"), "completed", False),
        ("look", "failed", "cancelled", False),
        ("look", RuntimeError("closed"), "cancelled", True),
    ],
)
async def test_a_cancel_says_of_an_effect_whether_it_may_have_happened(
    policy: str, answer: Any, step: str, unknown: bool
):
    bank = Bank(policy, [answer], timeout_s=None)
    async with bank.app.engine("memory:") as engine:
        run = await bank.start(engine)
        await bank.gate.wait()
        await engine.runs.cancel(run, reason="enough")
        view = await ended(engine, run)
    act = steps(view)["act"]
    assert (view.status, act.status) == ("cancelled", step)
    assert (act.error is not None and act.error.unknown) is unknown
    assert len(bank.acted) == 1
    assert len(bank.asked) == (policy == "look")


async def test_a_cancel_of_a_step_without_effects_leaves_no_doubt():
    app, gate = App("t"), Gate()

    @app.step
    async def compute() -> None:
        await gate()

    app.workflow("w").step(compute)
    async with app.engine("memory:") as engine:
        run = (await engine.runs.start("w", {})).id
        await gate.wait()
        await engine.runs.cancel(run)
        assert steps(await ended(engine, run))["compute"].error is None


async def test_an_effect_cut_off_at_a_cap_is_asked_about_when_the_run_is_reopened():
    bank = Bank("ask", timeout_s=None)

    @bank.app.tool(effect="idempotent")
    async def spend() -> str:
        return "spent"

    flow = bank.app.workflow("both").budget(tool_calls=0)
    flow.step("act").wait_signal("go", id="go").tool(spend, args={}, after="go")
    async with bank.app.engine("memory:") as engine:
        run = (await engine.runs.start("both", {})).id
        await bank.gate.wait()
        await engine.runs.signal(run, "go")
        assert (await ended(engine, run)).status == "budget_exceeded"
        await engine.runs.resume(run, budget=Budget(tool_calls=5))
        opened = await seen(engine, run, "ticket.opened")
        assert opened.data["kind"] == "unknown_outcome"
        assert len(bank.acted) == 1
        await engine.tickets.decide(opened.data["ticket"], "succeeded", data="it did")
        assert (await engine.runs.result(run, timeout_s=10)).output["act"] == "it did"
