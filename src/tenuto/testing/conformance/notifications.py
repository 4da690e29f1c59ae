"""What people are to be told: planned once, kept until it was sent, one at a time in its lane."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from tenuto.ports.notifications import News, NotificationRow
from tenuto.ports.store import Store, TicketRow
from tenuto.testing.conformance import kit

HOUR_MS = 3_600_000
HOLD_MS = 60_000


def _ticket(run: str, name: str = "t", **more: Any) -> TicketRow:
    return msgspec.structs.replace(
        TicketRow(id=name, ns="default", run_id=run, step="s", kind="approval", message="Well?", created_at=1000), **more
    )


def _message(journal: kit.Journal, name: str, *, ticket: str = "t", lane: str = "l", body: bytes = b"{}") -> NotificationRow:
    return NotificationRow(
        id=name, ns="default", ticket=ticket, run_id=journal.id, asked=1000, event="opened", channel="c", lane=lane, body=body
    )


async def _asked(store: Store, **more: Any) -> kit.Journal:
    journal = await kit.owned(store, "w")
    await journal.write(store, journal.next(tickets=[_ticket(journal.id, **more)]))
    return journal


async def _news(store: Store, ahead_ms: int = 0) -> list[News]:
    return await store.ticket_news("default", ahead_ms=ahead_ms)


async def _planned(store: Store, *rows: NotificationRow) -> None:
    (news,) = await _news(store)
    assert await store.tell("default", news, news.next, rows)


async def _taken(store: Store, hold_ms: int = HOLD_MS) -> list[str]:
    return [row.id for row in await store.take_notifications("default", 10, hold_ms)]


class NotificationSuite:
    """What a store keeps of what people are to be told."""

    async def test_a_ticket_is_news_when_it_opens_and_when_it_ends(self, store: Store, second_store: Store) -> None:
        """Each once: what was planned is news no more, for any process, and what ended is never news again."""
        journal = await _asked(store)
        opened = News("t", 1000, "", "opened")
        assert await _news(store) == await _news(second_store) == [opened]
        assert await store.tell("default", opened, "opened", [])
        assert await _news(second_store) == []
        assert not await second_store.tell("default", opened, "opened", []), "somebody else has planned it"
        await store.decide_ticket("default", "t", b"{}", "k", b"1")
        assert await _news(store) == [News("t", 1000, "opened", "decided")]
        assert await store.tell("default", News("t", 1000, "opened", "decided"), "decided", [])
        await journal.write(store, journal.next(tickets=[_ticket(journal.id, state="decided", decided_at=5)], eaten=[1]))
        assert await _news(store) == []

    async def test_a_question_that_is_asked_anew_is_news_again(self, store: Store) -> None:
        """The id of a ticket stays; what was told of the former question says nothing of this one."""
        journal = await _asked(store)
        assert await store.tell("default", News("t", 1000, "", "opened"), "opened", [])
        await journal.write(store, journal.next(tickets=[_ticket(journal.id, created_at=2000)]))
        assert await _news(store) == [News("t", 2000, "", "opened")]
        assert not await store.tell("default", News("t", 1000, "", "opened"), "opened", [])
        await journal.write(store, journal.next(tickets=[_ticket(journal.id, created_at=2000)]))
        assert await _news(store) == [News("t", 2000, "", "opened")]

    async def test_a_ticket_that_ended_untold_is_told_of_as_it_is(self, store: Store) -> None:
        """Whoever plans sees that nothing was told before."""
        journal = await _asked(store)
        await journal.write(store, journal.next(tickets=[_ticket(journal.id, state="closed", decided_at=5)]))
        assert await _news(store) == [News("t", 1000, "", "closed")]

    async def test_an_open_ticket_is_about_to_expire_once(self, store: Store) -> None:
        """From `ahead_ms` before its time on, though never before three quarters of it are over."""
        now = await store.now()
        await _asked(store, created_at=now - 3 * HOUR_MS, expires_at=now + HOUR_MS // 2)
        (opened,) = await _news(store, HOUR_MS)
        assert opened.next == "opened"
        assert await store.tell("default", opened, "opened", [])
        assert await _news(store, HOUR_MS // 4) == []
        (news,) = await _news(store, HOUR_MS)
        assert (news.told, news.next) == ("opened", "expiring")
        assert await store.tell("default", news, "expiring", [])
        assert await _news(store, HOUR_MS) == []

    async def test_a_short_time_is_not_about_to_expire_from_its_beginning(self, store: Store) -> None:
        """A quarter of its time is left when people are told."""
        now = await store.now()
        await _asked(store, created_at=now, expires_at=now + HOUR_MS)
        assert await store.tell("default", (await _news(store))[0], "opened", [])
        assert await _news(store, 100 * HOUR_MS) == []

    async def test_a_message_goes_to_one_process_and_each_lane_in_order(self, store: Store, second_store: Store) -> None:
        """While the first of a lane is due, held or to be tried later, none behind it is sent; other lanes go on."""
        journal = await _asked(store)
        await _planned(
            store, _message(journal, "a1", lane="a"), _message(journal, "a2", lane="a"), _message(journal, "b1", lane="b")
        )
        first = await store.take_notifications("default", 10, HOLD_MS)
        assert [(row.id, row.attempts, row.state) for row in first] == [("a1", 1, "due"), ("b1", 1, "due")]
        assert await _taken(second_store) == []
        assert await store.settle_notification(first[0], "due", wait_ms=HOUR_MS, error="busy")
        assert await _taken(second_store) == [], "a lane waits for its first"
        kept = {row.id: row for row in await store.notifications("default")}
        assert (kept["a1"].error, kept["a1"].attempts) == ("busy", 1)
        assert await store.settle_notification(first[1], "sent")
        assert [row.id for row in await store.notifications("default", state="sent")] == ["b1"]

    async def test_the_next_of_a_lane_follows_what_was_sent_or_given_up(self, store: Store) -> None:
        """Giving one up does not hold up those behind it."""
        journal = await _asked(store)
        await _planned(store, *(_message(journal, name) for name in ("1", "2", "3")))
        for name, state in (("1", "sent"), ("2", "failed"), ("3", "sent")):
            (row,) = await store.take_notifications("default", 10, HOLD_MS)
            assert row.id == name
            assert await store.settle_notification(row, state, error="gone" if state == "failed" else "")  # type: ignore[arg-type]
        states = {row.id: (row.state, row.error, row.ended_at > 0) for row in await store.notifications("default")}
        assert states == {"1": ("sent", "", True), "2": ("failed", "gone", True), "3": ("sent", "", True)}
        assert (await store.stats())["failed_notifications"] == 1

    async def test_what_a_dead_process_held_is_sent_by_another(self, store: Store, second_store: Store) -> None:
        """After its time; should the first come back, what it says counts no more."""
        journal = await _asked(store)
        await _planned(store, _message(journal, "m"))
        (held,) = await store.take_notifications("default", 10, 0)
        (again,) = await second_store.take_notifications("default", 10, HOLD_MS)
        assert (again.id, again.attempts) == ("m", 2)
        assert not await store.settle_notification(held, "failed", error="late")
        assert await second_store.settle_notification(again, "sent")
        assert not await second_store.settle_notification(again, "failed")
        assert [(row.state, row.error) for row in await store.notifications("default")] == [("sent", "")]

    async def test_no_message_is_taken_twice_by_processes_that_ask_at_once(self, store: Store, second_store: Store) -> None:
        """Whoever loses gets another, or nothing."""
        journal = await _asked(store)
        await _planned(store, *(_message(journal, f"m{n}", lane=str(n)) for n in range(20)))
        taken = await asyncio.gather(*(
            (store, second_store)[n % 2].take_notifications("default", 3, HOLD_MS) for n in range(12)
        ))  # fmt: skip
        names = [row.id for rows in taken for row in rows]
        assert len(names) == len(set(names))
        names += await _taken(store)
        assert sorted(names) == sorted({f"m{n}" for n in range(20)})

    async def test_a_message_is_planned_once_under_its_id(self, store: Store) -> None:
        """A repeat changes nothing of what is kept."""
        journal = await _asked(store)
        await _planned(store, _message(journal, "m", body=b'{"to":"ada"}'))
        await store.decide_ticket("default", "t", b"{}", "k", b"1")
        await _planned(store, _message(journal, "m", body=b'{"to":"bob"}'))
        assert [row.body for row in await store.notifications("default")] == [b'{"to":"ada"}']

    async def test_a_message_can_be_sent_again(self, store: Store) -> None:
        """It begins anew, with all its tries; one that is due stays as it is."""
        journal = await _asked(store)
        await _planned(store, _message(journal, "m"))
        (row,) = await store.take_notifications("default", 10, HOLD_MS)
        held = await store.resend_notification("default", "m")
        assert held is not None and held.attempts == 1
        assert await _taken(store) == []
        await store.settle_notification(row, "failed", error="gone")
        again = await store.resend_notification("default", "m")
        assert again is not None
        assert (again.state, again.attempts, again.error, again.ended_at) == ("due", 0, "", 0)
        assert await _taken(store) == ["m"]
        assert await store.resend_notification("default", "nothing") is None

    async def test_messages_are_listed_newest_first(self, store: Store) -> None:
        """In pages, by state and by ticket."""
        journal = await _asked(store)
        await _planned(store, *(_message(journal, str(n), ticket="t" if n % 2 else "u") for n in range(5)))
        first = await store.notifications("default", limit=2)
        assert [row.id for row in first] == ["4", "3"]
        assert [row.id for row in await store.notifications("default", after="3")] == ["2", "1", "0"]
        assert [row.id for row in await store.notifications("default", ticket="t")] == ["3", "1"]
        assert await store.notifications("default", after="no such") == []
        assert await store.notifications("other") == await store.notifications("default", state="sent") == []

    async def test_messages_are_forgotten_with_their_run(self, store: Store) -> None:
        """A run that is deleted takes them with it."""
        journal = await _asked(store)
        await _planned(store, _message(journal, "m"))
        await journal.write(store, journal.change("done", finished_at=await store.now()))
        assert await store.delete_runs("default", run_id=journal.id) == 1
        assert await store.notifications("default") == []
        assert await _taken(store) == []
