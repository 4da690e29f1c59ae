"""A model for examples: it needs no key and no network, and the same request always gets the same answer.

It knows what the examples ask of it and nothing else. Its requests are written down outside of the engine, so
that anyone can count how often each was really made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from tenuto.bundled import examples_ledger as ledger
from tenuto.ports.model import ModelReply, ModelRequest, OnDelta

Answer = Callable[[str, ModelRequest], ModelReply]
"""Makes the answer from the text of the prompt and the request."""

_BYTES_PER_TOKEN = 4


class OfflineModel:
    """Answers by a function, after the time a real model would think."""

    def __init__(self, answer: Answer, *, think_s: float = 0.0, counted: bool = False) -> None:
        """Answer by `answer`.

        Args:
            think_s: Seconds before each answer.
            counted: Whether requests are written to the ledger.
        """
        self._answer = answer
        self._think_s = think_s
        self._counted = counted

    async def request(self, request: ModelRequest, *, key: str, on_delta: OnDelta | None = None) -> ModelReply:
        """Return the answer that follows from the request alone."""
        if self._counted:
            await asyncio.to_thread(ledger.write, "model", key, {"model": request.model})
        if self._think_s:
            await asyncio.sleep(self._think_s)
        reply = self._answer(prompt_of(request), request)
        text = reply.content or msgspec.json.encode(reply.data).decode()
        return msgspec.structs.replace(
            reply, input_tokens=_tokens(prompt_of(request)), output_tokens=min(_tokens(text), request.max_tokens),
            model=request.model, provider="offline",
        )

    def bound(self, request: ModelRequest) -> tuple[int, int]:
        """Return the size of the prompt with the longest answer allowed; it costs nothing."""
        return _tokens(prompt_of(request)) + request.max_tokens, 0


def prompt_of(request: ModelRequest) -> str:
    """Return the text of all messages."""
    return "\n".join(message.content for message in request.messages)


def chooses(words: dict[str, tuple[str, ...]], otherwise: str) -> Answer:
    """Return an answer that picks the choice whose words are found most often, and says why.

    Args:
        words: Choice -> words that speak for it.
        otherwise: The choice when no word is found.
    """

    def answer(prompt: str, request: ModelRequest) -> ModelReply:
        text = prompt.lower()
        found = {choice: [word for word in words.get(choice, ()) if word in text] for choice in request.choices}
        best = max(request.choices, key=lambda choice: len(found[choice]), default=otherwise)
        choice = best if found.get(best) else otherwise
        why = ", ".join(found.get(choice, ())) or "nothing else fits"
        return ModelReply(content=f"{choice}: {why}", choice=choice)

    return answer


def _tokens(text: str) -> int:
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)
