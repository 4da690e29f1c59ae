"""Bugs in the core: effects lost or repeated, money given back, loops and timers confused."""

from __future__ import annotations

from typing import Any

import msgspec

from tenuto.domain.runs import events as ev
from tenuto.domain.runs import fold_calls
from tenuto.domain.runs.draft import Draft
from tenuto.domain.runs.fold import FOLDS
from tenuto.domain.runs.respond import RESPONSES
from tenuto.domain.runs.state import TERMINAL, RunState

RUNS = "tenuto.domain.runs."


def _nothing(_: Any) -> Any:
    def nothing(*_: Any, **__: Any) -> None:
        return None

    return nothing


def _no_conflicts(_: Any) -> Any:
    def none(*_: Any) -> list[Any]:
        return []

    return none


def _refunds(_: Any) -> Any:
    def unknown(st: RunState, plan: Any, event: Any, t: int) -> None:
        call = st.steps[event.step].calls[event.call]
        if call.status != "unknown":
            call.status = "unknown"
            fold_calls.settle(st, call.hold, None)
            call.hold = None

    return unknown


def _key_per_attempt(original: Any) -> Any:
    def key_of(d: Draft, key: str, call: str = "") -> str:
        return f"{original(d, key, call)}/{d.st.steps[key].attempt}"

    return key_of


def _joins_outlive_passes(original: Any) -> Any:
    def passed(st: RunState, plan: Any, scope: str, following: int, t: int) -> None:
        late = {key: join for key, join in st.joins.items() if key.endswith(scope)}
        original(st, plan, scope, following, t)
        if following > 0:
            after = scope.rpartition(".")[0] + f".{following}"
            for key, join in late.items():
                st.joins[key[: -len(scope)] + after] = msgspec.structs.replace(join)

    return passed


def _unrecorded_begin(_: Any) -> Any:
    def begin(d: Draft, key: str) -> None:
        event = ev.AttemptStarted(step=key, n=d.st.steps[key].attempt + 1)
        FOLDS[ev.AttemptStarted](d.st, d.plan, event, d.t)
        d.out.start.append(key)

    return begin


def _timer_stays(_: Any) -> Any:
    def end(st: RunState, step: str, call: str, kind: str, name: str) -> None:
        waiting = st.listeners.get(name, [])
        who = f"{step}|{call}" if call else step
        if kind == "signal" and who in waiting:
            waiting.remove(who)
            if not waiting:
                del st.listeners[name]

    return end


def _any_attempt(_: Any) -> Any:
    def current(d: Draft, step: str, n: int) -> Any:
        return d.st.steps.get(step)

    return current


def _answers_twice(_: Any) -> Any:
    def respond(d: Draft, inp: Any) -> None:
        d.out.eaten.append(inp.n)
        if inp.key not in d.out.keys:
            d.out.keys.append(inp.key)
        if d.st.status not in TERMINAL:
            RESPONSES[type(inp.message)](d, inp.message, inp.key)

    return respond


def _last_in_first_out(original: Any) -> Any:
    def deliver(d: Draft, name: str) -> None:
        line = d.st.signals.get(name)
        if line and len(line) > 1:
            line.insert(0, line.pop())
        original(d, name)

    return deliver


def _yes(_: Any) -> Any:
    def answer(*_: Any) -> bool:
        return True

    return answer


def _no(_: Any) -> Any:
    def answer(*_: Any) -> bool:
        return False

    return answer


def _waits_for_unknown(_: Any) -> Any:
    def suspended(step: Any) -> bool:
        calls = step.calls.values()
        return all(call.status != "open" for call in calls) and any(c.status in ("waiting", "unknown") for c in calls)

    return suspended


def _asks_once(original: Any) -> Any:
    def ticket_id(d: Draft, key: str, part: str) -> str:
        return original(d, key, "unknown" if part.startswith("unknown") else part)

    return ticket_id


def _restarts(_: Any) -> Any:
    def give_back(d: Draft) -> None:
        for key, step in list(d.st.steps.items()):
            if step.status == "running" and not step.task:
                d.emit(ev.AttemptInterrupted(step=key, n=step.attempt))
        d.releasing = False

    return give_back


CORE: tuple[Any, ...] = (
    ("lost_effect", "a new owner does not go on with what had begun", (RUNS + "decide:_take_up", _nothing)),
    (
        "refund_on_unknown", "the money of a lost call is given back",
        (RUNS + "fold:FOLDS.CallUnknown", _refunds),
    ),
    ("keeps_numbers", "edges keep their numbers when a patch moves them", (RUNS + "fold_patches:carry_over", _nothing)),
    ("patches_the_past", "a patch may touch what has begun", (RUNS + "patches:conflicts", _no_conflicts)),
    ("key_per_attempt", "the attempt is part of the key", (RUNS + "calls:idempotency_key", _key_per_attempt)),
    ("late_edge", "a join keeps its arrivals in the next pass", (RUNS + "fold_graph:pass_loop", _joins_outlive_passes)),
    (
        "begins_unrecorded", "an attempt begins without AttemptStarted",
        (RUNS + "failure:begin", _unrecorded_begin), (RUNS + "settle:begin", _unrecorded_begin),
        (RUNS + "respond:begin", _unrecorded_begin),
    ),
    ("timer_twice", "a timer that rang stays", (RUNS + "fold_calls:end_wait", _timer_stays)),
    ("settles_twice", "outcomes of attempts long over count", (RUNS + "calls:current", _any_attempt)),
    ("answers_twice", "a repeated message takes effect again", (RUNS + "decide:HANDLERS.Arrived", _answers_twice)),
    (
        "lifo", "the last signal is delivered first",
        (RUNS + "settle:deliver", _last_in_first_out), (RUNS + "respond:deliver", _last_in_first_out),
    ),
    ("retries_for_ever", "failures are never counted out", (RUNS + "failure:may_retry", _yes)),
    ("ignores_reuse", "a replay does everything anew", (RUNS + "settle:_take_over", _no)),
    (
        "waits_for_unknown", "a step whose calls were lost counts as waiting",
        (RUNS + "decide:suspended", _waits_for_unknown), ("tenuto.runtime.worker.actor:suspended", _waits_for_unknown),
    ),
    ("asks_once", "a lost outcome is asked about once only", (RUNS + "failure:ticket_id", _asks_once)),
    ("restarts", "a worker that shuts down begins what it gives back", (RUNS + "decide:_give_back", _restarts)),
    ("forgets_open_calls", "calls cut off with an attempt are forgotten", (RUNS + "failure:lose_calls", _nothing)),
)
