"""What an agent asks of a model, whoever provides it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import msgspec

from tenuto.errors import Permanent, StepError

OnDelta = Callable[[str], None]
"""Gets each piece of an answer's text as it comes; the pieces are provisional until the whole answer is recorded."""


class ToolSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool as a model sees it; `schema` is a JSON Schema of its arguments."""

    name: str
    description: str = ""
    schema: dict[str, Any] = {}


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call a model asks for; `id` is unique in its answer.

    Attributes:
        malformed: The arguments as the model wrote them, where they are no JSON object; empty otherwise.
    """

    id: str
    name: str
    arguments: dict[str, Any] = {}
    malformed: str = ""


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation: `system`, `user`, `assistant`, or `tool` (the result of `call_id`).

    Attributes:
        name: Of the tool whose result this is.
        failed: Whether the result says what went wrong.
        details: What the provider wants back with its own earlier answer (`ModelReply.details`); opaque, JSON.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    name: str = ""
    failed: bool = False
    details: dict[str, Any] = {}


class ModelRequest(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One request, complete in itself.

    Attributes:
        model: `provider:model`.
        choices: When not empty, the answer's `choice` must be one of these.
        schema: When set, the answer's `data` must fit this JSON Schema.
        max_tokens: Upper bound of the answer.
        options: Settings of the provider, passed on as they are, such as `temperature` or `reasoning_effort`.
        purpose: What the answer is for, in usage reports: `execution`, `verification`, `knowledge_extraction`, ….
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    choices: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None
    max_tokens: int = 1024
    seed: int = 0
    options: dict[str, Any] = {}
    purpose: str = "execution"


class ModelReply(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A whole answer and what it cost.

    Attributes:
        input_tokens: Of the whole prompt, those read from and written to the provider's cache included.
        output_tokens: Of the answer, those spent on reasoning included.
        cost_usd_micros: Millionths of a US dollar; 0 for models that cost nothing.
        model: Which model answered, as its provider names it.
        stop: Why the answer ended: `end`, `length`, `tools` or `refused`.
        details: What the provider wants back with this answer in the next request; opaque, JSON.
    """

    content: str = ""
    choice: str = ""
    data: Any = None
    tool_calls: tuple[ToolCall, ...] = ()
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd_micros: int = 0
    model: str = ""
    provider: str = ""
    stop: str = "end"
    details: dict[str, Any] = {}


def facts_of(reply: ModelReply, request: ModelRequest) -> dict[str, Any]:
    """Return the facts of a reply that usage reports are made of."""
    return {
        "provider": reply.provider or request.model.partition(":")[0], "model": reply.model or request.model,
        "input_tokens": reply.input_tokens, "cached_tokens": reply.cached_tokens,
        "cache_write_tokens": reply.cache_write_tokens, "output_tokens": reply.output_tokens,
        "reasoning_tokens": reply.reasoning_tokens, "cost_usd_micros": reply.cost_usd_micros,
        "purpose": request.purpose,
    }


class ModelBusy(StepError):
    """The provider asks to come back later, or failed in a way that passes.

    The request had no effect and cost nothing. `details["retry_after_s"]` says when to come back, where the provider
    said so; `details["local"]` whether it is one's own, so that waiting is all there is to do.
    """

    code = "model.busy"


class ModelUnreachable(StepError):
    """Nobody answers at the model's address; the request was not made. `details["local"]` as for `ModelBusy`."""

    code = "model.unreachable"


class ModelCut(StepError):
    """The connection broke after the request was sent: it may have been served, and cost its price."""

    code = "model.cut"


class ModelRefused(Permanent):
    """The provider refuses the request itself; the same one never succeeds."""

    code = "model.refused"


class ModelKeyMissing(Permanent):
    """The provider wants a key and none is set; the message names the setting."""

    code = "model.key_missing"


class PromptTooLong(Permanent):
    """The prompt does not fit the model's window; the request was not made."""

    code = "model.prompt_too_long"


class ModelUnknown(Permanent):
    """No provider of this name is set up."""

    code = "model.unknown"


class Model(Protocol):
    """A model. One request may be made again with the same key after a crash: answers are not assumed equal."""

    async def request(self, request: ModelRequest, *, key: str, on_delta: OnDelta | None = None) -> ModelReply:
        """Return the model's whole answer.

        Args:
            key: Idempotency key of the request, sent to providers that take one.
            on_delta: Gets the text as it comes, where the provider streams; `None` = nobody listens.

        Raises:
            StepError: The provider failed; `retryable` says whether trying again may help, and
                `details["unknown"]` whether the request may have been served all the same.
        """
        ...

    def bound(self, request: ModelRequest) -> tuple[int, int]:
        """Return upper bounds of a request: tokens in and out together, and cost in millionths of a US dollar.

        Raises:
            PromptTooLong: The request can never be served.
            ModelKeyMissing: There is no key for it.
            ModelUnknown: There is no such provider or model.
        """
        ...


@runtime_checkable
class Remote(Protocol):
    """A model of a provider, which has to be got ready and takes so many requests at a time, over all workers."""

    async def ready(self, request: ModelRequest) -> None:
        """Load what `bound` and `request` need for a request like this one, without holding up the event loop.

        Raises:
            InvalidSettings: It is not installed; the message says how to get it.
        """
        ...

    def slots(self, request: ModelRequest) -> tuple[str, int] | None:
        """Return under which name requests like this one are counted, and how many may be under way; `None` = any."""
        ...
