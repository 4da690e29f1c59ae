"""Built-in tools against real servers on this machine: pipelines, mail, Slack, images, local models."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiosmtpd.controller import Controller

from tenuto import App
from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.ports.model import ModelReply, ToolCall
from tenuto.ports.providers import Provider, Providers
from tenuto.runtime.projector import Projector
from tenuto.runtime.services.requests import ListUsage
from tenuto.runtime.tools.builtin.kit import ImageServer, Kit, MailServer
from tenuto.runtime.tools.http import HttpPolicy
from tenuto.runtime.tools.workspace import Workspaces
from tenuto.testing.servers import Answer, OpenAiServer

Respond = Callable[[str, str, bytes], "tuple[int, bytes]"]


class _Server:
    """A server whose answers a test gives; keeps what was asked."""

    def __init__(self, respond: Respond) -> None:
        asked = self.asked = list[tuple[str, str, bytes]]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                asked.append((self.command, self.path, body))
                status, answer = respond(self.command, self.path, body)
                if status == 0:  # the connection breaks after the request was taken
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self.http.server_port}"
        self.url = f"http://{self.place}"
        Thread(target=self.http.serve_forever, daemon=True).start()

    def policy(self) -> HttpPolicy:
        return HttpPolicy(allowed=frozenset({self.place}))


@pytest.fixture
def serving() -> Iterator[Callable[[Respond], _Server]]:
    made: list[_Server] = []

    def serve(respond: Respond) -> _Server:
        made.append(_Server(respond))
        return made[-1]

    yield serve
    for server in made:
        server.http.shutdown()
        server.http.server_close()


async def called(tool: str, args: dict[str, Any], kit: Kit, app: App | None = None) -> Any:
    """Call a tool as a node does and return the run as it ended, or as it waits for a person."""
    app = app or App("t")
    app.workflow("w").tool(tool, id="n", args=args)
    async with app.engine("memory:", kit=kit) as engine:
        run = (await engine.runs.start("w", {})).id
        async for event in engine.history.stream(run):
            if event.type in ("ticket.opened", "run.completed", "run.failed"):
                break
        tickets = (await engine.tickets.list(run=run)).items
        return await engine.runs.get(run), tickets


def failure(view: Any) -> str:
    assert view.status == "failed", view
    return f"{view.error.code}: {view.error.message}"


# --- pipelines -----------------------------------------------------------------------------------------------------

ROWS = [{"n": "a", "p": 3, "x": {"y": 1}}, {"n": "b", "p": 9}, {"n": "c"}, {"n": "d", "p": 5.5, "x": {"y": 2}}]


async def test_a_pipeline_fetches_filters_sorts_and_cuts(serving: Callable[[Respond], _Server]):
    server = serving(lambda *_: (200, json.dumps({"data": {"rows": ROWS}}).encode()))
    steps = [
        {"op": "http_request", "url": server.url}, {"op": "path", "path": "data.rows"}, {"op": "table_filter", "when": "has(item.p) && item.p > 3.0"},
        {"op": "table_sort", "by": "p", "descending": True}, {"op": "top_k", "k": 1}, {"op": "table_select", "fields": {"name": "n"}},
    ]  # fmt: skip
    view, _ = await called("execute_pipeline", {"steps": steps}, Kit(http=server.policy()))
    assert view.status == "completed", view.error
    assert view.output["n"] == {"result": [{"name": "b"}], "count": 1}


@pytest.mark.parametrize(("steps", "result"), [
    ([{"op": "sort", "by": "p"}], ["a", "d", "b", "c"]),
    ([{"op": "sort", "by": "p", "descending": True}], ["b", "d", "a", "c"]),
    ([{"op": "top_k", "k": 2, "by": "p"}], ["b", "d"]),
    ([{"op": "filter", "when": "item.n != 'a' && index < 3"}], ["b", "c"]),
])  # fmt: skip
async def test_rows_are_ordered_and_picked(steps: list[Any], result: list[str]):
    from tenuto.runtime.tools.builtin.transform import run_steps
    from tenuto.runtime.tools.catalog import CallInfo

    made = await run_steps(Kit(), CallInfo(key="k"), steps, ROWS)
    assert [row["n"] for row in made["result"]] == result


@pytest.mark.parametrize(("step", "match"), [
    ({"op": "sort", "by": "x"}, r"step 0 \(sort\).*no order"), ({"op": "top_k"}, "'k' is missing"), ({"op": "filter", "when": "item."}, r"step 0 \(filter\)"),
    ({"op": "path", "path": "no.such"}, "has no 'no.such'"), ({"op": "select"}, "'fields' is a list"),
    ({"op": "filter", "when": "item.absent > 1"}, r"step 0 \(filter\)"), ({"op": "http", "url": "http://x", "method": "POST"}, "only reads"),
])  # fmt: skip
async def test_a_step_that_does_not_fit_is_named(step: dict[str, Any], match: str):
    from tenuto.runtime.tools.builtin.transform import TransformFailed, run_steps
    from tenuto.runtime.tools.catalog import CallInfo

    with pytest.raises(TransformFailed, match=match):
        await run_steps(Kit(), CallInfo(key="k"), [step], ROWS)


async def test_a_request_to_a_private_address_is_refused_before_it_is_made(serving: Callable[[Respond], _Server]):
    server = serving(lambda *_: (200, b"{}"))
    for tool, args in (
        ("http_get", {"url": server.url}), ("http_request", {"url": server.url, "method": "POST"}),
        ("transform", {"steps": [{"op": "http", "url": server.url}]}),
    ):  # fmt: skip
        assert "http.address_refused" in failure((await called(tool, args, Kit()))[0])
    assert server.asked == []


async def test_arguments_that_do_not_fit_never_reach_a_tool(serving: Callable[[Respond], _Server]):
    server = serving(lambda *_: (200, b"{}"))
    view, _ = await called("http_get", {"url": server.url, "evil": 1}, Kit(http=server.policy()))
    assert "tool.arguments" in failure(view)
    assert server.asked == []


# --- mail ----------------------------------------------------------------------------------------------------------


class _Inbox:
    """A mail server's handler: keeps what came, refuses or breaks off where a test says so."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], bytes]] = []
        self.break_after = False

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("nobody"):
            return "550 no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append((envelope.rcpt_tos, envelope.content))
        if self.break_after:
            server.transport.abort()
        return "250 taken"


