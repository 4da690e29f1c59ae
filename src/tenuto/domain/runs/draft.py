"""A decision in the making: events are folded as they are written, so each next thought sees the last."""

from __future__ import annotations

from typing import Any

from tenuto.domain.budgets.escrow import Short
from tenuto.domain.graph.plan import Plan, PlanNode
from tenuto.domain.runs.events import Events, Failure, PatchApplied
from tenuto.domain.runs.fold import FOLDS
from tenuto.domain.runs.fold_patches import applied
from tenuto.domain.runs.inputs import Decision, Env, Recalled, Reply
from tenuto.domain.runs.state import RunState


class Draft:
    """One decision on one run at one moment. `emit` and `patch` are the only ways anything changes."""

    __slots__ = ("env", "failing", "out", "plan", "recalled", "releasing", "shorts", "st", "t", "ticking")

    def __init__(self, st: RunState, plan: Plan, t: int, env: Env):
        """Begin with nothing decided."""
        self.st = st
        self.plan = plan
        self.t = t
        self.env = env
        self.failing: Failure | None = None
        self.releasing = False
        self.ticking = False
        self.recalled: list[Recalled] | None = None
        self.shorts: dict[tuple[str, str], Short] | None = None
        self.out = Decision([], [], [], [], [], [], [], [], [], [], [])

    def emit(self, event: Events) -> None:
        """Write an event and let the state follow."""
        self.out.events.append(event)
        FOLDS[type(event)](self.st, self.plan, event, self.t)

    def patch(self, event: PatchApplied) -> None:
        """Write that the graph has changed; what follows is decided on the new one."""
        self.out.events.append(event)
        self.plan = self.out.plan = applied(self.st, self.plan, event, self.t)

    def store(self, digest: str, body: bytes) -> None:
        """Store a large value with the record; this very decision may read it too."""
        self.out.blobs.append((digest, body))
        self.env.hold(digest, body)

    def reply(self, token: Any, answer: Reply) -> None:
        """Answer a step's code once the record is durable."""
        self.out.replies.append((token, answer))

    def node(self, key: str) -> PlanNode:
        """Return the node a step executes."""
        return self.plan.node_of(key)
