"""`s3_upload` against a server that speaks the protocol of S3, behind a gate that cuts connections where a test says so."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tenuto import App
from tenuto.errors import InvalidSettings
from tenuto.runtime.tools.builtin.kit import Bucket, Kit
from tenuto.runtime.tools.builtin.tools import builtin_tools
from tenuto.runtime.tools.call import invoke
from tenuto.runtime.tools.catalog import CallInfo
from tenuto.runtime.tools.http import HttpPolicy
from tenuto.sdk.toolbox import kit_of
from tenuto.settings import load
from tenuto.wiring import open_objects, running
from tests.integration.agents.uploads_app import BODY, app

ROOT = Path(__file__).parents[3]
SECRET, KEY_ID = "canary-secret-7d21", "canary-key-id-55"
HOP = {"host", "connection", "transfer-encoding"}


class Gate:
    """Hands requests on to the server; `script` says what to do with each PUT, in order, then all of them pass.

    `half` takes half of the content and hangs up, `lost` hands it on and hangs up without an answer, a number answers
    with that status. `before` is called just before it hangs up.
    """

    def __init__(self, server: str) -> None:
        host, port = server.removeprefix("http://").split(":")
        self.script: list[str | int] = []
        self.handed: list[str] = []
        self.before: Callable[[], None] = lambda: None
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                what = gate.script.pop(0) if gate.script and self.command == "PUT" else "pass"
                if what == "half":
                    self.rfile.read(length // 2)
                    return self.hang_up()
                content = self.rfile.read(length)
                if isinstance(what, int):
                    return self.answer(what, {}, b"<Error><Code>AccessDenied</Code><AWSAccessKeyId>%b</AWSAccessKeyId></Error>" % KEY_ID.encode())
                link = HTTPConnection(host, int(port), timeout=20)
                link.request(self.command, self.path, content, {k: v for k, v in self.headers.items() if k.lower() not in HOP})
                found = link.getresponse()
                body = found.read()
                gate.handed.append(f"{found.status} {self.command} {self.path}")
                link.close()
                if what == "lost":
                    return self.hang_up()
                return self.answer(found.status, {k: v for k, v in found.getheaders() if k.lower() not in {*HOP, "date", "server"}}, body)

            do_GET = do_HEAD = do_PUT

            def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                headers = {"content-length": str(len(body)), **{k.lower(): v for k, v in headers.items()}}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else body)

            def hang_up(self) -> None:
                gate.before()
                self.close_connection = True
                try:
                    self.connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self.http.server_port}"
        self.url = f"http://{self.place}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def puts(self) -> list[str]:
        """Return the PUTs that the server took; not those whose condition it refused."""
        return [one for one in self.handed if one.startswith("200 PUT")]


@pytest.fixture
def gate(s3_server: str) -> Iterator[Gate]:
    found = Gate(s3_server)
    yield found
    found.http.shutdown()
    found.http.server_close()


_made = 0


@pytest.fixture
def bucket(s3_server: str) -> Callable[..., Any]:
    """Return a function that reads an object of a fresh bucket; its `name` is the bucket's."""
    global _made
    _made += 1
    name = f"bucket-{_made}-{os.getpid()}"

    def request(method: str, path: str = "", body: bytes = b"") -> tuple[int, bytes, dict[str, str]]:
        link = HTTPConnection(s3_server.removeprefix("http://"), timeout=20)
        link.request(method, f"/{name}{path}", body, {"authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"})
        answer = link.getresponse()
        found = answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
        link.close()
        return found

    assert request("PUT")[0] == 200
    request.name = name  # type: ignore[attr-defined]
    return request


