"""How a worker works: the figures its owner may set."""

from __future__ import annotations

import msgspec

from tenuto.domain.graph.limits import Most
from tenuto.domain.overlays.terms import Terms
from tenuto.domain.routing import Routing
from tenuto.ports.cache import CacheOptions


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker works.

    Attributes:
        lease_ms: A worker silent for this long loses its runs.
        concurrency: Attempts whose code runs at once.
        max_runs: Runs owned at once.
        idle_s: Pause between polls when there is nothing to do.
        grace_s: On a graceful stop, how long attempts may finish.
        threads: Threads for steps written as plain functions.
        routing: Which models do what agents leave open.
        terms: On what terms the graph of a run may be patched.
        most: What a run may do before a person is asked whether it is to go on.
        cache: How results are kept where nodes do not say otherwise.
    """

    lease_ms: int = 10_000
    concurrency: int = 256
    max_runs: int = 2_000
    idle_s: float = 1.0
    grace_s: float = 30.0
    threads: int = 16
    routing: Routing = msgspec.field(default_factory=Routing)
    terms: Terms = Terms()
    most: Most = Most()
    cache: CacheOptions = CacheOptions()
