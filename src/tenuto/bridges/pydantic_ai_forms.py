"""What a pydantic-ai agent says and hears, as JSON for the journal and back."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

from pydantic import TypeAdapter
from pydantic_core import to_json, to_jsonable_python

try:
    from pydantic_ai import ModelMessage, ModelMessagesTypeAdapter, ModelResponse
    from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ModelRetry
    from pydantic_ai.messages import ToolReturn, ToolReturnContent
    from pydantic_ai.models import ModelRequestParameters
except ImportError as error:
    raise ImportError("pydantic-ai is not installed; install the extra: pip install 'tenuto[pydantic-ai]'") from error

_CONTENT: TypeAdapter[Any] = TypeAdapter(ToolReturnContent)
_KIND = "pydantic_ai"
_SAID = ("part_kind", "content", "tool_name", "args")


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    return to_jsonable_python(value)


# --- requests --------------------------------------------------------------------------------------------------


def question(messages: list[ModelMessage]) -> list[dict[str, Any]]:
    """Return what identifies a request: what was said, without times and ids that differ from one attempt to the next.

    The tools offered are no part of it: what was answered stands, whatever a newer version of the agent can do.
    """
    said = cast("list[dict[str, Any]]", ModelMessagesTypeAdapter.dump_python(messages, mode="json"))
    return [
        {
            "kind": message["kind"],
            "instructions": message.get("instructions"),
            "parts": [{key: part[key] for key in _SAID if key in part} for part in message["parts"]],
        }
        for message in said
    ]


def size(messages: list[ModelMessage], parameters: ModelRequestParameters) -> int:
    """Return how many bytes a request has at most, with all the tools and forms of answers it offers."""
    return len(ModelMessagesTypeAdapter.dump_json(messages)) + len(to_json(parameters, serialize_unknown=True))


def response_to_json(response: ModelResponse) -> Any:
    """Return an answer for the journal."""
    return ModelMessagesTypeAdapter.dump_python([response], mode="json")[0]


def response_from_json(stored: Any) -> ModelResponse:
    """Return an answer from the journal."""
    return cast("ModelResponse", ModelMessagesTypeAdapter.validate_python([stored])[0])


# --- tools -----------------------------------------------------------------------------------------------------


async def outcome(call: Awaitable[Any]) -> dict[str, Any]:
    """Return what became of a tool's call: a value, or what it wants instead. Other errors pass: the call failed."""
    try:
        value = await call
    except ModelRetry as retry:
        return {_KIND: "retry", "message": retry.message}
    except ApprovalRequired as wanted:
        return {_KIND: "approval", "metadata": plain(wanted.metadata)}
    except CallDeferred as deferred:
        return {_KIND: "deferred", "metadata": plain(deferred.metadata)}
    if isinstance(value, ToolReturn):
        whole = cast("ToolReturn[Any]", value)
        return {
            _KIND: "return",
            "value": _CONTENT.dump_python(whole.return_value, mode="json"),
            "content": _CONTENT.dump_python(whole.content, mode="json"),
            "metadata": plain(whole.metadata),
        }
    return {_KIND: "value", "value": _CONTENT.dump_python(value, mode="json")}


def restored(stored: Any) -> Any:
    """Return what a recorded call gave. What a person or a status hook said it gave is taken as it is.

    Raises:
        ModelRetry: The tool asked the model to try again.
        ApprovalRequired: The tool asked for an approval.
        CallDeferred: The tool left the call to somebody else.
    """
    if not isinstance(stored, dict) or _KIND not in stored:
        return cast("Any", stored)
    known = cast("dict[str, Any]", stored)
    match known[_KIND]:
        case "retry":
            raise ModelRetry(known["message"])
        case "approval":
            raise ApprovalRequired(known["metadata"])
        case "deferred":
            raise CallDeferred(known["metadata"])
        case "return":
            value, content = _CONTENT.validate_python(known["value"]), _CONTENT.validate_python(known["content"])
            return ToolReturn(return_value=value, content=content, metadata=known["metadata"])
        case _:
            return _CONTENT.validate_python(known["value"])
