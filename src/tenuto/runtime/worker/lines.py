"""What attempts want of the cache, and the lines in which they wait for it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from tenuto.domain.graph.caching import Caching, Group
from tenuto.domain.graph.plan import Plan
from tenuto.ports.cache import Place
from tenuto.runtime.worker.attempts import Attempt, Run


@dataclass(slots=True, eq=False)
class Asked:
    """What an attempt wants of the cache.

    Attributes:
        stamp: Of the look before it computes; a result is kept only if nothing was invalidated since.
        flight: The worker id under which it holds the flight; empty when it holds none.
        looked: Whether it was looked for already; found later, it was computed meanwhile.
    """

    place: Place
    policy: Caching
    reads: bool
    writes: bool
    stamp: str = ""
    flight: str = ""
    looked: bool = False


@dataclass(slots=True, eq=False)
class Growing:
    """A group whose head has computed and whose other members have not yet; they all are of one run.

    Attributes:
        spent: What members cost, by node, in millionths of a US dollar.
    """

    actor: Run
    plan: Plan
    group: Group
    scope: str
    asked: Asked
    spent: dict[str, int]


@dataclass(slots=True, eq=False)
class Line:
    """Attempts that want the result of one key; the one in the air, or the group that grows, is not in it."""

    waiting: deque[Attempt] = field(default_factory=deque[Attempt])
    flying: Attempt | Growing | None = None
