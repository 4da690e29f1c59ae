"""`tenuto artifact`, `tenuto serve` and workers that die, as processes: content in a bucket, whole or not at all."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tenuto.wiring import open_artifacts, running
from tests.integration.artifacts.kills_app import PIECES, app

ROOT = Path(__file__).parents[3]
Command = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of the server."""
    return tmp_path_factory.mktemp("commands")


@pytest.fixture(scope="module")
def address(home: Path, s3_server: str) -> Iterator[str]:
    """A server whose artifacts are in a bucket."""
    name = f"commands-{os.getpid()}"
    link = HTTPConnection(s3_server.removeprefix("http://"))
    link.request("PUT", f"/{name}")
    assert link.getresponse().status == 200
    link.close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {"url": f"s3://{name}/here", "endpoint": s3_server, "access_key_env": "KEPT_KEY", "secret_key_env": "KEPT_KEY"}
    env = {
        **os.environ, "TENUTO_HOME": str(home), "TENUTO_PORT": str(port), "TENUTO_NO_AUTH": "true", "KEPT_KEY": "a-key",
        "TENUTO_ARTIFACTS": json.dumps(kept), "TENUTO_STOP_GRACE_S": "0",
    }
    with (home / "log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "tenuto", "serve"], cwd=home, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    until = time.monotonic() + 20
    # A process of its own says nothing when it listens.
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.send_signal(signal.SIGTERM)
    server.wait(20)


@pytest.fixture
def command(address: str, tmp_path: Path) -> Command:
    """Return what runs a command against the server."""
    env = {**os.environ, "TENUTO_API_URL": address}

    def run(*argv: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([sys.executable, "-m", "tenuto", *argv], cwd=tmp_path, env=env, capture_output=True, timeout=20, check=False)

    return run


def test_a_file_is_put_listed_and_fetched(command: Command, tmp_path: Path):
    content = os.urandom(12_000_007)
    (tmp_path / "photo.png").write_bytes(content)
    put = command("artifact", "put", "photo.png")
    assert put.returncode == 0, put.stderr
    digest = put.stdout.decode().strip()
    assert digest == "sha256:" + sha256(content).hexdigest()
    listed = json.loads(command("artifact", "list", "--output", "json").stdout)["items"]
    assert [(item["size"], item["media_type"]) for item in listed if item["digest"] == digest] == [(len(content), "image/png")]
    assert digest in command("artifact", "list").stdout.decode()
    assert command("artifact", "get", digest).stdout == content
    assert command("artifact", "get", digest, "-o", "back.png").returncode == 0
    assert (tmp_path / "back.png").read_bytes() == content
    typed = json.loads(command("artifact", "put", "photo.png", "--type", "image/webp", "--output", "json").stdout)
    assert (typed["digest"], typed["media_type"]) == (digest, "image/png"), "the first word on its type stands"


def test_what_cannot_be_had_is_said_and_leaves_no_file(command: Command, tmp_path: Path):
    none = command("artifact", "get", "sha256:" + "0" * 64, "-o", "x")
    assert (none.returncode, (tmp_path / "x").exists()) == (2, False)
    assert b"no artifact" in none.stderr or b"nothing stored" in none.stderr
    absent = command("artifact", "put", "absent.txt")
    assert absent.returncode == 1
    assert b"Cannot read absent.txt" in absent.stderr
    (tmp_path / "t").write_bytes(b"x")
    odd = command("artifact", "put", "t", "--type", "nothing")
    assert odd.returncode == 2
    assert b"is no media type" in odd.stderr


def test_altered_content_is_cut_off_before_its_end(command: Command, tmp_path: Path, s3_server: str):
    content = os.urandom(3_000_000)
    (tmp_path / "f").write_bytes(content)
    digest = command("artifact", "put", "f").stdout.decode().strip()
    link = HTTPConnection(s3_server.removeprefix("http://"))
    signed = {"authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"}
    hexed = digest.removeprefix("sha256:")
    link.request("GET", f"/commands-{os.getpid()}?list-type=2&prefix=here/default/{hexed[:2]}/{hexed}", headers=signed)
    (key,) = [part.partition("</Key>")[0] for part in link.getresponse().read().decode().split("<Key>")[1:]]
    link.request("PUT", f"/commands-{os.getpid()}/{key}", b"!" + content[1:], headers=signed)
    assert link.getresponse().read() is not None
    link.close()
    got = command("artifact", "get", digest, "-o", "back")
    assert got.returncode != 0
    assert b"broke before the answer was complete" in got.stderr
    assert not (tmp_path / "back").exists()
    assert not (tmp_path / "back.part").exists()


@pytest.mark.parametrize("point", ["spooling", "kept", "put"])
async def test_a_worker_killed_while_it_puts_leaves_one_artifact(point: str, tmp_path: Path, s3_server: str, monkeypatch: pytest.MonkeyPatch):
    """SIGKILL half way, with the bytes in the bucket but unknown, and with them known: the next worker puts or finds them."""
    name = f"kills-{point}-{os.getpid()}"
    link = HTTPConnection(s3_server.removeprefix("http://"))
    link.request("PUT", f"/{name}")
    assert link.getresponse().read() is not None
    (tmp_path / "plan").write_text(point)
    monkeypatch.setenv("KEPT_KEY", "a-key")
    kept = {"url": f"s3://{name}", "endpoint": s3_server, "access_key_env": "KEPT_KEY", "secret_key_env": "KEPT_KEY"}
    url = f"sqlite:///{tmp_path}/t.db"
    env = {
        **os.environ, "TENUTO_HOME": str(tmp_path), "TENUTO_ARTIFACTS": json.dumps(kept), "TENUTO_LEASE_S": "60",
        "TENUTO_TEST_PLAN": str(tmp_path / "plan"), "TENUTO_STOP_GRACE_S": "0",
    }
    command = [sys.executable, "-m", "tenuto", "worker", "tests.integration.artifacts.kills_app:app", "--database", url]
    place = open_artifacts(f"s3://{name}", home=tmp_path, endpoint=s3_server, access_key="env:KEPT_KEY", secret_key="env:KEPT_KEY")
    content = b"".join(bytes([n]) * 100_000 for n in range(PIECES))

    def objects() -> int:
        link.request("GET", f"/{name}?list-type=2", headers={"authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"})
        return link.getresponse().read().decode().count("<Key>")

    async with running(url, app.catalog(), worker=False, artifacts=place) as runtime:
        run = (await runtime.engine.runs.start("w", {})).id
        with (tmp_path / "log").open("wb") as log:
            first = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            assert await asyncio.to_thread(first.wait, 15) == -signal.SIGKILL, (tmp_path / "log").read_text()
            second = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            view = await runtime.engine.runs.result(run, timeout_s=15)
        finally:
            second.kill()
            second.wait()
        assert view.status == "completed", view.error
        digest = "sha256:" + sha256(content).hexdigest()
        assert view.output["make"] == {"artifact": digest, "size": len(content), "media_type": "application/octet-stream", "name": "x.bin"}
        stored = await runtime.engine.artifacts.look(digest)
        assert b"".join([piece async for piece in await stored.pieces(0, len(content))]) == content
        assert objects() == (2 if point == "kept" else 1)
        await runtime.engine.context.shelf.clear(2**60)
        assert objects() == 1
        assert list(place.spool.iterdir()) == []
    link.close()


def test_the_doctor_says_whether_artifacts_can_be_put(tmp_path: Path, s3_server: str):
    def examined(**kept: str) -> dict[str, str]:
        env = {**os.environ, "TENUTO_HOME": str(tmp_path), "KEPT_KEY": "canary-key", "TENUTO_ARTIFACTS": json.dumps(kept)}
        done = subprocess.run([sys.executable, "-m", "tenuto", "doctor", "--output", "json"], cwd=tmp_path, env=env, capture_output=True, timeout=20, check=False)
        assert b"canary" not in done.stdout
        return next(check for check in json.loads(done.stdout)["checks"] if check["what"] == "artifacts")

    name = f"doctor-{os.getpid()}"
    bucket = {"endpoint": s3_server, "access_key_env": "KEPT_KEY", "secret_key_env": "KEPT_KEY"}
    absent = examined(url=f"s3://{name}/x", **bucket)
    assert absent["verdict"] == "fail"
    assert name in absent["says"]
    link = HTTPConnection(s3_server.removeprefix("http://"))
    link.request("PUT", f"/{name}")
    assert link.getresponse().read() is not None
    assert examined(url=f"s3://{name}/x", **bucket)["verdict"] == "ok"
    link.request("GET", f"/{name}?list-type=2", headers={"authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"})
    assert b"<Key>" not in link.getresponse().read(), "nothing is left there"
    link.close()
    keyless = examined(url=f"s3://{name}/x", endpoint=s3_server, access_key_env="NO_SUCH_KEY", secret_key_env="KEPT_KEY")
    assert (keyless["verdict"], "NO_SUCH_KEY" in keyless["says"]) == ("fail", True)
    assert examined()["verdict"] == "ok"
    assert not (tmp_path / "artifacts").exists()
