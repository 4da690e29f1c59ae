"""Links that decide with one press of a button: safe to be looked at, good for one person, one decision, once."""

from __future__ import annotations

import asyncio
import html
import logging
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tenuto import App
from tenuto.api.app import create_app
from tenuto.api.auth import Auth
from tenuto.api.links import links_of
from tenuto.errors import InvalidSettings, Unavailable
from tenuto.runtime.notifications.notifier import Notifier
from tenuto.runtime.services.links import Links
from tenuto.runtime.services.requests import StartRun
from tenuto.runtime.services.results import TicketView
from tenuto.settings import load
from tenuto.wiring import Runtime, start_runtime
from tests.integration.notifications.conftest import SECRET, Hook
from tests.integration.notifications.test_notifications import QUICK, by_hook, read

HOME = "https://flows.example.org"
GROUPS = {"heads": ("eve", "mia")}
TOKEN = "a-token-of-this-server"


class Served:
    """A server with one workflow that asks, and a browser without credentials."""

    def __init__(self, runtime: Runtime, links: Links, client: httpx.AsyncClient) -> None:
        self.runtime, self.links, self.client = runtime, links, client

    async def asked(self, by: str = "dan", **input: Any) -> TicketView:
        run = await self.runtime.engine.runs.submit(StartRun(workflow="pay", input=input, by=by))
        async with asyncio.timeout(15):
            async for event in self.runtime.engine.history.stream(run.id):
                if event.type == "ticket.opened":
                    return await self.runtime.engine.tickets.get(event.data["ticket"])
        raise AssertionError("nothing was asked")

    async def made(self, ticket: TicketView, person: str = "ada", links: Links | None = None) -> dict[str, str]:
        """Return a person's links by what they decide, as paths of this server."""
        row = await self.runtime.store.get_ticket("default", ticket.id)
        assert row is not None
        found = (links or self.links).of(row, person, await self.runtime.store.now(), GROUPS)
        assert all(link.url.startswith(HOME + "/decide?token=") for link in found)
        return {link.decision: link.url.removeprefix(HOME) for link in found}

    async def press(self, link: str, **fields: str) -> httpx.Response:
        """Read the page of a link as a person does, and press its button."""
        page = await self.client.get(link)
        assert page.status_code == 200, page.text
        return await self.client.post("/decide", data={**hidden(page.text), **fields}, headers={"origin": HOME})


def hidden(page: str) -> dict[str, str]:
    return {name: html.unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page)}


def token_of(link: str) -> str:
    return urlsplit(link).query.removeprefix("token=")


@asynccontextmanager
async def serving(tmp_path: Path, **approval: Any) -> AsyncGenerator[Served]:
    app = App("t")
    app.workflow("pay").approval("ok", approval.pop("message", "Pay ${input.sum}?"), **approval)
    runtime = await start_runtime(f"sqlite:///{tmp_path}/t.db", app.catalog(), groups=GROUPS)
    settings = load({"token": TOKEN, "data_dir": str(tmp_path)}, {"TENUTO_LINKS": f'{{"url": "{HOME}"}}'}, None)
    links = links_of(settings)
    assert links is not None
    transport = httpx.ASGITransport(create_app(runtime.engine, settings, auth=Auth(TOKEN)))
    try:
        async with httpx.AsyncClient(transport=transport, base_url=HOME) as client:
            yield Served(runtime, links, client)
    finally:
        await runtime.close()


async def votes(served: Served, run: str) -> list[tuple[str, str, str]]:
    page = await served.runtime.engine.history.events(run, limit=500)
    return [(e.data["decision"], e.data["by"], e.data["reason"]) for e in page.items if e.type == "ticket.decided"]


