"""People are told of questions by signed webhook and by e-mail: durably, in order, with nothing in it that should not be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from tenuto import App
from tenuto.errors import Corrupt, Invalid, InvalidSettings
from tenuto.runtime.notifications.channels import Channel, Mailbox, Webhook
from tenuto.runtime.notifications.notifier import Notifier, Options
from tenuto.runtime.notifications.templates import SHIPPED, Templates
from tenuto.runtime.services.notifications import NotificationMissing
from tenuto.runtime.services.requests import StartRun
from tenuto.runtime.services.results import TicketView
from tenuto.runtime.tools.mail import MailServer
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.wiring import Runtime, start_runtime
from tests.integration.notifications.conftest import SECRET, Hook, Letters, Post

GROUPS = {"heads": ("eve", "mia")}
QUICK = Options(first_wait_s=0.01, timeout_s=1.0, attempts=4, look_s=0.02)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/t.db"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    monkeypatch.setenv("MAIL_PASSWORD", "swordfish")


def by_hook(hook: Hook, **more: Any) -> Channel:
    way = Webhook(url=hook.url, secret="env:HOOK_SECRET", internal=True, person=more.pop("person", ""))
    return Channel(name=more.pop("name", "hook"), way=way, **{"show": ("message",), **more})


def by_mail(port: int, addresses: dict[str, tuple[str, ...]], **more: Any) -> Channel:
    server = MailServer(
        host="localhost", port=port, sender="Tenuto <bot@example.org>", security="starttls", user="bot",
        password_env="MAIL_PASSWORD", name="notify.mail",
    )  # fmt: skip
    return Channel(name="mail", way=Mailbox(server=server, addresses=addresses), **{"show": ("message",), **more})


@asynccontextmanager
async def running(
    url: str, channels: Sequence[Channel], *, options: Options = QUICK, start: bool = True, **approval: Any
) -> AsyncGenerator[tuple[Runtime, Notifier]]:
    app = App("t")
    app.workflow("pay").approval("ok", approval.pop("message", "Pay 5 to Bob?"), **approval)
    runtime = await start_runtime(url, app.catalog(), options=WorkerOptions(lease_ms=2000), groups=GROUPS)
    notifier = Notifier(runtime.engine, runtime.clock, channels, options)
    if start:
        notifier.start()
        runtime.endings.append(notifier.close)
    try:
        yield runtime, notifier
    finally:
        await runtime.close()


async def asked(runtime: Runtime, **input: Any) -> TicketView:
    run = await runtime.engine.runs.submit(StartRun(workflow="pay", input=input, by="dan"))
    async with asyncio.timeout(15):
        async for event in runtime.engine.history.stream(run.id):
            if event.type == "ticket.opened":
                return await runtime.engine.tickets.get(event.data["ticket"])
    raise AssertionError("nothing was asked")


def read(post: Post) -> dict[str, Any]:
    """Return what a post says; an implementation that is not ours has verified it."""
    return Verifier(SECRET).verify(post.body, post.headers)  # type: ignore[no-any-return]


async def states(runtime: Runtime) -> dict[str, str]:
    return {one.event: one.state for one in (await runtime.engine.notifications.list()).items}


# --- webhooks ----------------------------------------------------------------------------------------------------


async def test_what_opens_and_what_is_decided_is_posted_signed_and_in_order(url: str, hook: Hook) -> None:
    async with running(url, [by_hook(hook)], approvers=["ada", "group:heads"], timeout_s=86_400) as (runtime, _):
        ticket = await asked(runtime)
        opened = read((await hook.posted(1))[0])
        assert opened["type"] == "ticket.opened"
        about = opened["data"]["ticket"]
        assert (about["id"], about["run"], about["workflow"], about["state"]) == (ticket.id, ticket.run, "pay", "open")
        assert (about["message"], about["approvers"], about["choices"]) == ("Pay 5 to Bob?", ["ada", "group:heads"], ticket.choices)
        assert about["expires_at"].endswith("Z")
        await runtime.engine.tickets.decide(ticket.id, "approve", reason="a secret reason", by="ada")
        first, second = await hook.posted(2)
        decided = read(second)
        assert (decided["type"], decided["data"]["ticket"]["decision"], decided["data"]["ticket"]["by"]) == (
            "ticket.decided", "approve", "ada",
        )  # fmt: skip
        assert b"secret" not in second.body
        assert first.headers["webhook-id"] == opened["id"] != decided["id"]
        with pytest.raises(WebhookVerificationError):
            Verifier(SECRET).verify(first.body + b" ", first.headers)


async def test_what_fails_is_tried_again_under_the_same_id_before_anything_behind_it(url: str, hook: Hook) -> None:
    hook.answers = [503, "cut", 429]
    async with running(url, [by_hook(hook)]) as (runtime, _):
        ticket = await asked(runtime)
        await runtime.engine.tickets.decide(ticket.id, "approve")
        posts = await hook.posted(5)
        assert [read(post)["type"] for post in posts] == ["ticket.opened"] * 4 + ["ticket.decided"]
        assert len({post.headers["webhook-id"] for post in posts}) == 2
        assert len({post.headers["webhook-signature"] for post in posts}) >= 2


async def test_what_is_given_up_shows_and_can_be_sent_again(url: str, hook: Hook) -> None:
    """Those behind it are sent all the same, the reason holds no address, and the operator sends it once more."""
    hook.answers = [500] * QUICK.attempts
    async with running(url, [by_hook(hook)]) as (runtime, _):
        ticket = await asked(runtime)
        await runtime.engine.tickets.decide(ticket.id, "approve")
        await hook.posted(QUICK.attempts + 1)
        notifications = runtime.engine.notifications
        (failed,) = (await notifications.list(state="failed")).items
        assert (failed.event, failed.attempts, failed.error) == ("opened", QUICK.attempts, "the receiver answered 500")
        assert (await runtime.store.stats())["failed_notifications"] == 1
        assert (await notifications.resend(failed.id)).state == "due"
        again = (await hook.posted(QUICK.attempts + 2))[-1]
        assert (again.headers["webhook-id"], read(again)["type"]) == (failed.id, "ticket.opened")
        with pytest.raises(NotificationMissing):
            await notifications.resend("ntf-none")
        with pytest.raises(Invalid, match=r"did you mean 'failed'"):
            await notifications.list(state="fialed")


@pytest.mark.parametrize(("answer", "why"), [(410, "gone"), (302, "redirects")])
async def test_what_cannot_help_is_not_tried_again(hook: Hook, answer: int, why: str) -> None:
    hook.answers = [answer]
    async with running("memory:", [by_hook(hook)], start=False) as (runtime, notifier):
        await asked(runtime)
        await notifier.turn()
        await notifier.turn()
        (failed,) = (await runtime.engine.notifications.list()).items
        assert (failed.state, failed.attempts, len(hook.posts)) == ("failed", 1, 1)
        assert why in failed.error


async def test_an_address_that_is_not_public_is_not_posted_to_unless_the_operator_says_so(hook: Hook) -> None:
    way = Webhook(url=hook.url, secret="env:HOOK_SECRET")
    async with running("memory:", [Channel(name="hook", way=way)], start=False) as (runtime, notifier):
        await asked(runtime)
        await notifier.turn()
        (failed,) = (await runtime.engine.notifications.list()).items
        assert failed.state == "failed"
        assert "not public" in failed.error
        assert "127.0.0.1" not in failed.error
        assert hook.posts == []


async def test_a_receiver_that_never_answers_holds_up_nobody_else(hook: Hook) -> None:
    """The run goes on, other channels are sent, and a try ends after its time."""
    other, options = Hook(), Options(first_wait_s=0.01, timeout_s=0.2, attempts=1, look_s=0.02)
    server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
    other.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    hook.hang = True
    async with running("memory:", [by_hook(hook), by_hook(other, name="other")], options=options) as (runtime, _):
        ticket = await asked(runtime)
        await other.posted(1)
        await runtime.engine.tickets.decide(ticket.id, "approve")
        view = await runtime.engine.runs.result(ticket.run, timeout_s=10)
        assert view.status == "completed"
        await other.posted(2)
        while await states(runtime) != {"opened": "failed", "decided": "failed"}:  # the clock alone brings this about
            found = (await runtime.engine.notifications.list(state="failed")).items
            if len([one for one in found if one.channel == "hook"]) == 2:
                break
            await asyncio.sleep(0.02)
    server.close()


async def test_one_channel_gets_only_what_it_is_for(hook: Hook) -> None:
    channels = [
        by_hook(hook, name="patches", tickets=("patch",)), by_hook(hook, name="ends", events=("decided",)),
        by_hook(hook, name="cyd", people=("cyd",)), by_hook(hook, name="heads", people=("mia",), events=("opened",)),
    ]
    async with running("memory:", channels, approvers=["group:heads"], start=False) as (runtime, notifier):
        ticket = await asked(runtime)
        await runtime.engine.tickets.decide(ticket.id, "approve", by="eve")
        await notifier.turn()
        await notifier.turn()
        told = {(one.channel, one.event) for one in (await runtime.engine.notifications.list()).items}
        assert told == {("ends", "decided"), ("heads", "opened")}


# --- durability --------------------------------------------------------------------------------------------------


async def test_nothing_is_lost_when_the_sender_was_away_and_each_is_sent_once(url: str, hook: Hook) -> None:
    """What opened and was decided while nobody told people is told, in order, by whoever comes; two of them send no more."""
    if url == "memory:":
        pytest.skip("nothing in memory outlives its process")
    async with running(url, [], start=False) as (runtime, _):
        ticket = await asked(runtime)
        await runtime.engine.tickets.decide(ticket.id, "approve")
        later = await asked(runtime)
    async with (
        running(url, [by_hook(hook)], start=False) as (_, first),
        running(url, [by_hook(hook)], start=False) as (runtime, second),
    ):
        for _ in range(4):
            await asyncio.gather(first.turn(), second.turn())
        told = [(read(post)["data"]["ticket"]["id"], read(post)["type"]) for post in hook.posts]
        assert sorted(told) == sorted(
            [(ticket.id, "ticket.opened"), (ticket.id, "ticket.decided"), (later.id, "ticket.opened")]
        )
        assert told.index((ticket.id, "ticket.opened")) < told.index((ticket.id, "ticket.decided"))
        assert set((await states(runtime)).values()) == {"sent"}


async def test_a_sender_that_died_while_it_sent_is_stood_in_for_under_the_same_id(url: str, hook: Hook) -> None:
    """Whether it arrived is not known, so it comes again; who gets it knows it by its id. What was behind it comes after."""
    if url == "memory:":
        pytest.skip("nothing in memory outlives its process")
    options = Options(first_wait_s=0.01, timeout_s=0.05, attempts=4, look_s=0.02)
    hook.hang = True
    async with running(url, [by_hook(hook)], options=options, start=False) as (runtime, notifier):
        ticket = await asked(runtime)
        sending = asyncio.create_task(notifier.turn())
        await hook.posted(1)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await runtime.engine.tickets.decide(ticket.id, "approve")
    hook.hang = False
    async with running(url, [by_hook(hook)], options=QUICK) as (runtime, _):
        posts = await hook.posted(3)
        assert [read(post)["type"] for post in posts] == ["ticket.opened", "ticket.opened", "ticket.decided"]
        assert posts[0].headers["webhook-id"] == posts[1].headers["webhook-id"]


async def test_a_sender_that_stops_finishes_what_it_began(url: str, hook: Hook) -> None:
    """A graceful end between sending and noting it would send it twice."""
    if url == "memory:":
        pytest.skip("nothing in memory outlives its process")
    async with running(url, [by_hook(hook)]) as (runtime, _):
        await asked(runtime)
        await hook.posted(1)
    async with running(url, [by_hook(hook)], start=False) as (runtime, notifier):
        await notifier.turn()
        assert await states(runtime) == {"opened": "sent"}
        assert len(hook.posts) == 1


async def test_a_ticket_that_cannot_be_read_holds_up_no_other(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """People are told of those behind it, and whatever else goes wrong in a turn is over with it."""
    async with running("memory:", [by_hook(hook)], start=False) as (runtime, notifier):
        broken, fine = await asked(runtime), await asked(runtime)
        get_ticket, ticket_news, turns = runtime.store.get_ticket, runtime.store.ticket_news, list[int]()

        async def read_ticket(ns: str, ticket: str) -> Any:
            if ticket == broken.id:
                raise Corrupt("a byte of it is another")
            return await get_ticket(ns, ticket)

        async def news(*args: Any, **more: Any) -> Any:
            turns.append(1)
            if len(turns) == 1:
                raise RecursionError("what nobody has foreseen")
            return await ticket_news(*args, **more)

        monkeypatch.setattr(runtime.store, "get_ticket", read_ticket)
        monkeypatch.setattr(runtime.store, "ticket_news", news)
        notifier.start()
        runtime.endings.append(notifier.close)
        assert read((await hook.posted(1))[0])["data"]["ticket"]["id"] == fine.id


async def test_what_was_decided_long_ago_is_no_news(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets notifications up is not flooded with the past."""
    monkeypatch.setattr("tenuto.runtime.notifications.notifier.OLD_MS", -60_000)
    async with running("memory:", [by_hook(hook)], start=False) as (runtime, notifier):
        ticket = await asked(runtime)
        await runtime.engine.tickets.decide(ticket.id, "approve")
        assert await notifier.turn()
        assert not await notifier.turn()
        assert hook.posts == []


