"""What processes reach outside: each looks by itself, all tell each other, and one wish to look again reaches them all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tenuto import App
from tenuto.adapters.models.provider.reach import HostCheck
from tenuto.adapters.stores.memory import MemoryStore
from tenuto.ports.providers import Provider, Providers
from tenuto.ports.services import Service
from tenuto.ports.store import Store
from tenuto.ports.tools import Condition
from tenuto.runtime.services.outside import OutsideView
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.watch import Watch
from tenuto.testing.servers import AnthropicServer, OpenAiServer
from tenuto.testing.servers.http import Exchange, HttpServer
from tenuto.wiring import Runtime, open_store, running
from tests.integration.mcp.server import Ledger, serving

KEY = "sk-canary-5e12f0"
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0", "paths": {"/orders": {"get": {"operationId": "list_orders", "responses": {}}}},
}  # fmt: skip


class Api(HttpServer):
    """Answers everything with one status, and remembers what came."""

    def __init__(self, status: int = 404) -> None:
        super().__init__()
        self.status = status
        self.headers: dict[str, str] = {}
        self.came: list[tuple[str, str, dict[str, str]]] = []
        self.held: asyncio.Event | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def exchange(self, exchange: Exchange) -> None:
        self.came.append((exchange.method, exchange.path, dict(exchange.headers)))
        if self.held is not None:
            await self.held.wait()
        await exchange.answer(self.status, b"", self.headers)


def shop(base_url: str, **options: Any) -> App:
    app = App("shop")
    app.openapi("shop", DOCUMENT, base_url=base_url, **options)
    return app


def hosts(*urls: str, name: str = "own", **options: Any) -> Providers:
    return Providers(providers={name: Provider(name=name, base_urls=urls, **options)}, named=frozenset({name}))


def with_mcp(port: int) -> Catalog:
    app = App("t")
    app.mcp("ours", url=f"http://127.0.0.1:{port}/mcp")
    return app.catalog()


@asynccontextmanager
async def processes(url: str, *kinds: dict[str, Any]) -> AsyncIterator[list[Runtime]]:
    """Start runtimes on one store, as processes of their own would be."""
    shared = MemoryStore() if url.startswith("memory") else None
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(running(
                url, kind.pop("catalog", Catalog()), store=shared.view() if shared is not None else open_store(url),
                **{"check_s": 0, **kind},
            )) for kind in kinds
        ]  # fmt: skip


async def one(runtime: Runtime, kind: str) -> OutsideView:
    (found,) = [item for item in await runtime.engine.outside.list() if item.kind == kind]
    return found


async def until(told: Callable[[OutsideView], bool], runtime: Runtime, kind: str) -> OutsideView:
    # What a process sees of the outside reaches the others through a table, which calls nobody.
    async with asyncio.timeout(10):
        while not (found := [x for x in await runtime.engine.outside.list() if x.kind == kind and told(x)]):
            await asyncio.sleep(0.02)
    return found[0]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/t.db"


async def test_one_wish_makes_every_process_look_at_everything(url: str) -> None:
    """A server without a worker shows what the workers reach: MCP servers, APIs and hosts of models, and who saw it."""
    async with Api() as api, OpenAiServer() as models, serving(Ledger()) as port:
        catalog = with_mcp(port)
        worker = {"catalog": catalog, "providers": hosts(models.base_url)}
        async with processes(url, {"worker": False, "catalog": shop(api.url).catalog()}, dict(worker), dict(worker)) as (
            front, *workers
        ):
            assert await front.engine.outside.refresh() == []
            mcp, shown, host = [await one(front, kind) for kind in ("mcp", "openapi", "model")]
            ids = sorted(runtime.worker.id for runtime in workers if runtime.worker is not None)
            assert (mcp.name, mcp.condition, mcp.place) == ("ours", "online", f"http://127.0.0.1:{port}")
            assert sorted(seen.process for seen in mcp.seen_by) == ids
            assert {seen.role for seen in mcp.seen_by} == {"worker"}
            assert "ours.add" in mcp.tools
            assert (host.name, host.condition, host.reason) == ("own", "online", "it lists its models")
            assert sorted(seen.process for seen in host.seen_by) == ids
            assert (shown.condition, shown.tools) == ("online", ["shop.list_orders"])
            assert [seen.role for seen in shown.seen_by] == ["api"]
            assert all(item.checked_at >= item.since > 0 for item in (mcp, shown, host))
            assert not models.asked, "nothing that is paid for was asked"
            assert {(method, path) for method, path, _ in api.came} == {("HEAD", "/")}
            before = host.checked_at
            await workers[0].engine.outside.refresh()
            assert all(seen.checked_at >= before for seen in (await one(front, "model")).seen_by)
            looks = len(api.came)
            await one(front, "openapi")
            assert len(api.came) == looks, "what is shown was seen before; nobody looks for an answer"


async def test_processes_that_see_it_differently_are_told_apart(tmp_path: Path) -> None:
    """The whole is degraded, and each process says what it sees."""
    async with OpenAiServer(secret=KEY) as models:
        providers = hosts(models.base_url, key_env="TENUTO_TEST_KEY")
        with pytest.MonkeyPatch.context() as environment:
            async with AsyncExitStack() as stack:
                environment.setenv("TENUTO_TEST_KEY", KEY)
                (good,) = await stack.enter_async_context(processes(f"sqlite:///{tmp_path}/t.db", {"providers": providers}))
                await good.engine.outside.refresh()
                environment.delenv("TENUTO_TEST_KEY")
                (bad,) = await stack.enter_async_context(processes(f"sqlite:///{tmp_path}/t.db", {"providers": providers}))
                environment.setenv("TENUTO_TEST_KEY", KEY)
                assert good.worker is not None
                assert bad.models is not None
                bad.models._environ = {}  # what another process's environment would be
                await bad.engine.outside.refresh()
                found = await one(good, "model")
                assert found.condition == "degraded"
                assert found.reason.startswith("1 of 2 processes: ")
                assert "TENUTO_TEST_KEY" in found.reason
                by = {seen.process: seen.status for seen in found.seen_by}
                assert by[good.worker.id] == "online"
                assert sorted(by.values()) == ["offline", "online"]


async def test_a_process_that_leaves_is_no_longer_shown(url: str) -> None:
    """At once when it says so, and with its lease when it dies."""
    async with OpenAiServer() as models:
        providers = hosts(models.base_url)
        async with processes(url, {"providers": providers}) as (stays,):
            shared = stays.store.view() if isinstance(stays.store, MemoryStore) else open_store(url)
            async with running(url, Catalog(), store=shared, providers=providers, check_s=0) as leaves:
                await stays.engine.outside.refresh()
                assert len((await one(stays, "model")).seen_by) == 2
                assert leaves.worker is not None
                dead = leaves.worker.id
                await stays.store.adopt("x", dead)  # as whoever finds it dead does
                left = {row.process for row in await stays.engine.outside._live()}
                assert dead not in left
            assert [row.role for row in await stays.store.reports()] == ["worker"]


async def test_it_is_looked_at_in_the_background(tmp_path: Path) -> None:
    """A host that goes away is shown as away without anybody asking, and as back when it is."""
    async with processes("memory:", {"catalog": shop("http://127.0.0.1:9").catalog(), "check_s": 0.02}) as (alone,):
        away = await until(lambda item: item.condition == "offline", alone, "openapi")
        assert "cannot be connected to" in away.reason
    async with Api(503) as api, processes("memory:", {"catalog": shop(api.url).catalog(), "check_s": 0.02}) as (alone,):
        wrong = await until(lambda item: item.condition == "degraded", alone, "openapi")
        assert wrong.reason == "it answers with 503"
        api.status = 200
        back = await until(lambda item: item.condition == "online", alone, "openapi")
        assert back.since >= wrong.since


async def test_what_hangs_or_breaks_holds_up_no_other() -> None:
    """Each look ends by itself: one that never answers, one that raises and one that is well are all told of."""

    class Broken:
        service = Service(kind="openapi", name="broken")

        async def look(self) -> tuple[Condition, str]:
            raise RuntimeError(f"refused {KEY}")

    class Hanging:
        service = Service(kind="openapi", name="hanging")

        async def look(self) -> tuple[Condition, str]:
            await asyncio.Event().wait()
            return "online", ""

    class Well:
        service = Service(kind="model", name="well")

        async def look(self) -> tuple[Condition, str]:
            return "online", "it is well"

    async with processes("memory:", {}) as (alone,):
        watch = Watch(
            alone.store, alone.clock, lambda: "me", "api", checks=lambda: [Broken(), Hanging(), Well()], timeout_s=0.05
        )
        await watch.look()
        found = {service.name: service.health for service in watch.services()}
        assert (found["broken"].condition, found["broken"].reason) == ("unknown", "looking at it failed: RuntimeError")
        assert (found["hanging"].condition, found["hanging"].reason) == ("offline", "no answer within 0.05 s")
        assert found["well"].condition == "online"
        assert KEY not in str(watch.report())


async def test_a_process_without_anything_outside_asks_and_tells_the_store_nothing() -> None:
    """Looking costs nobody who has nothing to look at."""

    class Silent:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"the store was asked: {name}")

    async with processes("memory:", {}) as (alone,):
        silent: Any = Silent()
        watch = Watch(silent, alone.clock, lambda: "me", "api")
        await watch.begin()
        await watch.close()


@pytest.mark.parametrize(
    ("status", "condition", "said"),
    [
        (200, "online", "it lists its models"),
        (404, "online", "it answers, and lists no models (404)"),
        (401, "degraded", "it refuses the key in TENUTO_TEST_KEY (401)"),
        (429, "degraded", "it answers with 429"),
        (503, "degraded", "it answers with 503"),
        (302, "degraded", "it sends us elsewhere, where no key is taken to (302)"),
    ],
)
async def test_what_a_host_of_models_answers_says_how_it_is(status: int, condition: str, said: str) -> None:
    """Its list of models is asked for with the key; the key goes nowhere else, and stands in nothing that is shown."""
    async with Api() as elsewhere, Api(status) as api:
        api.headers = {"location": elsewhere.url} if status == 302 else {}
        check = HostCheck(Provider(name="own", base_urls=(api.url,), key_env="TENUTO_TEST_KEY"), api.url, KEY)
        assert await check.look() == (condition, said)
        assert not elsewhere.came
        method, path, headers = api.came[0]
        assert (method, path) == ("GET", "/models")
        assert headers["authorization"] == f"Bearer {KEY}"
        assert KEY not in repr(check) + said + str(check.service)


async def test_a_host_that_wants_another_protocol_is_asked_in_it() -> None:
    """Anthropic's list of models stands below its address, with its own header."""
    async with AnthropicServer(secret=KEY) as server:
        provider = Provider(name="anthropic", kind="anthropic", base_urls=(server.base_url,), key_env="K")
        assert await HostCheck(provider, server.base_url, KEY).look() == ("online", "it lists its models")
        assert (await HostCheck(provider, server.base_url, "wrong").look())[0] == "degraded"
        assert not server.asked


