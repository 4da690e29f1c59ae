"""A model that needs no key and no network: the same request always gets the same answer.

Without a script it echoes the prompt, chooses the first choice the prompt mentions, and fills a schema with
plausible values. Tests give it a script.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec

from tenuto.ports.model import ModelReply, ModelRequest, OnDelta

ECHO = 200
Script = Callable[[ModelRequest], ModelReply | str]


class ScriptedModel:
    """Answers from a function, from a list in order, or by echo.

    Attributes:
        requests: Every request made, for tests to look at.
    """

    def __init__(self, script: Script | Iterable[ModelReply | str] | None = None) -> None:
        """Answer by `script`, or by echo where there is none."""
        self.requests: list[ModelRequest] = []
        self._function = script if callable(script) else None
        self._list = None if script is None or callable(script) else iter(script)

    async def request(self, request: ModelRequest, *, key: str, on_delta: OnDelta | None = None) -> ModelReply:
        """Return the scripted answer, or the echo."""
        self.requests.append(request)
        answer: ModelReply | str | None = None
        if self._function is not None:
            answer = self._function(request)
        elif self._list is not None:
            answer = next(self._list, None)
        if answer is None:
            return echo(request)
        if isinstance(answer, str):
            return _with_usage(ModelReply(content=answer), request)
        return answer if answer.input_tokens or answer.output_tokens else _with_usage(answer, request)

    def bound(self, request: ModelRequest) -> tuple[int, int]:
        """Return the exact size of the prompt and the longest answer allowed; it costs nothing."""
        return _tokens(_prompt(request)) + request.max_tokens, 0


def echo(request: ModelRequest) -> ModelReply:
    """Return the answer that follows from the request alone."""
    prompt = _prompt(request)
    content = "offline:" + prompt[:ECHO]
    choice = _choose(prompt, request.choices) if request.choices else ""
    data = example(request.schema, prompt) if request.schema is not None else None
    return _with_usage(ModelReply(content=content, choice=choice, data=data), request)


def _prompt(request: ModelRequest) -> str:
    return "\n".join(message.content for message in request.messages)


def _with_usage(reply: ModelReply, request: ModelRequest) -> ModelReply:
    text = reply.content or msgspec.json.encode(reply.data).decode()
    return msgspec.structs.replace(
        reply, input_tokens=_tokens(_prompt(request)), output_tokens=min(request.max_tokens, _tokens(text)),
        model=request.model, provider="offline",
    )


def _tokens(text: str) -> int:
    return -(-len(text) // 4)


def _choose(prompt: str, choices: tuple[str, ...]) -> str:
    lower = prompt.lower()
    found = [(lower.rfind(choice.lower()), -index, choice) for index, choice in enumerate(choices)]
    best = max(found)
    return best[2] if best[0] >= 0 else choices[0]


def example(schema: dict[str, Any], text: str = "") -> Any:
    """Return a value that fits a simple JSON Schema: constants and first choices, else small plain values."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind: Any = schema.get("type")
    kind = cast("list[Any]", kind)[0] if isinstance(kind, list) else kind
    if kind == "object" or "properties" in schema:
        wanted = schema.get("required") or list(schema.get("properties", {}))
        return {name: example(schema.get("properties", {}).get(name, {}), text) for name in wanted}
    if kind == "array":
        return [example(schema.get("items", {}), text) for _ in range(schema.get("minItems", 1))]
    if kind == "integer":
        return int(schema.get("minimum", 1))
    if kind == "number":
        return float(schema.get("minimum", 1.0))
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    return (text[: schema.get("maxLength", 80)] or "text").ljust(schema.get("minLength", 0), ".")