@pytest.fixture
def inbox() -> Iterator[tuple[_Inbox, MailServer]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    handler = _Inbox()
    controller = Controller(handler, hostname="127.0.0.1", port=port, ready_timeout=15)
    controller.start()
    yield handler, MailServer(
        host="127.0.0.1", port=port, sender="Bot <bot@example.org>", security="none", allowed=("@example.org",), timeout_s=10
    )
    controller.stop()


MAIL = {"to": ["ada@example.org"], "subject": "Grüße", "body": "Hello\n.\nWorld"}


async def test_a_mail_is_sent_once_under_an_id_that_derives_from_its_call(inbox: tuple[_Inbox, MailServer]):
    handler, server = inbox
    view, _ = await called("send_email", MAIL, Kit(mail=server))
    assert view.status == "completed", view.error
    assert len(handler.mails) == 1
    mail = message_from_bytes(handler.mails[0][1])
    assert mail["Message-ID"] == view.output["n"]["message_id"]
    assert mail["Message-ID"].endswith("@example.org>")
    assert mail.get_payload(decode=True).decode().replace("\r\n", "\n").strip() == MAIL["body"]  # type: ignore[union-attr]


@pytest.mark.parametrize(("change", "match"), [
    ({"to": ["eve@evil.example"]}, "may not be written to"), ({"to": ["nobody@example.org"]}, "550 no such person"),
    ({"to": ["ada@example.org", "nobody@example.org"]}, "550 no such person"), ({"subject": "a\r\nBcc: eve@evil.example"}, "not allowed"),
    ({"to": ["Ada <ada@example.org>"]}, "no plain address"), ({"to": ["ada@example.org\r\nRCPT TO:<e@x>"]}, "no plain address"),
])  # fmt: skip
async def test_a_mail_that_may_not_go_goes_to_nobody(inbox: tuple[_Inbox, MailServer], change: dict[str, Any], match: str):
    handler, server = inbox
    view, _ = await called("send_email", {**MAIL, **change}, Kit(mail=server))
    assert match in failure(view)
    assert handler.mails == []


async def test_a_connection_that_breaks_at_the_hand_over_asks_a_person_and_sends_nothing_again(inbox: tuple[_Inbox, MailServer]):
    handler, server = inbox
    handler.break_after = True
    view, tickets = await called("send_email", MAIL, Kit(mail=server))
    assert [ticket.kind for ticket in tickets] == ["unknown_outcome"], view
    assert len(handler.mails) == 1


async def test_mail_that_is_not_set_up_names_the_setting(tmp_path: Path):
    assert "mail.host" in failure((await called("send_email", MAIL, Kit()))[0])
    server = MailServer(host="127.0.0.1", port=9, sender="b@example.org", user="bot", password_env="NO_SUCH_PASSWORD")
    assert "NO_SUCH_PASSWORD" in failure((await called("send_email", MAIL, Kit(mail=server)))[0])


# --- Slack ---------------------------------------------------------------------------------------------------------


async def test_slack_gets_the_message_and_nobody_sees_its_address(serving: Callable[[Respond], _Server], monkeypatch: pytest.MonkeyPatch):
    answers = [(200, b"ok"), (403, b"no"), (0, b"")]
    server = serving(lambda *_: answers.pop(0))
    monkeypatch.setenv("OPS_HOOK", f"{server.url}/canary")
    kit = Kit(http=server.policy(), slack={"ops": "OPS_HOOK", "gone": "NO_HOOK"})
    args = {"destination": "ops", "message": "deployed"}
    view, _ = await called("slack_message", args, kit)
    assert view.output["n"] == {"destination": "ops", "status_code": 200}
    assert json.loads(server.asked[0][2]) == {"text": "deployed"}
    refused, _ = await called("slack_message", args, kit)
    assert "answered 403" in failure(refused)
    broken, tickets = await called("slack_message", args, kit)
    assert [ticket.kind for ticket in tickets] == ["unknown_outcome"]
    for shown in (view, refused, broken, *tickets):
        assert "canary" not in repr(shown)
    assert "NO_HOOK" in failure((await called("slack_message", {**args, "destination": "gone"}, kit))[0])
    assert "there are gone, ops" in failure((await called("slack_message", {**args, "destination": "x"}, kit))[0])


# --- images and local models ---------------------------------------------------------------------------------------


class _Comfy:
    """The part of ComfyUI's protocol that matters: jobs by id, done after a few looks."""

    def __init__(self) -> None:
        self.jobs: dict[str, int] = {}
        self.submitted = 0
        self.fails = False

    def __call__(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        parts = urlsplit(path)
        if parts.path == "/prompt":
            asked = json.loads(body)
            self.submitted += 1
            if asked["prompt"]["1"]["inputs"]["ckpt_name"] != "sd.safetensors":
                return 400, b'{"error": "no such checkpoint"}'
            self.jobs[asked["prompt_id"]] = 0
            return 200, json.dumps({"prompt_id": asked["prompt_id"]}).encode()
        if parts.path == "/queue":
            waiting = [[0, job] for job, looks in self.jobs.items() if looks < 2]
            return 200, json.dumps({"queue_running": waiting, "queue_pending": []}).encode()
        if parts.path.startswith("/history/"):
            job = parts.path.rpartition("/")[2]
            if job in self.jobs:
                self.jobs[job] += 1
            if self.jobs.get(job, 0) < 2:
                return 200, b"{}"
            image = {"filename": f"{job}.png", "subfolder": "", "type": "output"}
            status = {"status_str": "error" if self.fails else "success", "completed": not self.fails, "messages": ["out of memory"]}
            outputs = {} if self.fails else {"7": {"images": [image]}}
            return 200, json.dumps({job: {"outputs": outputs, "status": status}}).encode()
        assert parts.path == "/view"
        return 200, b"PNG of " + parse_qs(parts.query)["filename"][0].encode()


async def test_an_image_is_made_once_and_put_into_the_workspace(serving: Callable[[Respond], _Server], tmp_path: Path):
    from tenuto.runtime.tools.builtin.tools import builtin_tools
    from tenuto.runtime.tools.call import invoke
    from tenuto.runtime.tools.catalog import CallInfo

    comfy = _Comfy()
    server = serving(comfy)
    kit = Kit(images=ImageServer(url=server.url, checkpoint="sd.safetensors", poll_s=0), workspaces=Workspaces(root=tmp_path))
    view, _ = await called("generate_image", {"prompt": "a harbour"}, kit)
    assert view.status == "completed", view.error
    path = view.output["n"]["images"][0]["path"]
    assert (tmp_path / "default" / f"run-{view.id}" / path).read_bytes().startswith(b"PNG of ")
    # The same call again, as after a takeover: the job is found, nothing is submitted twice.
    tool, info = builtin_tools(kit)["generate_image"], CallInfo(key="again", run="r")
    first = await invoke(tool, {"prompt": "a harbour"}, info)
    assert await invoke(tool, {"prompt": "a harbour"}, info) == first
    assert comfy.submitted == 2
    comfy.fails = True
    assert "out of memory" in failure((await called("generate_image", {"prompt": "x"}, kit))[0])
    other = Kit(images=ImageServer(url=server.url, checkpoint="none", poll_s=0))
    assert "no such checkpoint" in failure((await called("generate_image", {"prompt": "x"}, other))[0])


async def test_an_image_server_that_is_off_or_not_set_up_is_said_so():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    kit = Kit(images=ImageServer(url=url, checkpoint="x", poll_s=0))
    told = failure((await called("generate_image", {"prompt": "x"}, kit))[0])
    assert "image.offline" in told
    assert "does not answer" in told
    assert "images.url" in failure((await called("generate_image", {"prompt": "x"}, Kit()))[0])


async def test_a_local_model_answers_and_one_that_is_not_set_up_is_said_so():
    app, model = App("t"), ScriptedModel(lambda _: "forty-two")
    app.model("ollama:tiny", model)
    view, _ = await called("local_llm", {"prompt": "how many?", "system": "be brief"}, Kit(local_llm="ollama:tiny"), app)
    assert view.output["n"]["content"] == "forty-two"
    assert [message.role for message in model.requests[0].messages] == ["system", "user"]
    assert "set local_llm" in failure((await called("local_llm", {"prompt": "x"}, Kit()))[0])


def _near(server: OpenAiServer) -> Providers:
    """Return a provider on this machine."""
    return Providers(providers={"near": Provider(name="near", base_urls=(server.base_url,), local=True)})


async def test_tokens_of_the_local_model_count_in_the_runs_budget_and_in_usage():
    """From a node and from an agent's round alike: tokens with their purpose, no cost; a cap refuses before it is asked."""
    app = App("t")
    app.model("m:x", ScriptedModel([
        ModelReply(tool_calls=(ToolCall("c", "local_llm", {"prompt": "how many?"}),), stop="tools", input_tokens=1),
        ModelReply(content="done", input_tokens=2),
    ]))  # fmt: skip
    app.workflow("node").tool("local_llm", id="n", args={"prompt": "how many?"})
    app.workflow("agent").agent("a", model="m:x", prompt="ask", tools=["local_llm"])
    app.workflow("poor").budget(tokens=500).tool("local_llm", id="n", args={"prompt": "how many?"})
    answers = [Answer(text="forty-two", input_tokens=100, output_tokens=7)] * 2
    async with (
        OpenAiServer(answers) as server,
        app.engine("memory:", kit=Kit(local_llm="near:tiny"), providers=_near(server)) as engine,
    ):
        for workflow, tokens in (("node", 107), ("agent", 110)):
            view = await engine.runs.result((await engine.runs.start(workflow, {})).id, timeout_s=15)
            assert view.status == "completed", view.error
            assert (view.budget.spent["tokens"], view.budget.spent["cost_usd_micros"]) == (tokens, 0)
            assert view.budget.spent["tool_calls"] == 1
        view = await engine.runs.result((await engine.runs.start("poor", {})).id, timeout_s=15)
        assert view.status == "budget_exceeded", "the longest answer would not fit"
        assert len(server.asked) == 2
        await Projector(engine.context.store, engine.context.definitions).drain()
        found = (await engine.usage.calls(ListUsage(tool="local_llm"))).items
        assert [(call.workflow, call.purpose, call.provider, call.input_tokens, call.output_tokens) for call in found] == [
            ("agent", "tool", "near", 100, 7), ("node", "tool", "near", 100, 7),
        ]  # fmt: skip
        assert [call.cost_usd_micros for call in found] == [0, 0]


async def test_a_local_model_that_fails_costs_no_tokens():
    """The reservation is given back whole; the agent is told, and the call counts as one of the tool."""
    app = App("t")
    app.model("m:x", ScriptedModel([
        ModelReply(tool_calls=(ToolCall("c", "local_llm", {"prompt": "how many?"}),), stop="tools", input_tokens=1),
        ModelReply(content="done", input_tokens=2),
    ]))  # fmt: skip
    app.workflow("agent").agent("a", model="m:x", prompt="ask", tools=["local_llm"])
    async with (
        OpenAiServer([Answer(status=400, message="no such model")]) as server,
        app.engine("memory:", kit=Kit(local_llm="near:tiny"), providers=_near(server)) as engine,
    ):
        view = await engine.runs.result((await engine.runs.start("agent", {})).id, timeout_s=15)
        assert view.status == "completed", view.error
        assert len(server.asked) == 1
        assert (view.budget.spent["tokens"], view.budget.spent["tool_calls"]) == (3, 1)


def test_local_llm_takes_no_model_that_costs_money(tmp_path: Path):
    from tenuto.errors import InvalidSettings
    from tenuto.sdk.toolbox import kit_of
    from tenuto.settings import Settings

    with pytest.raises(InvalidSettings, match="not local"):
        kit_of(Settings(data_dir=str(tmp_path), local_llm="openai:gpt-5"))
    assert kit_of(Settings(data_dir=str(tmp_path), local_llm="ollama:llama3.2")).local_llm == "ollama:llama3.2"
