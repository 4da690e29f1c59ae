"""Which peers take part, in which environment, on which store, and how much work each is given.

A size is chosen so that a measured stretch lasts seconds: a fast peer gets more of the same work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.peer import Store

WORKS: Mapping[str, str] = {
    "W1": "runs of 3 sequential steps",
    "W2": "hop latency of one run alone",
    "W3": "fan-out and join",
    "W4": "growth of one long run",
    "W5": "memory of parked runs",
    "W6": "claim of a cold backlog",
    "W7": "runs started over HTTP",
}

QUICK: Mapping[str, int] = {"W1": 60, "W2": 1, "W3": 100, "W4": 200, "W5": 100, "W6": 60, "W7": 60}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One peer on one store. `sizes` maps a work to the sizes it is run at; a work left out is not run."""

    name: str
    module: str
    environment: str
    store: Store
    sizes: Mapping[str, tuple[int, ...]]
    timeout_s: int = 600

    def sizes_of(self, work: str, *, quick: bool) -> tuple[int, ...]:
        sizes = self.sizes.get(work, ())
        return (min(QUICK[work], *sizes),) if sizes and quick else sizes


def _sizes(
    w1: int, *, w2: int = 4, w4: int = 2_000, w5: int = 0, w6: int = 0, **more: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
    sizes: dict[str, tuple[int, ...]] = {"W1": (w1,), "W2": (w2,), "W3": (1_000,), "W4": (w4,)}
    if w5:
        sizes["W5"] = (w5,)
    if w6:
        sizes["W6"] = (w6,)
    return {**sizes, **more}


_WIDE = (1_000, 10_000)
_TENUTO = _sizes(20_000, w2=20, w4=10_000, w5=100_000, w6=20_000, W3=_WIDE, W7=(3_000,))
_PROBE = _sizes(100_000, w2=20, w4=10_000, w5=10_000, w6=50_000, W3=_WIDE)

ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="tenuto-sqlite", module="bench.tenuto_peer", environment="tenuto", store="sqlite", sizes=_TENUTO
    ),
    Entry(name="tenuto-pg", module="bench.tenuto_peer", environment="tenuto", store="pg", sizes=_TENUTO),
    Entry(name="probe-sqlite", module="bench.probe", environment="bench", store="sqlite", sizes=_PROBE),
    Entry(name="probe-pg", module="bench.probe", environment="bench", store="pg", sizes=_PROBE),
    Entry(
        name="dbos-sqlite",
        module="bench.peers.dbos_peer",
        environment="dbos",
        store="sqlite",
        sizes=_sizes(500, w5=10_000, w6=300),
    ),
    Entry(
        name="dbos-pg",
        module="bench.peers.dbos_peer",
        environment="dbos",
        store="pg",
        sizes=_sizes(1_000, w5=10_000, w6=500),
    ),
    Entry(
        name="langgraph-sqlite",
        module="bench.peers.langgraph_peer",
        environment="langgraph",
        store="sqlite",
        sizes=_sizes(1_000, w5=10_000),
    ),
    Entry(
        name="langgraph-pg",
        module="bench.peers.langgraph_peer",
        environment="langgraph",
        store="pg",
        sizes=_sizes(1_200, w5=10_000),
    ),
    Entry(
        name="absurd",
        module="bench.peers.absurd_peer",
        environment="absurd",
        store="pg",
        sizes=_sizes(2_500, w5=10_000, w6=2_500),
    ),
    Entry(
        name="restate",
        module="bench.peers.restate_peer",
        environment="restate",
        store="own",
        sizes=_sizes(4_000, w5=10_000),
    ),
    Entry(
        name="pgqueuer",
        module="bench.peers.pgqueuer_peer",
        environment="pgqueuer",
        store="pg",
        sizes=_sizes(6_000, w6=6_000),
    ),
    Entry(
        name="procrastinate",
        module="bench.peers.procrastinate_peer",
        environment="procrastinate",
        store="pg",
        sizes=_sizes(700, w6=700),
    ),
)


def selected(only: tuple[str, ...]) -> tuple[Entry, ...]:
    """The entries whose name, or whose name before the store, was asked for; all when nothing was.

    Raises:
        ValueError: A name matches nothing; the message lists what there is.
    """
    chosen = [e for e in ENTRIES if not only or e.name in only or e.name.split("-")[0] in only]
    known = {e.name for e in ENTRIES} | {e.name.split("-")[0] for e in ENTRIES}
    unknown = sorted(set(only) - known)
    if unknown:
        raise ValueError(
            f"no peer named {', '.join(map(repr, unknown))}; there are {', '.join(sorted(known))}"
        )
    return tuple(chosen)