async def test_a_link_shows_what_it_decides_and_decides_when_the_button_is_pressed(tmp_path: Path) -> None:
    """In the name of the person it was made for; whatever is on the page is text."""
    async with serving(tmp_path, approvers=["ada"]) as served:
        ticket = await served.asked(sum="<script>alert(1)</script>")
        links = await served.made(ticket)
        assert set(links) == {"approve", "reject"}
        page = await served.client.get(links["approve"])
        assert page.status_code == 200
        assert "&lt;script&gt;" in page.text
        assert "<script" not in page.text
        assert "ada" in page.text
        assert "src=" not in page.text
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "form-action 'self'" in policy
        assert page.headers["referrer-policy"] == "same-origin"
        assert page.headers["cache-control"] == "no-store"
        answer = await served.press(links["approve"], reason="fine by me")
        assert (answer.status_code, "You answered: approved" in answer.text) == (200, True)
        view = await served.runtime.engine.runs.result(ticket.run, timeout_s=10)
        assert view.status == "completed"
        assert await votes(served, ticket.run) == [("approve", "ada", "fine by me")]


async def test_whatever_only_looks_decides_nothing(tmp_path: Path) -> None:
    """Scanners of mail and browsers that fetch ahead read, and read again."""
    async with serving(tmp_path, approvers=["ada"]) as served:
        ticket = await served.asked(sum=5)
        links = await served.made(ticket)
        for link in links.values():
            for _ in range(3):
                assert (await served.client.get(link)).status_code == 200
                assert (await served.client.head(link)).status_code == 200
        assert (await served.runtime.engine.tickets.get(ticket.id)).state == "open"
        assert (await served.client.post(links["approve"])).status_code == 404, "the token has to be in the form"
        assert (await served.client.put(links["approve"])).status_code in (401, 405)
        assert (await served.runtime.engine.tickets.get(ticket.id)).state == "open"


async def test_a_link_is_good_once(tmp_path: Path) -> None:
    """The same one again, the other one of the same person, and two presses at once: one answer is counted."""
    async with serving(tmp_path, approvers=["ada", "eve"], quorum=2) as served:
        ticket = await served.asked(sum=5)
        links = await served.made(ticket)
        form = hidden((await served.client.get(links["approve"])).text)
        pressed = await asyncio.gather(*(served.client.post("/decide", data=form) for _ in range(4)))
        assert sorted(answer.status_code for answer in pressed) == [200, 409, 409, 409]
        for link in links.values():
            page = await served.client.get(link)
            assert page.status_code == 409
            assert "approve, by you" in page.text
        again = await served.client.post("/decide", data={"token": token_of(links["reject"]), "reason": "no"})
        assert again.status_code == 409
        found = await served.runtime.engine.tickets.get(ticket.id)
        assert [(vote.by, vote.decision) for vote in found.votes] == [("ada", "approve")]
        assert await served.made(ticket) == {}
        last = await served.press((await served.made(ticket, "eve"))["approve"])
        assert last.status_code == 200
        assert (await served.client.get(links["approve"])).status_code == 409


async def test_a_link_that_was_altered_or_made_elsewhere_is_none(tmp_path: Path) -> None:
    async with serving(tmp_path, approvers=["ada"]) as served:
        ticket = await served.asked(sum=5)
        good = token_of((await served.made(ticket))["approve"])
        foreign = token_of((await served.made(ticket, links=Links(b"another secret", HOME, valid_ms=60_000)))["approve"])
        text, _, mac = good.partition(".")
        for bad in (foreign, text[:-2] + "AA." + mac, text + ".", "." + mac, good + "x", "ü.x", "a" * 5000):
            for answer in (await served.client.get("/decide", params={"token": bad}),
                           await served.client.post("/decide", data={"token": bad})):
                assert answer.status_code in (403, 404), bad
                assert ticket.id not in answer.text
        for answer in (await served.client.get("/decide"), await served.client.post("/decide")):
            assert answer.status_code == 404
        assert (await served.runtime.engine.tickets.get(ticket.id)).state == "open"


