"""Our requests and answers in the library's words, and back."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any, cast

from pydantic_ai import messages as lib
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from tenuto.ports.model import Message, ModelReply, ModelRequest, ToolCall
from tenuto.ports.providers import Provider

ANSWER = "final_answer"
"""Name of the tool by which a structured answer comes where a provider has no other way."""

_OURS = frozenset({
    "timeout", "request_timeout", "first_event_timeout", "max_retries", "extra_headers", "max_tokens",
    # What a request is and may cost was decided before it was reserved for; the body is not the place to change it.
    "model", "messages", "system", "tools", "stream", "stream_options", "n", "best_of", "max_completion_tokens",
    "max_output_tokens",
})  # fmt: skip
_LIBRARYS = frozenset(ModelSettings.__annotations__) - _OURS
_STOPS = {"stop": "end", "length": "length", "content_filter": "refused", "tool_call": "tools"}

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_ODD = re.compile(r"[^A-Za-z0-9_-]").sub


def wire_name(tool: str) -> str:
    """Return a tool's name as providers take it: letters, digits, `_` and `-`, at most 64.

    It depends on nothing but the name, so that every request of a conversation says the same, and two tools never
    share one: what had to be changed ends in a digest of what it was.
    """
    if _PLAIN(tool) and tool != ANSWER:
        return tool
    return f"{_ODD('_', tool)[:53]}_{sha256(tool.encode()).hexdigest()[:10]}"


def conversation(request: ModelRequest, provider: Provider) -> list[lib.ModelMessage]:
    """Return the messages of a request; what an answer of this provider left in `details` goes back as it came."""
    found: list[lib.ModelMessage] = []
    asked: list[lib.ModelRequestPart] = []
    for message in request.messages:
        if message.role == "assistant":
            if asked:
                found.append(lib.ModelRequest(parts=asked))
                asked = []
            found.append(_answered(message, provider))
        else:
            asked.append(_part(message))
    if asked:
        found.append(lib.ModelRequest(parts=asked))
    return found


def _part(message: Message) -> lib.ModelRequestPart:
    match message.role:
        case "system":
            return lib.SystemPromptPart(message.content)
        case "tool":
            outcome = "failed" if message.failed else "success"
            return lib.ToolReturnPart(wire_name(message.name), message.content, tool_call_id=message.call_id, outcome=outcome)
        case _:
            return lib.UserPromptPart(message.content)


def _answered(message: Message, provider: Provider) -> lib.ModelResponse:
    kept = message.details
    if kept.get("provider") == provider.name:
        whole = {"kind": "response", "parts": kept["parts"], "provider_name": kept.get("system")}
        return cast("lib.ModelResponse", lib.ModelMessagesTypeAdapter.validate_python([whole])[0])
    parts: list[lib.ModelResponsePart] = [lib.TextPart(message.content)] if message.content else []
    for call in message.tool_calls:
        given: Any = call.arguments
        if call.malformed:  # only a protocol that keeps arguments as text can be shown what was written
            given = {"malformed": call.malformed} if provider.kind == "anthropic" else call.malformed
        parts.append(lib.ToolCallPart(wire_name(call.name), given, call.id))
    return lib.ModelResponse(parts=parts)


def settings(request: ModelRequest, provider: Provider, key: str) -> ModelSettings:
    """Return the settings of a request: its options, which may not touch retries, time-outs or headers.

    What the library has no word for goes into the body as it is.
    """
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in request.options.items():
        if name in _LIBRARYS or name.startswith(("openai_", "anthropic_")):
            known[name] = value
        elif name not in _OURS:
            extra[name] = value
    given: Any = known.pop("extra_body", None)
    if isinstance(given, dict):
        body = cast("dict[str, Any]", given)
        extra = {name: value for name, value in body.items() if name not in _OURS} | extra
    if extra:
        known["extra_body"] = extra
    if request.seed and provider.kind != "anthropic":
        known.setdefault("seed", request.seed)
    known |= {"max_tokens": request.max_tokens, "max_retries": 0, "extra_headers": {"Idempotency-Key": key}}
    return cast("ModelSettings", known)


def parameters(request: ModelRequest, provider: Provider) -> ModelRequestParameters:
    """Return the tools of a request and the shape its answer must have."""
    tools = [
        ToolDefinition(
            name=wire_name(tool.name), description=tool.description or None, parameters_json_schema=tool.schema or _NOTHING
        )
        for tool in request.tools
    ]
    shape = answer_schema(request)
    if shape is None:
        return ModelRequestParameters(function_tools=tools)
    if provider.kind == "anthropic":
        answer = ToolDefinition(
            name=ANSWER, description="Give the answer.", parameters_json_schema=shape, kind="output"
        )
        return ModelRequestParameters(function_tools=tools, output_mode="tool", output_tools=[answer], allow_text_output=False)
    output = OutputObjectDefinition(json_schema=shape, name=ANSWER)
    return ModelRequestParameters(function_tools=tools, output_mode="native", output_object=output)


_NOTHING: dict[str, Any] = {"type": "object", "properties": {}}


def answer_schema(request: ModelRequest) -> dict[str, Any] | None:
    """Return the JSON object an answer must be: the schema's own, or one that holds the choice and the data."""
    if not request.choices:
        return request.schema if request.schema is None or _is_object(request.schema) else _object(data=request.schema)
    parts: dict[str, Any] = {"choice": {"type": "string", "enum": list(request.choices)}}
    if request.schema is not None:
        parts["data"] = request.schema
    return _object(**parts)


