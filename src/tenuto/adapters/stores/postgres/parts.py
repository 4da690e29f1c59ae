"""What every part of the store works with."""

from __future__ import annotations

import secrets

from tenuto.adapters.stores.postgres.committer import Committer
from tenuto.adapters.stores.postgres.hints import Hints
from tenuto.adapters.stores.postgres.link import Health, Link, Pool


class Parts:
    """The connections of one process.

    Attributes:
        commits: Appends; nothing else uses its connection.
        beats: Heartbeats, never behind anything slow.
        lane: Claims, takeovers and polls, whose statements must not run twice.
        pool: Everything else.
        taker: Marks the outbox rows that this process is delivering.
    """

    def __init__(self, url: str, place: str, lease_ms: int, readers: int) -> None:
        self.health = Health(place)
        self.taker = secrets.randbits(62) + 1
        limit_s = statement_limit_s(lease_ms)
        self.commits = Link(
            url, "commits", self.health, exclusive=True, statement_s=limit_s, hash_only=True, generic=True
        )
        self.beats = Link(url, "heartbeats", self.health, statement_s=limit_s, generic=True)
        self.lane = Link(
            url,
            "claims",
            self.health,
            exclusive=True,
            statement_s=limit_s,
            lock_s=min(0.2, limit_s),
            generic=True,
        )
        self.pool = Pool([Link(url, f"reads {n}", self.health) for n in range(readers)])
        self.listener = Link(url, "hints", self.health)
        self.hints = Hints(self.pool, self.listener, self.pids)
        self.committer = Committer(self.commits, self.hints.poke)

    def links(self) -> list[Link]:
        """Return all connections."""
        return [self.commits, self.beats, self.lane, self.listener, *self.pool.links]

    def pids(self) -> set[int]:
        """Return the backends that serve us."""
        return {pid for link in self.links() for pid in link.pids}

    async def close(self) -> None:
        """Finish what was accepted and disconnect."""
        await self.committer.close()
        await self.hints.close()
        for link in self.links():
            await link.close()


def statement_limit_s(lease_ms: int) -> float:
    """Return the longest time a statement may take: half a lease, but never so short that a slow disk fails it."""
    return max(1.0, lease_ms / 2000)


class Part:
    """A group of the store's methods; `PostgresStore` joins the groups."""

    @property
    def parts(self) -> Parts:
        """The connections; only between `open` and `close`."""
        raise NotImplementedError
