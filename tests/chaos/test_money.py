"""One cap over many runs on many workers, under random costs and kills: never passed, and exact in the end."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tenuto.bundled.load import load_catalog
from tenuto.domain.budgets.escrow import Place
from tenuto.ports import providers as setup
from tenuto.runtime.services.budgets import SetCap
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.testing.servers import Answer, OpenAiServer, Rates
from tenuto.wiring import Runtime, running

RUNS = int(os.environ.get("TENUTO_TEST_MONEY_RUNS", "60"))
KILLS = int(os.environ.get("TENUTO_TEST_MONEY_KILLS", "5"))
WORKERS = 3
CAP = 1_000_000
APP = '''
from tenuto import App

app = App("shop")
flow = app.workflow("talk")
flow.agent("first", model="paid:m", prompt="one ${input.n}", max_tokens=200)
flow.agent("second", model="paid:m", prompt="two ${input.n}", max_tokens=200, after="first")
'''


class Provider(OpenAiServer):
    """Takes its time, and bills something else for every answer."""

    def __init__(self, seed: int, dollars: float) -> None:
        chance = random.Random(seed)

        def answer(_: Any) -> Answer:
            return Answer(text="well", input_tokens=chance.randint(1, 60), output_tokens=chance.randint(1, 200))

        self._chance = chance
        # The dearest answer costs so much that about half of the runs fit under the cap.
        super().__init__(answer, rates=Rates(input=str(dollars), output=str(dollars)))

    async def _respond(self, exchange: Any, asked: Any) -> None:
        await asyncio.sleep(self._chance.random() * 0.1)  # a model thinks
        await super()._respond(exchange, asked)


class Fleet:
    """Worker processes that are killed and replaced."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._folder = folder
        self._environ = environ
        self._all: list[asyncio.subprocess.Process] = []
        self.kills = 0

    async def start(self) -> None:
        log = (self._folder / f"worker{len(self._all)}.log").open("wb")
        self._all.append(
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tenuto", "worker", "shop:app", cwd=self._folder, env=self._environ,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )
        )  # fmt: skip
        log.close()

    async def kill_one(self, chance: random.Random) -> None:
        alive = [process for process in self._all if process.returncode is None]
        victim = chance.choice(alive)
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
        self.kills += 1

    async def stop(self) -> None:
        for process in self._all:
            if process.returncode is None:
                process.terminate()
        for process in self._all:
            try:
                async with asyncio.timeout(30):
                    await process.wait()
            except TimeoutError:
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
        await fleet.stop()


async def _balance(runtime: Runtime) -> tuple[int, int, int, int]:
    found = await runtime.store.balances("default")
    day = [balance for place, balance in found.items() if place.scope == "" and place.period == "day"]
    spent, held = sum(b.spent for b in day), sum(b.held for b in day)
    return spent, held, sum(b.unknown for b in day), sum(b.overrun for b in day)


async def _watch(runtime: Runtime, server: Provider, cap: Callable[[], int], seen: list[int]) -> None:
    """Hold the promise at every look: the cap is kept, and the bill lies between what is known and what is held."""
    while True:
        known, *_ = await _balance(runtime)
        billed = server.billed_usd_micros
        spent, held, _, overrun = await _balance(runtime)
        assert spent + held <= cap() + overrun, f"{spent} spent and {held} held, the cap is {cap()}"
        assert known <= billed, f"{known} counted as spent, the provider has billed {billed}"
        assert billed <= spent + held, f"the provider has billed {billed}, {spent} spent and {held} held"
        seen.append(spent + held)
        await asyncio.sleep(0.05)  # between two looks


async def _until(holds: Callable[[], Awaitable[bool]], seconds: float, watch: asyncio.Task[None]) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            if watch.done():
                watch.result()
            await asyncio.sleep(0.1)  # between two looks


