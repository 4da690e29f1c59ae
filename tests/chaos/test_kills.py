"""An agent's ten rounds, and a worker that is killed at every place where a call or a commit begins or ends.

A run without kills finds the places. Then each place gets a run of its own: a worker dies there by SIGKILL, another
goes on, and what the model server and the tools saw is held against the journal. `make test` takes some of the places;
`TENUTO_TEST_KILLS_STRIDE=1` takes all of them, as `make soak` does.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tenuto.ports.providers import Provider, Providers
from tenuto.runtime.services.engine import Engine
from tenuto.testing.servers import Answer, Asked, OpenAiServer, ToolUse
from tenuto.testing.servers.script import Rates
from tenuto.wiring import running
from tests.chaos.kills_app import ROUNDS, app

ROOT = Path(__file__).parents[2]
STRIDE = int(os.environ.get("TENUTO_TEST_KILLS_STRIDE", "7"))
KEY = "sk-canary-5e1f0a"
TOOLS = [("note",), ("charge", "send"), ("send",), ("note", "charge"), ("charge",)]
"""The tools of each round; the second five rounds are like the first."""
CALLS = 2 * sum(len(names) for names in TOOLS)

TWICE = [
    (first, second)
    for first in ("model asked:3", "tool done:5", "tool begun:6")
    for second in (
        "commit sent:1", "commit done:1", "commit sent:2", "commit done:2", "commit sent:3", "commit done:3",
        "tool begun:1", "tool done:1", "tool done:2", "model asked:1",
    )
]  # fmt: skip
"""Where a second worker dies as well, soon after it took over."""


class Fleet:
    """Worker processes, one at a time, forked from one that is warm."""

    def __init__(self, parent: subprocess.Popen[str]) -> None:
        self._parent = parent
        self.pid = 0
        self.kills = 0

    def start(self) -> None:
        """Start a worker; the former must be gone."""
        assert self._parent.stdin is not None
        self._parent.stdin.write("go\n")
        self._parent.stdin.flush()
        self.pid = int(self._line())

    async def gone(self) -> None:
        """Wait until the worker has died, as it was made to."""
        code = int(await asyncio.to_thread(self._line))
        assert code == -signal.SIGKILL, f"the worker ended with {code}"
        self.pid = 0

    def kill(self) -> None:
        """Kill the worker now."""
        os.kill(self.pid, signal.SIGKILL)

    def _line(self) -> str:
        assert self._parent.stdout is not None
        line = self._parent.stdout.readline()
        assert line, "the parent of the workers is gone"
        return line


@contextmanager
def fleet(url: str, base_url: str, folder: Path) -> Iterator[Fleet]:
    providers = {"mine": {"base_urls": [base_url], "key_env": "MINE_API_KEY"}}
    prices = {"mine:m": {"input_usd": 3, "output_usd": 15}}
    env = {
        **os.environ, "TENUTO_TEST_KILLS": str(folder), "TENUTO_PROVIDERS": json.dumps(providers), "MINE_API_KEY": KEY,
        "TENUTO_PRICES": json.dumps(prices), "TENUTO_HOME": str(folder), "TENUTO_LEASE_S": "60",
    }
    with (folder / "workers.log").open("w") as log:
        parent = subprocess.Popen(
            [sys.executable, "-m", "tenuto", "worker", "tests.chaos.kills_app:app", "--database", url], cwd=ROOT, env=env,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )
        found = Fleet(parent)
        try:
            yield found
        finally:
            with suppress(ProcessLookupError):
                os.kill(found.pid or parent.pid, signal.SIGKILL)
            parent.communicate()


class Script:
    """What the model says: ten rounds of tools, then an answer. It may kill who asks."""

    def __init__(self) -> None:
        self.workers: Fleet | None = None
        self.point = ""
        self.counts: Counter[str] = Counter()

    def __call__(self, asked: Asked) -> Answer:
        run = asked.key.partition("/")[0]
        self.counts[run] += 1
        if self.point == f"model asked:{self.counts[run]}":
            assert self.workers is not None
            self.point = ""
            self.workers.kill()
        turn = sum(message["role"] == "assistant" for message in asked.body["messages"])
        usage = {"input_tokens": 100 + turn, "output_tokens": 10 + turn}
        if turn >= ROUNDS:
            return Answer(text="All done.", **usage)
        return Answer(text=f"round {turn}", tools=tuple(ToolUse(name) for name in TOOLS[turn % len(TOOLS)]), **usage)


class Sweep:
    """Runs, one after the other, each with its own place to die."""

    def __init__(self, engine: Engine, workers: Fleet, script: Script, server: OpenAiServer, folder: Path) -> None:
        self.engine, self.workers, self.script, self.server, self.folder = engine, workers, script, server, folder
        self.killed: Counter[str] = Counter()
        self.missed: list[str] = []
        self.twice: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()

    async def run(self, *points: str) -> None:
        """Let a run meet its fate, a worker for each place, and check what is left of it."""
        self.plan(points[0])
        run = (await self.engine.runs.start("kills")).id
        ended = asyncio.ensure_future(self.finish(run))
        for point, after in zip(points, (*points[1:], ""), strict=True):
            if point == "none":
                break
            dying = asyncio.ensure_future(self.workers.gone())
            await asyncio.wait({dying, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not dying.done():  # it may die right after the run's last commit
                await asyncio.wait({dying}, timeout=1)
            if dying.done():
                self.killed[point.partition(":")[0]] += 1
            else:
                self.missed.append(point)
                self.workers.kill()
            await dying
            self.plan(after)
            self.workers.start()
        await ended
        await self.check(run, " and ".join(points), len(points))

    def plan(self, point: str) -> None:
        """Say where a worker dies in runs that it has not seen yet."""
        self.script.point = point
        self.script.counts.clear()
        (self.folder / "plan").write_text(point)

    async def finish(self, run: str) -> None:
        """Wait for a run's end; a person answers for letters whose outcome was lost by what the post office knows."""
        async with asyncio.timeout(60):
            while (await self.engine.runs.get(run)).status not in ("completed", "failed", "cancelled", "budget_exceeded"):
                for ticket in (await self.engine.tickets.list(run=run, state="open")).items:
                    assert ticket.kind == "unknown_outcome", ticket
                    sent = any(line["key"] == ticket.data["key"] for line in self.ledger(run))
                    decision = "succeeded" if sent else "retry"
                    await self.engine.tickets.decide(ticket.id, decision, data="send done" if sent else None, by="post")
                    self.asked[decision] += 1
                await asyncio.sleep(0.02)  # the run is worked on in another process

    def ledger(self, run: str) -> list[dict[str, Any]]:
        """Return the effects that the tools had for a run."""
        path = self.folder / "ledger"
        lines = path.read_text().splitlines() if path.exists() else []
        return [entry for entry in map(json.loads, lines) if entry["run"] == run]

    async def check(self, run: str, point: str, deaths: int) -> None:
        """Hold what the server and the tools saw against the journal."""
        view = await self.engine.runs.get(run)
        events = (await self.engine.history.events(run, limit=2000)).items
        told = "\n".join(f"{event.type} {event.data}" for event in events)
        where = f"killed at {point}\n{told}"
        assert view.status == "completed", f"{view.error}\n{where}"
        assert view.output["work"]["content"] == "All done.", where
        assert (view.output["work"]["rounds"], view.output["work"]["calls"]) == (ROUNDS + 1, CALLS), where
        assert (await self.engine.audit.verify(run)).ok, where

        kinds: dict[str, str] = {}
        keys: dict[str, str] = {}
        holds: dict[str, dict[str, Any]] = {}
        unknown: Counter[str] = Counter()
        settled: Counter[str] = Counter()
        spent = Counter[str]()
        lost = Counter[str]()
        for event in events:
            call = event.data.get("call", "")
            if event.type == "call.started":
                assert keys.setdefault(call, event.data["key"]) == event.data["key"], where
                kinds[call], holds[call] = event.data["kind"], event.data["reserved"]
            elif event.type == "call.unknown":
                unknown[call] += 1
                lost.update(amounts(holds[call]))
            elif event.type == "call.completed" and call in keys:
                settled[call] += 1
                spent.update(amounts(event.data["used"]))
            elif event.type == "call.resolved" and event.data["resolution"] == "succeeded":
                settled[call] += 1
                lost.subtract(amounts(holds[call]))
                spent.update(amounts(event.data["used"]))
        assert len(set(keys.values())) == len(keys) == ROUNDS + 1 + CALLS, where
        assert set(settled.values()) == {1}, where
        assert settled.keys() == keys.keys(), where

        made = Counter(asked.key for asked in self.server.asked if asked.key.startswith(run))
        had = Counter(entry["key"] for entry in self.ledger(run))
        assert (made + had).keys() == set(keys.values()), where
        for call, key in keys.items():
            times = (made if kinds[call] == "model" else had)[key]
            assert 1 <= times <= 1 + unknown[call] <= 1 + deaths, f"{key} was made {times} times\n{where}"
            self.twice[kinds[call]] += times > 1
        assert all(had[entry["key"]] == 1 for entry in self.ledger(run) if entry["tool"] == "send"), where

        whole = {name: amount for name, amount in (spent + lost).items() if amount}
        assert amounts(view.budget.spent) == whole, where
        assert amounts(view.budget.unknown) == {name: amount for name, amount in lost.items() if amount}, where
        assert not any(amounts(view.budget.reserved).values()), where
        billed = sum(bill.cost_usd_micros for bill in self.server.bills if bill.key.startswith(run))
        assert spent["cost_usd_micros"] <= billed <= spent["cost_usd_micros"] + lost["cost_usd_micros"], where


