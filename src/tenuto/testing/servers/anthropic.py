"""A provider that speaks Anthropic's messages."""

from __future__ import annotations

import json
from typing import Any

from tenuto.testing.servers.model_server import Asked, ModelServer
from tenuto.testing.servers.script import Answer

_STOPS = {"end": "end_turn", "length": "max_tokens", "refused": "refusal"}
_ERRORS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error",
}  # fmt: skip


class AnthropicServer(ModelServer):
    """Answers `POST /v1/messages`, whole or streamed; official clients ask for streams by themselves."""

    def shown(self, headers: dict[str, str]) -> str:
        """Return the key of its own header, or the bearer token that newer clients send."""
        return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")

    def fault(self, answer: Answer) -> dict[str, Any]:
        """Return an error as Anthropic writes it."""
        kind = answer.error or _ERRORS.get(answer.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": answer.message or "scripted"}}

    def whole(self, asked: Asked, answer: Answer) -> dict[str, Any]:
        """Return a message."""
        usage = {**_input(answer), "output_tokens": answer.output_tokens}
        return {**_message(asked), "content": _blocks(asked, answer), "stop_reason": _stop(answer), "usage": usage}

    def events(self, asked: Asked, answer: Answer) -> list[tuple[bytes, bool]]:
        """Return the events of a message: its start, each block in pieces, its end with the usage."""
        usage = {**_input(answer), "output_tokens": 1}
        found = [(_event("message_start", {"message": {**_message(asked), "content": [], "usage": usage}}), False)]
        for at, block in enumerate(_blocks(asked, answer)):
            empty, deltas = _pieces(block, answer.piece)
            found.append((_event("content_block_start", {"index": at, "content_block": empty}), False))
            for delta in deltas:
                found.append((_event("content_block_delta", {"index": at, "delta": delta}), True))
            found.append((_event("content_block_stop", {"index": at}), False))
        end = {"delta": {"stop_reason": _stop(answer), "stop_sequence": None}, "usage": {"output_tokens": answer.output_tokens}}
        found.append((_event("message_delta", end), False))
        found.append((_event("message_stop", {}), False))
        return found


def _message(asked: Asked) -> dict[str, Any]:
    return {
        "id": f"msg_{asked.n}", "type": "message", "role": "assistant", "model": asked.model, "stop_reason": None,
        "stop_sequence": None,
    }  # fmt: skip


def _blocks(asked: Asked, answer: Answer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if answer.thinking:
        found.append({"type": "thinking", "thinking": answer.thinking, "signature": f"signed-{asked.n}"})
    if answer.text or not answer.tools:
        found.append({"type": "text", "text": answer.text})
    for use in answer.tools:
        found.append({"type": "tool_use", "id": use.id, "name": use.name, "input": use.arguments})
    return found


def _pieces(block: dict[str, Any], size: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    match block["type"]:
        case "text":
            text = block["text"]
            parts = [text[at : at + size] for at in range(0, len(text), size)]
            return {"type": "text", "text": ""}, [{"type": "text_delta", "text": part} for part in parts]
        case "thinking":
            deltas = [
                {"type": "thinking_delta", "thinking": block["thinking"]},
                {"type": "signature_delta", "signature": block["signature"]},
            ]
            return {"type": "thinking", "thinking": "", "signature": ""}, deltas
        case _:
            given = block["input"]
            text = given if isinstance(given, str) else json.dumps(given)
            half = len(text) // 2
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in (text[:half], text[half:])]
            return {**block, "input": {}}, deltas


def _stop(answer: Answer) -> str:
    return "tool_use" if answer.tools and answer.stop == "end" else _STOPS[answer.stop]


def _input(answer: Answer) -> dict[str, Any]:
    return {
        "input_tokens": answer.input_tokens - answer.cached_tokens - answer.cache_write_tokens,
        "cache_read_input_tokens": answer.cached_tokens, "cache_creation_input_tokens": answer.cache_write_tokens,
    }  # fmt: skip


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()
