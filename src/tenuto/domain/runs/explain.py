"""Why a run is not getting on: everything it waits for, since when, and who can move it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from tenuto.domain.graph.plan import Plan, split_key
from tenuto.domain.runs.present import blocked_keys, blocked_wait, step_status, wait_of
from tenuto.domain.runs.state import RunState, public_status
from tenuto.domain.runs.views import View, WaitView, instant
from tenuto.errors import Corrupt

WAITS_SHOWN = 100


class Explanation(View):
    """The answer to "why is nothing happening".

    Attributes:
        summary: One sentence for a person.
        owner: The worker that owns the run now.
        lease_until: When its lease ends unless it is renewed; past = the run is about to be taken over.
        waits: Everything waited for, the most pressing first; empty when the run has ended or is progressing.
        n_waits: How many there are; at most 100 are listed.
        running: Steps whose code runs just now.
    """

    id: str
    status: str
    summary: str
    since: datetime | None = None
    owner: str | None = None
    lease_until: datetime | None = None
    waits: list[WaitView] = []
    n_waits: int = 0
    running: list[str] = []


class Halt(msgspec.Struct, frozen=True, kw_only=True):
    """What stopped a run from beside its journal.

    Attributes:
        code: `journal.corrupt`, or `run.halted` when the engine itself failed.
        ticket: Id of the open question about it; empty when there is none.
        since: When the run was stopped, ms.
    """

    code: str
    message: str
    ticket: str = ""
    since: int = 0


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal does not say: who owns the run by its row, and who is alive.

    Attributes:
        now: The store's clock, ms.
        row_state: `ready`, `owned`, `waiting` or `done`.
        lease_until: Of the owner; 0 when it is gone.
        unread: Whether messages wait in the run's inbox.
        alive: Workers with a lease.
        missing: Handlers of the run's version that no live worker serves.
        children: Public status of child runs that are waited for.
        halt: Why the engine stopped the run, with the ticket that says so; `None` while it did not.
    """

    now: int
    row_state: str
    owner: str = ""
    lease_until: int = 0
    unread: bool = False
    alive: int = 0
    missing: tuple[str, ...] = ()
    children: Mapping[str, str] = {}
    halt: Halt | None = None


def halt_wait(run: str, halt: Halt) -> WaitView:
    """Return what a run that the engine stopped waits for: a person who mends the cause."""
    cure = (
        "restores its records from a backup" if halt.code == Corrupt.code
        else "has read the worker's log and mended the cause"
    )
    return WaitView(
        kind="integrity", name=halt.ticket, since=instant(halt.since), message=halt.message,
        who=f"whoever {cure}, then resumes the run with `tenuto run resume {run}`,",
    )


def explain_halt(run: str, halt: Halt) -> Explanation:
    """Say why a run is stopped whose state is not known or cannot be trusted."""
    wait = halt_wait(run, halt)
    ticket = f" (ticket {halt.ticket})" if halt.ticket else ""
    return Explanation(
        id=run, status="paused", since=wait.since, waits=[wait], n_waits=1,
        summary=f"The engine has stopped the run{ticket}: {_closed(halt.message)} {_capital(wait.who)} can move it.",
    )


def explain(st: RunState, plan: Plan, facts: Facts) -> Explanation:
    """Say what a run waits for; every run that has not ended gets at least one reason or a running step."""
    if facts.halt is not None:
        return explain_halt(st.id, facts.halt)
    found = Explanation(id=st.id, status=public_status(st), summary="")
    if facts.owner and facts.row_state == "owned":
        found.owner, found.lease_until = facts.owner, instant(facts.lease_until)
    if st.status in ("completed", "cancelled"):
        found.since = instant(st.finished_at)
        found.summary = f"The run is {st.status}; nothing can move it.{_from_cache(st)}"
        return found
    waits = _of_run(st, plan, facts)
    if st.status not in ("failed", "budget_exceeded"):
        for key, step in st.steps.items():
            wait = wait_of(st, plan, key, step)
            if wait is not None and wait.kind != "worker":
                waits.append(_with_child(wait, facts))
            elif step_status(step) == "running" and key not in st.maps:
                found.running.append(key)
        waits.extend(_ready(st, plan, facts, found))
        waits.extend(blocked_wait(st, plan, key) for key in blocked_keys(st, plan) if st.steps)
    found.n_waits, found.waits = len(waits), waits[:WAITS_SHOWN]
    for wait in found.waits:
        wait.title = plan.title(wait.step)
    found.since = min((wait.since for wait in waits if wait.since), default=instant(st.t))
    found.summary = _summary(found, plan, facts)
    return found