def amounts(charge: dict[str, Any] | None) -> dict[str, int]:
    """Return the numbers of a charge that are not zero."""
    names = ("tokens", "tool_calls", "cost_usd_micros")
    return {name: charge[name] for name in names if (charge or {}).get(name)}


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_a_killed_worker_repeats_nothing_that_was_recorded(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if store == "sqlite":
        url, stride = f"sqlite:///{tmp_path}/t.db", STRIDE
    else:
        url, stride = request.getfixturevalue("postgres_url"), STRIDE if STRIDE == 1 else STRIDE * 4
    script = Script()
    async with OpenAiServer(script, rates=Rates(input="3", output="15"), secret=KEY) as server:
        mine = Provider(name="mine", base_urls=(server.base_url,), key_env="MINE_API_KEY")
        with fleet(url, server.base_url, tmp_path) as workers:
            script.workers = workers
            workers.start()
            async with running(
                url, app.catalog(), worker=False, providers=Providers(providers={"mine": mine})
            ) as runtime:
                sweep = Sweep(runtime.engine, workers, script, server, tmp_path)
                await sweep.run("none")
                passed = (tmp_path / "passed").read_text().splitlines()
                places = [(point,) for point in (*passed, *(f"model asked:{n + 1}" for n in range(ROUNDS + 1)))]
                chosen = [*places[::stride], *TWICE[:: min(stride, len(TWICE) - 1)]]
                for points in chosen:
                    await sweep.run(*points)
                verified = await runtime.engine.audit.verify()
    print(
        f"\n{store}: {len(places)} places, {sum(sweep.killed.values())} kills {dict(sweep.killed)}, "
        f"made again and flagged {dict(sweep.twice)}, people asked {dict(sweep.asked)}, missed {sweep.missed}"
    )
    assert len(places) > 4 * (ROUNDS + 1 + CALLS)
    assert verified.ok
    assert verified.runs == len(chosen) + 1
    assert len(sweep.missed) <= 2, sweep.missed
    assert KEY not in (tmp_path / "workers.log").read_text()
