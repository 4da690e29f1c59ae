"""Looking at what is outside in the background, and telling the other processes through the store.

Nothing waits for a look: whoever asks is told what was seen last. A look that fails says so and holds up no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import msgspec

from tenuto.errors import TenutoError
from tenuto.ports.clock import Clock
from tenuto.ports.services import Checked, ReportRow, Role, Service
from tenuto.ports.store import Store
from tenuto.ports.tools import Condition, Health
from tenuto.runtime.tools.servers import McpServer, Toolset

log = logging.getLogger("tenuto.services")

LISTEN_S = 1.0
REPORT_S = 10.0
KEEP_S = 30.0
CHECK_S = 60.0
TIMEOUT_S = 10.0
NOT_YET = Health(reason="it was not looked at yet")


class Watch:
    """What one process sees outside; it reports what changed at once, and that it is alive now and then.

    A process that has nothing outside asks the store nothing and tells it nothing.
    """

    def __init__(
        self, store: Store, clock: Clock, me: Callable[[], str], role: Role, *,
        servers: Sequence[McpServer] = (), toolsets: Sequence[Toolset] = (),
        checks: Callable[[], Sequence[Checked]] = tuple, check_s: float = CHECK_S, timeout_s: float = TIMEOUT_S,
    ) -> None:  # fmt: skip
        """Prepare; nothing is looked at before `run`.

        Args:
            me: The id of this process, which changes when its worker's lease was lost.
            servers: Servers of tools that are declared; those among `toolsets` look at themselves.
            checks: What else is outside just now; it may become more.
            check_s: Time between two looks; 0 looks only when asked.
            timeout_s: Longest time one look may take.
        """
        self._store, self._clock, self._me = store, clock, me
        self._role: Role = role
        near = {item.server.name for item in toolsets}
        self._far = [server for server in servers if server.name not in near]
        self._toolsets = toolsets
        self._checks = checks
        self._check_s, self._timeout_s = check_s, timeout_s
        self._health: dict[tuple[str, str, str], Health] = {}
        self._poke = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._answered = 0
        self._due = 0.0
        self._told: tuple[str, int, list[Service]] | None = None
        self._tell_at = 0.0

    def services(self) -> list[Service]:
        """Return what is outside, as this process last saw it."""
        found = [
            Service(kind="mcp", name=server.name, place=place_of(server.url), health=Health(
                reason="only workers connect to servers of tools, and this process is none"
            )) for server in self._far
        ]  # fmt: skip
        for item in self._toolsets:
            found.append(Service(
                kind="mcp", name=item.server.name, place=place_of(item.server.url), health=item.source.health,
                tools=tuple(sorted(item.tools())),
            ))  # fmt: skip
        for check in self._checks():
            service = check.service
            found.append(msgspec.structs.replace(service, health=self._health.get(_key(service), NOT_YET)))
        return found

    def report(self) -> ReportRow:
        """Return what this process has to tell."""
        return ReportRow(
            process=self._me(), role=self._role, services=msgspec.json.encode(self.services()), answered=self._answered
        )

    def poke(self) -> None:
        """See soon whether there is anything to do or to tell."""
        self._poke.set()

    async def look(self) -> None:
        """Look at all of it now, servers of tools included."""
        refreshes = (item.source.refresh() for item in self._toolsets)
        await asyncio.gather(self._look_around(), *refreshes, return_exceptions=True)

    async def begin(self) -> None:
        """Tell what there is to look at, and begin to look; from now on a wish to look waits for this process."""
        await self._turn()

    async def run(self) -> None:
        """Look, listen and tell for ever."""
        while True:
            self._poke.clear()
            try:
                await self._turn()
            except (TenutoError, OSError):
                log.warning("what is outside cannot be told just now: the store does not answer")
            with suppress(TimeoutError):
                async with asyncio.timeout(LISTEN_S):
                    await self._poke.wait()

    async def close(self) -> None:
        """Look no more, and take back what was told where the store still answers."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        if self._told is not None and not self._store.health():
            await self._store.drop_report(self._told[0])

    async def _turn(self) -> None:
        services = self.services()
        if not services:
            return
        asked = await self._store.asked_look()
        steady = self._clock.steady()
        if self._looking is None and asked > self._answered:
            self._looking = asyncio.get_running_loop().create_task(self._answer(asked), name="services")
        elif self._looking is None and self._is_due(services, steady):
            self._looking = asyncio.get_running_loop().create_task(self._answer(0), name="services")
        telling = (self._me(), self._answered, services)
        if telling == self._told and steady < self._tell_at:
            return
        if self._told is not None and self._told[0] != telling[0]:
            await self._store.drop_report(self._told[0])
        await self._store.put_report(self.report(), int(KEEP_S * 1000))
        self._told, self._tell_at = telling, steady + REPORT_S

    def _is_due(self, services: list[Service], steady: float) -> bool:
        """Return whether to look without being asked: when it is time, and at what was never looked at."""
        new = any(service.health is NOT_YET for service in services)
        return bool(self._check_s) and (steady >= self._due or new)

    async def _answer(self, asked: int) -> None:
        """Look because it was asked for, or because it is time."""
        try:
            await (self.look() if asked else self._look_around())
        finally:
            self._looking = None
            self._answered = max(self._answered, asked)
            self._due = self._clock.steady() + self._check_s
            self.poke()

    async def _look_around(self) -> None:
        await asyncio.gather(*(self._look_at(check) for check in self._checks()))

    async def _look_at(self, check: Checked) -> None:
        service = check.service
        condition, reason = await self._seen(check, service)
        key, now = _key(service), self._clock.now()
        before = self._health.get(key, NOT_YET)
        if condition != before.condition:
            level = logging.INFO if condition == "online" else logging.WARNING
            log.log(level, "%s %s is %s: %s", service.kind, service.name, condition, reason)
        since = before.since if condition == before.condition and before.since else now
        self._health[key] = Health(condition=condition, reason=reason, since=since, checked_at=now)

    async def _seen(self, check: Checked, service: Service) -> tuple[Condition, str]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await check.look()
        except TimeoutError:
            return "offline", f"no answer within {self._timeout_s:g} s"
        except Exception as error:  # noqa: BLE001 - whatever a look meets is a fact about that one service
            # The text of a stranger's error may hold anything, a key included.
            log.warning("looking at %s %s failed: %s", service.kind, service.name, type(error).__name__)
            return "unknown", f"looking at it failed: {type(error).__name__}"


def place_of(url: str) -> str:
    """Return scheme, host and port of an address: a user, a path or a query may hold a secret."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}" if host else ""


def _key(service: Service) -> tuple[str, str, str]:
    return service.kind, service.name, service.place
