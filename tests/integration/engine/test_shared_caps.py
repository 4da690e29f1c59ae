"""Caps that many runs share: never passed, waited under in plain sight, and left again by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tenuto import App, Context
from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.domain.budgets.escrow import EVERYWHERE, NOW, Cap
from tenuto.domain.runs.events import Charge
from tenuto.errors import Invalid, Missing
from tenuto.ports.model import ModelReply, ModelRequest, ToolCall
from tenuto.runtime.projector import Projector
from tenuto.runtime.services.budgets import SetCap
from tenuto.runtime.services.caps import declare_caps
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.wiring import Runtime, running

OPTIONS = WorkerOptions(lease_ms=2000, idle_s=0.05)


class Shop:
    """Steps that buy something: each call is held at its bound and costs what its price says."""

    def __init__(self) -> None:
        self.app = App("t")
        self.made: list[str] = []
        self.gate: asyncio.Event | None = None
        self.under_way = 0
        self.most = 0

        @self.app.step
        async def buy(ctx: Context, input: dict[str, Any]) -> Any:
            async def make(key: str) -> int:
                self.made.append(key)
                self.under_way += 1
                self.most = max(self.most, self.under_way)
                try:
                    if self.gate is not None:
                        await self.gate.wait()
                finally:
                    self.under_way -= 1
                return input["price"]

            bound = Charge(tokens=1, cost_usd_micros=input.get("bound", input["price"]))
            return await ctx.perform(
                "model", "m", input, make, hold=bound, used=lambda price: Charge(tokens=1, cost_usd_micros=price),
                slot=input.get("slot", ""),
            )

        self.app.workflow("buy").step(buy, id="buy")


async def _until(runtime: Runtime, holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(15):
        while True:
            found = holds()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await runtime.store.wait_hint(0.02)


async def _names(runtime: Runtime, run: str) -> list[str]:
    return [event.type for event in (await runtime.engine.history.events(run)).items]


async def _waits(runtime: Runtime, run: str) -> bool:
    return (await runtime.engine.runs.get(run)).status == "waiting"


async def test_a_call_without_room_waits_until_the_cap_is_raised(url: str):
    """It is not made; the refusal is an event, the wait is visible with who can end it, and it resumes by itself."""
    shop = Shop()
    async with running(url, shop.app.catalog(), options=OPTIONS) as runtime:
        engine = runtime.engine
        await engine.budgets.put(SetCap(period="day", limit_usd_micros=100))
        assert (await engine.runs.execute("buy", {"price": 90})).status == "completed"
        run = (await engine.runs.start("buy", {"price": 20})).id
        await _until(runtime, lambda: _waits(runtime, run))
        assert len(shop.made) == 1
        why = await engine.runs.why(run)
        assert why.waits[0].kind == "funds"
        assert "day cap" in why.waits[0].message and "$0.0001" in why.waits[0].message
        assert why.waits[0].until is not None
        (ticket,) = (await engine.tickets.list(state="open")).items
        assert (ticket.kind, ticket.run) == ("budget", run)
        shown = await engine.budgets.read()
        assert [call.run for call in shown.waiting] == [run]
        day = next(item for item in shown.items if item.period == "day")
        assert (day.limit, day.spent, day.remaining) == (100, 90, 10)
        await engine.budgets.put(SetCap(period="day", limit_usd_micros=110))
        view = await engine.runs.get(run, wait_s=15)
        assert (view.status, view.output) == ("completed", {"buy": 20})
        assert {"call.refused", "call.room", "ticket.closed"} <= set(await _names(runtime, run))
        assert (await engine.tickets.list(state="open")).items == []
        assert (await engine.budgets.read()).waiting == []
        assert (await engine.audit.verify(run)).ok


async def test_a_call_waits_for_what_others_give_back(url: str):
    """Where calls under way may leave room, nobody is asked: the wait ends when one is settled for less."""
    shop = Shop()
    shop.gate = asyncio.Event()
    async with running(url, shop.app.catalog(), options=OPTIONS) as runtime:
        engine = runtime.engine
        await engine.budgets.put(SetCap(period="total", limit_usd_micros=100))
        first = (await engine.runs.start("buy", {"price": 10, "bound": 80})).id
        await _until(runtime, lambda: shop.made)
        second = (await engine.runs.start("buy", {"price": 5, "bound": 40})).id
        await _until(runtime, lambda: _waits(runtime, second))
        assert (await engine.tickets.list(state="open")).items == []
        shop.gate.set()
        for run in (first, second):
            assert (await engine.runs.get(run, wait_s=15)).status == "completed"
        total = next(item for item in (await engine.budgets.read()).items if item.period == "total")
        assert (total.spent, total.reserved, total.unknown) == (15, 0, 0)


async def test_a_person_is_asked_when_what_a_call_hoped_for_was_spent_after_all(url: str):
    """What others hold may leave room; once they have spent it, only a person can make some, and must hear of it."""
    shop = Shop()
    shop.gate = asyncio.Event()
    async with running(url, shop.app.catalog(), options=OPTIONS) as runtime:
        engine = runtime.engine
        await engine.budgets.put(SetCap(period="total", limit_usd_micros=100))
        first = (await engine.runs.start("buy", {"price": 80})).id
        await _until(runtime, lambda: shop.made)
        second = (await engine.runs.start("buy", {"price": 40})).id
        await _until(runtime, lambda: _waits(runtime, second))
        assert (await engine.tickets.list(state="open")).items == []
        shop.gate.set()
        assert (await engine.runs.get(first, wait_s=15)).status == "completed"
        await _until(runtime, lambda: _open(runtime, ""))
        refused = [name for name in await _names(runtime, second) if name == "call.refused"]
        assert len(refused) == 2
        await engine.budgets.put(SetCap(period="total", limit_usd_micros=120))
        assert (await engine.runs.get(second, wait_s=15)).status == "completed"
        assert (await engine.tickets.list(state="open")).items == []


async def test_a_person_may_let_a_waiting_call_fail(url: str):
    """The ticket's answer ends the wait: the call fails and names the cap; asking again is the other answer."""
    shop = Shop()
    async with running(url, shop.app.catalog(), options=OPTIONS) as runtime:
        engine = runtime.engine
        await engine.budgets.put(SetCap(period="month", limit_usd_micros=10))
        run = (await engine.runs.start("buy", {"price": 11})).id
        await _until(runtime, lambda: _waits(runtime, run))
        (ticket,) = (await engine.tickets.list(state="open")).items
        await engine.tickets.decide(ticket.id, "retry")
        await _until(runtime, lambda: _open(runtime, ticket.id))
        (again,) = (await engine.tickets.list(state="open")).items
        await engine.tickets.decide(again.id, "fail", reason="too dear", by="ada")
        view = await engine.runs.get(run, wait_s=15)
        assert view.status == "failed"
        assert view.error is not None
        assert "month cap" in view.error.message and "too dear" in view.error.message
        assert shop.made == []


