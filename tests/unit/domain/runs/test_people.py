"""Whose answers count, what several come to, and what becomes of answers to something else; on the bare core."""

from __future__ import annotations

from typing import Any

import pytest

from tenuto.domain.graph.people import Terms, term_problems, terms_of
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.check_steps import StepRules
from tenuto.domain.runs.events_tickets import Vote
from tenuto.domain.runs.people import body_of, outcome, refusal, shown_digest
from tests.unit.domain.runs.harness import Core


def asking(**terms: Any) -> Core:
    nodes = [{"id": "ok", "kind": "approval", "config": {"message": "Pay?", **terms}}, {"id": "b", "kind": "function",
             "config": {"handler": "b"}}]  # fmt: skip
    return Core({"nodes": nodes, "edges": [{"from": "ok", "to": "b"}]}).run()


def question(core: Core) -> str:
    (name,) = [name for name, ticket in core.st.tickets.items() if ticket.status == "open"]
    return name


def say(core: Core, by: str, decision: str = "approve", **rest: Any) -> Core:
    core.send(msg.Decision(ticket=question(core), decision=decision, by=by, **rest))
    return core.run()


def test_votes_are_journalled_and_the_last_one_decides():
    core = asking(quorum=2)
    say(core, "ada")
    assert (core.status, [vote.by for vote in core.st.tickets[question(core)].votes]) == ("running", ["ada"])
    say(core, "bob")
    assert core.status == "completed"
    assert [event.by for event in core.events(ev.TicketVoted)] == ["ada", "bob"]
    (decided,) = core.events(ev.TicketDecided)
    assert (decided.by, decided.decision) == ("bob", "approve")


def test_a_person_counts_once():
    core = asking(quorum=2)
    say(core, "ada")
    say(core, "ada")
    assert len(core.events(ev.TicketVoted)) == 1
    assert core.status == "running"


def test_an_answer_to_another_question_is_not_taken():
    """The run asks anew, so that whoever decided sees what they decide; the old ticket is closed."""
    core = asking()
    first = question(core)
    say(core, "ada", digest="sha256:" + "0" * 64)
    assert core.events(ev.TicketDecided) == []
    assert core.st.tickets[first].status == "closed"
    second = question(core)
    assert core.st.steps["ok"].wait.name == second  # type: ignore[union-attr]
    ticket = core.st.tickets[second]
    say(core, "ada", digest=shown_digest(ticket.kind, ticket.message, body_of(ticket.data, ticket.terms)))
    assert core.status == "completed"


def test_an_answer_by_somebody_else_is_not_taken():
    core = asking(approvers=["ada", "group:heads"])
    first = question(core)
    say(core, "bob")
    assert core.st.tickets[first].status == "closed"
    assert "not one of those" in core.events(ev.TicketClosed)[0].reason
    say(core, "eve", role="heads")
    assert core.status == "completed"


def test_others_are_asked_level_by_level():
    rule = {"escalate": ["bob"], "on_timeout": {"escalate": ["eve"], "timeout_s": 100, "on_timeout": "approve"}}
    core = asking(timeout_s=10, approvers=["ada"], on_timeout=rule)
    core.tick(10_000)
    second = core.st.tickets[question(core)]
    assert second.terms is not None
    assert (second.terms.approvers, second.expires_at - core.now) == (("bob",), 10_000)
    core.tick(9_999)
    assert core.st.tickets[question(core)] is second
    core.tick(1)
    third = core.st.tickets[question(core)]
    assert third.terms is not None
    assert (third.terms.approvers, third.expires_at - core.now) == (("eve",), 100_000)
    core.tick(100_000)
    assert core.status == "completed"
    assert [(event.decision, event.by) for event in core.events(ev.TicketDecided)] == [
        ("escalate", "timeout"), ("escalate", "timeout"), ("approve", "timeout"),
    ]  # fmt: skip


def test_whose_own_affair_it_is():
    own = Terms(requester="dan")
    assert "started the run" in refusal("approval", own, [], Vote("reject", "dan"))
    assert "proposed it" in refusal("patch", own, [], Vote("approve", "dan"))
    assert refusal("patch", own, [], Vote("reject", "dan")) == ""
    assert "say who decides" in refusal("approval", own, [], Vote("approve", ""))


