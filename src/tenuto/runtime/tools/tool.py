"""Functions that do work: handlers of nodes, and tools that agents and nodes call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

from tenuto.domain.graph.model import Effect, Retry

Arguments = tuple[list[Any], dict[str, Any]]
Bind = Callable[[Any, Any], Arguments]
"""Makes the arguments of one call, or raises `InvalidInput`: from context and input for a handler, from arguments
and `CallInfo` for a tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallInfo:
    """Which call a tool serves.

    Attributes:
        key: Idempotency key: the same however often the call is tried.
        project: What the run's label `project` says; empty without one.
    """

    key: str
    ns: str = "default"
    run: str = ""
    step: str = ""
    project: str = ""


class Bound(NamedTuple):
    """What one call of a tool may use at most, beside being a call.

    Attributes:
        slot: Provider whose limit of concurrent calls, over all workers, it counts under; empty for none.
    """

    tokens: int = 0
    cost_usd_micros: int = 0
    slot: str = ""


class Took(NamedTuple):
    """A tool's result with what it took, returned in place of the bare result; a failure carries it as `took`.

    Attributes:
        facts: For usage reports, as those of a model's reply.
    """

    value: Any
    tokens: int = 0
    cost_usd_micros: int = 0
    facts: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """How the result is got of a job that a tool only begins: looked for again and again, with durable waits in between.

    Attributes:
        look: Coroutine function that takes what `fn` returned, then what `fn` takes, with the job as the call's key.
            It returns `None` while the job goes on; a failure that may pass is waited out, too. May be called again.
        first_s: The first wait; each is half as long again as the one before, up to `longest_s`.
        within_s: So long is waited altogether.
    """

    look: Callable[..., Awaitable[Any]]
    first_s: float = 1.0
    longest_s: float = 15.0
    within_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A function that does the work of nodes.

    Attributes:
        bind: `(ctx, input)` to the arguments of `fn`, whose result has to be awaited when `is_async`.
        effect: What a repeat of the call does to the world.
        on_unknown: `retry`, `ask` or the name of a status hook: what to do when an outcome was lost.
        wants_ctx: Whether the function takes the context of its step.
        version: Digest of the source, or the place of the function when there is no source.
        target: `module:qualname`, from which another process can import the function; empty when it cannot.
        schema: JSON Schema of the input; `None` means that anything goes.
        deterministic: Whether equal inputs always give equal outputs, so that results may be cached.
        irreversible: Whether the work needs an approval upstream.
        cache: What nodes want of the cache that do not say otherwise.
    """

    name: str
    fn: Callable[..., Any]
    bind: Bind
    effect: Effect = "idempotent"
    on_unknown: str = ""
    timeout_s: float | None = None
    heartbeat_s: float | None = None
    retry: Retry | None = None
    wants_ctx: bool = False
    is_async: bool = False
    version: str = ""
    target: str = ""
    schema: dict[str, Any] | None = None
    description: str = ""
    deterministic: bool = False
    irreversible: bool = False
    isolation: Literal["inline", "process"] = "inline"
    cache: str | dict[str, Any] | None = None


class Serving(Protocol):
    """What a run gives to tools that it serves itself."""

    async def graph(self, *, key: str | None = None) -> dict[str, Any]:
        """Return the graph of the run as it is now; recorded, so that a later attempt sees the same."""
        ...

    async def propose_patch(
        self, operations: Any, *, reason: str = "", base: str = "", key: str | None = None
    ) -> dict[str, Any]:
        """Propose a change of the graph and return what came of it."""
        ...


Within = Callable[[Serving, dict[str, Any], str | None], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool(Handler):
    """A function that agents and nodes may call, described by a schema; presumed to have an effect.

    Attributes:
        bind: `(arguments, CallInfo)` to the arguments of `fn`; a parameter `idempotency_key` gets the key.
        server: Name of the MCP server it lives on; empty for tools of this process.
        bound: Coroutine function that takes what `fn` takes and says what the call may use at most, before it is made;
            `fn` then returns `Took`.
        later: Set where `fn` only begins a job and returns `{"job": ID}`, the same for the same key.
        status: Coroutine function that takes what `fn` takes and says what became of a call whose outcome was lost, as
            status hooks do; `on_unknown` is then its name in the journal.
        within: Serves the call in place of `fn`, where the run itself does: takes the step's context, the arguments and the
            identity of the call, and sees to its record.
    """

    effect: Effect = "effect"
    on_unknown: str = "ask"
    server: str = ""
    bound: Callable[..., Awaitable[Bound]] | None = None
    later: Later | None = None
    status: Callable[..., Awaitable[tuple[str, Any]]] | None = None
    within: Within | None = None

    def served_by(self, within: Within) -> Tool:
        """Return the same tool, served by the run itself."""
        return replace(self, within=within)
