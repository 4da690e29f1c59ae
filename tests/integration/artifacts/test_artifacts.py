"""Artifacts end to end: over HTTP and from steps, in memory, on disk and in a bucket; kept, cleared, moved, sealed."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from tenuto import App, Context
from tenuto.adapters.objects.disk import DiskDepot
from tenuto.api.app import create_app
from tenuto.api.auth import Auth
from tenuto.errors import ArtifactMissing, Corrupt
from tenuto.ports.artifacts import ArtifactRow, DepotFailed
from tenuto.runtime.artifacts import Shelf
from tenuto.runtime.retention import sweep
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.tools.builtin.kit import Kit
from tenuto.runtime.tools.workspace import Workspaces
from tenuto.settings import Settings, load
from tenuto.settings.artifacts import Artifacts
from tenuto.wiring import ArtifactPlace, Runtime, open_artifacts, running

LATER = 2**60
TOKEN = "the-token-of-these-tests"
_numbers = itertools.count(1)


def digest_of(content: bytes) -> str:
    return "sha256:" + sha256(content).hexdigest()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What names a bucket of the test's own, as settings do."""
    name = f"artifacts-{os.getpid()}-{next(_numbers)}"
    link = HTTPConnection(s3_server.removeprefix("http://"))
    link.request("PUT", f"/{name}")
    assert link.getresponse().status == 200
    link.close()
    monkeypatch.setenv("TENUTO_TEST_S3", "a-key")
    return {
        "url": f"s3://{name}/kept", "endpoint": s3_server, "access_key": "env:TENUTO_TEST_S3", "secret_key": "env:TENUTO_TEST_S3",
    }


