"""The people who decide, by group."""

from __future__ import annotations

from dataclasses import dataclass

from tenuto.settings.keys import key


@dataclass(frozen=True, kw_only=True)
class Group:
    """People any of whom may decide where `group:NAME` may."""

    members: tuple[str, ...] = key((), "their names, as they decide by them")