async def test_expiry_is_told_ahead_and_escalation_to_both(hook: Hook) -> None:
    """Those who were asked hear that others are; the others are asked; each question is told of once more before its end."""
    rule = {"escalate": ["eve"], "timeout_s": 86_400}
    async with running(
        "memory:", [by_hook(hook)], start=False, approvers=["ada"], timeout_s=0.4, on_timeout=rule
    ) as (runtime, notifier):
        ticket = await asked(runtime)
        types: list[tuple[str, list[str]]] = []
        async with asyncio.timeout(15):
            while len(types) < 4:  # the store's clock brings this about
                await notifier.turn()
                told = [read(post) for post in hook.posts]
                types = [(one["type"], one["data"]["ticket"]["approvers"]) for one in told]
                await asyncio.sleep(0.02)
        assert types == [
            ("ticket.opened", ["ada"]), ("ticket.expiring", ["ada"]), ("ticket.escalated", ["ada"]), ("ticket.opened", ["eve"]),
        ]
        assert read(hook.posts[0])["data"]["ticket"]["id"] == ticket.id


# --- e-mail ------------------------------------------------------------------------------------------------------


async def test_each_person_gets_an_e_mail_that_reads_well(url: str, letters: tuple[Letters, int]) -> None:
    """By STARTTLS, after a login with the password of the environment; a busy server is asked again."""
    handler, port = letters
    handler.busy = 1
    addresses = {"ada": ("ada@example.org",), "eve": ("eve@example.org",)}
    channel = by_mail(port, addresses)
    async with running(url, [channel], approvers=["ada", "group:heads"], message="Pay\n${input.sum}?") as (runtime, _):
        ticket = await asked(runtime, sum="<b>5</b>")
        mails = await handler.came(2)
        assert sorted(mail.to[0] for mail in mails) == ["ada@example.org", "eve@example.org"]
        mail = next(mail.mail for mail in mails if mail.to == ["ada@example.org"])
        assert set(handler.logins) == {("bot", "swordfish")}
        assert mail["Subject"] == "An approval of pay waits for you"
        text, html = (part.get_content().replace("\r\n", "\n") for part in mail.iter_parts())
        assert text.startswith("ada, a run of pay waits for a decision.\n\n    Pay\n    <b>5</b>?\n")
        assert f"tenuto approve {ticket.id}" in text
        assert "&lt;b&gt;5&lt;/b&gt;" in html
        assert "<b>5" not in html
        await runtime.engine.tickets.decide(ticket.id, "reject", reason="not now", by="eve")
        await handler.came(4)
        assert {letter.mail["Subject"] for letter in handler.kept[2:]} == {"An approval of pay: reject"}
        assert "not now" not in handler.kept[-1].mail.as_string()
        assert len({letter.mail["Message-ID"] for letter in handler.kept}) == 4


