"""Several requests of one `http` node: each a journaled call, sent as soon as what it waits for has been answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tenuto.domain.base.references import REQUESTS
from tenuto.domain.graph.requests import in_order
from tenuto.domain.runs.events import Failure
from tenuto.errors import TenutoError
from tenuto.runtime.tools.call import Journaled
from tenuto.runtime.tools.http import HttpPolicy, open_connections, run_http

if TYPE_CHECKING:
    from tenuto.runtime.tools.connections import Connections


class Render(Protocol):
    """Fills in the references of a template."""

    def __call__(self, template: Any, given: Mapping[str, Any], /) -> Awaitable[Any]:
        """Return the template with the run's values, and given ones, in it."""
        ...


async def run_requests(
    ctx: Journaled, config: dict[str, Any], render: Render, policy: HttpPolicy, *, effect: str | None = None,
    on_unknown: str = "",
) -> Any:
    """Make a node's requests, those that wait for nothing of each other at the same time, over the same connections.

    One that fails stops none that is under way, so that what became of each is recorded; those that wait for it are not
    made. A later attempt makes only what did not succeed.

    Returns:
        The answers by the ids of their requests, each what a node with that one request returns; or the one that
        `result` names.

    Raises:
        StepError: A request failed: one whose outcome is unknown before others, then the first in the author's order.
    """
    answers: dict[str, Any] = {}
    making: dict[str, asyncio.Task[None]] = {}

    async def make(request: dict[str, Any], needs: tuple[str, ...], connections: Connections) -> None:
        if needs:
            await asyncio.wait([making[name] for name in needs])
        if any(name not in answers for name in needs):
            return
        rendered = await render(request, {REQUESTS: answers})
        name = str(request["id"])
        sent = {key: value for key, value in rendered.items() if key not in ("id", "after", "timeout_s")}
        answers[name] = await run_http(
            ctx, sent, policy, effect=effect, on_unknown=on_unknown, key=f"http:{name}", connections=connections,
            timeout_s=request.get("timeout_s"),
        )

    requests: list[dict[str, Any]] = config[REQUESTS]
    names = [str(request["id"]) for request in requests]
    async with open_connections() as connections:
        for request, needs in in_order(requests):
            making[str(request["id"])] = asyncio.ensure_future(make(request, needs, connections))
        await _over([making[name] for name in names])
    result = config.get("result")
    return answers[result] if result else {name: answers[name] for name in names}


async def _over(tasks: list[asyncio.Task[None]]) -> None:
    """Wait until all are over, and raise the failure that counts most; who stops waiting stops them all."""
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    if any(task.cancelled() for task in tasks):
        raise asyncio.CancelledError
    failures = [failure for task in tasks if (failure := task.exception()) is not None]
    if failures:
        raise min(failures, key=_weight)


def _weight(failure: BaseException) -> int:
    """Say how early one of several failures stands for all: what stops the code, an unknown outcome, a final one."""
    if not isinstance(failure, Exception):
        return 0
    if not isinstance(failure, TenutoError):
        return 3
    said = failure.details.get("failure")
    told = said if isinstance(said, Failure) else None
    if told.unknown if told else failure.details.get("unknown"):
        return 1
    return 3 if (told.retryable if told else failure.retryable) else 2
