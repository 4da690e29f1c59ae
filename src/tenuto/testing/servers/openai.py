"""A provider that speaks OpenAI's chat completions, as Ollama, llama.cpp, vLLM and many others do."""

from __future__ import annotations

import json
from typing import Any

from tenuto.testing.servers.model_server import Asked, ModelServer
from tenuto.testing.servers.script import Answer, ToolUse

_STOPS = {"end": "stop", "length": "length", "refused": "content_filter"}


class OpenAiServer(ModelServer):
    """Answers `POST /v1/chat/completions`, whole or streamed."""

    @property
    def base_url(self) -> str:
        """Return the address to give to a provider, with its version."""
        return f"{super().base_url}/v1"

    def shown(self, headers: dict[str, str]) -> str:
        """Return the bearer token."""
        return headers.get("authorization", "").removeprefix("Bearer ")

    def fault(self, answer: Answer) -> dict[str, Any]:
        """Return an error as OpenAI writes it."""
        return {"error": {"message": answer.message or "scripted", "type": "error", "param": None, "code": answer.error or None}}

    def whole(self, asked: Asked, answer: Answer) -> dict[str, Any]:
        """Return a chat completion."""
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
        if answer.tools:
            message["tool_calls"] = [_call(use) for use in answer.tools]
        choice = {"index": 0, "message": message, "finish_reason": _stop(answer)}
        return {**_frame(asked, "chat.completion"), "choices": [choice], "usage": _usage(answer)}

    def events(self, asked: Asked, answer: Answer) -> list[tuple[bytes, bool]]:
        """Return the chunks: role, pieces of text, tool calls in halves, the end, the usage."""
        frame = _frame(asked, "chat.completion.chunk")

        def chunk(delta: dict[str, Any], stop: str | None = None) -> bytes:
            return _event({**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": stop}], "usage": None})

        found = [(chunk({"role": "assistant", "content": ""}), False)]
        for at in range(0, len(answer.text), answer.piece):
            found.append((chunk({"content": answer.text[at : at + answer.piece]}), True))
        for at, use in enumerate(answer.tools):
            call = _call(use)
            text = call["function"]["arguments"]
            half = len(text) // 2
            first = {"index": at, **call, "function": {"name": use.name, "arguments": text[:half]}}
            found.append((chunk({"tool_calls": [first]}), True))
            found.append((chunk({"tool_calls": [{"index": at, "function": {"arguments": text[half:]}}]}), True))
        found.append((chunk({}, _stop(answer)), False))
        found.append((_event({**frame, "choices": [], "usage": _usage(answer)}), False))
        found.append((b"data: [DONE]\n\n", False))
        return found


def _frame(asked: Asked, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{asked.n}", "object": kind, "created": 1_700_000_000, "model": asked.model}


def _call(use: ToolUse) -> dict[str, Any]:
    arguments = use.arguments if isinstance(use.arguments, str) else json.dumps(use.arguments)
    return {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": arguments}}


def _stop(answer: Answer) -> str:
    return "tool_calls" if answer.tools and answer.stop == "end" else _STOPS[answer.stop]


def _usage(answer: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.input_tokens, "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
    }  # fmt: skip


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"