async def test_a_host_whose_key_is_missing_is_not_asked() -> None:
    """Nothing leaves for a provider that was never paid for."""
    async with Api() as api:
        provider = Provider(name="own", base_urls=(api.url,), key_env="TENUTO_TEST_NO_KEY")
        condition, reason = await HostCheck(provider, api.url).look()
        assert condition == "offline"
        assert "TENUTO_TEST_NO_KEY" in reason
        assert not api.came


async def test_only_providers_in_use_are_looked_at() -> None:
    """Those that settings set up, and those whose models a workflow names; never one that is merely known."""
    app = App("t")
    app.workflow("w").agent("ask", model="named:small", prompt="hello")
    async with OpenAiServer() as one_server, OpenAiServer() as other:
        known = {
            "named": Provider(name="named", base_urls=(one_server.base_url,)),
            "known": Provider(name="known", base_urls=("http://127.0.0.1:9",)),
            "given": Provider(name="given", base_urls=(other.base_url, one_server.base_url)),
        }
        providers = Providers(providers=known, named=frozenset({"given"}))
        for worker in (True, False):
            async with processes("memory:", {"catalog": app.catalog(), "providers": providers, "worker": worker}) as (alone,):
                await alone.engine.outside.refresh()
                found = await alone.engine.outside.list()
                assert [item.name for item in found] == ["given", "given", "named"]
                assert {item.condition for item in found} == {"online"}


