"""On what terms people are asked, as an author gives them: who, how many, until when, and who next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import msgspec

from tenuto.domain.graph.reading import kind_of, pointer
from tenuto.domain.graph.schema import check_schema
from tenuto.errors import Problem

GROUP = "group:"
FIELDS = ("approvers", "quorum", "reject_quorum", "schema", "timeout_s", "on_timeout")


class Escalate(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Whom to ask next when nobody decides in time.

    Attributes:
        escalate: The people, and groups as `group:NAME`, who are asked then.
        timeout_s: How long they have; 0 is as long as those before them.
        quorum: How many of them have to approve.
        on_timeout: What follows when they do not decide in time either.
    """

    escalate: tuple[str, ...]
    timeout_s: float = 0
    quorum: int = 1
    on_timeout: Literal["approve", "reject"] | Escalate = "reject"


class Terms(msgspec.Struct, frozen=True, omit_defaults=True):
    """On what terms a question is answered.

    Attributes:
        approvers: People, and groups as `group:NAME`, who may answer; empty is everybody.
        quorum: How many distinct people have to approve.
        reject_quorum: How many distinct people have to reject.
        requester: Who may not approve, for it is their own affair; nor reject it, unless it is a patch they take back.
        schema: What the data that comes with an approval has to look like.
        timeout_s: How long each of those asked has.
        on_timeout: What follows when nobody decides in time.
        push_back: Earlier steps that an answer may send the run back to.
    """

    approvers: tuple[str, ...] = ()
    quorum: int = 1
    reject_quorum: int = 1
    requester: str = ""
    schema: dict[str, Any] | None = None
    timeout_s: float = 0
    on_timeout: Literal["approve", "reject"] | Escalate = "reject"
    push_back: tuple[str, ...] = ()


ANYBODY = Terms()


def terms_of(config: Mapping[str, Any], requester: str = "", push_back: Sequence[str] = ()) -> Terms | None:
    """Return the terms that an author gives a question; `None` when they are the usual ones.

    Raises:
        msgspec.ValidationError: `term_problems` would have found something.
    """
    given = {name: config[name] for name in FIELDS if config.get(name) is not None}
    own = requester if config.get("not_requester") else ""
    terms = msgspec.convert({**given, "requester": own, "push_back": tuple(push_back)}, Terms, strict=False)
    return None if terms == ANYBODY else terms


def term_problems(config: Mapping[str, Any], place: str = "") -> Iterator[Problem]:
    """Yield what is wrong with the terms an author gives a question, types of single fields apart."""
    approvers, quorum = config.get("approvers") or (), config.get("quorum", 1)
    against = config.get("reject_quorum", 1)
    for name, value in (("quorum", quorum), ("reject_quorum", against)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            yield _problem(pointer(place, name), f"{value!r} is not allowed; allowed: a whole number from 1", "range")
            return
    yield from _people(approvers, pointer(place, "approvers"), quorum, against)
    if config.get("schema") is not None:
        yield from check_schema(config["schema"], pointer(place, "schema"))
    if "on_timeout" in config and not config.get("timeout_s"):
        yield _problem(
            pointer(place, "on_timeout"), "'on_timeout' needs 'timeout_s'; without it the question stays open", "missing_field"
        )
    yield from _on_timeout(config.get("on_timeout", "reject"), pointer(place, "on_timeout"))


def _people(given: Any, place: str, quorum: int, against: int) -> Iterator[Problem]:
    if not isinstance(given, (list, tuple)):
        return
    names = [name for name in cast("list[Any]", given) if isinstance(name, str)]
    for at, name in enumerate(names):
        if not name.removeprefix(GROUP).strip():
            yield _problem(pointer(place, at), f"{name!r} names nobody; allowed: a name, or 'group:NAME'", "approvers")
        elif name in names[:at]:
            yield _problem(pointer(place, at), f"{name!r} is named twice", "approvers")
    if names and not any(name.startswith(GROUP) for name in names) and quorum + against > len(names) + 1:
        message = (
            f"{len(names)} people may not come to a decision: {quorum} have to approve or {against} to reject; "
            f"allowed: together at most {len(names) + 1}"
        )
        yield _problem(place, message, "quorum")


def _on_timeout(rule: Any, place: str) -> Iterator[Problem]:
    while rule not in ("approve", "reject"):
        if not isinstance(rule, dict):
            message = f"{kind_of(rule) if not isinstance(rule, str) else repr(rule)} is not allowed; allowed: approve, "
            yield _problem(place, message + "reject, or {\"escalate\": [\"NAME\", \"group:NAME\"]}", "on_timeout")
            return
        one = cast("dict[str, Any]", rule)
        try:
            level = msgspec.convert({**one, "on_timeout": "reject"}, Escalate)
        except msgspec.ValidationError as error:
            yield _problem(place, f"it is not a rule for whom to ask next: {error}", "on_timeout")
            return
        if not level.escalate or level.quorum < 1 or level.timeout_s < 0:
            message = "it needs people in 'escalate', a 'quorum' from 1 and a 'timeout_s' that is not negative"
            yield _problem(place, message, "on_timeout")
        yield from _people(list(level.escalate), pointer(place, "escalate"), level.quorum, 1)
        rule, place = one.get("on_timeout", "reject"), pointer(place, "on_timeout")


def _problem(place: str, message: str, code: str) -> Problem:
    return Problem(place, message, code=f"graph.{code}")