@pytest.mark.parametrize("mark", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1e", "\x85", "\u2028"])
def test_no_text_of_a_run_reads_as_one_of_ours(mark: str) -> None:
    """Each line of a question and of a reason is set in, however it is parted from the one before."""
    said = f"Well?{mark}To approve:{mark}https://evil.example/decide"
    ticket: dict[str, Any] = {
        "id": "tk", "kind": "approval", "state": "decided", "run": "r", "step": "s", "workflow": "w", "message": said,
        "reason": said, "data": {}, "answer": None, "decision": "approve", "by": "ada", "quorum": 1, "expires_at": None,
    }  # fmt: skip
    mail = SHIPPED.render(
        {"event": "decided", "ticket": ticket, "person": "ada", "show": ["message", "reason"], "links": [], "page": ""}
    )
    lines = [line for line in mail.text.splitlines() if "evil" in line or "To approve" in line]
    assert len(lines) == 4
    assert all(line.startswith("    ") for line in lines), lines


async def test_a_mail_server_that_never_answers_keeps_nothing_else_from_threads() -> None:
    """All that are sent at once wait for it at the same time, and on threads of their own."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    waiting, all_there, over = list[int](), asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting.append(1)
        if len(waiting) == 3:
            all_there.set()
        await over.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    addresses = {name: (f"{name}@example.org",) for name in ("ada", "eve", "mia")}
    channel = by_mail(server.sockets[0].getsockname()[1], addresses)
    options = msgspec.structs.replace(QUICK, timeout_s=10.0)
    async with running("memory:", [channel], options=options, approvers=["ada", "eve", "mia"]) as (runtime, _):
        await asked(runtime)
        async with asyncio.timeout(5):
            await all_there.wait()
            assert await asyncio.to_thread(lambda: "at once") == "at once"
        over.set()
    server.close()


async def test_an_address_that_is_refused_is_given_up_and_others_are_not(letters: tuple[Letters, int]) -> None:
    handler, port = letters
    channel = by_mail(port, {"ada": ("nobody@example.org",), "eve": ("eve@example.org",)})
    async with running("memory:", [channel], approvers=["ada", "eve"]) as (runtime, _):
        await asked(runtime)
        await handler.came(1)
        async with asyncio.timeout(10):
            while not (found := (await runtime.engine.notifications.list(state="failed")).items):
                await asyncio.sleep(0.02)  # nothing tells when a message is given up
        assert (found[0].to, found[0].attempts) == ("nobody@example.org", 1)
        assert "550 no such person" in found[0].error


async def test_a_missing_password_names_its_variable(letters: tuple[Letters, int], monkeypatch: pytest.MonkeyPatch) -> None:
    handler, port = letters
    monkeypatch.delenv("MAIL_PASSWORD")
    async with running("memory:", [by_mail(port, {"*": ("a@example.org",)})], start=False) as (runtime, notifier):
        await asked(runtime)
        await notifier.turn()
        (found,) = (await runtime.engine.notifications.list()).items
        assert found.state == "failed"
        assert "MAIL_PASSWORD" in found.error
        assert handler.kept == []


async def test_own_templates_say_what_they_ask_for(letters: tuple[Letters, int], tmp_path: Path) -> None:
    handler, port = letters
    (tmp_path / "subject.txt").write_text("{{ event }}:\n {{ ticket.step }}")
    (tmp_path / "text.txt").write_text("{{ ticket.data.input.sum }}{{ ticket.data.no.such }} / {{ ticket.message }}")
    channel = by_mail(port, {"*": ("all@example.org",)}, show=(), templates=Templates(tmp_path))
    async with running("memory:", [channel]) as (runtime, _):
        await asked(runtime, sum=7)
        (letter,) = await handler.came(1)
        assert letter.mail["Subject"] == "opened: ok"
        assert not letter.mail.is_multipart()
        assert letter.mail.get_content().strip() == "7 / Pay 5 to Bob?"


# --- what is in it -----------------------------------------------------------------------------------------------


async def test_nothing_of_the_run_is_told_unless_it_is_asked_for(hook: Hook) -> None:
    channels = [by_hook(hook, name="bare", show=()), by_hook(hook, name="full", show=("message", "data", "reason", "answer"))]
    async with running("memory:", channels, start=False, message="Pay ${input.iban}?") as (runtime, notifier):
        ticket = await asked(runtime, iban="DE89 3704")
        await notifier.turn()
        await runtime.engine.tickets.decide(ticket.id, "approve", reason="because", data={"n": 1})
        await notifier.turn()
        tickets = [read(post)["data"]["ticket"] for post in hook.posts]
        bare = [one for one in tickets if "message" not in one]
        full = [one for one in tickets if "message" in one]
        assert len(bare) == len(full) == 2
        assert "DE89" not in json.dumps(bare)
        assert "because" not in json.dumps(bare)
        assert full[0]["data"]["input"]["iban"] == "DE89 3704"
        assert (full[1]["reason"], full[1]["answer"]) == ("because", {"n": 1})


async def test_sensitive_values_are_hidden_in_all_that_is_told(hook: Hook) -> None:
    """As in events and logs: at their place, and wherever else they turn up."""
    app = App("t")
    flow = app.workflow("pay")
    flow.input_schema({"type": "object", "properties": {"iban": {"type": "string", "x-sensitive": True}}})
    flow.approval("ok", "Pay ${input.iban}?")
    runtime = await start_runtime("memory:", app.catalog())
    notifier = Notifier(runtime.engine, runtime.clock, [by_hook(hook, show=("message", "data", "reason", "answer"))], QUICK)
    try:
        ticket = await asked(runtime, iban="DE893704")
        await notifier.turn()
        await runtime.engine.tickets.decide(ticket.id, "approve", reason="DE893704 is right", data="DE893704")
        await notifier.turn()
        assert len(hook.posts) == 2
        assert all(b"DE893704" not in post.body for post in hook.posts)
        assert read(hook.posts[0])["data"]["ticket"]["message"] == "Pay [redacted]?"
    finally:
        await runtime.close()


# --- setting it up -----------------------------------------------------------------------------------------------


def test_a_broken_template_is_found_when_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "subject.txt").write_text("{{ ticket.nothing }}")
    (tmp_path / "text.txt").write_text("{% if %}")
    with pytest.raises(InvalidSettings) as caught:
        Templates(tmp_path)
    assert any("text.txt" in one.place and "line 1" in one.place for one in caught.value.problems)
    (tmp_path / "text.txt").write_text("{{ ticket.expires_at.year }}")
    with pytest.raises(InvalidSettings) as caught:
        Templates(tmp_path)
    assert any("nothing" in one.message for one in caught.value.problems)
    (tmp_path / "subject.txt").write_text("{{ ''.__class__.__mro__ }}")
    (tmp_path / "text.txt").write_text("fine")
    with pytest.raises(InvalidSettings, match=r"unsafe|cannot be filled in"):
        Templates(tmp_path)


@pytest.mark.parametrize("secret", ["", "swordfish", "whsec_c2hvcnQ="])
async def test_a_secret_that_is_none_is_refused_at_the_start(hook: Hook, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", secret)
    with pytest.raises(InvalidSettings, match="HOOK_SECRET") as caught:
        async with running("memory:", [by_hook(hook)]):
            pass
    assert not secret or secret not in str(caught.value)
