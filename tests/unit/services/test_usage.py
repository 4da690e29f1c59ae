"""What calls cost: followed or rebuilt, in any batches and by several at once, the answers are equal and exact."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec import Raw

from tenuto import App, Permanent
from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.adapters.stores.memory import MemoryStore
from tenuto.domain.runs import events as ev
from tenuto.ports.model import ModelReply, ModelRequest
from tenuto.ports.usage import UsageFilter, UsageRow
from tenuto.runtime.projector import Projector
from tenuto.runtime.services.requests import ListUsage, StartRun
from tenuto.runtime.usage import METERED, Meter
from tenuto.wiring import Runtime, running

PRICES = (1, 333_333, 999_999)


def answer(request: ModelRequest) -> ModelReply:
    """Cost something odd, so that a rounded sum shows."""
    n = int(request.messages[-1].content)
    return ModelReply(
        content="ok", input_tokens=10 + n, output_tokens=5, cost_usd_micros=PRICES[n % 3], model=f"m{n % 2}", provider="lab"
    )


@pytest.fixture
async def paid() -> AsyncIterator[Runtime]:
    """An engine whose agents cost money."""
    app = App("t")
    app.model("lab:x", ScriptedModel(answer))

    @app.tool(effect="idempotent")
    async def search(query: str = "") -> str:
        return query

    @app.tool(effect="idempotent")
    async def broken(query: str = "") -> str:
        raise Permanent("no such thing")

    app.workflow("ask").agent("writer", model="lab:x", prompt="${input.n}", tools=[search])
    app.workflow("care").agent("p", tools=[broken])
    async with running("memory:", app.catalog()) as runtime:
        yield runtime


async def ask(runtime: Runtime, n: int, project: str = "") -> str:
    labels = {"project": project} if project else {}
    run = await runtime.engine.runs.submit(StartRun(workflow="ask", input={"n": n}, labels=labels))
    assert (await runtime.engine.runs.result(run.id, timeout_s=10)).status == "completed"
    return run.id


def projector(runtime: Runtime) -> Projector:
    return Projector(runtime.store, runtime.engine.context.definitions)


async def rows(runtime: Runtime) -> list[UsageRow]:
    return await runtime.store.list_usage(UsageFilter(), limit=1000)


async def test_costs_are_exact_and_split(paid: Runtime):
    for n in range(7):
        await ask(paid, n, "atlas" if n % 2 else "")
    await projector(paid).drain()
    usage = paid.engine.usage
    view = await usage.totals(by="model")
    assert (view.lag, view.complete, view.totals.runs, view.totals.calls) == (0, True, 7, 14)
    assert view.totals.cost_usd_micros == sum(PRICES[n % 3] for n in range(7)) == 2_666_667
    assert view.totals.cost_usd == "2.666667"
    assert (view.totals.input_tokens, view.totals.output_tokens, view.totals.tokens) == (91, 35, 126)
    assert {group.key: group.calls for group in view.groups} == {"m0": 4, "m1": 3, "": 7}
    projects = (await usage.totals(by="project")).groups
    assert {group.key: group.cost_usd for group in projects} == {"": "1.333334", "atlas": "1.333333"}
    assert [group.key for group in (await usage.totals(by="tool")).groups if group.key] == ["search"]
    ledgers = [(await usage.run(group.key)).budget.spent for group in (await usage.totals(by="run")).groups]
    assert sum(ledger["cost_usd_micros"] for ledger in ledgers) == view.totals.cost_usd_micros
    first = await usage.calls(ListUsage(kind="model"), limit=5)
    rest = await usage.calls(ListUsage(kind="model"), after=first.next or "", limit=5)
    assert (len(first.items), len(rest.items), rest.next) == (5, 2, None)
    assert {(call.agent, call.workflow, call.provider, call.state) for call in rest.items} == {
        ("writer", "ask", "lab", "settled")
    }


@pytest.mark.parametrize("groups", [1, 2, 500])
async def test_usage_is_the_same_followed_or_rebuilt(paid: Runtime, monkeypatch: pytest.MonkeyPatch, groups: int):
    monkeypatch.setattr("tenuto.runtime.projector.GROUPS", groups)
    follower = projector(paid)
    for n in range(4):
        await ask(paid, n)
        await follower.drain()
    followed = await rows(paid)
    assert len(followed) == 8
    await projector(paid).rebuild()
    assert await rows(paid) == followed


async def test_several_projectors_count_no_call_twice(paid: Runtime):
    for n in range(4):
        await ask(paid, n)
    await asyncio.gather(*(projector(paid).drain() for _ in range(4)))
    assert (await paid.engine.usage.totals()).totals.calls == 8


async def test_only_who_leads_writes(paid: Runtime):
    """A projector that does not lead leaves the work to the other, however often it looks."""
    assert paid.projector is not None
    for task in paid.tasks:
        if task.get_name() == "projector":
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    await ask(paid, 1)
    await projector(paid).rebuild()
    before = await rows(paid)
    await ask(paid, 2)
    looked, looks = asyncio.Event(), 0

    def leads() -> bool:
        nonlocal looks
        looks += 1
        if looks == 3:
            looked.set()
        return False

    task = asyncio.create_task(Projector(paid.store, paid.engine.context.definitions, leads=leads).run(0))
    await asyncio.wait_for(looked.wait(), 10)
    task.cancel()
    assert await rows(paid) == before
    assert (await paid.engine.usage.totals()).lag > 0


async def test_a_failed_call_counts_as_one(paid: Runtime):
    run = await paid.engine.runs.submit(StartRun(workflow="care", input={"query": "x"}))
    assert (await paid.engine.runs.result(run.id, timeout_s=10)).status == "failed"
    await projector(paid).drain()
    (call,) = (await paid.engine.usage.calls()).items
    assert (call.tool, call.state, call.cost_usd) == ("broken", "failed", "0.000000")


# --- what a meter makes of a journal ---------------------------------------------------------------------------------

HOLD = ev.Charge(tokens=1000, cost_usd_micros=90)


def read(*events: ev.Events, labels: dict[str, str] | None = None) -> list[UsageRow]:
    """Return what stands after a journal with one event a record."""
    created = ev.RunCreated(ns="n", workflow="w", digest="d", input=Raw(b"null"), labels=labels or {})
    meter = Meter("r", created)
    store: dict[int, UsageRow] = {}
    for seq, event in enumerate(events, 2):
        assert type(event) in METERED
        row = meter.read(event, seq, 0, seq * 10)
        if row is not None:
            store[row.seq] = row
    return list(store.values())


def intended(kind: str = "model", name: str = "lab:big", hold: ev.Charge | None = HOLD) -> ev.CallIntended:
    return ev.CallIntended(step="s~loop#2", call="c", kind=kind, name=name, hold=hold)


LOST = ev.CallUnknown(step="s~loop#2", call="c", reason="cut")
PAID = ev.Charge(tokens=30, cost_usd_micros=7)


def test_a_lost_call_counts_with_its_hold_until_it_is_known():
    (lost,) = read(intended(), LOST, LOST)
    assert (lost.state, lost.tokens, lost.cost_usd_micros, lost.as_of) == ("unknown", 1000, 90, 3)
    assert (lost.provider, lost.model) == ("lab", "big")
    late = ev.CallResolved(
        step="s~loop#2", call="c", resolution="succeeded", used=PAID, meta={"input_tokens": 20, "purpose": "execution"}
    )
    (known,) = read(intended(), LOST, late)
    assert (known.state, known.seq, known.as_of, known.at) == ("settled", 3, 4, 30)
    assert (known.tokens, known.input_tokens, known.cost_usd_micros, known.purpose) == (30, 20, 7, "execution")
    (undone,) = read(intended(), LOST, ev.CallResolved(step="s~loop#2", call="c", resolution="failed", used=ev.Charge()))
    assert (undone.state, undone.tokens, undone.cost_usd_micros) == ("failed", 0, 0)


def test_a_lost_call_made_again_counts_beside_it():
    """Its upper bound stays unknown, as in the ledger of the run, and the second request has a row of its own."""
    again = ev.CallResolved(step="s~loop#2", call="c", resolution="retry")
    done = ev.CallCompleted(step="s~loop#2", call="c", out=Raw(b"1"), kind="model", name="lab:big", used=PAID)
    for between in ((), (again,)):
        lost, paid = read(intended(), LOST, *between, intended(), done)
        assert (lost.state, lost.cost_usd_micros, paid.state, paid.cost_usd_micros) == ("unknown", 90, "settled", 7)


@pytest.mark.parametrize("again", [False, True])
def test_a_bill_that_comes_later_settles_the_call_it_is_for(again: bool):
    """Also one that was made again meanwhile, whose second request has a hold and a row of its own."""
    asked = [ev.CallIntended(step="s", call="c", kind="model", name="lab:big", hold=HOLD, grant=n) for n in (4, 5)]
    lost = ev.CallUnknown(step="s", call="c", grant=4)
    retried = (ev.CallResolved(step="s", call="c", resolution="retry", grant=4), asked[1]) if again else ()
    bill = ev.MoneyResolved(grant=4, used=ev.Charge(cost_usd_micros=11), by="ann")
    row, *_ = read(asked[0], lost, *retried, ev.MoneyResolved(grant=3, used=PAID), bill, bill)
    assert (row.state, row.seq, row.tokens, row.cost_usd_micros) == ("settled", 3, 0, 11)
    done = ev.CallCompleted(step="s", call="c", out=Raw(b"1"), kind="model", name="lab:big", used=PAID, grant=5)
    late = ev.CallResolved(step="s", call="c", resolution="failed", used=PAID, grant=4)
    first, *rest = read(asked[0], lost, *retried, bill, done if again else late)
    assert (first.state, first.cost_usd_micros) == ("settled" if again else "failed", 11)
    assert [(other.state, other.cost_usd_micros) for other in rest] == ([("settled", 7)] if again else [])


def test_what_a_failed_call_cost_counts():
    failure = ev.Failure(code="model.refused", message="no")
    (row,) = read(intended(), ev.CallFailed(step="s~loop#2", call="c", failure=failure, used=PAID), labels={"project": "p"})
    assert (row.state, row.cost_usd_micros, row.project, row.kind) == ("failed", 7, "p", "model")
    meta = {"model": "big-2", "input_tokens": 21, "purpose": "planning"}
    final = ev.CallFailed(step="s", call="c", failure=failure, used=PAID, kind="model", name="lab:big", final=True, meta=meta)
    (row,) = read(final)
    assert (row.state, row.provider, row.model) == ("failed", "lab", "big-2")
    assert (row.tokens, row.input_tokens, row.purpose) == (30, 21, "planning")


def test_facts_nobody_gave_count_as_nothing():
    """Journals of other versions hold fewer facts, or odd ones; what was charged goes before what the result says."""
    meta = {"input_tokens": "many", "output_tokens": -1, "cost_usd_micros": 5, "model": None, "provider": "cloud"}
    done = ev.CallCompleted(step="s", call="c", out=Raw(b"1"), kind="model", name="lab:big", meta=meta)
    (row,) = read(done)
    assert (row.provider, row.model, row.tokens, row.cost_usd_micros) == ("cloud", "big", 0, 5)
    (charged,) = read(ev.CallCompleted(step="s", call="c", out=Raw(b"1"), kind="model", name="x", used=PAID, meta=meta))
    assert (charged.cost_usd_micros, charged.model) == (7, "x")


def test_calls_that_cost_nothing_and_reach_nobody_are_left_out():
    """A step's own calls count only when they cost something, and what a shadow replay left out never happened."""
    assert not read(ev.CallCompleted(step="s", call="c", out=Raw(b"1"), kind="call", name="fetch"))
    assert not read(ev.CallCompleted(step="s", call="c", out=Raw(b"1"), kind="tool", name="t", meta={"shadow": True}))
    assert not read(intended("call", "fetch", None), LOST)
    (row,) = read(ev.CallCompleted(step="s", call="c", out=Raw(b"1"), kind="call", name="fetch", used=PAID))
    assert (row.kind, row.cost_usd_micros) == ("call", 7)


