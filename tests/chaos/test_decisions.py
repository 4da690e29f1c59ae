"""People decide while workers are killed, stopped past their lease and replaced: no answer is lost, none counts twice.

Every answer that was acknowledged is noted outside, and held against the journals in the end. Timers that answer for
people who did not run through takeovers as well, and race with answers that come at the last moment.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tenuto.bundled.load import load_catalog
from tenuto.domain.runs.check import check_run
from tenuto.domain.runs.public import PublicEvent
from tenuto.errors import TenutoError
from tenuto.ports.store import RunFilter
from tenuto.runtime.services.requests import StartRun
from tenuto.runtime.services.results import TicketView
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.wiring import Runtime, running

EACH = int(os.environ.get("TENUTO_TEST_DECISIONS_EACH", "6"))
FAULTS = int(os.environ.get("TENUTO_TEST_DECISIONS_FAULTS", "4"))
WORKERS = 2
LEASE_S = 1.0
PEOPLE = ("ada", "bob", "cyd")
APP = '''
from typing import Any

from tenuto import App, Context

app = App("people")
app.workflow("one").approval("ok", "One?", approvers=["ada"])
app.workflow("pair").approval("ok", "Two of three?", approvers=["ada", "bob", "cyd"], quorum=2, reject_quorum=2)
app.workflow("late").approval("ok", "Nobody?", approvers=["nobody"], timeout_s=1.0, on_timeout="approve")
app.workflow("race").approval("ok", "In time?", approvers=["ada"], timeout_s=1.5, on_timeout="reject")
app.workflow("up").approval("ok", "Others?", approvers=["nobody"], timeout_s=0.7, on_timeout={"escalate": ["eve"], "timeout_s": 60})


@app.step
async def twice(ctx: Context, value: Any) -> list:
    return [(await ctx.approve(f"Round {n}?"))["by"] for n in (1, 2)]


app.workflow("code").step(twice)
'''
FLOWS = ("one", "pair", "late", "race", "up", "code")
Vote = tuple[str, str, str]


class Fleet:
    """Worker processes that are killed, or stopped for longer than their lease, and replaced."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._folder, self._environ = folder, environ
        self._all: list[asyncio.subprocess.Process] = []
        self.faults = Counter[str]()

    async def start(self) -> None:
        with (self._folder / f"worker{len(self._all)}.log").open("wb") as log:
            self._all.append(
                await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "tenuto", "worker", "people:app", cwd=self._folder, env=self._environ,
                    stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                )
            )  # fmt: skip

    async def harm(self, chance: random.Random) -> None:
        """Kill a worker for good and start another, or stop one until others have taken its runs."""
        victim = chance.choice([process for process in self._all if process.returncode is None])
        if sum(self.faults.values()) % 2 == 0:
            victim.send_signal(signal.SIGKILL)
            await victim.wait()
            self.faults["killed"] += 1
            await self.start()
        else:
            victim.send_signal(signal.SIGSTOP)
            await asyncio.sleep(LEASE_S * 1.5)  # the lease has to end on the clock of the store
            victim.send_signal(signal.SIGCONT)
            self.faults["stopped"] += 1

    async def end(self) -> None:
        for process in self._all:
            if process.returncode is None:
                process.kill()
                await process.wait()


@asynccontextmanager
async def _fleet(folder: Path, environ: dict[str, str]) -> AsyncIterator[Fleet]:
    fleet = Fleet(folder, environ)
    try:
        for _ in range(WORKERS):
            await fleet.start()
        yield fleet
    finally:
        await fleet.end()


class Crowd:
    """People who answer whatever opens, some twice, some otherwise the second time; keeps what was acknowledged."""

    def __init__(self, runtime: Runtime, flows: dict[str, str], chance: random.Random) -> None:
        self._runtime, self._flows, self._chance = runtime, flows, chance
        self._seen: set[str] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self.acknowledged: set[Vote] = set()
        self.refused = Counter[str]()

    async def watch(self) -> None:
        while True:
            for ticket in (await self._runtime.engine.tickets.list(state="open", limit=500)).items:
                if ticket.id not in self._seen:
                    self._seen.add(ticket.id)
                    for by, decision, wait_s in self._meant(ticket):
                        self._answering.add(asyncio.create_task(self._answer(ticket.id, by, decision, wait_s)))
            await asyncio.sleep(0.05)  # people look when they look; nothing tells them

    def _meant(self, ticket: TicketView) -> list[tuple[str, str, float]]:
        """Return who answers what, and how long they think."""
        chance, flow = self._chance, self._flows[ticket.run]
        if flow == "pair":
            said = [(by, chance.choice(("approve", "approve", "reject")), chance.random()) for by in PEOPLE]
            return [*said, *((by, chance.choice(("approve", "reject")), wait + chance.random() / 4) for by, _, wait in said)]
        if flow == "race":
            return [("ada", "approve", 0.8 + chance.random())]
        if flow == "late" or ticket.approvers == ["nobody"]:
            return [("ada", "approve", chance.random())]  # who may not
        by = ticket.approvers[0] if ticket.approvers else chance.choice(PEOPLE)
        return [(by, "approve", chance.random() / 2), (by, "approve", chance.random() / 2), (by, "reject", chance.random())]

    async def _answer(self, ticket: str, by: str, decision: str, wait_s: float) -> None:
        await asyncio.sleep(wait_s)  # they think
        try:
            answered = await self._runtime.engine.tickets.decide(ticket, decision, by=by, reason="because")
        except TenutoError as error:
            self.refused[error.reason] += 1
        else:  # who says what others have decided already is told that they did, and is not counted
            if by == answered.by or by in [vote.by for vote in answered.votes]:
                self.acknowledged.add((ticket, by, decision))

    async def end(self) -> None:
        await asyncio.gather(*self._answering)


