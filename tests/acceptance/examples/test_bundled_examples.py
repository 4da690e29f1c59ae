"""The bundled examples do what their descriptions say, offline, each on an engine of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tenuto.bundled import examples_ledger as ledger
from tenuto.bundled import examples_review as review
from tenuto.bundled import examples_support as support
from tenuto.bundled.load import load_catalog
from tenuto.domain.runs.views import RunView
from tenuto.errors import InvalidInput
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.requests import Replay, StartRun
from tenuto.wiring import running

LONG_S = 30


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the ledger of a test to itself."""
    monkeypatch.setenv("TENUTO_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """An engine with a worker that serves the bundled examples."""
    async with running("memory:", load_catalog(None)) as runtime:
        yield runtime.engine


async def run(engine: Engine, workflow: str, given: Any) -> RunView:
    """Start a run and wait until it has ended."""
    started = await engine.runs.start(workflow, given)
    return await engine.runs.result(started.id, timeout_s=LONG_S)


def statuses(view: RunView) -> dict[str, str]:
    """Return the status of each step by its id."""
    return {step.id: step.status for step in view.steps}


def kinds() -> list[str]:
    """Return the kinds of effects that happened."""
    return [entry["kind"] for entry in ledger.read()]


@pytest.mark.parametrize(
    ("intent", "desk"), [("refund", "refund"), ("the app shows an error", "technical"), ("hello", "other")]
)
async def test_triage_goes_to_one_desk_and_answers(engine: Engine, intent: str, desk: str) -> None:
    """One branch runs, the others are skipped, and the node after the fork runs all the same."""
    view = await run(engine, "triage", {"intent": intent})
    assert view.status == "completed", view.error
    found = statuses(view)
    assert {name for name in ("refund", "technical", "other") if found[name] == "completed"} == {desk}
    assert {name for name in ("refund", "technical", "other") if found[name] == "skipped"} == {
        "refund", "technical", "other"
    } - {desk}
    assert view.output["answer"]["content"].startswith("Thank you")


async def test_triage_replays_from_a_step(engine: Engine) -> None:
    """A replay from step 2 keeps the first two outcomes and does the rest again."""
    view = await run(engine, "triage", {"intent": "refund"})
    started = await engine.runs.replay(view.id, Replay(from_step=2))
    again = await engine.runs.result(started.id, timeout_s=LONG_S)
    assert (again.status, again.replay_of, again.from_step) == ("completed", view.id, 2)
    assert [step.id for step in again.steps if step.reused] == ["intake", "classify"]
    assert again.output == view.output


async def test_triage_refuses_an_input_without_an_intent(engine: Engine) -> None:
    """A run that cannot be started creates nothing."""
    with pytest.raises(InvalidInput, match="intent"):
        await engine.runs.start("triage", {"message": "hi"})
    assert not (await engine.runs.list()).items


async def test_research_swarm_stays_within_its_caps(engine: Engine) -> None:
    """It has the documented caps, and spends what its steps say."""
    view = await run(engine, "research-swarm", {"topic": "fuel"})
    assert view.status == "completed", view.error
    assert view.budget.limits == {
        "tokens": 50_000, "tool_calls": 100, "per_tool": {"web_search": 20}, "wall_clock_s": 300
    }
    assert view.budget.spent["per_tool"] == {"web_search": 4}
    assert 0 < view.budget.spent["tokens"] < 50_000
    assert "3 readings" in view.output["write"]["content"]


async def test_research_swarm_halts_at_the_cap_of_a_tool(engine: Engine) -> None:
    """A plan that runs away is stopped before the 21st search, and the run says which cap it was."""
    view = await run(engine, "research-swarm", {"topic": "fuel", "questions": 25})
    assert view.status == "budget_exceeded"
    assert view.error is not None
    assert "web_search" in view.error.message
    assert view.budget.spent["per_tool"] == {"web_search": 20}


async def test_a_small_refund_needs_nobody(engine: Engine) -> None:
    """Below the limit the money is returned once, under the key of its call."""
    view = await run(engine, "stripe_refund", {"charge": "ch_4711", "amount_cents": 10_000})
    assert view.status == "completed", view.error
    assert kinds() == ["refund", "receipt"]
    assert ledger.read()[0]["key"] == f"{view.id}/refund/create_refund"


@pytest.mark.parametrize(("decision", "effects"), [("approve", ["refund", "receipt"]), ("reject", [])])
async def test_a_large_refund_asks(engine: Engine, decision: str, effects: list[str]) -> None:
    """Above the limit a person decides, and a refusal has no effect."""
    started = await engine.runs.start("stripe_refund", {"charge": "ch_4711", "amount_cents": 10_001})
    async for event in engine.history.stream(started.id):
        if event.type == "ticket.opened":
            assert kinds() == []
            await engine.tickets.decide(event.data["ticket"], decision, reason="as agreed", by="ada")
    view = await engine.runs.result(started.id, timeout_s=LONG_S)
    assert view.status == "completed", view.error
    assert kinds() == effects
    assert (view.output.keys() == {"declined"}) is (decision == "reject")


@pytest.mark.parametrize(("score", "taken", "not_taken"), [(0.6, "praise", "repeat"), (0.59, "repeat", "praise")])
async def test_a_condition_takes_one_branch(engine: Engine, score: float, taken: str, not_taken: str) -> None:
    """The branch not taken is skipped; the join runs once."""
    found = statuses(await run(engine, "conditional", {"score": score}))
    assert (found[taken], found[not_taken], found["record"]) == ("completed", "skipped", "completed")


async def test_an_extraction_fits_its_schema(engine: Engine) -> None:
    """The record is what the document says."""
    view = await run(engine, "data-extraction", {"document": "07-harbour-slots"})
    assert view.output["record"] == {
        "kind": "contract", "party": "Port of Nessen", "value_eur": 410_000, "notice_days": 365,
        "concerns": ["penalty"],
    }


async def test_an_unknown_document_is_named_with_the_nearest(engine: Engine) -> None:
    """A tool that cannot succeed fails its step clearly."""
    view = await run(engine, "data-extraction", {"document": "07-harbour-slot"})
    assert view.status == "failed"
    assert view.error is not None
    assert "'07-harbour-slots'" in view.error.message


async def test_a_review_files_every_finding_once(engine: Engine) -> None:
    """Agents read and judge, the tool files, the panel decides; the ledger has each effect once."""
    names = ["03-marine-fuel", "04-cleaning"]
    view = await run(engine, "review", {"documents": names, "limit_eur": 600_000})
    assert view.status == "completed", view.error
    effects = [entry for entry in ledger.read() if entry["kind"] != "model"]
    assert sorted((entry["kind"], entry.get("document", "")) for entry in effects) == [
        ("finding", "03-marine-fuel"), ("finding", "04-cleaning"), ("summary", "")
    ]
    assert len({entry["key"] for entry in ledger.read()}) == len(ledger.read())
    assert statuses(view)["escalate"] == "completed"
    assert "above the limit" in view.output["publish"]["text"]


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        (review.file_finding, {"name": "a", "facts": {"value_eur": 5}, "verdict": {"risk": "low", "reason": "fair"}}),
        (review.publish_summary, {"text": "all is well"}),
        (support.create_refund, {"charge": "ch_1", "amount_cents": 5}),
        (support.send_receipt, {"customer": "c", "text": "thanks"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_far_side_answers_the_same_when_asked_again(tool: Callable[..., Any], given: dict[str, Any]) -> None:
    """A worker killed after the effect and before the answer goes on with what the hook is told: it must be equal."""
    answer = tool(**given, idempotency_key="k")
    assert ledger.outcome("k") == ("succeeded", answer)
    assert ledger.outcome("never") == "retry"


async def test_a_plain_step_list_runs_by_prefix(engine: Engine) -> None:
    """`tool_call.` retries what it is asked to fail, `llm_call.` answers offline, other names do nothing."""
    steps = [
        {"name": "tool_call.charge", "input": {"simulateFailure": True, "failures": 1}},
        {"name": "llm_call.draft", "input": {"prompt": "write"}, "dependsOn": ["tool_call.charge"]},
        {"name": "archive", "depends_on": ["llm_call.draft"]},
    ]
    started = await engine.runs.submit(StartRun(goal="a goal", steps=steps))
    view = await engine.runs.result(started.id, timeout_s=LONG_S)
    assert (view.status, view.goal) == ("completed", "a goal")
    by_id = {step.id: step for step in view.steps}
    assert by_id["tool_call_charge"].attempt == 2
    assert by_id["tool_call_charge"].output["key"] == f"{view.id}/tool_call_charge"
    assert by_id["llm_call_draft"].output["content"] == "offline:write"
    assert by_id["archive"].output["ok"] is True
