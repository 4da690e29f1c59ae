"""What every use case works with; made once per engine and namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tenuto.ports.store import Commit, Committed, Store


class Commits(Protocol):
    """Who makes commits durable, many runs at a time."""

    def submit(self, commit: Commit) -> asyncio.Future[Committed]:
        """Queue a commit; the future resolves once it is durable or refused."""
        ...


@dataclass(slots=True)
class Context:
    """The collaborators of one engine, bound to a namespace.

    Attributes:
        clock: Milliseconds since 1970 by the store's clock, as well as this process knows it.
    """

    store: Store
    committer: Commits
    definitions: Any
    catalog: Any
    bus: Any
    clock: Callable[[], int]
    ns: str = "default"
