"""What else can be read: workers and what the server stands on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.answers import gives, json_answer
from tenuto.api.params import engine_of
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.outside import OutsideView
from tenuto.runtime.services.results import WorkerView

router = APIRouter(tags=["readers"])


class ServiceView(msgspec.Struct, kw_only=True):
    """Something the engine stands on.

    Attributes:
        category: `store`, `cache`, `worker`, `mcp`, `openapi` or `model`.
        status: `online`, `degraded`, `offline` or `unknown`; of what is outside, what all processes say that know, and
            `degraded` where they differ.
        details: What is wrong, or what it can do; for what is outside also its place, since when it is so, when it was
            looked at, and what each process says.
    """

    id: str
    name: str
    category: str
    status: str
    details: dict[str, Any] = {}


class ServicesView(msgspec.Struct):
    """All of them.

    Attributes:
        unanswered: Processes that were asked to look again and have not said that they are done.
    """

    items: list[ServiceView]
    unanswered: list[str] = []


class WorkersView(msgspec.Struct):
    """All workers, live ones first."""

    items: list[WorkerView]


@router.get("/workers", responses=gives(WorkersView), summary="List workers")
async def list_workers(request: Request) -> Response:
    """Return all workers with their leases and what they can serve."""
    return json_answer(WorkersView(await engine_of(request).workers.list()))


@router.get("/services", responses=gives(ServicesView), summary="List what the engine stands on")
async def list_services(request: Request) -> Response:
    """Return the store, the workers, and what any live process reaches outside: MCP servers, APIs and hosts of models.

    What is outside is shown as it was last seen; nothing is looked at for this answer.
    """
    return json_answer(await _services(engine_of(request)))


@router.post("/services/refresh", responses=gives(ServicesView), summary="Look at everything outside now")
async def refresh_services(request: Request) -> Response:
    """Let every live process look at what is outside now instead of at its next turn, and return all services."""
    engine = engine_of(request)
    late = await engine.outside.refresh()
    return json_answer(await _services(engine, late))


async def _services(engine: Engine, late: Sequence[str] = ()) -> ServicesView:
    wrong = engine.store.health()
    items = [_store(engine.store.url, wrong)]
    if not wrong:
        items += [_worker(worker) for worker in await engine.workers.list()]
    if engine.context.cache is not None:
        trouble = engine.context.cache.health()
        status, details = ("offline", {"problem": trouble}) if trouble else ("online", {})
        items.append(ServiceView(id="cache", name="cache", category="cache", status=status, details=details))
    return ServicesView(_told_apart(items + [_outside(item) for item in await engine.outside.list()]), list(late))


def _outside(item: OutsideView) -> ServiceView:
    details: dict[str, Any] = {
        "reason": item.reason, "since": item.since, "checked_at": item.checked_at, "place": item.place,
        "tools": item.tools, "seen_by": item.seen_by,
    }  # fmt: skip
    name = f"{item.kind}:{item.name}"
    return ServiceView(id=name, name=item.name, category=item.kind, status=item.condition, details=details)


def _told_apart(items: list[ServiceView]) -> list[ServiceView]:
    """Add the place to the id of what shares its name, such as the hosts of one provider."""
    shared = Counter(item.id for item in items)
    return [
        msgspec.structs.replace(item, id=f"{item.id}@{item.details['place']}") if shared[item.id] > 1 else item
        for item in items
    ]


def _store(url: str, wrong: str) -> ServiceView:
    scheme = url.partition(":")[0]
    status = "offline" if wrong else "online"
    return ServiceView(
        id="store", name=scheme, category="store", status=status, details={"problem": wrong} if wrong else {}
    )


def _worker(worker: WorkerView) -> ServiceView:
    return ServiceView(
        id=worker.id,
        name=f"{worker.host}:{worker.pid}",
        category="worker",
        status="online" if worker.alive else "offline",
        details={"manifest": worker.manifest},
    )
