"""Runs one work of one peer, in that peer's environment, and writes one row. Started by `bench.run`."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from bench import measure
from bench.measure import Meter
from bench.peer import Peer, Stage, Unsupported
from bench.postgres import Server

Figures = dict[str, Any]

HOP_STEPS = 50
PARKED_BEFORE = 5
"""A run in so many is parked before the memory is first read."""

STATISTICS_LAG_S = 10.5
"""Postgres publishes an idle session's last counters after ten seconds."""

FEWEST_FOR_COMMITS = 200
"""Below this, transactions of the warm-up would weigh too much, and the wait would cost more than the run."""


async def chains(peer: Peer, n: int) -> Figures:
    stage = peer.stage
    stored, commits = stage.stored_bytes(), stage.commits()
    with _meter(peer) as meter:
        await peer.chains(n)
    figures: Figures = {"runs_s": n / meter.wall_s, "steps_s": 3 * n / meter.wall_s, **meter.per_step(3 * n)}
    if commits is not None and n >= FEWEST_FOR_COMMITS:
        await asyncio.sleep(STATISTICS_LAG_S)
        figures["commits_run"] = ((stage.commits() or 0) - commits) / n
    if stage.vacuum():
        # Dead rows are what the next runs are written into; a store in use grows by the rows that live.
        stored = stage.stored_bytes()
        await peer.chains(n)
    figures["bytes_step"] = (stage.stored_bytes() - stored) / (3 * n)
    return figures


async def hop(peer: Peer, n: int) -> Figures:
    hops: list[float] = []
    with _meter(peer) as meter:
        for _ in range(n):
            hops += (await peer.chain(HOP_STEPS)).hops_ms()
    return {**measure.hop_figures(hops), **meter.per_step(n * HOP_STEPS)}


async def fan(peer: Peer, n: int) -> Figures:
    stored = peer.stage.stored_bytes()
    with _meter(peer) as meter:
        await peer.fan(n)
    return {
        "steps_s": n / meter.wall_s,
        **meter.per_step(n),
        "bytes_step": (peer.stage.stored_bytes() - stored) / n,
    }


async def growth(peer: Peer, n: int) -> Figures:
    stored = peer.stage.stored_bytes()
    with _meter(peer) as meter:
        clock = await peer.grow(n, max(1, n // 20))
    if len(clock.stamps) != n:
        raise RuntimeError(f"{peer.stage.peer} entered {len(clock.stamps)} steps, {n} were asked for")
    bytes_step = (peer.stage.stored_bytes() - stored) / n
    return {**measure.growth_figures(clock), **meter.per_step(n), "bytes_step": bytes_step}


async def parked(peer: Peer, n: int) -> Figures:
    # Caches and the allocator reach their working size first, so that what grows after it is the parked runs alone.
    await peer.park(max(1, n // PARKED_BEFORE))
    stored, before, server_before = peer.stage.stored_bytes(), peer.memory_mb(), peer.server_memory_mb()
    with _meter(peer) as meter:
        await peer.park(n)
    after, server_after = peer.memory_mb(), peer.server_memory_mb()
    return {
        "rss_before_mb": before,
        "rss_mb": after,
        "kb_run": (after - before) * 1024 / n,
        "server_kb_run": (server_after - server_before) * 1024 / n,
        "bytes_run": (peer.stage.stored_bytes() - stored) / n,
        **meter.per_step(n),
    }


async def backlog(peer: Peer, n: int) -> Figures:
    await peer.enqueue(n)
    with _meter(peer) as meter:
        await peer.drain(n)
    return {"runs_s": n / meter.wall_s, **meter.per_step(3 * n)}


async def over_http(peer: Peer, n: int) -> Figures:
    with _meter(peer) as meter:
        more = await peer.over_http(n)
    return {"runs_s": n / meter.wall_s, **meter.per_step(3 * n), **more}


WORKS: Mapping[str, Callable[[Peer, int], Awaitable[Figures]]] = {
    "W1": chains,
    "W2": hop,
    "W3": fan,
    "W4": growth,
    "W5": parked,
    "W6": backlog,
    "W7": over_http,
}


def _meter(peer: Peer) -> Meter:
    return Meter(servers=peer.server_pids(), workers=peer.worker_pids())


async def _measure(peer: Peer) -> Figures:
    stage = peer.stage
    await peer.open()
    try:
        if stage.work not in ("W6", "W7"):
            await peer.chains(peer.warm_up_chains)
        return {**await WORKS[stage.work](peer, stage.n), "settings": peer.settings}
    except Unsupported as reason:
        return {"unsupported": str(reason)}
    finally:
        try:
            await asyncio.wait_for(peer.close(), 20)
        except TimeoutError:
            print("bench: the peer did not close in 20 s; its process ends now", file=sys.stderr)


def main() -> None:
    """Read the stage from the first argument, measure, write the row to the file named in it, and end.

    The process ends without waiting for threads: several peers leave some that never finish.
    """
    asked = json.loads(sys.argv[1])
    server = asked.pop("server")
    module, out = asked.pop("module"), Path(asked.pop("out"))
    stage = Stage(
        **{**asked, "place": Path(asked["place"])},
        server=Server(**{**server, "bin": Path(server["bin"])}) if server else None,
    )
    code = 0
    try:
        peer: Peer = importlib.import_module(module).PEER(stage)
        factory = importlib.import_module("uvloop").new_event_loop if peer.uses_uvloop else None
        with asyncio.Runner(loop_factory=factory) as runner:
            out.write_text(json.dumps(runner.run(_measure(peer))))
            sys.stdout.flush()
            os._exit(0)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
