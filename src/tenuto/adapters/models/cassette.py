"""Real answers kept in a file: recorded once, replayed for ever, so that tests need neither key nor network."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from tenuto.ports.model import Model, ModelRefused, ModelReply, ModelRequest, OnDelta

VERSION = 1


class Take(msgspec.Struct, frozen=True, kw_only=True):
    """One request, its bounds, and its answer."""

    request: ModelRequest
    bound: tuple[int, int]
    reply: ModelReply


class _Cassette(msgspec.Struct, frozen=True, kw_only=True):
    version: int = VERSION
    takes: tuple[Take, ...] = ()


class CassetteModel:
    """Replays what a file holds; with a model, asks it what the file does not hold, and keeps the answer.

    The nth time a request is made it gets the nth answer recorded for it, after the last one the last again.
    A failed request is not kept.
    """

    def __init__(self, path: str | os.PathLike[str], model: Model | None = None) -> None:
        """Open a cassette.

        Args:
            model: Answers what is not recorded; `None` refuses it.

        Raises:
            ValueError: The file is no cassette of this version.
        """
        self._path = Path(path)
        self._model = model
        self._takes: list[Take] = []
        self._played: Counter[bytes] = Counter()
        if self._path.exists():
            cassette = msgspec.json.decode(self._path.read_bytes(), type=_Cassette)
            if cassette.version != VERSION:
                raise ValueError(f"{self._path} has version {cassette.version}; this is version {VERSION}: record it anew")
            self._takes = list(cassette.takes)

    async def request(self, request: ModelRequest, *, key: str, on_delta: OnDelta | None = None) -> ModelReply:
        """Return the recorded answer, or the model's.

        Raises:
            ModelRefused: It is not recorded and there is no model to ask.
        """
        same = self._of(request)
        self._played[_name(request)] += 1
        nth = self._played[_name(request)]
        if same and (nth <= len(same) or self._model is None):
            reply = same[min(nth, len(same)) - 1].reply
            if on_delta is not None and reply.content:
                on_delta(reply.content)
            return reply
        if self._model is None:
            raise self._unrecorded(request)
        reply = await self._model.request(request, key=key, on_delta=on_delta)
        self._takes.append(Take(request=request, bound=self._model.bound(request), reply=reply))
        self._save()
        return reply

    def bound(self, request: ModelRequest) -> tuple[int, int]:
        """Return the bounds that were recorded, or the model's.

        Raises:
            ModelRefused: There are none.
        """
        same = self._of(request)
        if same:
            return same[0].bound
        if self._model is None:
            raise self._unrecorded(request)
        return self._model.bound(request)

    def _of(self, request: ModelRequest) -> list[Take]:
        name = _name(request)
        return [take for take in self._takes if _name(take.request) == name]

    def _unrecorded(self, request: ModelRequest) -> ModelRefused:
        said = request.messages[-1].content if request.messages else ""
        return ModelRefused(
            f"{self._path} holds no answer for this request to {request.model} that ends in {said[-80:]!r}; "
            f"it holds {len(self._takes)}: record it with CassetteModel(path, model)"
        )

    def _save(self) -> None:
        data: Any = _Cassette(takes=tuple(self._takes))
        text = msgspec.json.format(msgspec.json.encode(data), indent=1)
        draft = self._path.with_suffix(self._path.suffix + ".new")
        draft.write_bytes(text + b"\n")
        draft.replace(self._path)


def _name(request: ModelRequest) -> bytes:
    return msgspec.json.encode(request, order="sorted")
