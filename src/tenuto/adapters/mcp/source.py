"""One MCP server, kept in reach: listed, listed again when it changes, connected again when it was gone.

One task owns the connection from start to end, as the SDK's cancel scopes demand; calls come from any task.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import msgspec
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT, CallToolResult, ToolListChangedNotification
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from tenuto.adapters.mcp.transports import CUT, NOT_SENT, LastLines, Place, transport
from tenuto.errors import TenutoError
from tenuto.ports.tools import (
    Health,
    OfferedTool,
    ToolCut,
    ToolFailed,
    ToolOverran,
    ToolRefused,
    ToolUnavailable,
)

log = logging.getLogger("tenuto.tools")

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 30.0
SETTLED_S = 30.0
MOST_TOOLS = 2000
KEY_META = "tenuto/idempotency-key"
TRACE_META = "traceparent"
_NAMED = 5


class _Lost(Exception):
    """The connection is over."""


class McpSource:
    """A server of tools; see `tenuto.ports.tools.ToolSource`."""

    def __init__(
        self, name: str, place: Place, *, check_s: float, max_bytes: int, now: Callable[[], int],
        first_delay_s: float = FIRST_DELAY_S,
    ) -> None:
        """Reach for nothing before `start`."""
        self._name = name
        self._place = place
        self._check_s = check_s
        self._max_bytes = max_bytes
        self._now = now
        self._first_delay_s = first_delay_s
        self._offered: tuple[OfferedTool, ...] | None = None
        self._health = Health(reason="it was not reached yet")
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._poke = asyncio.Event()
        self._lost = False
        self._looks = 0
        self._looked = asyncio.Condition()
        self._errors = LastLines(name)
        self._told: Callable[[], None] = _nobody

    @property
    def name(self) -> str:
        """Return the name its operator gave it."""
        return self._name

    @property
    def offered(self) -> tuple[OfferedTool, ...] | None:
        """Return the tools of its last listing; `None` before the first."""
        return self._offered

    @property
    def health(self) -> Health:
        """Return how it is."""
        return self._health

    def start(self, told: Callable[[], None] = lambda: None) -> None:
        """Begin to reach for it."""
        self._told = told
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"mcp {self._name}")

    async def settled(self) -> None:
        """Return once it was reached, or could not be, for the first time."""
        await self._settled.wait()

    async def refresh(self) -> None:
        """Look at it now."""
        if self._task is None or self._task.done():
            return
        async with self._looked:
            wanted = self._looks + 1
            self._poke.set()
            await self._looked.wait_for(lambda: self._looks >= wanted)

    async def close(self) -> None:
        """End the connection, and the process that was started for it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._settled.set()

    # --- calling ----------------------------------------------------------------------------------------------

    async def call(self, tool: str, arguments: dict[str, Any], *, key: str, traceparent: str = "") -> Any:
        """Call a tool and return its JSON result."""
        client, shown = self._client, f"tool {self._name}.{tool}"
        if client is None:
            raise self._away(shown)
        meta: Any = {KEY_META: key, **({TRACE_META: traceparent} if traceparent else {})}
        try:
            async with asyncio.timeout(self._place.timeout_s):
                result = await client.call_tool(tool, arguments, meta=meta)
        except TimeoutError:
            message = f"{shown} gave no answer within {self._place.timeout_s:g} s; it was told to stop"
            raise ToolCut(message, server=self._name) from None
        except MCPError as exc:
            raise self._fault(shown, exc) from None
        except (ValidationError, RuntimeError) as exc:
            raise ToolCut(f"{shown} answered with what is no result: {_first_line(exc)}", server=self._name) from None
        return self._result(shown, result)

    def _away(self, shown: str) -> ToolUnavailable:
        health = self._health
        return ToolUnavailable(
            f"{shown} was not called: the MCP server {self._name!r} is {health.condition}: {health.reason}",
            server=self._name,
        )

    def _fault(self, shown: str, exc: MCPError) -> TenutoError:
        """Return what an answer of the protocol's own means for a call."""
        if exc.code == NOT_SENT:
            self._lose()
            return ToolUnavailable(f"{shown} was not called: {exc.message}", server=self._name)
        if exc.code in (CUT, CONNECTION_CLOSED, REQUEST_TIMEOUT):
            self._lose()
            message = f"{shown} was cut off: {exc.message}; whether it had its effect is not known"
            return ToolCut(message, server=self._name)
        if exc.message == "Session terminated":
            self._lose()
            return ToolUnavailable(f"{shown} was not called: the server was started anew", server=self._name)
        return ToolRefused(f"{shown} was refused by its server: {exc.message}", server=self._name)

    def _result(self, shown: str, result: CallToolResult) -> Any:
        if result.is_error:
            raise ToolFailed(f"{shown} failed: {_text_of(result) or 'it did not say why'}", server=self._name)
        value = value_of(result)
        size = len(msgspec.json.encode(value))
        if size > self._max_bytes:
            raise ToolOverran(
                f"{shown} answered with {size:,} bytes; allowed are {self._max_bytes:,}; ask it for less, or raise "
                f"max_bytes of the server", server=self._name,
            )
        return value

    # --- the connection ---------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Connect, stay connected, and connect again, less often the longer it fails."""
        loop, delay = asyncio.get_running_loop(), self._first_delay_s
        while True:
            self._lost, self._errors, began = False, LastLines(self._name), loop.time()
            try:
                await self._connected()
            except asyncio.CancelledError:
                raise
            except BaseException as exc:
                # A group of the SDK's task groups, or what a broken server made of them: never this worker's end.
                if _is_fatal(exc):
                    raise
                self._client = None
                self._poke.clear()
                if loop.time() - began > SETTLED_S:
                    delay = self._first_delay_s
                await self._looked_at("offline", _reason(exc, self._place, self._errors))
            finally:
                self._client = None
            with suppress(TimeoutError):
                async with asyncio.timeout(delay * random.uniform(0.8, 1.2)):
                    await self._poke.wait()
            delay = min(LONGEST_DELAY_S, delay * 2)

    async def _connected(self) -> None:
        """Serve one connection until it is over.

        Raises:
            Exception: Always, in the end: how the connection ended, or why there was none.
        """
        client = Client(
            transport(self._place, self._lose, self._errors), cache=None, message_handler=self._heard,
            read_timeout_seconds=None,
        )
        async with asyncio.timeout(self._place.connect_s) as patience:
            async with client:
                await self._list(client)
                patience.reschedule(None)
                self._client = client
                await self._looked_at("online")
                listening = asyncio.get_running_loop().create_task(self._listen(client))
                try:
                    await self._attend(client)
                finally:
                    self._client_gone()
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)

    async def _attend(self, client: Client) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._check_s):
                    await self._poke.wait()
            self._poke.clear()
            if self._lost:
                raise _Lost
            async with asyncio.timeout(self._place.connect_s):
                await self._list(client)
            await self._looked_at("online")

    def _client_gone(self) -> None:
        """Let no new call begin on a connection that is coming down."""
        self._lost = True

    async def _list(self, client: Client) -> None:
        found: list[OfferedTool] = []
        cursor: str | None = None
        while True:
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools:
                hints = tool.annotations
                found.append(OfferedTool(
                    name=tool.name, description=tool.description or "", schema=tool.input_schema,
                    reads_only=bool(hints and hints.read_only_hint), repeatable=bool(hints and hints.idempotent_hint),
                ))
            cursor = page.next_cursor
            if cursor is None or len(found) >= MOST_TOOLS:
                break
        listing = tuple(found)
        if listing != self._offered:
            self._offered = listing

    async def _listen(self, client: Client) -> None:
        """Hear of changed listings where the protocol has a stream for them."""
        changes = client.server_capabilities.tools
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS or changes is None or not changes.list_changed:
            return
        with suppress(MCPError, RuntimeError, TimeoutError):
            async with client.listen(tools_list_changed=True) as events:
                async for _ in events:
                    self._poke.set()
        # The stream is the first to notice that a server is gone.
        self._poke.set()

    async def _heard(self, message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._poke.set()

    def _lose(self) -> None:
        self._lost = True
        self._poke.set()

    async def _looked_at(self, condition: Any, reason: str = "") -> None:
        now, before = self._now(), self._health
        if condition == "online":
            names = ", ".join(tool.name for tool in (self._offered or ())[:_NAMED])
            more = len(self._offered or ()) - _NAMED
            reason = f"{len(self._offered or ())} tools: {names}" + (f" and {more} more" if more > 0 else "")
        since = before.since if before.condition == condition and before.since else now
        if before.condition != condition:
            level = logging.INFO if condition == "online" else logging.WARNING
            log.log(level, "MCP server %s is %s: %s", self._name, condition, reason)
        self._health = Health(condition=condition, reason=reason, since=since, checked_at=now)
        self._settled.set()
        async with self._looked:
            self._looks += 1
            self._looked.notify_all()
        self._told()


def value_of(result: CallToolResult) -> Any:
    """Return a result as JSON: its structured content, else its text, else its content as the server gave it."""
    structured = cast("dict[str, Any] | None", result.structured_content)
    if structured is not None:
        # How the SDKs wrap what is no object; the newest protocol allows any value.
        wrapped = isinstance(structured, dict) and list(structured) == ["result"]
        return structured["result"] if wrapped else structured
    if all(getattr(block, "type", "") == "text" for block in result.content):
        return _text_of(result)
    return [block.model_dump(by_alias=True, mode="json", exclude_none=True) for block in result.content]


def _text_of(result: CallToolResult) -> str:
    return "\n".join(str(getattr(block, "text", "")) for block in result.content if getattr(block, "text", None))


def _reason(exc: BaseException, place: Place, errors: LastLines) -> str:
    """Return why there is no connection, in words for whoever runs the server."""
    return _cause(exc, place) + (f"; it said: {errors.last}" if errors.last else "")


def _cause(exc: BaseException, place: Place) -> str:
    exc = _parts(exc)[0]
    where = place.url or f"the program {os.path.basename(place.command[0])!r}"
    if isinstance(exc, _Lost):
        return f"the connection to {where} ended"
    if isinstance(exc, TimeoutError):
        return f"{where} gave no answer within {place.connect_s:g} s"
    if isinstance(exc, FileNotFoundError):
        return f"there is no program {place.command[0] if place.command else ''!r}"
    if isinstance(exc, MCPError) and exc.code == CONNECTION_CLOSED:
        return f"{where} ended before it answered"
    if isinstance(exc, TenutoError):
        return exc.message
    return f"{where}: {_first_line(exc)}"


def _first_line(exc: BaseException) -> str:
    return (str(exc) or type(exc).__name__).splitlines()[0][:300]


def _is_fatal(exc: BaseException) -> bool:
    return any(isinstance(part, KeyboardInterrupt | SystemExit) for part in _parts(exc))


def _parts(exc: BaseException) -> list[BaseException]:
    """Return the exceptions a group is made of, or the one that is none."""
    if not isinstance(exc, BaseExceptionGroup):
        return [exc]
    inner = cast("tuple[BaseException, ...]", exc.exceptions)  # pyright: ignore[reportUnknownMemberType]
    return [part for one in inner for part in _parts(one)]


def _nobody() -> None:
    return None
