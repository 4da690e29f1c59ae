"""What all scripted providers do: pick an answer, keep a log of what was asked, and a ledger of what was billed."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from tenuto.adapters.models.scripted import example
from tenuto.testing.servers.http import Exchange, HttpServer
from tenuto.testing.servers.script import Answer, Document, Rates, Script

KEY_HEADER = "idempotency-key"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request that arrived, in order of arrival from 1 on.

    Attributes:
        key: Its idempotency key; empty without one.
        secret: Whether it showed the key the server wants, or any where it wants none.
    """

    n: int
    key: str
    model: str
    path: str
    stream: bool
    secret: bool
    body: dict[str, Any]


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What one served request is billed; one that was cut or never read is billed all the same."""

    n: int
    key: str
    model: str
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    cost_usd_micros: int


class ModelServer(HttpServer):
    """A provider on loopback.

    Attributes:
        asked: Every request, also those that got an error.
        bills: The server's own ledger.
        most_at_once: Most requests that were under way at one time.
    """

    def __init__(
        self, script: Script = None, *, rates: Rates | None = None, secret: str = "", log: Path | None = None, port: int = 0
    ) -> None:
        """Answer by a script.

        Args:
            script: A function of `Asked`, or answers in order, or a `Document`; `None` echoes.
            secret: When set, requests that do not show it get 401.
            log: File that gets a JSON line for each request and each bill, at once.
        """
        super().__init__(port)
        self.asked: list[Asked] = []
        self.bills: list[Bill] = []
        self.most_at_once = 0
        self._function = script if callable(script) else None
        document = script if isinstance(script, Document) else None
        self._answers: Sequence[Answer | str] = (
            document.answers if document else () if script is None or callable(script) else cast("Sequence[Answer | str]", script)
        )
        self._by_turn = document is not None and document.by == "turn"
        self._rates = rates or (document.rates if document else Rates())
        self._secret = secret
        self._log = log
        self._next = 0
        self._kept: dict[str, Answer] = {}
        self._under_way = 0
        self._arrived = asyncio.Condition()
        self._released = asyncio.Event()

    @property
    def base_url(self) -> str:
        """Return the address to give to a provider."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def billed_usd_micros(self) -> int:
        """Return the sum of all bills."""
        return sum(bill.cost_usd_micros for bill in self.bills)

    async def until_asked(self, count: int) -> None:
        """Wait until so many requests have arrived in all."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.asked) >= count)

    def release(self) -> None:
        """Let all answers go that are held, now and later."""
        self._released.set()

    # --- what a protocol says --------------------------------------------------------------------------------------

    def turns(self, body: dict[str, Any]) -> int:
        """Return how many answers of the model the conversation already holds."""
        return sum(message.get("role") == "assistant" for message in body.get("messages", []))

    def shown(self, headers: dict[str, str]) -> str:
        """Return the key that a request shows."""
        raise NotImplementedError

    def fault(self, answer: Answer) -> dict[str, Any]:
        """Return the body of an error."""
        raise NotImplementedError

    def whole(self, asked: Asked, answer: Answer) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        raise NotImplementedError

    def events(self, asked: Asked, answer: Answer) -> list[tuple[bytes, bool]]:
        """Return the events of a stream, each with whether it counts for `cut_after`."""
        raise NotImplementedError

    # --- an exchange -----------------------------------------------------------------------------------------------

    async def exchange(self, exchange: Exchange) -> None:
        """Answer one request by the script."""
        if exchange.method != "POST":
            known = self.shown(dict(exchange.headers)) == self._secret or not self._secret
            await exchange.answer(200 if known else 401, b'{"object":"list","data":[]}')
            return
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            await self._respond(exchange, await self._take(exchange))
        finally:
            self._under_way -= 1

    async def _take(self, exchange: Exchange) -> Asked:
        body = cast("dict[str, Any]", json.loads(exchange.body or b"{}"))
        shown = self.shown(dict(exchange.headers))
        asked = Asked(
            n=len(self.asked) + 1, key=exchange.headers.get(KEY_HEADER, ""), model=str(body.get("model", "")),
            path=exchange.path, stream=bool(body.get("stream")), secret=shown == self._secret or not self._secret, body=body,
        )  # fmt: skip
        self.asked.append(asked)
        self._note("asked", {"n": asked.n, "key": asked.key, "model": asked.model, "path": asked.path, "stream": asked.stream})
        async with self._arrived:
            self._arrived.notify_all()
        return asked

    async def _respond(self, exchange: Exchange, asked: Asked) -> None:
        answer = _misnamed(asked.body) or self._pick(asked, len(exchange.body)) if asked.secret else _STRANGER
        if answer.hold:
            await self._released.wait()
        if answer.status != 200:
            headers = {"retry-after": answer.retry_after} if answer.retry_after else {}
            await exchange.answer(answer.status, json.dumps(self.fault(answer)).encode(), headers)
            return
        self._bill(asked, answer)  # before a byte leaves: who cuts or goes pays all the same
        if answer.cut_after == 0:
            exchange.cut()
        elif asked.stream:
            await self._stream(exchange, asked, answer)
        elif answer.cut_after > 0:
            exchange.cut()
        else:
            await exchange.answer(200, json.dumps(self.whole(asked, answer)).encode())

    async def _stream(self, exchange: Exchange, asked: Asked, answer: Answer) -> None:
        await exchange.stream()
        counted = 0
        for event, counts in self.events(asked, answer):
            await exchange.send(event)
            counted += counts
            if counted == answer.cut_after and counts:
                exchange.cut()
                return
        await exchange.end()

    def _pick(self, asked: Asked, n_bytes: int) -> Answer:
        kept = self._kept.get(asked.key) if asked.key else None
        if kept is not None and self._function is None:
            return kept
        found: Answer | str
        if self._function is not None:
            found = self._function(asked)
        elif self._answers:
            at = self.turns(asked.body) if self._by_turn else self._next
            self._next += 1
            found = self._answers[min(at, len(self._answers) - 1)]
        else:
            found = _echo(asked.body)
        answer = _counted(Answer(text=found) if isinstance(found, str) else found, asked, n_bytes)
        if answer.is_whole and asked.key:
            self._kept[asked.key] = answer
        return answer

    def _bill(self, asked: Asked, answer: Answer) -> None:
        bill = Bill(
            n=asked.n, key=asked.key, model=asked.model, input_tokens=answer.input_tokens, cached_tokens=answer.cached_tokens,
            cache_write_tokens=answer.cache_write_tokens, output_tokens=answer.output_tokens,
            cost_usd_micros=self._rates.micros(answer),
        )  # fmt: skip
        self.bills.append(bill)
        self._note("billed", msgspec.to_builtins(bill))

    def _note(self, event: str, fields: dict[str, Any]) -> None:
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"event": event, **fields}) + "\n")


_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}").fullmatch


def _misnamed(body: dict[str, Any]) -> Answer | None:
    """Return the refusal of a tool whose name no provider takes."""
    for tool in body.get("tools") or ():
        name = str((tool.get("function") or tool).get("name", ""))
        if not _NAME(name):
            return Answer(status=400, message=f"Invalid tool name {name!r}: must match ^[a-zA-Z0-9_-]{{1,64}}$")
    return None


_STRANGER = Answer(status=401, message="this key is not known", error="invalid_api_key")


def _counted(answer: Answer, asked: Asked, n_bytes: int) -> Answer:
    calls = tuple(
        msgspec.structs.replace(use, id=use.id or f"call_{asked.n}_{at}") for at, use in enumerate(answer.tools)
    )
    size = len(answer.text) + len(answer.thinking) + sum(len(use.name) + len(str(use.arguments)) for use in calls)
    return msgspec.structs.replace(
        answer, tools=calls, input_tokens=answer.input_tokens or -(-n_bytes // 4),
        output_tokens=answer.output_tokens or -(-size // 4),
    )


def _echo(body: dict[str, Any]) -> str:
    """Answer what fits the schema that was asked for, else the last thing said."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    said = next((message["content"] for message in reversed(body.get("messages", [])) if message.get("content")), "")
    text = said if isinstance(said, str) else " ".join(str(part.get("text", "")) for part in said)
    return json.dumps(example(schema, text)) if schema else f"echo: {text}"