def _holds(flow: str, events: list[PublicEvent], said: set[Vote]) -> str:
    """Say what is wrong with how a run's questions were answered; empty when nothing is."""
    opened = {e.data["ticket"]: e.data for e in events if e.type == "ticket.opened"}
    decided = [(e.data["ticket"], e.data["by"], e.data["decision"]) for e in events if e.type == "ticket.decided"]
    voted = [(e.data["ticket"], e.data["by"], e.data["decision"]) for e in events if e.type == "ticket.voted"]
    if len({ticket for ticket, _, _ in decided}) != len(decided):
        return f"a question was decided twice: {decided}"
    if len({(ticket, by) for ticket, by, _ in voted}) != len(voted):
        return f"somebody's answer counts twice: {voted}"
    mine = {vote for vote in said if vote[0] in opened}
    heard = set(voted) if flow == "pair" else set(decided)
    if lost := mine - heard:
        return f"acknowledged and not in the journal: {lost}"
    if unknown := {vote for vote in heard if vote[1] != "timeout"} - mine:
        return f"in the journal and never acknowledged: {unknown}"
    by = [by for _, by, _ in decided]
    if flow == "pair":
        (decision,) = {decision for _, _, decision in decided}
        agreed = {by for _, by, said in voted if said == decision}
        return "" if len(agreed) == 2 else f"{decision} by {agreed}, of {voted}"
    wanted = {"one": [["ada"]], "late": [["timeout"]], "race": [["ada"], ["timeout"]], "up": [["timeout", "eve"]]}
    return "" if (flow == "code" and len(by) == 2) or by in wanted.get(flow, []) else f"{flow} was decided by {by}"


@pytest.mark.chaos
@pytest.mark.timeout(120)
@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_decisions_hold_while_workers_die(
    store: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue("postgres_url") if store == "postgres" else f"sqlite:///{tmp_path}/t.db"
    chance = random.Random(11)
    (tmp_path / "people.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "people", raising=False)
    environ = {
        **os.environ, "TENUTO_DATABASE_URL": url, "TENUTO_LEASE_S": str(LEASE_S), "PYTHONPATH": os.pathsep.join(sys.path),
    }
    options = WorkerOptions(lease_ms=int(LEASE_S * 1000))
    async with (
        running(url, load_catalog("people:app"), worker=False, options=options) as runtime,
        _fleet(tmp_path, environ) as fleet,
    ):
        engine, flows = runtime.engine, dict[str, str]()
        crowd = Crowd(runtime, flows, chance)
        watch = asyncio.create_task(crowd.watch())

        async def submit() -> None:
            for flow in FLOWS:
                made = await engine.runs.submit(StartRun(workflow=flow, input={}))
                flows[made.id] = flow

        for n in range(EACH):
            await submit()
            if n < FAULTS:
                await fleet.harm(chance)
        async with asyncio.timeout(60):
            while any(row.state != "done" for row in await runtime.store.list_runs(RunFilter(), limit=500)):
                if watch.done():
                    watch.result()
                await asyncio.sleep(0.05)  # the workers are other processes
        await crowd.end()
        watch.cancel()
        wrong: list[str] = []
        for run, flow in flows.items():
            found = (await engine.history.events(run, limit=1000)).items
            if fault := _holds(flow, found, crowd.acknowledged):
                wrong.append(f"{run} ({flow}): {fault}")
            _, plan, _ = await engine.context.load(run)
            wrong += check_run(run, await runtime.store.records(run, 0, 1000), lambda _, plan=plan: plan)
        assert wrong == []
        assert fleet.faults == {"killed": FAULTS - FAULTS // 2, "stopped": FAULTS // 2}
        assert crowd.refused["ticket.denied"] and crowd.refused["ticket.decided"], crowd.refused
        print(f"{store}: {len(flows)} runs, {dict(fleet.faults)}, {len(crowd.acknowledged)} answers, {dict(crowd.refused)}")
