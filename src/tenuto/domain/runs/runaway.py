"""Runs that do not come to an end by themselves: too many steps, too many sub-flows, sub-flows of sub-flows for ever.

At a limit the breaker pauses the run before the step that would go beyond it begins; a person says what follows.
"""

from __future__ import annotations

from tenuto.domain.graph.limits import Most
from tenuto.domain.runs import breaker
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.draft import Draft
from tenuto.domain.runs.state import RunState

STEPS, CHILDREN, DEPTH = "steps", "children", "depth"


def may_step(d: Draft) -> bool:
    """Say whether one more step may begin; if not, the run is paused.

    What has begun is what is known and not ready: two lengths, for this is asked once a step. What a replay takes over does
    not begin.
    """
    begun = len(d.st.steps) - len(d.st.ready)
    return (begun < d.env.most.steps and begun < d.plan.most_steps) or _may_step(d, begun)


def _may_step(d: Draft, begun: int) -> bool:
    if d.st.fork is not None:
        if next(iter(d.st.ready)) in d.env.reuse:
            return True
        # As if all of it were taken over by now: to count what is would cost as many looks as there are steps, each time.
        begun = max(0, begun - len(d.env.reuse))
    limit = _most(d).steps
    if not breaker.is_over(d.st, STEPS, begun + 1, limit):
        return True
    breaker.trip(d, STEPS, begun, limit, f"the run has begun {begun:,} steps; at most {limit:,} are allowed at once")
    return False


def may_spawn(d: Draft) -> bool:
    """Say whether one more sub-flow may be started; if not, the run is paused, once for all that ask."""
    if breaker.open_for(d.st, CHILDREN) or breaker.open_for(d.st, DEPTH):
        return False
    most, children, below = _most(d), len(d.st.children), depth(d.st) + 1
    if breaker.is_over(d.st, CHILDREN, children + 1, most.children):
        message = f"the run has started {children:,} sub-flows; at most {most.children:,} are allowed at once"
        breaker.trip(d, CHILDREN, children, most.children, message)
        return False
    if below - deep_since(d.st) > most.depth:
        message = f"the run, {below - 1:,} runs deep, would start another; at most {most.depth:,} may stand below each other"
        breaker.trip(d, DEPTH, below - 1, most.depth, message)
        return False
    return True


def depth(st: RunState) -> int:
    """Return how many runs stand above a run."""
    return st.parent.depth if st.parent is not None else 0


def deep_since(st: RunState) -> int:
    """Return the depth from which it counts: that of the nearest run, this one or one above it, that was let go on."""
    above = st.parent.deep_since if st.parent is not None else 0
    return max(above, breaker.let_go_on(st, DEPTH))


def give_up(d: Draft, what: str, by: str, reason: str) -> None:
    """Fail a run that a person does not let go on; what is in flight is cancelled."""
    said = f": {reason}" if reason else ""
    message = f"the run reached its limit of {what}, and {by or 'somebody'} did not let it go on{said}"
    d.emit(ev.RunFailed(failure=ev.Failure(code=f"limit.{what}", type="RunAway", message=message, retryable=False)))


def _most(d: Draft) -> Most:
    return d.env.most.under(d.plan.definition.limits)