@pytest.fixture
def kit(gate: Gate, bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kit:
    """A kit from settings, as a server reads them; the secret is in a file."""
    (tmp_path / "secret").write_text(SECRET + "\n")
    monkeypatch.setenv("OPS_KEY", KEY_ID)
    # What other programs read must not matter.
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of somebody else")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    return kit_of(load(environ=settings(gate, bucket.name, tmp_path)))


def settings(gate: Gate, name: str, folder: Path) -> dict[str, str]:
    ops = {
        "bucket": name, "endpoint": gate.url, "access_key_env": "OPS_KEY", "secret_key_file": str(folder / "secret"),
        "prefixes": ["out/", "in"], "max_bytes": 4_000_000, "timeout_s": 10,
    }
    return {
        "TENUTO_S3": json.dumps({"ops": ops}), "TENUTO_HOME": str(folder), "TENUTO_HTTP_ALLOW": gate.place,
        "TENUTO_WORKSPACE": json.dumps({"max_file_bytes": 5_000_000}),
    }


async def called(args: dict[str, Any], kit: Kit) -> Any:
    """Call the tool as a node does; return the run as it ended and what it showed on the way."""
    made = App("t")
    made.workflow("w").tool("s3_upload", id="n", args={"destination": "ops", "path": "out/a.txt", **args})
    async with made.engine("memory:", kit=kit) as engine:
        run = (await engine.runs.start("w", {})).id
        events = [event async for event in engine.history.stream(run)]
        return await engine.runs.get(run), events


def failure(view: Any) -> str:
    assert view.status == "failed", view
    return f"{view.error.code}: {view.error.message}"


async def test_a_text_is_uploaded_once_with_its_type_and_digest(kit: Kit, gate: Gate, bucket: Any):
    view, events = await called({"text": "grüße", "content_type": "text/csv"}, kit)
    assert view.status == "completed", view.error
    content = "grüße".encode()
    etag = view.output["n"].pop("etag")
    assert view.output["n"] == {
        "destination": "ops", "bucket": bucket.name, "path": "out/a.txt", "bytes": len(content),
        "sha256": sha256(content).hexdigest(), "content_type": "text/csv",
    }
    status, body, headers = bucket("GET", "/out/a.txt")
    assert (status, body, headers["content-type"], headers["etag"]) == (200, content, "text/csv", etag)
    assert len(gate.puts) == 1
    assert SECRET not in repr((view, events))
    assert KEY_ID not in repr((view, events))


async def test_bytes_and_files_of_the_workspace_are_uploaded(kit: Kit, bucket: Any):
    tool = builtin_tools(kit)["s3_upload"]
    info = CallInfo(key="k", run="r")
    kit.workspaces.of(info).write("made/x.bin", b"\x00\xff", "w")
    for name, args in (("b", {"base64": base64.b64encode(b"\x00\xff").decode()}), ("f", {"file": "made/x.bin"})):
        await invoke(tool, {"destination": "ops", "path": f"in/{name}", **args}, info)
        assert bucket("GET", f"/in/{name}")[1] == b"\x00\xff"
    kit.workspaces.of(info).write("made/long", b"x" * 4_000_001, "w2")
    with pytest.raises(Exception, match="at most 4,000,000 may be taken"):
        await invoke(tool, {"destination": "ops", "path": "in/long", "file": "made/long"}, info)


async def test_another_object_is_replaced_only_when_that_is_asked_for(kit: Kit, bucket: Any):
    bucket("PUT", "/out/a.txt", b"theirs")
    view, _ = await called({"text": "mine"}, kit)
    assert "upload.refused" in failure(view)
    assert "overwrite" in failure(view)
    assert bucket("GET", "/out/a.txt")[1] == b"theirs"
    assert (await called({"text": "mine", "overwrite": True}, kit))[0].status == "completed"
    assert bucket("GET", "/out/a.txt")[1] == b"mine"


async def test_a_repeat_of_a_call_finds_its_own_object(kit: Kit, gate: Gate, bucket: Any):
    tool, info = builtin_tools(kit)["s3_upload"], CallInfo(key="again", run="r")
    for overwrite in (False, True):
        args = {"destination": "ops", "path": f"out/{overwrite}", "text": "once", "overwrite": overwrite}
        first = await invoke(tool, args, info)
        assert await invoke(tool, args, info) == first
        assert await tool.status(*tool.bind(args, info)[0], **args) == ("succeeded", first)  # type: ignore[misc]
    # With overwrite the object is looked at first; without, the condition of the second put refuses it.
    assert [one.partition(" /")[0] for one in gate.handed if "PUT" in one] == ["200 PUT", "412 PUT", "200 PUT"]


@pytest.mark.parametrize("what", ["half", "lost"])
@pytest.mark.parametrize("overwrite", [False, True])
async def test_a_connection_that_breaks_in_mid_upload_leaves_one_whole_object_or_none(
    kit: Kit, gate: Gate, bucket: Any, what: str, overwrite: bool
):
    gate.script = [what] * 3 if what == "half" else [what]
    view, events = await called({"text": BODY, "overwrite": overwrite}, kit)
    if what == "lost":
        assert view.status == "completed", view.error
        assert bucket("GET", "/out/a.txt")[1] == BODY.encode()
        assert len(gate.puts) == 1
    else:
        assert "was not uploaded" in failure(view)
        assert bucket("GET", "/out/a.txt")[0] == 404
        assert gate.puts == []
    assert not [event for event in events if event.type == "ticket.opened"]


@pytest.mark.parametrize(("args", "match"), [
    ({"text": "x", "path": "other/a"}, r"prefixes lists out/, in"), ({"text": "x", "path": "inside/a"}, "may not be written"),
    ({"text": "x", "path": "out/../a"}, "no path of an object"), ({"text": "x", "path": "/out/a"}, "no path of an object"),
    ({"text": "x", "path": "out/a\nb"}, "control character"), ({}, "in one of text, base64 and file"), ({"text": "x", "file": "y"}, "in one of"),
    ({"base64": "no!"}, "no base64"), ({"file": "../../etc/passwd"}, "climbs"), ({"file": "absent"}, "there is no 'absent'"),
    ({"text": "x" * 4_000_001}, "4,000,001 bytes; at most 4,000,000"), ({"text": "x", "destination": "no"}, "there are ops"),
    ({"text": "x", "content_type": "a\r\nx-evil: 1"}, "tool.arguments"),
])  # fmt: skip
async def test_what_may_not_be_uploaded_never_reaches_the_server(kit: Kit, gate: Gate, args: dict[str, Any], match: str):
    assert match in failure((await called(args, kit))[0])
    assert gate.handed == []


async def test_a_server_that_is_not_public_has_to_be_listed(kit: Kit, gate: Gate):
    closed = Kit(buckets=kit.buckets, http=HttpPolicy())
    assert "http.address_refused" in failure((await called({"text": "x"}, closed))[0])
    assert gate.handed == []


async def test_a_refusal_is_told_without_the_key(kit: Kit, gate: Gate, bucket: Any):
    gate.script = [403]
    view, events = await called({"text": "x"}, kit)
    assert "objects.refused" in failure(view)
    assert "the key may not do that (AccessDenied)" in failure(view)
    assert KEY_ID not in repr((view, events))
    gate.script = [503] * 9
    assert "answers 503" in failure((await called({"text": "x"}, kit))[0])


async def test_secrets_that_are_missing_are_named(kit: Kit, gate: Gate, bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("OPS_KEY")
    told = failure((await called({"text": "x"}, kit))[0])
    assert "objects.not_set_up" in told
    assert "OPS_KEY" in told
    monkeypatch.setenv("OPS_KEY", "k")
    (tmp_path / "secret").unlink()
    assert f"{tmp_path / 'secret'} with the secret key" in failure((await called({"text": "x"}, kit))[0])
    assert "there is no bucket 'ops'; none is set up" in failure((await called({"text": "x"}, Kit()))[0])
    with pytest.raises(InvalidSettings, match=r"s3\.ops has no key; set access_key_env"):
        kit_of(load(environ={"TENUTO_S3": '{"ops": {"bucket": "b"}}', "TENUTO_HOME": str(tmp_path)}))
    with pytest.raises(InvalidSettings, match=r"s3\.ops\.bucket is missing"):
        kit_of(load(environ={"TENUTO_S3": '{"ops": {}}', "TENUTO_HOME": str(tmp_path)}))
    with pytest.raises(InvalidSettings, match=r"S3\.ops\.endpoint: the value must read") as caught:
        load(environ={"TENUTO_S3": '{"ops": {"endpoint": "http://user:canary@host"}}'})
    assert "canary" not in str(caught.value)


async def test_a_bucket_or_server_that_is_not_there_is_said_so(gate: Gate, kit: Kit, bucket: Any):
    def other(**change: Any) -> Kit:
        terms: dict[str, Any] = {"bucket": "absent-bucket", "endpoint": gate.url, "access_key": "env:OPS_KEY", "secret_key": "env:OPS_KEY", **change}
        objects = open_objects(timeout_s=2, **terms)
        return Kit(buckets={"ops": Bucket(name=terms["bucket"], objects=objects)}, http=HttpPolicy(allowed=frozenset({"127.0.0.1"})))

    assert "there is no bucket 'absent-bucket'" in failure((await called({"text": "x"}, other()))[0])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = failure((await called({"text": "x"}, other(endpoint=f"http://127.0.0.1:{port}")))[0])
    assert "did not answer" in told


@pytest.mark.parametrize(("workflow", "what"), [("new", "half"), ("over", "lost")])
async def test_a_worker_killed_in_mid_upload_leaves_one_upload(
    gate: Gate, bucket: Any, tmp_path: Path, workflow: str, what: str
):
    """SIGKILL with half of the object sent, or all of it and no answer: the next worker asks the bucket, not a person."""
    (tmp_path / "secret").write_text(SECRET)
    if workflow == "over":
        bucket("PUT", "/out/over.txt", b"former")
    url = f"sqlite:///{tmp_path}/t.db"
    env = {
        **os.environ, **settings(gate, bucket.name, tmp_path), "OPS_KEY": KEY_ID, "TENUTO_LEASE_S": "60",
        "TENUTO_STOP_GRACE_S": "0",
    }
    workers: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tenuto", "worker", "tests.integration.agents.uploads_app:app", "--database", url]
        with (tmp_path / "worker.log").open("ab") as out:
            workers.append(subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out))
        return workers[-1]

    died = threading.Event()

    def kill() -> None:
        workers[-1].kill()
        workers[-1].wait()
        gate.before = lambda: None
        died.set()

    gate.script, gate.before = [what], kill
    try:
        async with running(url, app.catalog(), worker=False) as runtime:
            run = (await runtime.engine.runs.start(workflow)).id
            start()
            assert await asyncio.to_thread(died.wait, 15), (tmp_path / "worker.log").read_text()
            start()
            events = [event async for event in runtime.engine.history.stream(run)]
            view = await runtime.engine.runs.get(run)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert view.status == "completed", view.error
    assert not [event for event in events if event.type == "ticket.opened"]
    assert bucket("GET", f"/out/{workflow}.txt")[1] == BODY.encode()
    assert len(gate.puts) == 1
    assert view.output["up"]["sha256"] == sha256(BODY.encode()).hexdigest()
    resolved = [event for event in events if event.type == "call.resolved"]
    assert [event.data["resolution"] for event in resolved] == ["succeeded" if what == "lost" else "retry"]
    raw = (tmp_path / "t.db").read_bytes() + (tmp_path / "t.db-wal").read_bytes() if (tmp_path / "t.db-wal").exists() else (tmp_path / "t.db").read_bytes()
    assert SECRET.encode() not in raw