def test_what_answers_come_to():
    terms = Terms(quorum=2, reject_quorum=2)
    votes = [Vote("approve", "ada"), Vote("reject", "bob")]
    assert outcome(terms, votes) == ""
    assert outcome(terms, [*votes, Vote("reject", "ada")]) == "reject"
    assert outcome(terms, [*votes, Vote("approve", "ada")]) == ""


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({"quorum": 0}, "/quorum"),
        ({"reject_quorum": True}, "/reject_quorum"),
        ({"approvers": ["ada", "bob"], "quorum": 3}, "/approvers"),
        ({"approvers": ["ada", "bob"], "quorum": 2, "reject_quorum": 2}, "/approvers"),
        ({"approvers": ["ada", "ada"]}, "/approvers/1"),
        ({"approvers": ["group:"]}, "/approvers/0"),
        ({"on_timeout": "approve"}, "/on_timeout"),
        ({"on_timeout": "aprove", "timeout_s": 1}, "/on_timeout"),
        ({"on_timeout": {"escalate": []}, "timeout_s": 1}, "/on_timeout"),
        ({"on_timeout": {"escalate": ["a"], "to": 1}, "timeout_s": 1}, "/on_timeout"),
        ({"on_timeout": {"escalate": ["a"], "quorum": 2}, "timeout_s": 1}, "/on_timeout/escalate"),
        ({"on_timeout": {"escalate": ["a"], "on_timeout": {"escalate": "b"}}, "timeout_s": 1}, "/on_timeout/on_timeout"),
        ({"schema": {"type": "objekt"}}, "/schema/type"),
    ],
)
def test_terms_that_make_no_sense_are_refused_with_their_place(config: dict[str, Any], place: str):
    assert [one.place for one in term_problems(config)] == [place]


def test_the_usual_terms_are_none():
    assert terms_of({"message": "?", "on_timeout": "reject"}) is None
    assert terms_of({"not_requester": True}, "dan") == Terms(requester="dan")


@pytest.mark.parametrize(
    ("events", "rule"),
    [
        ([ev.TicketVoted(ticket="t", step="ok", decision="approve", by="ada")] * 2, "I7.voted"),
        ([ev.TicketVoted(ticket="t", step="ok", decision="approve", by="dan")], "I7.voted"),
        ([ev.TicketDecided(ticket="t", decision="approve", by="ada")], "I7.quorum"),
        ([ev.TicketDecided(ticket="t", decision="reject", by="timeout"),
          ev.TicketVoted(ticket="t", step="ok", decision="approve", by="ada")], "I7.voted_late"),
    ],
)  # fmt: skip
def test_a_journal_in_which_answers_do_not_count_is_reported(events: list[Any], rule: str):
    found: list[str] = []
    rules = StepRules(lambda name, _: found.append(name))
    rules.event(ev.TicketOpened(ticket="t", kind="approval", step="ok", message="?", terms=Terms(quorum=2, requester="dan")), None)
    for event in events:
        rules.event(event, None)
    assert rule in found


def test_an_answer_sends_the_run_back_to_an_earlier_step():
    """The step runs again with the comment as guidance, the question is asked again, and the loop's limit holds."""
    nodes = [{"id": name, "kind": "function", "config": {"handler": name}} for name in ("draft", "edit", "send")]
    nodes.append({"id": "ok", "kind": "approval", "config": {"message": "Send?"}})
    edges = [
        {"from": "draft", "to": "edit"}, {"from": "edit", "to": "ok"}, {"from": "ok", "to": "send"},
        {"from": "ok", "to": "draft", "on": "pushed_back", "max_iterations": 2},
    ]  # fmt: skip
    core = Core({"nodes": nodes, "edges": edges}).run()
    terms = core.st.tickets[question(core)].terms
    assert terms is not None
    assert terms.push_back == ("draft",)
    say(core, "ada", "push_back", to="draft", reason="shorter")
    assert core.executed == ["draft~draft.1", "edit~draft.1", "draft~draft.2", "edit~draft.2"]
    assert core.st.steps["draft~draft.2"].guidance == "shorter"
    say(core, "ada")
    assert core.status == "completed"
    assert core.executed[-1] == "send"
    assert "draft~draft.3" not in core.st.steps