async def _open(runtime: Runtime, but: str) -> bool:
    return any(ticket.id != but for ticket in (await runtime.engine.tickets.list(state="open")).items)


async def test_calls_that_cost_nothing_go_on(url: str):
    """When the money is gone, what is free still runs."""
    shop = Shop()
    async with running(url, shop.app.catalog(), options=OPTIONS) as runtime:
        await runtime.engine.budgets.put(SetCap(period="day", limit_usd_micros=0))
        assert (await runtime.engine.runs.execute("buy", {"price": 0})).status == "completed"
        run = (await runtime.engine.runs.start("buy", {"price": 1})).id
        await _until(runtime, lambda: _waits(runtime, run))


async def test_a_project_s_cap_holds_its_runs_only(url: str):
    """Runs labelled with the project wait; others go on."""
    shop = Shop()
    async with running(url, shop.app.catalog(), options=OPTIONS) as runtime:
        engine = runtime.engine
        await engine.budgets.put(SetCap(scope="project:alpha", period="total", limit_usd_micros=5))
        run = (await engine.runs.start("buy", {"price": 9}, labels={"project": "alpha"})).id
        await _until(runtime, lambda: _waits(runtime, run))
        assert (await engine.runs.execute("buy", {"price": 9}, labels={"project": "beta"})).status == "completed"
        await engine.budgets.drop("project:alpha", "total")
        assert (await engine.runs.get(run, wait_s=15)).status == "completed"


