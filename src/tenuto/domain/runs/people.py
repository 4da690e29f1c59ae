"""Who may answer a question, what several answers come to, and what an answer is bound to.

Services go by it before they take an answer, runs before they follow one: both come to the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from tenuto.domain.base.canonical import canonical_json
from tenuto.domain.graph.people import ANYBODY, GROUP, Escalate, Terms
from tenuto.domain.graph.schema import validate
from tenuto.domain.runs.events_tickets import Vote
from tenuto.errors import Problem

TERMS = "$terms"
"""Where a ticket's row keeps its terms, beside what the person is shown."""


def body_of(data: Mapping[str, Any], terms: Terms | None) -> bytes:
    """Return what a ticket's row keeps of a question: what is shown, and the terms."""
    return msgspec.json.encode({**data, TERMS: terms} if terms is not None else data)


def terms_in(body: Mapping[str, Any]) -> Terms:
    """Return the terms a ticket's row keeps."""
    found = body.get(TERMS)
    return msgspec.convert(found, Terms) if found is not None else ANYBODY


def shown_digest(kind: str, message: str, body: bytes) -> str:
    """Return the digest of a question as it is shown, which an answer to it carries."""
    shown = {"kind": kind, "message": message, "body": msgspec.json.decode(body or b"{}")}
    return "sha256:" + sha256(canonical_json(shown)).hexdigest()


def spoken_for(terms: Terms, by: str, members: Mapping[str, Sequence[str]]) -> str | None:
    """Return the group in whose name somebody may answer; empty for themselves, `None` when they may not at all."""
    if not terms.approvers or by in terms.approvers:
        return ""
    for name in terms.approvers:
        if name.startswith(GROUP) and by in members.get(name.removeprefix(GROUP), ()):
            return name.removeprefix(GROUP)
    return None


def refusal(kind: str, terms: Terms, votes: Sequence[Vote], vote: Vote) -> str:
    """Return why somebody's answer does not count; empty when it does.

    Whether a person belongs to the group they speak for is known to those who took the answer.
    """
    if not vote.by and (terms.approvers or terms.requester or terms.quorum > 1 or terms.reject_quorum > 1):
        return "this question is for certain people; say who decides"
    if terms.approvers and vote.by not in terms.approvers and GROUP + vote.role not in terms.approvers:
        return f"{vote.by!r} is not one of those who may decide: {', '.join(terms.approvers)}"
    if terms.requester and vote.by == terms.requester and not (kind == "patch" and vote.decision == "reject"):
        own = "proposed it" if kind == "patch" else "started the run"
        return f"{vote.by!r} {own} and may not decide it; somebody else has to"
    if vote.decision == "push_back" and vote.to not in terms.push_back:
        allowed = ", ".join(terms.push_back) or "no step"
        return f"it cannot be pushed back to {vote.to or '(no step named)'!r}; allowed: {allowed}"
    if any(one.by == vote.by for one in votes):
        return f"{vote.by!r} has answered already; the others that are needed have to be other people"
    return ""


def outcome(terms: Terms, votes: Sequence[Vote]) -> str:
    """Return what the answers so far come to: a decision, or nothing while more are needed."""
    for decision in dict.fromkeys(vote.decision for vote in votes):
        needed = {"approve": terms.quorum, "reject": terms.reject_quorum}.get(decision, 1)
        if len({vote.by for vote in votes if vote.decision == decision}) >= needed:
            return decision
    return ""


def misfits(terms: Terms, decision: str, data: Any) -> tuple[Problem, ...]:
    """Return everything in which the data of an approval differs from what the question asks for."""
    if terms.schema is None or decision != "approve":
        return ()
    return validate(terms.schema, data, "/data")


def escalated(terms: Terms, rule: Escalate) -> Terms:
    """Return the terms on which others are asked when nobody has decided in time."""
    return msgspec.structs.replace(
        terms, approvers=rule.escalate, quorum=rule.quorum, reject_quorum=1, timeout_s=rule.timeout_s or terms.timeout_s,
        on_timeout=rule.on_timeout,
    )