async def test_a_link_ends_with_its_time_and_with_its_question(tmp_path: Path) -> None:
    async with serving(tmp_path, approvers=["ada"]) as served:
        ticket = await served.asked(sum=5)
        short = Links((TOKEN).encode(), HOME, valid_ms=-1)
        expired = (await served.made(ticket, links=short))["approve"]
        page = await served.client.get(expired)
        assert (page.status_code, "has expired" in page.text) == (410, True)
        assert (await served.client.post("/decide", data={"token": token_of(expired)})).status_code == 410
        good = (await served.made(ticket))["approve"]
        await served.runtime.engine.runs.cancel(ticket.run)
        await served.runtime.engine.runs.result(ticket.run, timeout_s=10)
        for answer in (await served.client.get(good), await served.client.post("/decide", data={"token": token_of(good)})):
            assert (answer.status_code, "is closed" in answer.text) == (410, True)
        await served.runtime.engine.runs.delete(ticket.run)
        assert (await served.client.get(good)).status_code == 410


async def test_a_question_that_has_changed_says_what(tmp_path: Path) -> None:
    """What was shown when the link was made is what it decides, and nothing else."""
    async with serving(tmp_path, approvers=["ada"]) as served:
        ticket = await served.asked(sum=5)
        link = (await served.made(ticket))["approve"]
        form = hidden((await served.client.get(link)).text)
        db = served.runtime.store.parts.connect()  # type: ignore[attr-defined]
        db.execute("update ticket set message = 'Pay 5000?'")
        db.commit()
        for answer in (await served.client.get(link), await served.client.post("/decide", data=form)):
            assert answer.status_code == 409
            assert "this changed: the question itself." in answer.text
        db.execute("update ticket set message = 'Pay 5?', created_at = created_at - 1")
        db.commit()
        db.close()
        assert "it was asked anew" in (await served.client.get(link)).text
        assert (await served.runtime.engine.tickets.get(ticket.id)).state == "open"


async def test_a_rejection_asks_for_its_reason_and_a_form_for_its_data(tmp_path: Path) -> None:
    """On the page, with what was filled in kept; nothing is decided before it fits."""
    form = {
        "type": "object", "required": ["amount", "fast"], "additionalProperties": False,
        "properties": {
            "amount": {"type": "number", "maximum": 100}, "fast": {"type": "boolean"}, "to": {"type": "string", "enum": ["a", "b"]},
            "rest": {"type": "array"},
        },
    }  # fmt: skip
    async with serving(tmp_path, approvers=["ada"], schema=form) as served:
        ticket = await served.asked(sum=5)
        links = await served.made(ticket)
        refused = await served.press(links["reject"], reason="  ")
        assert (refused.status_code, "a rejection needs a reason" in refused.text) == (422, True)
        fields = {"data.amount": "1e3", "data.fast": "yes", "data.to": "a", "data.rest": "[1]"}
        refused = await served.press(links["approve"], **fields)
        assert refused.status_code == 422
        assert "amount" in refused.text
        assert 'value="1e3"' in refused.text
        refused = await served.press(links["approve"], **{**fields, "data.amount": "many", "data.rest": "{"})
        assert refused.text.count("<li>") == 2
        assert (await served.runtime.engine.tickets.get(ticket.id)).state == "open"
        assert (await served.press(links["approve"], **{**fields, "data.amount": "99.5"})).status_code == 200
        found = await served.runtime.engine.tickets.get(ticket.id)
        assert found.answer == {"amount": 99.5, "fast": True, "to": "a", "rest": [1]}


async def test_nobody_gets_a_link_who_may_not_decide(tmp_path: Path) -> None:
    async with serving(tmp_path, approvers=["ada", "group:heads"], not_requester=True) as served:
        ticket = await served.asked(by="eve", sum=5)
        assert set(await served.made(ticket, "mia")) == {"approve", "reject"}
        assert await served.made(ticket, "eve") == await served.made(ticket, "cyd") == {}


async def test_sensitive_values_are_hidden_on_the_page_and_tokens_in_logs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, approvers=["ada"]) as served:
        caplog.set_level(logging.DEBUG)
        ticket = await served.asked(sum=5)
        link = (await served.made(ticket))["approve"]
        await served.press(link)
        lines = [record.getMessage() for record in caplog.records if record.name.startswith("tenuto")]
        assert any("/decide" in line for line in lines)
        assert not [line for line in lines if token_of(link)[:40] in line]
        records = await served.runtime.store.records(ticket.run, 0, 100)
        assert all(token_of(link).encode()[:40] not in record.body for record in records)


