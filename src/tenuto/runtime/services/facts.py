"""What the journal does not say of a run: its owner's lease, the live workers and what they serve."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from tenuto.domain.graph.plan import Plan
from tenuto.domain.graph.requirements import TOOL
from tenuto.domain.runs.explain import Facts
from tenuto.domain.runs.state import RunState
from tenuto.ports.store import RunRow, WorkerRow
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.halted import halt_of

CHILDREN = 50


async def facts_of(context: Context, st: RunState, plan: Plan, row: RunRow) -> Facts:
    """Return the facts that explain a run."""
    now = await context.store.now()
    workers = await context.store.workers()
    live = [worker for worker in workers if worker.lease_until > now]
    owner = next((worker for worker in workers if worker.id == row.worker), None)
    waiting = [step.wait.name for step in st.steps.values() if step.wait is not None and step.wait.kind == "child"]
    children: dict[str, str] = {}
    for child in waiting[:CHILDREN]:
        found = await context.store.get_run(child)
        children[child] = found.status if found is not None else "not created yet"
    unread = bool(await context.store.inbox(st.id)) if row.state == "waiting" else False
    return Facts(
        now=now, row_state=row.state, owner=row.worker or "", lease_until=owner.lease_until if owner else 0,
        unread=unread, alive=len(live), missing=_missing(plan, live), children=children,
        halt=await halt_of(context, row),
    )


def _missing(plan: Plan, live: list[WorkerRow]) -> tuple[str, ...]:
    """Return what the plan names and no live worker serves; nothing while no worker lives at all."""
    if not live:
        return ()
    served = [manifest_of(worker) for worker in live]
    handlers = {name for manifest in served for name in cast("list[str]", manifest.get("handlers", []))}
    tools = {name for manifest in served for name in cast("list[str]", manifest.get("tools", []))}
    names = handlers | tools | {TOOL + name for name in tools}
    return tuple(sorted(name for name in plan.handlers if not _serves(names, name)))


def _serves(names: set[str], name: str) -> bool:
    return name in names or f"{name.partition('.')[0]}.*" in names


def manifest_of(worker: WorkerRow) -> dict[str, Any]:
    """Return what a worker says it serves; nothing when it cannot be read."""
    try:
        found = msgspec.json.decode(worker.manifest)
    except msgspec.DecodeError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