def _from_cache(st: RunState) -> str:
    """Say how much of a run was taken from the cache."""
    taken = [step.cache for step in st.steps.values() if step.cache is not None and step.cache.how in ("hit", "joined")]
    if not taken:
        return ""
    saved = sum(one.saved_ms for one in taken) / 1000
    steps = "1 step was" if len(taken) == 1 else f"{len(taken):,} steps were"
    return f" {steps} taken from the cache, which saved {saved:,.1f} s of work."


def _of_run(st: RunState, plan: Plan, facts: Facts) -> list[WaitView]:
    """Return what the run as a whole waits for."""
    waits: list[WaitView] = []
    if st.status == "paused":
        waits.append(WaitView(
            kind="paused", since=instant(st.held_at), who="anyone who may resume the run", message=st.reason,
        ))
    if st.status == "running" and "a" in st.timers:
        waits.append(WaitView(
            kind="retry", since=instant(st.t), until=instant(st.timers["a"]), name=st.dead[0] if st.dead else "",
            who="the clock, or anyone who retries the step", message=_cause(st),
        ))
    if st.status == "failed":
        waits.extend(_dead(st))
    if st.status == "budget_exceeded":
        cap = str(st.failure.details.get("cap", "")) if st.failure else ""
        waits.append(WaitView(
            kind="budget", name=cap, since=instant(st.finished_at), who="anyone who resumes the run with a raised cap",
            message=st.failure.message if st.failure else "",
        ))
    if st.status == "cancelling":
        waits.append(WaitView(
            kind="cancelling", since=instant(st.held_at), until=instant(st.timers.get("g", 0)),
            who="the attempts in flight as they end, or the clock", message=st.reason,
        ))
    waits.extend(_of_row(st, plan, facts))
    return waits


def _of_row(st: RunState, plan: Plan, facts: Facts) -> list[WaitView]:
    """Return what the run's ownership waits for."""
    if facts.row_state == "owned":
        if facts.lease_until > facts.now:
            return []
        return [WaitView(
            kind="worker", name=facts.owner, since=instant(facts.lease_until), who=_takers(facts),
            message=f"the lease of worker {facts.owner} has ended; the run is about to be taken over",
        )]
    if facts.row_state == "ready":
        if st.status == "queued" and st.start_at > facts.now:
            return [WaitView(
                kind="start_at", since=instant(st.created_at), until=instant(st.start_at), who="the clock",
                message="the run was asked to start later",
            )]
        return [_claim(st, facts)]
    if facts.row_state == "waiting" and facts.unread:
        return [WaitView(kind="message", since=instant(st.t), who=_takers(facts), message="a message waits to be read")]
    return []


def _claim(st: RunState, facts: Facts) -> WaitView:
    if facts.missing:
        names = ", ".join(repr(name) for name in facts.missing)
        return WaitView(
            kind="worker", name=facts.missing[0], since=instant(st.t), message=f"no live worker has {names}",
            who=f"a worker that serves {names}",
        )
    message = "waits to be claimed" if facts.alive else "no worker is running"
    return WaitView(kind="worker", since=instant(st.t), who=_takers(facts), message=message)


def _takers(facts: Facts) -> str:
    return f"any of {facts.alive} live workers" if facts.alive else "a worker, once one is started"


def _dead(st: RunState) -> list[WaitView]:
    waits: list[WaitView] = []
    for key in st.dead:
        failure = st.steps[key].failure
        waits.append(WaitView(
            kind="dead_letter", step=key, node=split_key(key)[0], since=instant(st.steps[key].finished_at),
            who="anyone who retries the step", message=failure.message if failure else "",
        ))
    if not waits:
        message = st.failure.message if st.failure else "the run failed"
        waits.append(WaitView(kind="failed", since=instant(st.finished_at), who="anyone who replays it", message=message))
    return waits