async def test_other_sites_cannot_press_the_button(tmp_path: Path) -> None:
    async with serving(tmp_path, approvers=["ada"]) as served:
        ticket = await served.asked(sum=5)
        token = token_of((await served.made(ticket))["approve"])
        answer = await served.client.post("/decide", data={"token": token}, headers={"origin": "https://evil.example"})
        assert answer.status_code == 403
        assert (await served.runtime.engine.tickets.get(ticket.id)).state == "open"


async def test_only_the_page_of_links_is_open_without_a_token(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for path in ("/api/v1/tickets", "/api/v1/notifications", "/decide/x", "/decidex"):
            assert (await served.client.get(path)).status_code == 401, path
        assert (await served.client.delete("/decide")).status_code == 401


async def test_whatever_is_sent_to_the_page_is_answered_by_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON nested without end, fields without number, a store that does not answer: nothing is decided, and it says so."""
    form = {"type": "object", "properties": {"rows": {"type": "array"}}}
    async with serving(tmp_path, approvers=["ada"], schema=form) as served:
        ticket = await served.asked(sum=4)
        link = (await served.made(ticket))["approve"]
        deep = await served.press(link, **{"data.rows": "[" * 100_000})
        assert deep.status_code == 422
        assert "is not JSON" in deep.text
        many = await served.client.post("/decide", data={f"f{n}": "1" for n in range(1001)} | {"token": token_of(link)})
        assert many.status_code == 422
        assert "More than 1000 fields" in many.text

        async def away(*_: Any) -> Any:
            raise Unavailable("the store does not answer")

        monkeypatch.setattr(served.runtime.store, "get_ticket", away)
        shown = await served.client.get(link)
        assert shown.status_code == 503
        assert shown.headers["content-type"].startswith("text/html")
        assert "the store does not answer. Nothing was changed" in shown.text
        monkeypatch.undo()
        assert (await served.runtime.engine.tickets.get(ticket.id)).state == "open"


async def test_messages_carry_the_links_of_whoever_reads_them(tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the question is open, and where the reader may decide; without an address of the server there are none."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    async with serving(tmp_path, approvers=["ada"]) as served:
        channels = [by_hook(hook, name="ada", person="ada"), by_hook(hook, name="cyd", person="cyd")]
        notifier = Notifier(served.runtime.engine, served.runtime.clock, channels, QUICK, links=served.links)
        ticket = await served.asked(sum=5)
        await notifier.turn()
        links = [read(post)["data"].get("links", []) for post in hook.posts]
        assert sorted(len(one) for one in links) == [0, 2]
        approve = next(link["url"] for one in links for link in one if link["decision"] == "approve")
        assert (await served.press(approve.removeprefix(HOME))).status_code == 200
        await notifier.turn()
        assert all("links" not in read(post)["data"] for post in hook.posts[2:])
        assert (await served.runtime.engine.tickets.get(ticket.id)).by == "ada"


def test_links_have_a_secret_of_their_own_or_the_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {"data_dir": str(tmp_path)}
    assert links_of(load(flags, {}, None)) is None
    own = links_of(load(flags, {"TENUTO_LINKS": '{"url": "https://x.example"}'}, None))
    assert own is not None
    assert (tmp_path / "token").exists(), "servers that share the directory share the secret"
    monkeypatch.setenv("LINK_KEY", "short")
    for keys in ('"key_env": "LINK_KEY"', '"key_env": "NO_SUCH_KEY"', f'"key_file": "{tmp_path}/none"'):
        with pytest.raises(InvalidSettings, match=r"LINK_KEY|NO_SUCH_KEY|none"):
            links_of(load(flags, {"TENUTO_LINKS": f'{{"url": "https://x.example", {keys}}}'}, None))