@pytest.fixture(params=["memory", "disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactPlace:
    """Where artifacts are kept."""
    if request.param == "s3":
        return open_artifacts(home=tmp_path, **request.getfixturevalue("bucket"))
    return open_artifacts("memory:" if request.param == "memory" else "", home=tmp_path)


@asynccontextmanager
async def served(app: App, url: str, place: ArtifactPlace, **settings: Any) -> AsyncIterator[tuple[Runtime, httpx.AsyncClient]]:
    """A runtime, and a client of its API."""
    async with running(url, app.catalog(), artifacts=place) as runtime:
        api = create_app(runtime.engine, Settings(**settings), auth=Auth(TOKEN))
        transport = httpx.ASGITransport(api)
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/api/v1", timeout=60, headers=headers) as client:
            yield runtime, client


async def pieces(content: bytes, size: int = 70_000) -> AsyncGenerator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def read(shelf: Shelf, digest: str) -> bytes:
    return b"".join([piece async for piece in (await shelf.open("default", digest))[1]])


async def cleared(runtime: Runtime) -> None:
    """Let the time pass after which nothing is left that nobody uses."""
    shelf = runtime.engine.context.shelf
    for _ in range(5):  # a value that names an artifact goes first
        await sweep(runtime.store, LATER)
        await shelf.clear(LATER)


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and "artifacts" in path.parts]


# --- HTTP ----------------------------------------------------------------------------------------------------------


async def test_content_goes_up_and_comes_down_by_its_digest(place: ArtifactPlace, tmp_path: Path):
    content = os.urandom(9_000_001)
    async with served(App("t"), "memory:", place) as (_, client):
        put = await client.post("/artifacts", content=pieces(content), headers={"content-type": "image/png"})
        assert put.status_code == 201, put.text
        assert (put.json()["digest"], put.json()["size"], put.json()["media_type"]) == (digest_of(content), len(content), "image/png")
        address = put.headers["location"].removeprefix("/api/v1")
        again = await client.post("/artifacts", content=content, params={"digest": digest_of(content)})
        assert again.json() == put.json(), "the same bytes are the same artifact, and the first word on their type stands"
        got = await client.get(address)
        assert got.content == content
        assert (got.headers["content-type"], got.headers["content-length"]) == ("image/png", str(len(content)))
        assert "content-disposition" not in got.headers
        assert (await client.get(address, headers={"if-none-match": got.headers["etag"]})).status_code == 304
        head = await client.head(address)
        assert (head.content, head.headers["content-length"]) == (b"", str(len(content)))
        for given, part in (("bytes=0-0", content[:1]), ("bytes=5000000-", content[5_000_000:]), ("bytes=-7", content[-7:]), ("bytes=9-99999999999", content[9:])):
            some = await client.get(address, headers={"range": given})
            assert (some.status_code, some.content) == (206, part), given
        none = await client.get(address, headers={"range": f"bytes={len(content)}-"})
        assert (none.status_code, none.headers["content-range"]) == (416, f"bytes */{len(content)}")


async def test_what_was_put_is_listed_newest_first(place: ArtifactPlace):
    async with served(App("t"), "memory:", place) as (_, client):
        digests = [(await client.post("/artifacts", content=b"%d" % n)).json()["digest"] for n in range(5)]
        found, cursor = list[str](), ""
        while True:
            page = (await client.get("/artifacts", params={"limit": 2, "cursor": cursor})).json()
            found += [item["digest"] for item in page["items"]]
            cursor = page["next_cursor"]
            if not cursor:
                break
        assert sorted(found) == sorted(digests)
        assert (await client.post("/artifacts", content=b"")).json()["size"] == 0


async def test_what_is_not_as_announced_is_refused_and_leaves_nothing(tmp_path: Path):
    place = open_artifacts("", home=tmp_path, max_bytes=1000)
    async with served(App("t"), "memory:", place, artifacts=Artifacts(max_bytes=2000), max_body_bytes=10) as (_, client):
        wrong = await client.post("/artifacts", content=b"x", params={"digest": digest_of(b"y")})
        assert (wrong.status_code, wrong.json()["code"]) == (422, "artifact.refused")
        odd = await client.post("/artifacts", content=b"x", headers={"content-type": "no type"})
        assert (odd.status_code, odd.json()["code"]) == (422, "artifact.refused")
        long = await client.post("/artifacts", content=pieces(b"x" * 1001, 100))
        assert (long.status_code, long.json()["code"]) == (413, "artifact.too_large")
        assert (await client.post("/artifacts", content=pieces(b"x" * 2001, 100))).status_code == 413
        assert (await client.post("/artifacts", content=b"x" * 2001)).json()["code"] == "request.too_large"
        assert (await client.post("/artifacts", content=b"x" * 1000)).status_code == 201, "longer than other bodies may be"
        gone = await client.get(f"/artifacts/sha256:{'0' * 64}")
        assert (gone.status_code, gone.json()["code"]) == (404, "artifact.unknown")
        client.headers.pop("authorization")
        for answer in (await client.get("/artifacts"), await client.post("/artifacts", content=b"x"), await client.get(f"/artifacts/{digest_of(b'x' * 1000)}")):
            assert answer.status_code == 401
    assert [path.stat().st_size for path in files(tmp_path)] == [1000]


async def test_nothing_that_could_run_is_shown_by_a_browser(tmp_path: Path):
    async with served(App("t"), "memory:", open_artifacts("memory:", home=tmp_path)) as (_, client):
        for kind in ("text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "text/html; charset=utf-8"):
            digest = (await client.post("/artifacts", content=kind, headers={"content-type": kind})).json()["digest"]
            got = await client.get(f"/artifacts/{digest}")
            assert got.headers["content-disposition"] == "attachment", kind
            assert got.headers["content-security-policy"].startswith("sandbox")
            assert got.headers["x-content-type-options"] == "nosniff"


async def test_long_content_never_stands_in_memory(tmp_path: Path, bucket: dict[str, Any]):
    async def content() -> AsyncGenerator[bytes]:
        for n in range(640):
            yield bytes([n % 256]) * 100_000

    for place in (open_artifacts("", home=tmp_path), open_artifacts(home=tmp_path, **bucket)):
        async with running("memory:", App("t").catalog(), artifacts=place) as runtime:
            shelf = runtime.engine.context.shelf
            tracemalloc.start()
            try:
                put = await shelf.put("default", content())
                size = 0
                async for piece in (await shelf.open("default", put.digest))[1]:
                    size += len(piece)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert (put.size, size) == (64_000_000, 64_000_000)
            assert peak < 16_000_000, f"{peak:,} bytes were in memory at once"


# --- steps ---------------------------------------------------------------------------------------------------------


def makers(tmp_path: Path) -> App:
    app = App("t")
    reads: list[str] = []
    app.reads = reads  # type: ignore[attr-defined]

    @app.step
    async def make(ctx: Context, value: Any) -> Any:
        async def body() -> AsyncGenerator[bytes]:
            reads.append("read")
            yield value["text"].encode() * 1000

        report = await ctx.artifacts.put(body(), name="report.csv")
        same = await ctx.artifacts.put(value["text"].encode() * 1000, name="again.bin")
        if ctx.attempt == 1 and value.get("fails"):
            raise RuntimeError("once")
        return {"report": report, "same": same, "more": "x" * value.get("more", 0)}

    @app.step
    def use(ctx: Any, value: Any) -> Any:
        target = tmp_path / "saved"
        size = ctx.artifacts.save(value["make"]["report"], target)
        whole = ctx.artifacts.read(value["make"]["same"]["artifact"])
        text = ctx.artifacts.put("grüße")
        return {"size": size, "equal": target.read_bytes() == whole, "text": text}

    app.workflow("w").step(make, id="make", retry={"attempts": 3, "backoff_s": 0.001}).step(use, id="use", after="make")
    return app


async def test_a_step_puts_once_and_another_reads(place: ArtifactPlace, tmp_path: Path):
    app = makers(tmp_path)
    async with served(app, f"sqlite:///{tmp_path}/t.db", place) as (runtime, client):
        run = (await runtime.engine.runs.start("w", {"text": "hello", "fails": True})).id
        view = await runtime.engine.runs.result(run, timeout_s=20)
        assert view.status == "completed", view.error
        assert view.output["use"]["size"] == 5000
        assert view.output["use"]["equal"] is True
        assert view.output["use"]["text"] == {
            "artifact": digest_of("grüße".encode()), "size": 7, "media_type": "text/plain; charset=utf-8"
        }
        assert app.reads == ["read"], "the second attempt found the artifact of the first"  # type: ignore[attr-defined]
        listed = (await client.get(f"/runs/{run}/artifacts")).json()
        assert [(item["step"], item["media_type"], item["role"]) for item in listed] == [
            ("make", "text/csv", "artifact"), ("use", "text/plain; charset=utf-8", "artifact"),
        ]
        assert (await client.get(f"/artifacts/{listed[0]['digest']}")).content == b"hello" * 1000
        call = [event for event in (await runtime.engine.history.events(run, limit=1000)).items if event.type == "call.completed"]
        assert [event.data["kind"] for event in call] == ["artifact"] * 3


async def test_a_reference_to_nothing_fails_with_its_reason(tmp_path: Path):
    app = App("t")

    @app.step
    async def look(ctx: Context, value: Any) -> Any:
        return len(await ctx.artifacts.read(value["of"], most=3))

    app.workflow("w").step(look, id="look")
    async with running("memory:", app.catalog()) as runtime:
        long = await runtime.engine.artifacts.put(pieces(b"1234"))
        for of, code in ((f"sha256:{'1' * 64}", "artifact.unknown"), ({"no": 1}, "artifact.reference"), (long.digest, "artifact.reference")):
            run = (await runtime.engine.runs.start("w", {"of": of})).id
            view = await runtime.engine.runs.result(run, timeout_s=20)
            assert (view.status, view.error.code if view.error else "") == ("failed", code)


async def test_tools_keep_files_of_a_workspace_and_bring_them_back(place: ArtifactPlace, tmp_path: Path):
    """From one run's workspace into another's; what is too long, elsewhere or no digest is refused with its reason."""
    app = App("t")
    made = app.workflow("save")
    made.tool("write_file", id="write", args={"path": "out/a.csv", "content": "1,2\n"})
    made.tool("save_artifact", id="save", args={"path": "out/a.csv"}, after="write")
    app.workflow("load").tool("load_artifact", id="load", args={"artifact": "${input.of}", "path": "in/b.csv"}).tool(
        "read_file", id="read", args={"path": "in/b.csv"}, after="load"
    )
    kit = Kit(workspaces=Workspaces(root=tmp_path / "files", max_write=10))
    async with running(f"sqlite:///{tmp_path}/t.db", app.catalog(), artifacts=place, kit=kit) as runtime:
        engine = runtime.engine

        async def outcome(workflow: str, **given: Any) -> Any:
            run = (await engine.runs.start(workflow, given)).id
            view = await engine.runs.result(run, timeout_s=20)
            return view.output if view.status == "completed" else view.error

        saved = (await outcome("save"))["save"]
        digest = digest_of(b"1,2\n")
        assert saved == {"artifact": digest, "size": 4, "media_type": "text/csv", "name": "a.csv"}
        assert (await outcome("load", of=digest))["read"]["content"] == "1,2\n"
        long = await engine.artifacts.put(pieces(b"x" * 11))
        for of, code in ((long.digest, "workspace.full"), (f"sha256:{'3' * 64}", "artifact.unknown"), ("../etc/passwd", "tool.arguments")):
            error = await outcome("load", of=of)
            assert error.code == code, error


# --- clearing ------------------------------------------------------------------------------------------------------


async def test_what_a_run_names_stays_and_what_nothing_names_goes(place: ArtifactPlace, tmp_path: Path):
    """Also what a run names within a value too long for its journal, when the run that made it is gone."""
    app = makers(tmp_path)
    other = App("o")

    @other.step
    async def keep(ctx: Context, value: Any) -> Any:
        return await ctx.wait_signal("go")

    app.workflow("w2").step(keep, id="keep")
    async with served(app, f"sqlite:///{tmp_path}/t.db", place) as (runtime, client):
        engine = runtime.engine
        first = (await engine.runs.start("w", {"text": "kept"})).id
        made = (await engine.runs.result(first, timeout_s=20)).output
        assert made is not None
        lone = await engine.artifacts.put(pieces(b"nobody's"))
        kept = digest_of(b"kept" * 1000)
        await cleared(runtime)
        with pytest.raises(ArtifactMissing):
            await engine.artifacts.look(lone.digest)
        assert await read(engine.context.shelf, kept) == b"kept" * 1000
        second = (await engine.runs.start("w2", {"deep": [{"report": kept}], "more": "x" * 20_000})).id
        await engine.runs.delete(first)
        await cleared(runtime)
        assert await read(engine.context.shelf, kept) == b"kept" * 1000, "a run that is going on names it"
        with pytest.raises(ArtifactMissing):
            await engine.artifacts.look(digest_of("grüße".encode()))
        await engine.runs.cancel(second)
        await engine.runs.result(second, timeout_s=20)
        await engine.runs.delete(second)
        await cleared(runtime)
        assert (await client.get(f"/artifacts/{kept}")).status_code == 404
        assert files(tmp_path) == []


async def test_an_upload_that_died_leaves_nothing_for_long(place: ArtifactPlace, tmp_path: Path):
    """Bytes at a place that never became known, and what was spooled, are deleted; what is being put is not."""
    async with running("memory:", App("t").catalog(), artifacts=place) as runtime:
        shelf = runtime.engine.context.shelf
        place.spool.mkdir(parents=True, exist_ok=True)
        spooled = place.spool / "new-died"
        spooled.write_bytes(b"x")
        await runtime.store.begin_artifact("default/ab/died.1")
        await shelf.depot.keep("default", "default/ab/died.1", spooled)
        assert await shelf.clear(await runtime.store.now() - 86_400_000) == 0
        assert await shelf.depot.has("default/ab/died.1")
        assert await shelf.clear(LATER) == 1
        assert not await shelf.depot.has("default/ab/died.1")
        assert not spooled.exists()


async def test_writers_and_clearing_at_once_never_lose_bytes_that_are_known(place: ArtifactPlace, tmp_path: Path):
    """However they interleave, with no grace at all: what is known can be read, and what is there is known."""
    async with running("memory:", App("t").catalog(), artifacts=place) as runtime:
        shelf, done = runtime.engine.context.shelf, asyncio.Event()
        contents = [b"%d" % n * 2000 for n in range(4)]

        async def write(n: int) -> None:
            for turn in range(6):
                with suppress(DepotFailed):  # its place was emptied under its hands
                    await shelf.put("default", pieces(contents[(n + turn) % 4], 500))

        async def clear() -> None:
            while not done.is_set():
                await sweep(runtime.store, await runtime.store.now())
                await shelf.clear(await runtime.store.now())
                await asyncio.sleep(0)

        clearing = [asyncio.create_task(clear()) for _ in range(2)]
        await asyncio.gather(*(write(n) for n in range(8)))
        done.set()
        await asyncio.gather(*clearing)
        for artifact in await shelf.list("default"):
            assert digest_of(await read(shelf, artifact.digest)) == artifact.digest
        for content in contents:
            await shelf.put("default", pieces(content))
            assert await read(shelf, digest_of(content)) == content
        await shelf.clear(LATER)
        if isinstance(place.depot, DiskDepot):
            assert len(files(tmp_path)) == 4


# --- places --------------------------------------------------------------------------------------------------------


async def test_after_a_move_everything_is_read_under_the_same_digest(tmp_path: Path, bucket: dict[str, Any]):
    """From a directory to a bucket, whether the former place is named or its files were copied."""
    url = f"sqlite:///{tmp_path}/t.db"
    async with served(makers(tmp_path), url, open_artifacts("", home=tmp_path)) as (runtime, client):
        run = (await runtime.engine.runs.start("w", {"text": "moved", "more": 20_000})).id
        before = (await runtime.engine.runs.result(run, timeout_s=20)).output
        listed = (await client.get(f"/runs/{run}/artifacts")).json()
        bodies = {item["digest"]: (await client.get(f"/artifacts/{item['digest']}")).content for item in listed}
        assert {item["role"] for item in listed} == {"artifact", "output"}
    former = f"file://{tmp_path}/artifacts"
    moved = open_artifacts(home=tmp_path, former=[former], **bucket)
    async with served(makers(tmp_path), url, moved) as (runtime, client):
        for digest, body in bodies.items():
            assert (await client.get(f"/artifacts/{digest}")).content == body
        assert (await runtime.engine.runs.get(run)).output == before
        fresh = await client.post("/artifacts", content=b"new here")
        bodies[fresh.json()["digest"]] = b"new here"
    alone = open_artifacts(home=tmp_path, **bucket)
    async with served(makers(tmp_path), url, alone) as (runtime, client):
        lost = await client.get(f"/artifacts/{digest_of(b'moved' * 1000)}")
        assert (lost.status_code, lost.json()["code"]) == (404, "artifact.lost")
        assert "artifacts.former" in lost.json()["title"]
        for path in files(tmp_path):
            await alone.depot.keep("default", str(path.relative_to(tmp_path / "artifacts")), path)
        for digest, body in bodies.items():
            assert (await client.get(f"/artifacts/{digest}")).content == body


async def test_lost_bytes_are_told_and_come_back_with_the_content(tmp_path: Path):
    async with running("memory:", App("t").catalog(), artifacts=open_artifacts("", home=tmp_path)) as runtime:
        shelf = runtime.engine.context.shelf
        put = await shelf.put("default", pieces(b"precious"))
        (path,) = files(tmp_path)
        assert path.name.startswith(put.digest.removeprefix("sha256:"))
        path.unlink()
        with pytest.raises(ArtifactMissing, match=r"artifacts\.former"):
            await read(shelf, put.digest)
        assert (await shelf.put("default", pieces(b"precious"))).digest == put.digest
        assert await read(shelf, put.digest) == b"precious"


async def test_altered_bytes_are_never_handed_over_whole(tmp_path: Path):
    content = os.urandom(3_000_000)
    async with running("memory:", App("t").catalog(), artifacts=open_artifacts("", home=tmp_path)) as runtime:
        put = await runtime.engine.artifacts.put(pieces(content))
        (path,) = files(tmp_path)
        path.write_bytes(content[:100] + b"!" + content[101:])
        with pytest.raises(Corrupt, match="altered"):
            await read(runtime.engine.context.shelf, put.digest)


async def test_a_place_given_up_while_it_was_filled_is_taken_anew(tmp_path: Path):
    """A writer that was stopped for too long does not make known what was deleted meanwhile."""
    place = open_artifacts("", home=tmp_path)
    async with running("memory:", App("t").catalog(), artifacts=place) as runtime:
        shelf, keep = runtime.engine.context.shelf, shelf_keep(place)
        stopped = 0

        async def slow(ns: str, at: str, file: Path) -> None:
            nonlocal stopped
            await keep(ns, at, file)
            if not stopped:
                stopped += 1
                assert await shelf.clear(LATER) == 1

        place.depot.keep = slow  # type: ignore[method-assign]
        put = await shelf.put("default", pieces(b"slow"))
        assert (stopped, await read(shelf, put.digest)) == (1, b"slow")
        assert len(files(tmp_path)) == 1


def shelf_keep(place: ArtifactPlace) -> Callable[..., Any]:
    return place.depot.keep


async def test_namespaces_know_nothing_of_each_other(place: ArtifactPlace):
    async with running("memory:", App("t").catalog(), artifacts=place) as runtime:
        other: Engine = runtime.engine.within("other/../x")
        put = await runtime.engine.artifacts.put(pieces(b"mine"))
        with pytest.raises(ArtifactMissing):
            await other.artifacts.look(put.digest)
        assert (await other.artifacts.recent()).items == []
        await other.artifacts.put(pieces(b"mine"))
        rows: list[ArtifactRow] = [(await runtime.store.list_artifacts(ns))[0] for ns in ("default", "other/../x")]
        assert rows[0].place != rows[1].place
        assert ".." not in rows[1].place


async def test_with_encryption_no_byte_and_no_digest_is_in_the_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TENUTO_TEST_KEY", base64.b64encode(os.urandom(32)).decode())
    content = b"canary-of-the-artifact " * 50_000
    keys = ["env:TENUTO_TEST_KEY"]
    for turn in range(2):
        async with running(f"sqlite:///{tmp_path}/t.db", makers(tmp_path).catalog(), master_keys=keys) as runtime:
            shelf = runtime.engine.context.shelf
            if not turn:
                await shelf.put("default", pieces(content), media_type="text/x-canary")
                run = (await runtime.engine.runs.start("w", {"text": "canary-of-the-run"})).id
                assert (await runtime.engine.runs.result(run, timeout_s=20)).status == "completed"
            assert await read(shelf, digest_of(content)) == content
            start = b"".join([piece async for piece in (await shelf.open("default", digest_of(content), 300_000, 900_001))[1]])
            assert start == content[300_000:900_001]
            assert {item.media_type for item in (await runtime.engine.artifacts.recent()).items} >= {"text/x-canary", "text/csv"}
            await cleared(runtime)
            if not turn:
                with pytest.raises(ArtifactMissing):
                    await read(shelf, digest_of(content))
                await shelf.put("default", pieces(content), media_type="text/x-canary")
            assert await read(shelf, digest_of(b"canary-of-the-run" * 1000)) == b"canary-of-the-run" * 1000
            assert list((tmp_path / "artifacts" / "spool").iterdir()) == []
            if not turn:
                (tmp_path / "saved").unlink()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            text = path.read_bytes() + str(path).encode()
            assert b"canary" not in text, path
            for one in (content, b"canary-of-the-run" * 1000):
                assert sha256(one).hexdigest().encode() not in text, path


def test_settings_name_one_place(tmp_path: Path):
    from tenuto.errors import InvalidSettings
    from tenuto.sdk.toolbox import artifacts_of

    kept = artifacts_of(load(environ={"TENUTO_HOME": str(tmp_path)}))
    assert kept.depot.url == f"file://{tmp_path}/artifacts"
    named = artifacts_of(load(environ={"TENUTO_HOME": str(tmp_path), "TENUTO_ARTIFACTS": '{"url": "s3://b-1/p", "former": "memory:"}'}))
    assert named.depot.url == "s3://b-1/p"
    for wrong in ("http://x/y", "s3://", "s3://b:1/p", "file://host/x", "s3://key:canary@b/p", "s3://b/p?secret=canary"):
        with pytest.raises(InvalidSettings) as caught:
            load(environ={"TENUTO_ARTIFACTS": f'{{"url": "{wrong}"}}'})
        assert "TENUTO_ARTIFACTS.url" in str(caught.value)
