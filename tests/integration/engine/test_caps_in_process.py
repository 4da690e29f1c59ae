"""An engine in a program has the money limits of `tenuto serve`: by arguments or from settings, over all workers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tenuto import Engine
from tenuto.errors import InvalidSettings
from tenuto.ports.providers import Provider, Providers
from tenuto.runtime.services.budgets import SetCap
from tenuto.runtime.services.requests import StartRun
from tenuto.sdk.configured import configured
from tenuto.settings import load
from tenuto.settings.money import Caps
from tenuto.wiring import running
from tests.integration.engine.test_shared_caps import OPTIONS, Shop

FILE = """
http_allow = ["10.0.0.1"]
[caps]
day_usd = 20
warn_percent = 70
[project_caps.alpha]
total_usd = 0.00003
[providers.mine]
base_urls = ["http://127.0.0.1:9/v1"]
concurrency = 3
"""


async def limits(engine: Engine) -> dict[tuple[str, str], int | None]:
    found = (await engine.budgets.read()).items
    return {(cap.scope, cap.period): cap.limit for cap in found if cap.limit is not None}


async def money(engine: Engine) -> dict[tuple[str, str], int | None]:
    return {place: limit for place, limit in (await limits(engine)).items() if place[1] != "now"}


async def ended(engine: Engine, price: int, project: str = "") -> str:
    """Return how a run that spends so much ends, or `waiting`."""
    labels = {"project": project} if project else {}
    run = (await engine.runs.submit(StartRun(workflow="buy", input={"price": price}, labels=labels))).id
    async for event in engine.history.stream(run):
        if event.type in ("run.completed", "ticket.opened"):
            break
    return (await engine.runs.get(run)).status


async def test_caps_given_to_an_engine_hold(url: str):
    """A namespace's and a project's cap refuse what is over them; the calls wait as under a cap set by hand."""
    caps, projects = Caps(total_usd=0.0001), {"alpha": Caps(day_usd=0.00003)}
    async with Shop().app.engine(url, options=OPTIONS, caps=caps, project_caps=projects) as engine:
        assert await money(engine) == {("", "total"): 100, ("project:alpha", "day"): 30}
        assert await ended(engine, 30, "alpha") == "completed"
        assert await ended(engine, 1, "alpha") == "waiting"
        assert await ended(engine, 60) == "completed"
        assert await ended(engine, 20) == "waiting"


async def test_caps_stay_until_somebody_states_others(tmp_path: Path):
    """An engine without caps changes none; one with caps replaces those of settings, never one set by hand."""
    app, url = Shop().app, f"sqlite:///{tmp_path}/t.db"
    async with app.engine(url, worker=False, caps=Caps(day_usd=1, month_usd=2)) as engine:
        await engine.budgets.put(SetCap(period="total", limit_usd_micros=7))
    async with app.engine(url, worker=False) as engine:
        assert await money(engine) == {("", "day"): 1_000_000, ("", "month"): 2_000_000, ("", "total"): 7}
    async with app.engine(url, worker=False, caps=Caps(month_usd=3, total_usd=9)) as engine:
        assert await money(engine) == {("", "month"): 3_000_000, ("", "total"): 7}


@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
async def test_a_provider_is_asked_no_more_at_once_than_its_limit_by_all_engines_together(url: str):
    """Two engines on one store, each with its own worker: the limit holds over both."""
    mine = Providers(providers={"mine": Provider(name="mine", base_urls=("http://127.0.0.1:9/v1",), concurrency=1)})
    first, second = Shop(), Shop()
    first.gate = second.gate = asyncio.Event()
    async with (
        first.app.engine(url, options=OPTIONS, providers=mine) as one,
        second.app.engine(url, options=OPTIONS, providers=mine) as other,
    ):
        runs = [
            (await engine.runs.start("buy", {"price": 1, "slot": "mine"})).id
            for _ in range(2) for engine in (one, other)
        ]  # fmt: skip
        async for event in one.history.stream(runs[-1]):
            if event.type in ("call.refused", "run.completed"):
                break
        first.gate.set()
        for run in runs:
            assert (await one.runs.get(run, wait_s=15)).status == "completed"
        assert len(first.made) + len(second.made) == 4
        names = [event.type for run in runs for event in (await one.history.events(run)).items]
        assert names.count("call.refused") >= 1, "they did not all fit at once"


async def test_shipped_limits_are_declared_and_take_nobody_elses_place(tmp_path: Path):
    app, url = Shop().app, f"sqlite:///{tmp_path}/t.db"
    few = Providers(providers={"openai": Provider(name="openai", base_urls=("https://x/v1",), concurrency=2)})
    async with app.engine(url, worker=False, providers=few) as engine:
        assert await limits(engine) == {("provider:openai", "now"): 2}
    async with app.engine(url, worker=False) as engine:
        assert await limits(engine) == {
            ("provider:openai", "now"): 2, ("provider:anthropic", "now"): 16, ("provider:ollama", "now"): 4,
        }  # fmt: skip


async def test_an_engine_under_settings_has_the_limits_of_a_server_under_them(tmp_path: Path):
    """The same caps, shares and limits of providers, on the store that the settings name; arguments go first."""
    (tmp_path / "tenuto.toml").write_text(FILE)
    environ = {"TENUTO_DATABASE_URL": f"sqlite:///{tmp_path}/mine.db", "TENUTO_HOME": str(tmp_path)}
    settings = load(environ=environ, file=tmp_path / "tenuto.toml")
    async with running(f"sqlite:///{tmp_path}/other.db", Shop().app.catalog(), **configured(settings)) as served:
        expected = (await served.engine.budgets.read()).items
    async with Shop().app.engine(settings=settings, options=OPTIONS) as engine:
        assert (await engine.budgets.read()).items == expected
        assert (await limits(engine))["provider:mine", "now"] == 3
        assert await ended(engine, 30, "alpha") == "completed"
        assert await ended(engine, 1, "alpha") == "waiting"
    assert (tmp_path / "mine.db").exists()
    async with Shop().app.engine(settings=settings, worker=False, caps=Caps(total_usd=5)) as engine:
        assert await money(engine) == {("", "total"): 5_000_000}
        assert (await limits(engine))["provider:mine", "now"] == 3


async def test_a_cap_that_is_no_amount_is_refused():
    with pytest.raises(InvalidSettings, match=r"caps\.warn_percent: must be 1 to 100 %\n.*project_caps\.a\.day_usd"):
        async with Shop().app.engine("memory:", caps=Caps(warn_percent=0), project_caps={"a": Caps(day_usd=float("nan"))}):
            pass