def _ready(st: RunState, plan: Plan, facts: Facts, found: Explanation) -> list[WaitView]:
    """Return the steps that could start but have not; while the run is owned they wait for room on its worker."""
    owned = facts.row_state == "owned" and facts.lease_until > facts.now
    if not owned or st.status != "running":
        return []
    waits: list[WaitView] = []
    for key in st.ready:
        node = split_key(key)[0]
        handler = str(plan.nodes[node].node.config.get("handler", ""))
        if handler and handler in facts.missing:
            message = f"no live worker has {handler!r}"
            waits.append(WaitView(kind="worker", step=key, node=node, name=handler, since=instant(st.steps[key].ready_at),
                                  who=f"a worker that serves {handler!r}", message=message))
        else:
            waits.append(WaitView(
                kind="concurrency", step=key, node=node, since=instant(st.steps[key].ready_at),
                who=f"worker {facts.owner}, once it has room", message="ready to start",
            ))
    return waits


def _with_child(wait: WaitView, facts: Facts) -> WaitView:
    status = facts.children.get(wait.name)
    if wait.kind == "child" and status:
        wait.message = f"that run is {status}"
    return wait


def _cause(st: RunState) -> str:
    failure = st.steps[st.dead[0]].failure if st.dead else None
    return f"step {st.dead[0]!r} failed: {failure.message}" if failure is not None else ""


HELD = frozenset({"paused", "cancelling"})
WORDS = {
    "predecessors": "{where} waits for other steps",
    "worker": "{where} waits for a worker",
    "concurrency": "{where} waits for room on its worker",
    "start_at": "{where} waits for its start time",
    "timer": "{where} waits for its moment",
    "signal": "{where} waits for signal {name!r}",
    "approval": "{where} waits for an approval, ticket {name}",
    "escalation": "{where} has failed and waits for a person's decision, ticket {name}",
    "review": "{where} waits for a person's judgement, ticket {name}",
    "unknown_outcome": "{where} waits for a person to say what became of it, ticket {name}",
    "child": "{where} waits for its child run {name}",
    "retry": "{where} waits for its next attempt",
    "funds": "{where} waits for room under a shared cap",
    "message": "{where} waits for a worker to read a message",
    "paused": "The run is paused",
    "cancelling": "The run is being cancelled",
    "dead_letter": "The run has failed at step {step}",
    "failed": "The run has failed",
    "budget": "The run has stopped at its cap on {name}",
}
"""What each kind of wait is called in the summary."""


def _summary(found: Explanation, plan: Plan, facts: Facts) -> str:
    first = found.waits[0] if found.waits else None
    lost = found.owner is not None and facts.lease_until <= facts.now
    held = first is not None and first.kind in HELD
    if found.running and not lost and not held:
        return _running(found, plan) + "."
    if first is None:
        return f"Worker {found.owner} is moving the run." if found.owner else "The run is about to be claimed."
    where = f"Step {first.title}" if first.step else "The run"
    what = WORDS[first.kind].format(where=where, name=first.name, step=first.title)
    until = f" until {first.until.isoformat(timespec='seconds')}" if first.until else ""
    said = f": {first.message}" if first.message and first.kind != "message" else ""
    comma = "," if "," in first.who else ""
    who = f" {_capital(first.who)}{comma} can move it." if first.who else ""
    still = f" Meanwhile {_running(found, plan)}." if held and found.running else ""
    return f"{_closed(what + until + said)}{still}{who}"


def _running(found: Explanation, plan: Plan) -> str:
    """Say which steps run, and where as far as it is known."""
    n = len(found.running)
    names = ", ".join(plan.title(key) for key in found.running[:3]) + (", …" if n > 3 else "")
    place = f"on worker {found.owner}" if found.owner else "in a process of a worker"
    return f"{n} step{'s run' if n > 1 else ' runs'} {place}: {names}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _closed(text: str) -> str:
    """Return a text as a sentence that has ended."""
    return text if text.endswith((".", "?", "!")) else f"{text}."
