"""Messages, wake-ups and tickets: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from tenuto.domain.runs import wire
from tenuto.ports.store import Once, OutboxRow, RowChange, Store, TicketRow
from tenuto.testing.conformance import kit
from tenuto.testing.conformance.kit import Journal

SENT = 40


def _message(key: str, target: str | None = None) -> OutboxRow:
    return OutboxRow(ns="default", target=target or kit.new_id(), key=key, kind="send", body=b"{}")


def _ticket(run: str, ticket: str, created_at: int = 5, kind: str = "approval", ns: str = "default") -> TicketRow:
    return TicketRow(id=ticket, ns=ns, run_id=run, step="s", kind=kind, message="may I?", created_at=created_at)


async def _ended(store: Store, status: str, **row: Any) -> Journal:
    journal = await kit.owned(store, "w", **row)
    assert (await journal.write(store, journal.change("done", status=status))).row_applied
    return journal


class MessageSuite:
    """Inboxes, messages between runs, tickets."""

    async def test_messages_are_numbered_and_kept_in_order(self, store: Store) -> None:
        """Numbers are dense per run, and stay so after messages were consumed."""
        journal = await kit.owned(store, "w")
        for n in range(3):
            assert await store.send(journal.id, f"k{n}", b"%d" % n) == "accepted"
        assert [(m.n, m.key, m.body) for m in await store.inbox(journal.id)] == [
            (1, "k0", b"0"), (2, "k1", b"1"), (3, "k2", b"2")
        ]  # fmt: skip
        assert [m.n for m in await store.inbox(journal.id, 2)] == [3]
        await journal.write(store, journal.next(eaten=[1, 2, 3]))
        assert await store.inbox(journal.id) == []
        assert await store.send(journal.id, "k3", b"3") == "accepted"
        assert [m.n for m in await store.inbox(journal.id)] == [4]
        row = await store.get_run(journal.id)
        assert row is not None and row.inbox_seq == 4

    async def test_a_repeated_key_is_a_duplicate(self, store: Store, second_store: Store) -> None:
        """Of simultaneous sends with one key, one is accepted; the inbox holds one message."""
        journal = await kit.created(store)
        other = await kit.created(store)
        outcomes = await asyncio.gather(*(
            (store if n % 2 else second_store).send(journal.id, "k", b"{}") for n in range(8)
        ))  # fmt: skip
        assert sorted(outcomes) == ["accepted"] + ["duplicate"] * 7
        assert len(await store.inbox(journal.id)) == 1
        assert await store.send(other.id, "k", b"{}") == "accepted"

    async def test_an_idempotency_key_is_kept_with_its_answer(self, store: Store, second_store: Store) -> None:
        """One of many messages under a key is taken, also when it was read or its run has ended since."""
        journal = await kit.owned(store, "w")
        asked = [Once("default", "key", f"digest {n}", f"answer {n}") for n in range(8)]
        outcomes = await asyncio.gather(*(
            (store if n % 2 else second_store).send(journal.id, f"k{n}", b"{}", once=once) for n, once in enumerate(asked)
        ))  # fmt: skip
        assert sorted(outcomes) == ["accepted"] + ["duplicate"] * 7
        taken = asked[outcomes.index("accepted")]
        assert await store.answered("default", "key") == msgspec.structs.replace(taken, run=journal.id)
        assert await store.answered("other", "key") is None
        assert [m.key for m in await store.inbox(journal.id)] == [f"k{outcomes.index('accepted')}"]
        await journal.write(store, journal.next(eaten=[1]))
        assert await store.send(journal.id, "k9", b"{}", once=taken) == "duplicate"
        assert (await journal.write(store, journal.change("done", inbox_seen=1))).row_applied
        assert await store.send(journal.id, "k9", b"{}", once=taken) == "duplicate"
        new = Once("default", "another", "", "")
        assert await store.send(journal.id, "k9", b"{}", once=new) == "terminal"
        assert await store.send(kit.new_id(), "k9", b"{}", once=taken) in ("missing", "duplicate")
        assert await store.answered("default", "another") is None

    async def test_nobody_is_missing_and_the_ended_are_terminal(self, store: Store) -> None:
        """Unknown runs are `missing`, whatever the text; ended ones `terminal`, and nothing is stored."""
        assert await store.send(kit.new_id(), "k", b"{}") == "missing"
        assert await store.send("not an id", "k", b"{}") == "missing"
        assert await store.inbox("not an id") == []
        assert await store.get_run("not an id") is None
        journal = await _ended(store, "completed")
        assert await store.send(journal.id, "k", b"{}") == "terminal"
        assert await store.send(journal.id, "k", b"{}", reopens=True) == "terminal"
        assert await store.inbox(journal.id) == []

    async def test_only_stopped_runs_reopen(self, store: Store) -> None:
        """A message that reopens makes a failed or budget-stopped run ready; cancelled ones absorb."""
        for status in ("failed", "budget_exceeded"):
            journal = await _ended(store, status)
            assert await store.send(journal.id, "plain", b"{}") == "terminal"
            assert await store.send(journal.id, "redrive", b"{}", reopens=True) == "accepted"
            (claim,) = await store.claim("w", 10)
            assert (claim.run_id, claim.epoch, claim.inbox_seq) == (journal.id, journal.epoch + 1, 1)
        cancelled = await _ended(store, "cancelled")
        assert await store.send(cancelled.id, "redrive", b"{}", reopens=True) == "terminal"

    async def test_a_message_wakes_a_waiting_run(self, store: Store, second_store: Store) -> None:
        """A parked run is claimable as soon as a message is there."""
        journal = await kit.owned(store, "w")
        far = await store.now() + kit.FAR_AWAY_MS
        assert (await journal.write(store, journal.change("waiting", wake_at=far))).row_applied
        assert not (await store.poll("w")).claimable
        assert await second_store.send(journal.id, "k", b"{}") == "accepted"
        assert (await store.poll("w")).claimable
        (claim,) = await store.claim("w", 1)
        assert (claim.run_id, claim.inbox_seq) == (journal.id, 1)

    async def test_parking_is_left_out_when_a_message_came(self, store: Store) -> None:
        """The record stands, the owner keeps the run; having seen the message it can park."""
        journal = await kit.owned(store, "w")
        await store.send(journal.id, "k", b"{}")
        answer = await journal.write(store, journal.change("waiting", inbox_seen=0))
        assert (answer.outcome, answer.row_applied) == ("ok", False)
        row = await store.get_run(journal.id)
        assert row is not None and (row.state, row.worker) == ("owned", "w")
        assert (await journal.write(store, journal.change("done", inbox_seen=0))).row_applied is False
        assert (await journal.write(store, journal.change("waiting", inbox_seen=1))).row_applied

    async def test_answers_of_a_group_with_left_out_changes(self, store: Store) -> None:
        """Each commit of a group learns whether its own change was applied."""
        await kit.enlist(store, "w")
        journals = [await kit.created(store) for _ in range(4)]
        epochs = {claim.run_id: claim.epoch for claim in await store.claim("w", 10)}
        for journal in journals:
            journal.epoch = epochs[journal.id]
        await store.send(journals[1].id, "k", b"{}")
        await store.send(journals[3].id, "k", b"{}")
        answers = await store.commit([
            journals[0].change("waiting"), journals[1].change("waiting"), journals[2].next(),
            journals[3].change("waiting", inbox_seen=1),
        ])  # fmt: skip
        assert [(a.outcome, a.row_applied) for a in answers] == [
            ("ok", True), ("ok", False), ("ok", False), ("ok", True)
        ]  # fmt: skip

    async def test_a_record_of_time_waits_for_messages(self, store: Store, second_store: Store) -> None:
        """A record that follows from time alone is refused when a message came in; nothing of it is stored."""
        journal = await kit.owned(store, "w")
        quiet = await journal.write(store, journal.next(inbox_seen=0))
        assert quiet.outcome == "ok"
        await second_store.send(journal.id, "k", b"{}")
        late = journal.next(
            inbox_seen=0, row=RowChange(state="done", status="failed", inbox_seen=1), tickets=[_ticket(journal.id, "t")],
            blobs=[("sha256:x", b"x")], outbox=[_message("a")], eaten=[1],
        )  # fmt: skip
        answer = await journal.write(store, late)
        assert (answer.outcome, answer.row_applied) == ("moved", False)
        assert len(await store.records(journal.id)) == journal.seq
        assert await store.get_ticket("default", "t") is None
        assert await store.get_blobs(["sha256:x"]) == {}
        assert await store.outbox(10) == []
        assert len(await store.inbox(journal.id)) == 1
        row = await store.get_run(journal.id)
        assert row is not None and (row.state, row.worker) == ("owned", "w")
        seen = await journal.write(store, journal.next(inbox_seen=1, eaten=[1]))
        assert seen.outcome == "ok"

    async def test_a_record_of_time_sent_again_is_ours(self, store: Store) -> None:
        """Once stored, it stays stored whatever came in since; a zombie's is fenced, not told to look at its inbox."""
        journal = await kit.owned(store, "w")
        zombie = journal.twin()
        commit = journal.next(inbox_seen=0)
        await journal.write(store, commit)
        await store.send(journal.id, "k", b"{}")
        assert [answer.outcome for answer in await store.commit([commit])] == ["ok"]
        assert (await zombie.write(store, zombie.next(t=3, inbox_seen=0))).outcome == "fenced"
        mine = await kit.stolen(store, journal, "w2")
        journal.seq, journal.chain = mine.seq, mine.chain
        assert (await journal.write(store, journal.next(inbox_seen=0))).outcome == "fenced"
        assert (await mine.write(store, mine.next(inbox_seen=0))).outcome == "moved"
        assert (await mine.write(store, mine.next(inbox_seen=1))).outcome == "ok"

    async def test_a_refused_record_of_time_harms_no_neighbour(self, store: Store) -> None:
        """In a large group, beside creations, fenced and guilty commits, each gets its own answer."""
        await kit.enlist(store, "w")
        journals = [await kit.created(store) for _ in range(40)]
        epochs = {claim.run_id: claim.epoch for claim in await store.claim("w", 100)}
        for journal in journals:
            journal.epoch = epochs[journal.id]
        for journal in journals[::4]:
            await store.send(journal.id, "k", b"{}")
        commits = [journal.next(inbox_seen=0) for journal in journals]
        born, guilty = Journal(), Journal()
        assert [a.outcome for a in await store.commit([*commits, born.creation()])] == [
            "ok" if n % 4 else "moved" for n in range(40)
        ] + ["ok"]  # fmt: skip
        zombie = journals[1].twin()
        for n, journal in enumerate(journals):
            if n % 4:
                journal.took(commits[n])
        bad = guilty.creation()
        bad.record = wire.Record(1, 0, None, b"c" * 32)  # type: ignore[arg-type]
        answers = await store.commit([
            journals[0].next(inbox_seen=0), journals[3].change("waiting"), bad, Journal(run_id=zombie.id).next(inbox_seen=0),
            journals[4].next(inbox_seen=1), journals[5].next(inbox_seen=0, eaten=[9]),
        ])  # fmt: skip
        assert [answer.outcome for answer in answers] == ["moved", "ok", "poison", "fenced", "ok", "ok"]
        assert answers[1].row_applied

    async def test_no_message_slips_under_a_record_of_time(self, store: Store, second_store: Store) -> None:
        """A sender races with records of time: once a message was accepted, none is stored before it was read."""
        journal = await kit.owned(store, "w")
        written: list[int] = []
        read: list[int] = []

        async def send() -> None:
            for n in range(SENT):
                assert await second_store.send(journal.id, f"m{n}", b"{}") == "accepted"
                written.append(len(await second_store.records(journal.id)))

        sending = asyncio.create_task(send())
        while len(read) < SENT:
            answer = await journal.write(store, journal.next(inbox_seen=len(read)))
            if answer.outcome == "moved":
                read += [journal.seq] * len(await store.inbox(journal.id, len(read)))
            else:
                assert answer.outcome == "ok"
            await asyncio.sleep(0)
        await sending
        assert all(seq <= most for seq, most in zip(read, written, strict=True))

    async def test_messages_between_runs_are_delivered_at_least_once(
        self, store: Store, second_store: Store
    ) -> None:
        """An undelivered message is shown to one process at a time, oldest first, until it is delivered."""
        journal = await kit.created(store)
        await journal.write(store, journal.next(outbox=[_message("a"), _message("b"), _message("c")]))
        assert (await store.poll("w")).outbox
        mine = await store.outbox(2)
        assert [row.key for row in mine] == ["a", "b"]
        assert len({row.id for row in mine}) == 2
        theirs = await second_store.outbox(10)
        assert [row.key for row in theirs] == ["c"]
        assert [row.key for row in await store.outbox(10)] == ["a", "b"]
        await store.delivered([row.id for row in mine])
        await second_store.delivered([row.id for row in theirs])
        await store.delivered([])
        assert await store.outbox(10) == []
        assert not (await store.poll("w")).outbox

    async def test_a_message_keeps_what_it_carries(self, store: Store) -> None:
        """Target, namespace, kind and body arrive as written, for targets that are no runs yet too."""
        journal = await kit.created(store)
        row = OutboxRow(ns="team", target="any text", key="k", kind="create", body=b"\x00\xff")
        await journal.write(store, journal.next(outbox=[row]))
        (found,) = await store.outbox(1)
        assert (found.ns, found.target, found.key, found.kind, found.body) == (
            "team", "any text", "k", "create", b"\x00\xff"
        )  # fmt: skip

    async def test_one_of_many_decisions_counts(self, store: Store, second_store: Store) -> None:
        """Simultaneous decisions all learn the one that won; its message arrives exactly once and wakes the run."""
        journal = await kit.owned(store, "w")
        commit = journal.change("waiting")
        commit.tickets = [_ticket(journal.id, "t")]
        assert (await journal.write(store, commit)).row_applied
        rows = await asyncio.gather(*(
            (store if n % 2 else second_store).decide_ticket("default", "t", b"answer %d" % n, f"k{n}", b"%d" % n)
            for n in range(8)
        ))  # fmt: skip
        answers = {row.answer for row in rows if row is not None}
        assert len(rows) == 8 and len(answers) == 1
        (message,) = await store.inbox(journal.id)
        assert answers == {b"answer " + message.body}
        stored = await store.get_ticket("default", "t")
        assert stored is not None and stored.state == "decided" and stored.answer in answers
        assert stored.decided_at > 0
        assert kit.ids(await store.claim("w", 1)) == [journal.id]

    async def test_closed_and_unknown_tickets_send_nothing(self, store: Store) -> None:
        """A ticket closed by its run stays closed; one that is not there, or in another namespace, is `None`."""
        journal = await kit.owned(store, "w")
        await journal.write(store, journal.next(tickets=[_ticket(journal.id, "t")]))
        closed = _ticket(journal.id, "t")
        closed.state, closed.decided_at = "closed", 9
        await journal.write(store, journal.next(tickets=[closed]))
        found = await store.decide_ticket("default", "t", b"yes", "k", b"{}")
        assert found is not None and (found.state, found.answer, found.message) == ("closed", b"", "may I?")
        assert await store.inbox(journal.id) == []
        assert await store.decide_ticket("default", "none", b"yes", "k", b"{}") is None
        assert await store.decide_ticket("other", "t", b"yes", "k", b"{}") is None
        assert await store.get_ticket("other", "t") is None

    async def test_a_decision_does_not_wake_the_ended(self, store: Store) -> None:
        """A ticket that outlived its run can be decided; the run gets no message and stays as it is."""
        journal = await kit.owned(store, "w")
        commit = journal.change("done", status="failed")
        commit.tickets = [_ticket(journal.id, "t")]
        await journal.write(store, commit)
        decided = await store.decide_ticket("default", "t", b"yes", "k", b"{}")
        assert decided is not None and decided.state == "decided"
        assert await store.inbox(journal.id) == []
        assert await store.claim("w", 1) == []

    async def test_the_first_answer_of_a_ticket_is_kept(self, store: Store) -> None:
        """The run's own record of a decision changes neither the answer nor its time."""
        journal = await kit.owned(store, "w")
        await journal.write(store, journal.next(tickets=[_ticket(journal.id, "t")]))
        decided = await store.decide_ticket("default", "t", b"yes", "k", b"{}")
        assert decided is not None
        recorded = _ticket(journal.id, "t")
        recorded.state, recorded.answer, recorded.decided_at = "decided", b"by record", 9
        await journal.write(store, journal.next(tickets=[recorded], eaten=[1]))
        assert await store.get_ticket("default", "t") == decided

    async def test_a_closed_ticket_opens_again(self, store: Store) -> None:
        """A run that asks anew (a dead letter dead again, an approval asked for again) is listed with what it asks now."""
        journal = await kit.owned(store, "w")
        both = [_ticket(journal.id, "d", kind="dead_letter"), _ticket(journal.id, "t")]
        await journal.write(store, journal.next(tickets=both))
        for ticket in both:
            ticket.state, ticket.decided_at = "closed", 7
        await journal.write(store, journal.next(tickets=both))
        again = [_ticket(journal.id, "d", 9, kind="dead_letter"), _ticket(journal.id, "t", 9)]
        again[0].message = again[1].message = "once more"
        await journal.write(store, journal.next(tickets=again))
        assert [await store.get_ticket("default", name) for name in ("d", "t")] == again
        assert {row.id for row in await store.tickets("default", state="open")} == {"d", "t"}
        decided = await store.decide_ticket("default", "t", b"yes", "k", b"{}")
        assert decided is not None and (decided.state, decided.answer) == ("decided", b"yes")
        assert [message.key for message in await store.inbox(journal.id)] == ["k"]

    async def test_an_answered_ticket_opens_again_once_its_run_has_heard(self, store: Store) -> None:
        """Asked again after its answer was consumed, a ticket is open and without the old answer."""
        journal = await kit.owned(store, "w")
        await journal.write(store, journal.next(tickets=[_ticket(journal.id, "t")]))
        await store.decide_ticket("default", "t", b"yes", "k1", b"{}")
        heard = _ticket(journal.id, "t")
        heard.state, heard.answer, heard.decided_at = "decided", b"yes", 7
        await journal.write(store, journal.next(tickets=[heard], eaten=[1]))
        again = _ticket(journal.id, "t", 9)
        again.message = "once more?"
        await journal.write(store, journal.next(tickets=[again]))
        assert await store.get_ticket("default", "t") == again
        decided = await store.decide_ticket("default", "t", b"no", "k2", b"{}")
        assert decided is not None and (decided.state, decided.answer, decided.message) == ("decided", b"no", "once more?")
        assert [message.key for message in await store.inbox(journal.id)] == ["k2"]

    async def test_an_answer_on_its_way_is_never_lost(self, store: Store, second_store: Store) -> None:
        """A record that asks again, written before the run has heard the answer, leaves it; so does the same record again."""
        journal = await kit.owned(store, "w")
        await journal.write(store, journal.next(tickets=[_ticket(journal.id, "t")]))
        decided = await second_store.decide_ticket("default", "t", b"yes", "k", b"{}")
        late = journal.next(tickets=[_ticket(journal.id, "t", 9)])
        await journal.write(store, late)
        assert await store.get_ticket("default", "t") == decided
        assert (await store.commit([late]))[0].outcome == "ok"
        assert await store.get_ticket("default", "t") == decided
        assert await second_store.decide_ticket("default", "t", b"no", "k2", b"{}") == decided
        assert [message.key for message in await store.inbox(journal.id)] == ["k"]

    async def test_of_repeated_tickets_the_last_counts(self, store: Store) -> None:
        """A record that closes a ticket and asks again under its id leaves it open, unless it was answered meanwhile."""
        journal = await kit.owned(store, "w")
        for name in ("asked", "answered"):
            await journal.write(store, journal.next(tickets=[_ticket(journal.id, name)]))
        await store.decide_ticket("default", "answered", b"yes", "k", b"{}")
        rows: list[TicketRow] = []
        for name in ("asked", "answered"):
            closed, again = _ticket(journal.id, name), _ticket(journal.id, name, 9)
            closed.state, closed.decided_at = "closed", 8
            rows += [closed, again]
        await journal.write(store, journal.next(tickets=rows))
        states = {row.id: (row.state, row.answer, row.created_at) for row in await store.tickets("default")}
        assert states == {"asked": ("open", b"", 9), "answered": ("decided", b"yes", 5)}

    async def test_a_ticket_gathers_answers(self, store: Store, second_store: Store) -> None:
        """Answers that do not decide leave it open; each is for a number of earlier ones, and has a message of its own."""
        journal = await kit.owned(store, "w")
        commit = journal.change("waiting")
        commit.tickets = [_ticket(journal.id, "t")]
        assert (await journal.write(store, commit)).row_applied
        first = await store.decide_ticket("default", "t", b"a", "k", b"1", closes=False)
        assert first is not None
        assert (first.state, first.answer, first.votes, first.decided_at) == ("open", b"a", 1, 0)
        late = await second_store.decide_ticket("default", "t", b"b", "k1", b"2", closes=False)
        assert late == first
        both = await asyncio.gather(
            store.decide_ticket("default", "t", b"ab", "k2", b"2", votes=1, closes=False),
            second_store.decide_ticket("default", "t", b"ac", "k2", b"3", votes=1),
        )
        won = both[0]
        assert won == both[1]
        assert won is not None
        assert won.votes == 2
        assert won == await store.get_ticket("default", "t")
        assert [(message.key, message.body) for message in await store.inbox(journal.id)] == [
            ("k", b"1"), ("k2", b"2" if won.answer == b"ab" else b"3"),
        ]  # fmt: skip
        assert kit.ids(await store.claim("w", 1)) == [journal.id]

    async def test_what_ends_a_question_replaces_the_answers_so_far(self, store: Store) -> None:
        """A record that decides or closes an open ticket counts; asked anew, the ticket has no answers."""
        journal = await kit.owned(store, "w")
        await journal.write(store, journal.next(tickets=[_ticket(journal.id, "t")]))
        await store.decide_ticket("default", "t", b"a", "k", b"1", closes=False)
        recorded = _ticket(journal.id, "t")
        recorded.state, recorded.answer, recorded.decided_at = "decided", b"by time", 9
        await journal.write(store, journal.next(tickets=[recorded], eaten=[1]))
        found = await store.get_ticket("default", "t")
        assert found is not None
        assert (found.state, found.answer, found.votes) == ("decided", b"by time", 1)
        await journal.write(store, journal.next(tickets=[_ticket(journal.id, "t", 9)]))
        assert await store.get_ticket("default", "t") == _ticket(journal.id, "t", 9)

    async def test_tickets_are_listed_newest_first(self, store: Store) -> None:
        """Filters and pages show each ticket once."""
        journal, other = await kit.created(store), await kit.created(store)
        tickets = [_ticket(journal.id, f"t{n}", created_at=n) for n in range(5)]
        await journal.write(store, journal.next(tickets=[*tickets, _ticket(journal.id, "elsewhere", 9, ns="other")]))
        await other.write(store, other.next(tickets=[_ticket(other.id, "d", 9, kind="dead_letter")]))
        await store.decide_ticket("default", "t1", b"yes", "k", b"{}")
        assert [row.id for row in await store.tickets("default")] == ["d", "t4", "t3", "t2", "t1", "t0"]
        assert [row.id for row in await store.tickets("default", state="decided")] == ["t1"]
        assert [row.id for row in await store.tickets("default", kind="dead_letter")] == ["d"]
        assert [row.id for row in await store.tickets("default", run_id=other.id)] == ["d"]
        assert [row.id for row in await store.tickets("other")] == ["elsewhere"]
        page = await store.tickets("default", kind="approval", limit=2)
        rest = await store.tickets("default", kind="approval", after=page[-1].id)
        assert [row.id for row in [*page, *rest]] == ["t4", "t3", "t2", "t1", "t0"]