# --- rows and runs ----------------------------------------------------------------------------------------------------


async def test_a_project_pays_for_the_runs_its_runs_start(paid: Runtime):
    """The label goes down to sub-flows, and no other label does."""
    outer = {"name": "outer", "nodes": [{"id": "sub", "kind": "subflow", "config": {"workflow": "ask"}}]}
    run = await paid.engine.runs.submit(StartRun(definition=outer, input={"n": 2}, labels={"project": "atlas", "team": "x"}))
    assert (await paid.engine.runs.result(run.id, timeout_s=10)).status == "completed"
    await projector(paid).drain()
    (call,) = (await paid.engine.usage.calls(ListUsage(kind="model"))).items
    assert (call.project, call.cost_usd) == ("atlas", "0.999999")
    assert (await paid.engine.runs.get(call.run)).labels == {"project": "atlas"}


async def test_what_was_paid_outlives_the_run(paid: Runtime):
    """Deleted before it was projected or after, by id or by age: the sum is the same, and a rebuilding keeps it."""
    for task in paid.tasks:
        if task.get_name() == "projector":
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    first, _ = await ask(paid, 0), await ask(paid, 1)
    await paid.engine.runs.delete(first)
    await paid.engine.runs.prune(before=2**50)
    assert isinstance(paid.store, MemoryStore) and not paid.store.tables.runs
    assert (await paid.engine.usage.totals()).totals.cost_usd == "0.333334"
    await projector(paid).drain()
    assert (await paid.engine.usage.totals()).totals.cost_usd == "0.333334"
    await projector(paid).rebuild()
    assert (await paid.engine.usage.totals()).totals.cost_usd == "0.333334"
