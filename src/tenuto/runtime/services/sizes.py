"""How large outputs are, by a few of the newest runs; lists do not say."""

from __future__ import annotations

from msgspec.structs import replace

from tenuto.domain.base.values import digest_of
from tenuto.domain.graph.plan import split_key
from tenuto.domain.runs.state import RunState
from tenuto.errors import Corrupt, Gone, RunMissing
from tenuto.ports.optimizers import Statistics
from tenuto.ports.store import RunFilter
from tenuto.runtime.services.context import Context

RUNS = 5
STEPS = 100
"""Steps of one run that are looked at, each by itself, for an output may be large."""


async def with_sizes(context: Context, name: str, version: str, found: Statistics) -> Statistics:
    """Return statistics with the mean size of the outputs of each node; runs that cannot be read are passed over."""
    sizes: dict[str, list[int]] = {}
    where = RunFilter(ns=context.ns, workflow=name, digest=version, statuses=("completed",))
    for run in await context.store.list_runs(where, limit=RUNS) if found.runs else ():
        try:
            st, _, _ = await context.load(run.id)
        except (RunMissing, Corrupt, Gone):
            continue
        await _measure(context, st, sizes)
    means = {node: sum(seen) / len(seen) for node, seen in sizes.items()}
    nodes = {node: replace(one, bytes=means.get(node)) for node, one in found.nodes.items()}
    return replace(found, nodes=nodes)


async def _measure(context: Context, st: RunState, sizes: dict[str, list[int]]) -> None:
    done = [(key, step.out) for key, step in st.steps.items() if step.status == "completed" and step.out is not None]
    for key, out in done[:STEPS]:
        digest = digest_of(out)
        body = bytes(out) if digest is None else (await context.store.get_blobs([digest])).get(digest)
        if body is not None:
            sizes.setdefault(split_key(key)[0], []).append(len(body))