@pytest.mark.chaos
@pytest.mark.timeout(400)
@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_a_shared_cap_holds_under_kills(
    store: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    url = request.getfixturevalue("postgres_url") if store == "postgres" else f"sqlite:///{tmp_path}/t.db"
    chance = random.Random(7)
    (tmp_path / "shop.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    dollars = round(2 * CAP / RUNS / 2 / 130, 3)
    async with Provider(3, dollars) as server:
        environ = {
            **os.environ, "TENUTO_DATABASE_URL": url, "TENUTO_LEASE_S": "3", "PYTHONPATH": os.pathsep.join(sys.path),
            "TENUTO_PROVIDERS": json.dumps({"paid": {"base_urls": [server.base_url + "/v1"]}}),
            "TENUTO_PRICES": json.dumps({"paid:m": {"input_usd": dollars, "output_usd": dollars}}),
            "TENUTO_CAPS": json.dumps({"day_usd": CAP / 1_000_000}),
        }  # fmt: skip
        catalog = load_catalog("shop:app")
        options = WorkerOptions(lease_ms=3000)
        paid = setup.Provider(name="paid", base_urls=(server.base_url + "/v1",))
        given = setup.Providers(providers={**setup.PROVIDERS, "paid": paid})
        async with running(url, catalog, worker=False, options=options, providers=given) as runtime, _fleet(tmp_path, environ) as fleet:
            engine = runtime.engine
            limit, seen = CAP, list[int]()
            await engine.budgets.put(SetCap(period="day", limit_usd_micros=CAP))
            watch = asyncio.create_task(_watch(runtime, server, lambda: limit, seen))
            runs = [(await engine.runs.start("talk", {"n": n})).id for n in range(RUNS)]

            async def refused() -> bool:
                return len((await engine.budgets.read()).waiting) > 0

            for _ in range(KILLS):
                asked = len(server.asked)
                await _until(lambda at=asked: _past(server, at + 4), 90, watch)
                await fleet.kill_one(chance)
                await fleet.start()
                if await refused():
                    break
            await _until(refused, 120, watch)
            waited = len((await engine.budgets.read()).waiting)
            limit = 100 * CAP
            await engine.budgets.put(SetCap(period="day", limit_usd_micros=limit))

            async def ended() -> bool:
                rows = await runtime.store.list_runs(_all_runs(), limit=RUNS + 1)
                return all(row.status == "completed" for row in rows)

            for _ in range(2):
                await fleet.kill_one(chance)
                await fleet.start()
            await _until(ended, 180, watch)
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            assert waited > 0, "the cap was never reached"
            assert max(seen) > 0
            await _resolve(runtime, server)
            spent, held, unknown, _ = await _balance(runtime)
            assert (spent, held, unknown) == (server.billed_usd_micros, 0, 0)
            assert (await engine.budgets.read()).waiting == []
            for run in runs:
                assert (await engine.audit.verify(run)).ok
            print(f"{store}: {RUNS} runs, {fleet.kills} kills, {waited} waited, ${spent / 1e6:.6f} billed and spent")


async def _past(server: Provider, count: int) -> bool:
    return len(server.asked) >= count


def _all_runs() -> Any:
    from tenuto.ports.store import RunFilter

    return RunFilter()


async def _resolve(runtime: Runtime, server: Provider) -> None:
    """Say what every lost call did cost, by the provider's own bill: what its key was billed beyond its known reply."""
    left: dict[str, int] = {}
    for bill in server.bills:
        left[bill.key] = left.get(bill.key, 0) + bill.cost_usd_micros
    for key in left:
        run, step, call = key.split("/", 2)
        for event in (await runtime.engine.history.events(run)).items:
            data = event.data
            if event.type == "call.completed" and event.step == step and data.get("call") == call and data.get("used"):
                left[key] -= data["used"]["cost_usd_micros"]
    for hold in await runtime.engine.budgets.holds(lost=True):
        key = f"{hold.run}/{hold.step}/{hold.call}"
        await runtime.engine.budgets.settle(hold.run, hold.n, left.pop(key, 0))
    assert Place("default", "", "total") in await runtime.store.balances("default")