async def test_an_api_whose_key_is_missing_says_so_and_its_headers_are_not_sent() -> None:
    """A look carries nothing of ours: no key, no header, no body."""
    async with Api() as api:
        catalog = shop(api.url + "/v1", auth_env="TENUTO_TEST_NO_KEY", headers={"x-tenant": KEY}).catalog()
        async with processes("memory:", {"catalog": catalog}) as (alone,):
            await alone.engine.outside.refresh()
            found = await one(alone, "openapi")
            assert found.condition == "degraded"
            assert "TENUTO_TEST_NO_KEY" in found.reason
            assert found.place == api.url
            assert not any("x-tenant" in headers or "authorization" in headers for _, _, headers in api.came)


async def test_a_server_of_tools_is_unknown_where_nobody_works() -> None:
    """A process without a worker connects to none, and says so."""
    async with processes("memory:", {"catalog": with_mcp(9), "worker": False}) as (front,):
        await front.engine.outside.refresh()
        found = await one(front, "mcp")
        assert (found.condition, found.checked_at) == ("unknown", 0)
        assert "only workers" in found.reason


async def test_a_wish_that_somebody_does_not_fulfil_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked is not held up for ever, and is told who is late."""
    monkeypatch.setattr("tenuto.runtime.services.outside.PATIENCE_S", 0.3)
    async with Api() as api:
        api.held = asyncio.Event()
        async with processes("memory:", {"catalog": shop(api.url).catalog()}) as (alone,):
            await until(lambda _: True, alone, "openapi")
            store: Store = alone.store
            while not await store.reports():
                await asyncio.sleep(0.01)
            assert alone.worker is not None
            assert await alone.engine.outside.refresh() == [alone.worker.id]
            api.held.set()
            assert await alone.engine.outside.refresh() == []
