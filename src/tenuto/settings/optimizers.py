"""How optimizers are asked, and what follows by itself."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tenuto.ports.optimizers import Bounds
from tenuto.settings.keys import between, key, one_of

MEBIBYTE = 1024 * 1024
_GIVEN = re.compile(r"[a-z][a-z0-9_-]*\.[A-Za-z0-9_]+=.+")


def _given_fault(values: tuple[str, ...]) -> str:
    for value in values:
        if not _GIVEN.fullmatch(value):
            return f"holds {value!r}; write OPTIMIZER.NAME=VALUE, such as mark_cacheable.min_ms=20"
    return ""


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@dataclass(frozen=True, kw_only=True)
class Optimizers:
    """Optimizers of workflows: which are asked, within what bounds, and whether by themselves."""

    enabled: bool = key(True, "whether optimizers can be asked and added at all")
    builtin: tuple[str, ...] = key(("all",), "which of those that come with Tenuto are asked: their names, or all")
    auto: str = key("off", "whether proposals for workflows arise by themselves from what their runs took",
                    one_of("off", "propose"))  # fmt: skip
    live: str = key("off", "whether what arises by itself is proposed to runs that go on, too", one_of("off", "propose"))
    every_s: float = key(300.0, "time between two looks for improvements", between(1, 86_400, " s"))
    min_runs: int = key(20, "ended runs of a version that are needed to look at it by itself, and to tell what a change saved",
                        between(1, 100_000))  # fmt: skip
    window: int = key(100, "newest ended runs of a version that are looked at", between(1, 10_000))
    fuel: int = key(200_000_000, "instructions one optimizer may execute", between(1000, 10**12))
    max_memory_bytes: int = key(64 * MEBIBYTE, "memory one optimizer may use", between(65_536, 1024 * MEBIBYTE, " bytes"))
    timeout_s: float = key(2.0, "time one optimizer may take", between(0.01, 60, " s"))
    max_reply_bytes: int = key(MEBIBYTE, "longest answer of an optimizer", between(100, 16 * MEBIBYTE, " bytes"))
    max_bytes: int = key(2 * MEBIBYTE, "largest module of an optimizer that is added", between(100, 2 * MEBIBYTE, " bytes"))
    given: tuple[str, ...] = key((), "numbers and texts that single optimizers take, as OPTIMIZER.NAME=VALUE", _given_fault)
    max_failures: int = key(3, "failures in a row after which an added optimizer is asked no more", between(1, 1000))

    def told(self) -> dict[str, dict[str, Any]]:
        """Return what single optimizers are told beside, by their names."""
        found: dict[str, dict[str, Any]] = {}
        for text in self.given:
            place, _, value = text.partition("=")
            name, _, what = place.partition(".")
            found.setdefault(name, {})[what] = _value(value)
        return found

    def bounds(self) -> Bounds:
        """Return what one optimizer may use."""
        return Bounds(fuel=self.fuel, memory=self.max_memory_bytes, time_s=self.timeout_s, reply=self.max_reply_bytes)