async def test_a_sub_flow_spends_for_its_parent_s_project(url: str):
    """A project's cap cannot be walked around by spending in a child."""
    shop = Shop()
    shop.app.workflow("parent").subflow("child", "buy", input={"price": 9})
    async with running(url, shop.app.catalog(), options=OPTIONS) as runtime:
        engine = runtime.engine
        await engine.budgets.put(SetCap(scope="project:alpha", period="total", limit_usd_micros=10))
        assert (await engine.runs.execute("parent", {}, labels={"project": "alpha"})).status == "completed"
        spent = [item.spent for item in (await engine.budgets.read()).items if item.scope == "project:alpha"]
        assert spent == [9, 9, 9]


async def test_a_question_about_room_is_closed_with_the_step_that_asked(url: str):
    """When the step fails for another reason, nobody is left with a question whose answer changes nothing."""
    app = App("t")

    @app.step
    async def two(ctx: Context) -> None:
        async def make(_key: str) -> int:
            return 1

        async def fails() -> None:
            await ctx.sleep(0.05, key="first")
            raise RuntimeError("broken")

        dear = ctx.perform("model", "m", {}, make, key="dear", hold=Charge(cost_usd_micros=5))
        await asyncio.gather(dear, fails())

    app.workflow("w").step(two, id="two")
    async with running(url, app.catalog(), options=OPTIONS) as runtime:
        engine = runtime.engine
        await engine.budgets.put(SetCap(period="total", limit_usd_micros=1))
        run = (await engine.runs.start("w", {})).id
        assert (await engine.runs.get(run, wait_s=15)).status == "failed"
        assert {"call.refused", "ticket.opened", "ticket.closed"} <= set(await _names(runtime, run))
        assert [ticket.kind for ticket in (await engine.tickets.list(state="open")).items if ticket.kind == "budget"] == []
        assert (await engine.audit.verify(run)).ok


async def test_an_agent_whose_next_request_a_person_refuses_keeps_what_it_has(url: str):
    """Where text is wanted, the work so far stands, marked partial with the reason."""
    app, served = App("t"), list[str]()

    class Dear(ScriptedModel):
        def bound(self, request: ModelRequest) -> tuple[int, int]:
            return 1, 6

    def script(request: ModelRequest) -> ModelReply:
        served.append(request.model)
        return ModelReply(content="thought", tool_calls=(ToolCall("c", "look", {}),), stop="tools", cost_usd_micros=6)

    app.model("m:x", Dear(script))

    @app.tool(effect="pure")
    async def look() -> str:
        return "seen"

    app.workflow("w").agent("a", "loop", model="m:x", prompt="p", tools=[look])
    async with running(url, app.catalog(), options=OPTIONS) as runtime:
        engine = runtime.engine
        await engine.budgets.put(SetCap(period="total", limit_usd_micros=10))
        run = (await engine.runs.start("w", {})).id
        await _until(runtime, lambda: _waits(runtime, run))
        (ticket,) = (await engine.tickets.list(state="open")).items
        await engine.tickets.decide(ticket.id, "fail", reason="enough", by="ada")
        view = await engine.runs.get(run, wait_s=15)
        assert view.status == "completed"
        out = view.output["a"]
        assert (out["content"], out["tools"], out["partial"], out["rounds"]) == ("thought", {"look": "seen"}, True, 1)
        assert "total cap" in out["reason"] and "enough" in out["reason"]
        assert served == ["m:x"]


async def test_never_more_calls_to_a_provider_than_its_limit(url: str):
    """The excess waits in plain sight and goes on as places come free."""
    shop = Shop()
    shop.gate = asyncio.Event()
    async with running(url, shop.app.catalog(), options=OPTIONS) as runtime:
        engine = runtime.engine
        await runtime.store.put_cap(Cap(ns=EVERYWHERE, scope="provider:p", period=NOW, limit=2))
        runs = [(await engine.runs.start("buy", {"price": 1, "slot": "p"})).id for _ in range(6)]
        await _until(runtime, lambda: len(shop.made) == 2)
        await _until(runtime, lambda: _waiting_runs(runtime, 4))
        waits = [(await engine.runs.why(run)).waits for run in runs]
        assert sum("under way" in wait[0].message for wait in waits if wait) == 4
        shop.gate.set()
        for run in runs:
            assert (await engine.runs.get(run, wait_s=15)).status == "completed"
        assert shop.most <= 2
        assert len(shop.made) == 6


