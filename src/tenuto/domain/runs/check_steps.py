"""Invariants of steps and calls: one accepted outcome each, begun before it ends, nothing repeated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tenuto.domain.graph.model import Node
from tenuto.domain.graph.people import ANYBODY, Terms
from tenuto.domain.graph.plan import Plan, split_key
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.events_tickets import Vote
from tenuto.domain.runs.people import outcome, refusal

OUTCOMES = (
    ev.StepCompleted, ev.StepReused, ev.StepFailed, ev.StepDeadLettered, ev.StepSkipped, ev.StepCancelled,
)
_CODE_KINDS = frozenset({"function", "agent", "http"})
_GOOD = frozenset({"StepCompleted", "StepReused", "StepSkipped"})
Report = Callable[[str, str], None]
CallId = tuple[str, str]


def _is_harmless(node: Node) -> bool:
    """Say whether a first attempt may begin without a record at fidelity `fast`."""
    return node.effect != "effect" and node.isolation == "inline"


class StepRules:
    """I5 and the parts of I7 that concern waits and tickets, event by event."""

    def __init__(self, report: Report) -> None:
        """Report broken rules as `(rule, message)`."""
        self._report = report
        self._outcome: dict[str, str] = {}
        self._attempts: dict[str, int] = {}
        self._begun: set[tuple[str, int]] = set()
        self._stopped: set[str] = set()
        self._cut_short: set[str] = set()
        self._calls: dict[CallId, str] = {}
        self._waits: dict[CallId, bool] = {}
        self._answered: set[str] = set()
        self._asked: dict[str, tuple[str, Terms, list[Vote]]] = {}
        self._begun_items: dict[str, int] = {}
        self._fast = False

    def event(self, event: ev.Event, plan: Plan | None) -> None:
        """Check one event in its order."""
        if isinstance(event, ev.RunCreated):
            self._fast = event.fidelity == "fast" and event.fork is None
        elif isinstance(event, OUTCOMES):
            self._ends(event, plan)
        elif isinstance(event, ev.AttemptStarted):
            self._begins(event)
        elif isinstance(event, ev.AttemptFailed | ev.AttemptLost | ev.AttemptInterrupted):
            self._breaks(event)
        elif isinstance(event, ev.StepRedriven):
            self._again(event)
        elif isinstance(event, ev.ItemStarted):
            self._items(event)
        elif isinstance(event, ev.RunReopened):
            for step in self._stopped:
                self._outcome.pop(step, None)
            self._cut_short |= self._stopped
            self._stopped.clear()
        elif isinstance(event, ev.TicketOpened):
            self._asked[event.ticket] = (event.kind, event.terms or ANYBODY, [])
        elif isinstance(event, ev.TicketVoted):
            self._voted(event)
        elif isinstance(event, ev.TicketDecided):
            self._decided(event)
        else:
            self._call(event)

    def _voted(self, event: ev.TicketVoted) -> None:
        vote = Vote(decision=event.decision, by=event.by, role=event.role, to=event.to)
        kind, terms, votes = self._asked[event.ticket]
        if event.ticket in self._answered:
            self._report("I7.voted_late", f"ticket {event.ticket} was decided when {event.by} answered it")
        if why := refusal(kind, terms, votes, vote):
            self._report("I7.voted", f"ticket {event.ticket}: {why}")
        votes.append(vote)

    def _decided(self, event: ev.TicketDecided) -> None:
        if event.ticket in self._answered:
            self._report("I7.decided_twice", f"ticket {event.ticket} was decided twice")
        self._answered.add(event.ticket)
        kind, terms, votes = self._asked.get(event.ticket, ("", ANYBODY, []))
        if event.by == "timeout":
            return
        vote = Vote(decision=event.decision, by=event.by, role=event.role, to=event.to)
        if terms.quorum == terms.reject_quorum == 1:
            if why := refusal(kind, terms, votes, vote):
                self._report("I7.decided", f"ticket {event.ticket}: {why}")
        elif outcome(terms, votes) != event.decision:
            self._report("I7.quorum", f"ticket {event.ticket} was decided {event.decision} by {len(votes)} answers")

    def _ends(self, event: Any, plan: Plan | None) -> None:
        step: str = event.step
        before = self._outcome.get(step)
        name = type(event).__name__
        taken_back = before in ("StepCompleted", "StepReused") and isinstance(event, ev.StepDeadLettered)
        if before is not None and not taken_back:
            self._report("I5.second_outcome", f"step {step!r}: {name} after {before}")
        self._outcome[step] = name
        if isinstance(event, ev.StepCancelled) and event.reason == "stopped":
            self._stopped.add(step)
        if isinstance(event, ev.StepCompleted) and plan is not None:
            node = plan.nodes.get(split_key(step)[0])
            runs_code = node is not None and node.node.kind in _CODE_KINDS
            if runs_code and node is not None and self._fast and event.n == 1 and _is_harmless(node.node):
                return
            if runs_code and (step, event.n) not in self._begun:
                self._report("I5.not_begun", f"step {step!r}: attempt {event.n} completed but never began")

    def _begins(self, event: ev.AttemptStarted) -> None:
        before = self._outcome.get(event.step)
        if before is not None:
            self._report("I5.after_outcome", f"step {event.step!r}: attempt {event.n} began after {before}")
        last = self._attempts.get(event.step, 0)
        if event.n < last:
            self._report("I5.attempt_order", f"step {event.step!r}: attempt {event.n} began after attempt {last}")
        self._attempts[event.step] = event.n
        self._begun.add((event.step, event.n))

    def _breaks(self, event: ev.AttemptFailed | ev.AttemptLost | ev.AttemptInterrupted) -> None:
        before = self._outcome.get(event.step)
        if before is not None:
            self._report("I5.after_outcome", f"step {event.step!r}: {type(event).__name__} after {before}")

    def _again(self, event: ev.StepRedriven) -> None:
        self._outcome.pop(event.step, None)
        self._stopped.discard(event.step)
        if event.fresh:
            node, scope = split_key(event.step)
            items = f"{scope}~{node}."
            for known in (self._calls, self._waits):
                for call in [call for call in known if call[0] == event.step or items in call[0]]:
                    del known[call]

    def _items(self, event: ev.ItemStarted) -> None:
        """An item that begins anew may end anew, unless it was done."""
        begun = self._begun_items.get(event.step, 0)
        self._begun_items[event.step] = max(begun, event.last + 1)
        if event.first >= begun:
            return
        node, scope = split_key(event.step)
        for index in range(event.first, min(event.last + 1, begun)):
            inside = f"{scope}~{node}.{index}"
            found = [step for step in self._outcome if _within(split_key(step)[1], inside)]
            cut_short = {step for step in self._cut_short if _within(split_key(step)[1], inside)}
            self._cut_short -= cut_short
            if not cut_short and all(self._outcome[step] in _GOOD for step in found):
                self._report("I5.item_repeated", f"item {index} of {event.step!r} was done and begins again")
            for step in found:
                del self._outcome[step]
                self._stopped.discard(step)

    def _call(self, event: ev.Event) -> None:
        if isinstance(event, ev.CallIntended):
            self._intends(event)
        elif isinstance(event, ev.ChildStarted):
            self._calls[event.step, "child"] = "open"
        elif isinstance(event, ev.CallCompleted):
            self._completes(event)
        elif isinstance(event, ev.CallFailed) and event.final:
            self._calls[event.step, event.call] = "done"
        elif isinstance(event, ev.CallFailed):
            self._calls.pop((event.step, event.call), None)
        elif isinstance(event, ev.CallUnknown):
            self._calls[event.step, event.call] = "unknown"
        elif isinstance(event, ev.CallResolved):
            if event.resolution == "succeeded":
                self._calls[event.step, event.call] = "done"
            else:
                self._calls.pop((event.step, event.call), None)
        elif isinstance(event, ev.WaitStarted) and event.call:
            self._waits[event.step, event.call] = False
        elif isinstance(event, ev.WaitEnded):
            if self._waits.get((event.step, event.call), True):
                self._report("I7.woken_twice", f"step {event.step!r}: the wait {event.call!r} ended twice")
            self._waits[event.step, event.call] = True

    def _intends(self, event: ev.CallIntended) -> None:
        at = (event.step, event.call)
        if self._calls.get(at) == "done":
            self._report("I5.call_repeated", f"step {event.step!r}: the finished call {event.call!r} is made again")
        self._calls[at] = "open"

    def _completes(self, event: ev.CallCompleted) -> None:
        at = (event.step, event.call)
        known = self._calls.get(at)
        if known == "done":
            self._report("I5.call_repeated", f"step {event.step!r}: the call {event.call!r} has two results")
        if known is None and event.used is not None:
            self._report("I5.no_intent", f"step {event.step!r}: the call {event.call!r} was charged without an intent")
        self._calls[at] = "done"


def _within(scope: str, item: str) -> bool:
    return scope == item or scope.startswith(item + "~")
