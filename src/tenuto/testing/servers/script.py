"""What a scripted provider answers, what goes wrong, and what it bills."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import msgspec


class ToolUse(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A tool call in an answer; text as `arguments` is sent as it is, so that it can be malformed."""

    name: str
    arguments: dict[str, Any] | str = {}
    id: str = ""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """One answer, or one fault.

    Attributes:
        input_tokens: Of the whole prompt, cached ones included; 0 = one for every four bytes of the request.
        output_tokens: Reasoning included; 0 = one for every four characters of the answer.
        thinking: Sent, with a signature, where the protocol has such a thing.
        stop: `end`, `length` or `refused`; that it asks for tools is seen from `tools`.
        status: When not 200, the answer is an error with `message` and `error`, and `retry_after` as its header.
        cut_after: Breaks the connection after so many pieces of the text, 0 before the first byte; -1 never.
        hold: Waits for `ModelServer.release` before the first byte; without it, the request hangs.
        piece: Characters in each piece of a stream.
    """

    text: str = ""
    tools: tuple[ToolUse, ...] = ()
    thinking: str = ""
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    stop: str = "end"
    status: int = 200
    message: str = ""
    error: str = ""
    retry_after: str = ""
    cut_after: int = -1
    hold: bool = False
    piece: int = 4

    @property
    def is_whole(self) -> bool:
        """Return whether a client gets all of it."""
        return self.status == 200 and self.cut_after < 0


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the server bills, in US dollars a million tokens, as decimal text; empty = as `input`."""

    input: str = "0"
    output: str = "0"
    cached: str = ""
    cache_write: str = ""

    def micros(self, answer: Answer) -> int:
        """Return the bill of an answer in micro-USD, rounded up once."""
        plain = answer.input_tokens - answer.cached_tokens - answer.cache_write_tokens
        return ceil(
            plain * Fraction(self.input) + answer.cached_tokens * Fraction(self.cached or self.input)
            + answer.cache_write_tokens * Fraction(self.cache_write or self.input)
            + answer.output_tokens * Fraction(self.output)
        )  # fmt: skip


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A script as a JSON file.

    Attributes:
        by: `order` gives the answers one after the other, the same one again for a key that already got a whole
            answer. `turn` gives the one whose place is the number of answers already in the conversation, so that it
            does not matter how often a request is repeated. Past the end the last one is repeated.
    """

    answers: tuple[Answer | str, ...] = ()
    by: str = "order"
    rates: Rates = Rates()


Script = Callable[[Any], "Answer | str"] | Sequence["Answer | str"] | Document | None


def read_script(path: Path) -> Document:
    """Return the script of a file.

    Raises:
        ValueError: The file holds no script; the message says where.
    """
    return msgspec.json.decode(path.read_bytes(), type=Document)