async def _waiting_runs(runtime: Runtime, n: int) -> bool:
    return len((await runtime.engine.budgets.read()).waiting) == n


async def test_one_warning_a_window(url: str):
    """The call that passes the share says so once; later ones do not."""
    shop = Shop()
    async with running(url, shop.app.catalog(), options=OPTIONS) as runtime:
        engine = runtime.engine
        await engine.budgets.put(SetCap(period="day", limit_usd_micros=100, warn_percent=50))
        runs = [(await engine.runs.execute("buy", {"price": 30})).id for _ in range(3)]
        warned = [run for run in runs if "run.budget_warning" in await _names(runtime, run)]
        day = next(item for item in (await engine.budgets.read()).items if item.period == "day")
        assert day.warned
        assert warned == runs[1:2]


async def test_a_cancelled_run_waits_no_longer(url: str):
    """What it wanted is nobody's any more."""
    shop = Shop()
    async with running(url, shop.app.catalog(), options=OPTIONS) as runtime:
        engine = runtime.engine
        await engine.budgets.put(SetCap(period="total", limit_usd_micros=0))
        run = (await engine.runs.start("buy", {"price": 1})).id
        await _until(runtime, lambda: _waits(runtime, run))
        await engine.runs.cancel(run)
        assert (await engine.runs.get(run, wait_s=15)).status == "cancelled"
        await engine.budgets.put(SetCap(period="total", limit_usd_micros=50))
        await _until(runtime, lambda: _waiting_runs(runtime, 0))
        assert shop.made == []


async def test_a_lost_call_is_settled_by_whoever_knows(url: str):
    """Its money stays held, marked unknown, until somebody says what it did cost; also after the run has ended."""
    shop = Shop()
    shop.gate = asyncio.Event()
    async with running(url, shop.app.catalog(), options=OPTIONS) as runtime:
        engine = runtime.engine
        run = (await engine.runs.start("buy", {"price": 70})).id
        await _until(runtime, lambda: shop.made)
        (held,) = await engine.budgets.holds()
        assert (held.run, held.lost, held.usd_micros) == (run, False, 70)
        await engine.runs.cancel(run)
        assert (await engine.runs.get(run, wait_s=15)).status == "cancelled"
        (lost,) = await engine.budgets.holds(lost=True)
        total = next(item for item in (await engine.budgets.read()).items if item.period == "total")
        assert (total.spent, total.unknown) == (0, 70)
        await engine.budgets.settle(run, lost.n, 40)
        total = next(item for item in (await engine.budgets.read()).items if item.period == "total")
        assert (total.spent, total.reserved, total.unknown) == (40, 0, 0)
        with pytest.raises(Missing):
            await engine.budgets.settle(run, lost.n, 40)
        for _ in range(2):
            used = (await engine.usage.totals()).totals
            assert (used.calls, used.unknown, used.cost_usd_micros, used.unknown_cost_usd_micros) == (1, 0, 40, 0)
            await Projector(runtime.store, engine.context.definitions).rebuild()


async def test_caps_that_cannot_be_are_refused_with_every_reason(url: str):
    """Scope, period, amount and share are checked together."""
    async with running(url, Shop().app.catalog(), worker=False) as runtime:
        with pytest.raises(Invalid) as caught:
            await runtime.engine.budgets.put(
                SetCap(scope="team:x", period="week", limit_usd_micros=-1, warn_percent=0)
            )
        assert [problem.place for problem in caught.value.problems] == [
            "scope", "period", "limit_usd_micros", "warn_percent",
        ]  # fmt: skip
        with pytest.raises(Missing):
            await runtime.engine.budgets.drop("", "day")


async def test_caps_of_settings_follow_the_settings(url: str):
    """A cap no longer declared goes; one that a person set stays, whatever settings say."""
    async with running(url, Shop().app.catalog(), worker=False) as runtime:
        store, engine = runtime.store, runtime.engine
        day = Cap(ns="default", scope="", period="day", limit=5)
        month = Cap(ns="default", scope="", period="month", limit=9)
        await declare_caps(store, "default", [day, month])
        await engine.budgets.put(SetCap(period="month", limit_usd_micros=7))
        await declare_caps(store, "default", [month])
        assert [(cap.period, cap.limit, cap.source) for cap in await store.caps("default")] == [("month", 7, "api")]