def _is_object(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "object"


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def reply(request: ModelRequest, response: lib.ModelResponse, provider: Provider) -> ModelReply:
    """Return an answer in our words, without its cost."""
    text = "".join(part.content for part in response.parts if isinstance(part, lib.TextPart))
    calls: list[ToolCall] = []
    names = {wire_name(tool.name): tool.name for tool in request.tools}
    answer: Any = None
    for part in response.parts:
        if isinstance(part, lib.ToolCallPart):
            call = _call(part, names.get(part.tool_name, part.tool_name))
            if part.tool_name == ANSWER:
                answer, text = call.arguments, text or part.args_as_json_str()
            else:
                calls.append(call)
    shape = answer_schema(request)
    if shape is not None and answer is None and not calls:
        answer = _json(text)
    choice, data = _taken(request, answer)
    usage = response.usage
    stop = _STOPS.get(str(response.finish_reason), "end")
    return ModelReply(
        content=text, choice=choice, data=data, tool_calls=tuple(calls), input_tokens=usage.input_tokens,
        cached_tokens=usage.cache_read_tokens, cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens, reasoning_tokens=int(usage.details.get("reasoning_tokens", 0)),
        model=response.model_name or request.model.partition(":")[2], provider=provider.name,
        stop="tools" if calls and stop == "end" else "end" if stop == "tools" and not calls else stop,
        details=_details(response, provider),
    )  # fmt: skip


def _call(part: lib.ToolCallPart, name: str) -> ToolCall:
    given: Any = part.args
    if isinstance(given, str):
        given = _json(given) if given.strip() else {}
    elif given is None:
        given = {}
    if isinstance(given, dict):
        return ToolCall(part.tool_call_id, name, cast("dict[str, Any]", given))
    return ToolCall(part.tool_call_id, name, malformed=part.args if isinstance(part.args, str) else repr(part.args))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _taken(request: ModelRequest, answer: Any) -> tuple[str, Any]:
    if not request.choices:
        wrapped = request.schema is not None and not _is_object(request.schema)
        return "", cast("dict[str, Any]", answer).get("data") if wrapped and isinstance(answer, dict) else answer
    if not isinstance(answer, dict):
        return "", None
    fields = cast("dict[str, Any]", answer)
    return str(fields.get("choice", "")), fields.get("data")


def _details(response: lib.ModelResponse, provider: Provider) -> dict[str, Any]:
    """Return what must go back with this answer: nothing, unless it holds more than text and calls."""
    plain = (lib.TextPart, lib.ToolCallPart)
    if all(isinstance(part, plain) and not part.provider_details for part in response.parts):
        return {}
    whole = cast("list[dict[str, Any]]", lib.ModelMessagesTypeAdapter.dump_python([response], mode="json"))[0]
    return {"provider": provider.name, "system": response.provider_name, "parts": whole["parts"]}
