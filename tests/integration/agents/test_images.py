"""An image takes as long as it takes: nobody holds a place meanwhile, and a kill makes no second one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tenuto import App, WorkerOptions
from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.ports.model import ModelReply, ToolCall
from tenuto.runtime.tools.builtin.kit import ImageServer, Kit
from tenuto.runtime.tools.workspace import Workspaces
from tenuto.wiring import running
from tests.integration.agents import images_app

ROOT = Path(__file__).parents[3]


class Studio:
    """A server that speaks ComfyUI's protocol; jobs end when `done` is set.

    Attributes:
        before: Called with the path of a request that was taken, before it is answered.
        broken: So many requests are answered with an error.
    """

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.submitted = self.looks = self.broken = 0
        self.done = threading.Event()
        self.error = ""
        self.before: Callable[[str], None] = lambda path: None
        studio = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                status, answer = studio.answer(urlsplit(self.path), body)
                studio.before(urlsplit(self.path).path)
                try:
                    self.send_response(status)
                    self.send_header("content-length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except OSError:  # whoever asked is dead
                    self.close_connection = True

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, url: Any, body: bytes) -> tuple[int, bytes]:
        if url.path == "/prompt":
            self.submitted += 1
            self.jobs.append(json.loads(body)["prompt_id"])
            return 200, json.dumps({"prompt_id": self.jobs[-1]}).encode()
        if url.path == "/view":
            return 200, b"PNG of " + parse_qs(url.query)["filename"][0].encode()
        if self.broken and self.jobs:
            self.broken -= 1
            return 502, b"<html>"
        if url.path == "/queue":
            waiting = [] if self.done.is_set() else [[0, job] for job in self.jobs]
            return 200, json.dumps({"queue_running": waiting, "queue_pending": []}).encode()
        self.looks += 1
        job = url.path.rpartition("/")[2]
        if not self.done.is_set() or job not in self.jobs:
            return 200, b"{}"
        status = {"status_str": "error" if self.error else "success", "completed": not self.error, "messages": [self.error]}
        outputs = {"7": {"images": [{"filename": f"{job}.png", "subfolder": "", "type": "output"}]}}
        return 200, json.dumps({job: {"outputs": {} if self.error else outputs, "status": status}}).encode()


@pytest.fixture
def studio() -> Iterator[Studio]:
    made = Studio()
    yield made
    made.done.set()
    made.http.shutdown()
    made.http.server_close()


def kit(studio: Studio, root: Path, **options: Any) -> Kit:
    images = ImageServer(url=studio.url, checkpoint="sd.safetensors", poll_s=0.01, **options)
    return Kit(images=images, workspaces=Workspaces(root=root))


async def test_a_run_that_waits_for_an_image_holds_no_place(studio: Studio, tmp_path: Path):
    """A worker with room for one step works on another run meanwhile; the wait says what it is for."""
    app = App("t")
    app.workflow("w").tool("generate_image", id="n", args={"prompt": "a harbour"})
    app.workflow("other").tool("list_files", id="n", args={})
    async with app.engine("memory:", kit=kit(studio, tmp_path), options=WorkerOptions(concurrency=1)) as engine:
        run = (await engine.runs.start("w")).id
        waits = (event async for event in engine.history.stream(run) if event.type == "step.waiting")
        assert "is not done yet" in (await anext(waits)).data["reason"]
        assert (await engine.runs.execute("other", {})).status == "completed"
        await anext(waits)
        studio.done.set()
        view = await engine.runs.result(run, timeout_s=15)
        assert view.status == "completed", view.error
    (image,) = view.output["n"]["images"]
    assert (tmp_path / "default" / f"run-{run}" / image["path"]).read_bytes().startswith(b"PNG of ")
    assert studio.submitted == 1
    assert view.budget.spent["tool_calls"] == 1, "looking is no call of the tool"


@pytest.mark.parametrize("at", ["/prompt", "/queue", "/view"])
async def test_a_worker_killed_while_an_image_is_made_leaves_one_image(studio: Studio, tmp_path: Path, at: str):
    """SIGKILL when the job is submitted and not known yet, while it is waited for, or while the image is fetched."""
    url, died = f"sqlite:///{tmp_path}/t.db", threading.Event()
    workers: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        command = [sys.executable, "-m", images_app.__name__, url, studio.url, str(tmp_path / "ws")]
        with (tmp_path / "worker.log").open("ab") as out:
            workers.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out))

    def kill(path: str) -> None:
        if path == at and studio.submitted and not died.is_set():
            workers[-1].kill()
            workers[-1].wait()
            died.set()

    studio.before = kill
    if at == "/view":
        studio.done.set()
    try:
        async with running(url, images_app.app.catalog(), worker=False) as runtime:
            run = (await runtime.engine.runs.start("w")).id
            start()
            assert await asyncio.to_thread(died.wait, 15), (tmp_path / "worker.log").read_text()
            start()
            studio.done.set()
            view = await runtime.engine.runs.result(run, timeout_s=15)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert view.status == "completed", view.error
    assert studio.submitted == 1
    assert [item.name for item in (tmp_path / "ws" / "default" / f"run-{run}" / "images").iterdir()] == [f"{studio.jobs[0]}-0.png"]


@pytest.mark.parametrize("error", ["", "out of memory"])
async def test_an_agent_is_told_what_became_of_an_image(studio: Studio, tmp_path: Path, error: str):
    """The conversation waits durably, and hears of the image or of the failure; a server that stumbles is waited for."""
    studio.error, studio.broken = error, 2
    model = ScriptedModel([
        ModelReply(tool_calls=(ToolCall("c", "generate_image", {"prompt": "a harbour"}),), stop="tools"),
        ModelReply(content="done"),
    ])  # fmt: skip
    app = App("t")
    app.model("m:x", model)
    app.workflow("w").agent("a", model="m:x", prompt="draw", tools=["generate_image"])
    async with app.engine("memory:", kit=kit(studio, tmp_path)) as engine:
        run = (await engine.runs.start("w")).id
        waits = (event async for event in engine.history.stream(run) if event.type == "step.waiting")
        for _ in range(4):
            await anext(waits)
        studio.done.set()
        view = await engine.runs.result(run, timeout_s=15)
    assert view.status == "completed", view.error
    told = model.requests[1].messages[-1]
    assert told.failed == bool(error)
    assert (error or f"images/{studio.jobs[0]}-0.png") in told.content
    assert studio.submitted == 1
    assert len(model.requests) == 2


async def test_a_job_that_does_not_end_in_its_time_or_is_forgotten_fails_with_the_reason(studio: Studio, tmp_path: Path):
    app = App("t")
    app.workflow("w").tool("generate_image", id="n", args={"prompt": "a harbour"})
    async with app.engine("memory:", kit=kit(studio, tmp_path, timeout_s=0.05)) as engine:
        view = await engine.runs.result((await engine.runs.start("w")).id, timeout_s=15)
        assert view.error is not None
        assert (view.error.code, view.error.message.partition(" job ")[2].partition(" ")[2]) == (
            "tool.unfinished", "within 0.05 s; it may need more time",
        )  # fmt: skip
    async with app.engine("memory:", kit=kit(studio, tmp_path)) as engine:
        run = (await engine.runs.start("w")).id
        waits = (event async for event in engine.history.stream(run) if event.type == "step.waiting")
        await anext(waits)
        studio.jobs.clear()
        view = await engine.runs.result(run, timeout_s=15)
        assert view.error is not None
        assert (view.error.code, "any more" in view.error.message) == ("image.failed", True)
