"""HIT06: a served system tells a person by a signed post, whose link decides from the browser as that person."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook
from tests.acceptance.features.programs import Place, cli, start, told, until

SECRET = "whsec_" + base64.b64encode(bytes(range(40))).decode()
ASKS = {
    "name": "ask-ada",
    "nodes": [
        {"id": "ok", "kind": "approval", "config": {"message": "Pay?", "approvers": ["ada"]}},
        {"id": "no", "kind": "transform", "config": {"value": "nodes.ok.output.reason"}},
    ],
    "edges": [{"from": "ok", "to": "no", "on": "rejected"}],
}


@pytest.fixture
def posts() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A receiver that keeps what is posted and genuine."""
    found: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.append(Webhook(SECRET).verify(body, dict(self.headers.items())))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", found
    server.shutdown()
    server.server_close()


def notify(url: str, home: str) -> dict[str, str]:
    channel = {"url": url, "secret_env": "HOOK_SECRET", "internal": True, "person": "ada", "tickets": ["approval"]}
    return {
        "HOOK_SECRET": SECRET, "TENUTO_NOTIFY": json.dumps({"ada": channel}), "TENUTO_LINKS": json.dumps({"url": home}),
    }


def test_HIT06_a_person_is_told_and_decides_by_the_link(tmp_path: Path, posts: tuple[str, list[dict[str, Any]]]) -> None:
    """Through a crash of the server that was to tell: another one does, and its links are good there."""
    url, found = posts
    with Place(tmp_path, f"sqlite:///{tmp_path}/t.db") as place:
        first = place.serve()
        client = place.client(first)
        assert client.post("/workflows", json=ASKS).status_code in (200, 201)
        run = start(client, "ask-ada")
        until("it asks", lambda: client.get("/tickets", params={"state": "open"}).json()["items"])
        first.kill()
        server = place.serve(env=notify(url, "http://127.0.0.1"))
        client = place.client(server)
        opened = until("ada is told", lambda: found)[0]
        assert (opened["type"], opened["data"]["ticket"]["run"]) == ("ticket.opened", run)
        link = next(one["url"] for one in opened["data"]["links"] if one["decision"] == "reject")
        with httpx.Client(base_url=server.url) as browser:
            page = browser.get(link.removeprefix("http://127.0.0.1"))
            assert page.status_code == 200
            assert browser.get("/static/page.css").status_code == 200
            token = html.unescape(re.findall(r'name="token" value="([^"]*)"', page.text)[0])
            pressed = browser.post("/decide", data={"token": token, "reason": "no money"}, headers={"origin": server.url})
            assert (pressed.status_code, "You answered: rejected" in pressed.text) == (200, True)
            assert browser.post("/decide", data={"token": token, "reason": "no money"}).status_code == 409
        view = client.get(f"/runs/{run}", params={"wait": 20}).json()
        assert (view["status"], view["output"]["no"]) == ("completed", "no money")
        until("the decision is told", lambda: [one for one in found if one["type"] == "ticket.decided"])
        until("all is noted", lambda: {one["state"] for one in told(server, "notifications", "list")["items"]} == {"sent"})
        assert [one["type"] for one in found] == ["ticket.opened", "ticket.decided"]
        sent = told(server, "notifications", "list")["items"][-1]["id"]
        assert told(server, "notifications", "resend", sent)["state"] == "due"
        until("it came again", lambda: len(found) == 3)
        missing = cli(server, "notifications", "resend", "ntf-none")
        assert (missing.returncode, "there is no notification" in missing.stderr) == (2, True)
        for program in place.programs:
            assert token not in program.text()
            assert SECRET not in program.text()


def test_HIT06_a_channel_that_is_not_set_up_keeps_the_server_from_starting(tmp_path: Path) -> None:
    """With everything that is wrong, and without the secret."""
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "text.txt").write_text("{{ ticket.nothing }}")
    wrong = {
        "none": {}, "hook": {"url": "https://x.example/"},
        "mail": {"host": "localhost", "addresses": {"ada": "not an address@"}, "templates": str(tmp_path / "mail")},
    }
    with Place(tmp_path, f"sqlite:///{tmp_path}/t.db") as place:
        program = place.start("serve", "--port", "0", env={"TENUTO_NOTIFY": json.dumps(wrong)})
        assert program.process.wait(30) != 0
        for words in ("notify.none", "has no secret", "notify.mail.sender", "no plain address", "text.txt", "nothing"):
            assert words in program.text(), words
        assert "Traceback" not in program.text()
