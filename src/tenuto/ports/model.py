"""What an agent asks of a model, whoever provides it."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec


class ToolSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool as a model sees it; `schema` is a JSON Schema of its arguments."""

    name: str
    description: str = ""
    schema: dict[str, Any] = {}


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call a model asks for; `id` is unique in its answer."""

    id: str
    name: str
    arguments: dict[str, Any] = {}


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation: `system`, `user`, `assistant`, or `tool` (the result of `call_id`)."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str = ""


class ModelRequest(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One request, complete in itself.

    Attributes:
        model: `provider:model`.
        choices: When not empty, the answer's `choice` must be one of these.
        schema: When set, the answer's `data` must fit this JSON Schema.
        max_tokens: Upper bound of the answer.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    choices: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None
    max_tokens: int = 1024
    seed: int = 0


class ModelReply(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A whole answer and what it cost.

    Attributes:
        cost_usd_micros: Millionths of a US dollar; 0 for models that cost nothing.
        model: Which model answered, as its provider names it.
    """

    content: str = ""
    choice: str = ""
    data: Any = None
    tool_calls: tuple[ToolCall, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd_micros: int = 0
    model: str = ""
    provider: str = ""


class Model(Protocol):
    """A model. One request may be made again with the same key after a crash: answers are not assumed equal."""

    async def request(self, request: ModelRequest, *, key: str) -> ModelReply:
        """Return the model's whole answer.

        Raises:
            StepError: The provider failed; `retryable` says whether trying again may help.
        """
        ...

    def bound(self, request: ModelRequest) -> tuple[int, int]:
        """Return upper bounds of a request: tokens in and out together, and cost in millionths of a US dollar."""
        ...
