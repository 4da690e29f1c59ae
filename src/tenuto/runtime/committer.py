"""Group commit: while one group is on its way to the disk, the next one gathers.

There is no timer, so a single run waits for nobody, and a thousand share one transaction. Runs decide when their
group is made up, which folds everything that happened to a run meanwhile into one record.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from tenuto.errors import StatementRefused, Unavailable
from tenuto.ports.store import Commit, Committed, Store
from tenuto.runtime.creation import Creation

log = logging.getLogger("tenuto.committer")
GROUP = 512
GROUP_BYTES = 4 * 1024 * 1024


class Source(Protocol):
    """Something that has a commit to make when its turn comes.

    Attributes:
        announce: Resolved with the first result, where the source creates a run somebody asked for.
    """

    announce: asyncio.Future[Committed] | None

    def propose(self) -> Commit | None:
        """Decide, and return what to make durable, or `None`."""
        ...

    def concluded(self, result: Committed) -> None:
        """Learn what became of the commit proposed last."""
        ...

    def abandon(self) -> None:
        """Let go without knowing what became of the commit proposed last; the store is read before anything follows."""
        ...


class Committer:
    """One queue of commits in front of a store; at most one group is under way.

    Attributes:
        observe: Told of each group how many commits it had and how many seconds it took.
    """

    def __init__(self, store: Store) -> None:
        """Commit to a store; nothing happens before `run`."""
        self.store = store
        self.intercept: Callable[[Creation], Source | None] | None = None
        self.before_group: Callable[[], None] | None = None
        self.observe: Callable[[int, float], None] | None = None
        self._dirty: deque[Source] = deque()
        self._plain: deque[tuple[Commit, asyncio.Future[Committed]]] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.groups = 0

    def start(self) -> None:
        """Begin to commit."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="committer")

    async def close(self) -> None:
        """Commit what is queued and end."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task

    def mark(self, source: Source) -> None:
        """Let a source propose in the next group. A source marks itself at most once until it is asked."""
        self._dirty.append(source)
        self._wake.set()

    def submit(self, commit: Commit) -> asyncio.Future[Committed]:
        """Queue a commit; the future resolves once it is durable or refused."""
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self.queue(commit, future)
        return future

    def create(self, creation: Creation) -> asyncio.Future[Committed]:
        """Bring a run into being; a worker of this process that can serve it owns it from its first record on."""
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        source = self.intercept(creation) if self.intercept is not None else None
        if source is None:
            self.queue(creation.commit(), future)
        else:
            source.announce = future
            self.mark(source)
        return future

    def queue(self, commit: Commit, future: asyncio.Future[Committed]) -> None:
        """Queue a commit whose result resolves a future that somebody waits for already."""
        self._plain.append((commit, future))
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty or self._plain:
                await self._group()
            if self._closing:
                return

    async def _group(self) -> None:
        batch: list[Commit] = []
        owners: list[Source | asyncio.Future[Committed]] = []
        size = 0
        while self._plain and len(batch) < GROUP and size < GROUP_BYTES:
            commit, future = self._plain.popleft()
            batch.append(commit)
            owners.append(future)
            size += weight(commit)
        dirty = self._dirty
        if dirty and self.before_group is not None:
            self.before_group()
        while dirty and len(batch) < GROUP and size < GROUP_BYTES:
            source = dirty.popleft()
            try:
                commit = source.propose()
            except Exception as exc:
                # Everybody else's commits go on; what this source has in the store is found again without it.
                log.exception("a commit could not be made")
                if source.announce is not None and not source.announce.done():
                    source.announce.set_exception(exc)
                source.abandon()
                continue
            if commit is not None:
                batch.append(commit)
                owners.append(source)
                size += weight(commit)
        if not batch:
            # Replies were given without a record; let the code they belong to run before asking again.
            await asyncio.sleep(0)
            return
        observe, began = self.observe, perf_counter() if self.observe is not None else 0.0
        try:
            results = await self.store.commit(batch)
        except StatementRefused as exc:
            # Nothing was stored, and nothing will be before somebody has looked: whoever waits is told so.
            log.error("a group of %d commits was not stored: %s", len(batch), exc)
            for owner in owners:
                _let_go(owner, exc)
            return
        except Exception:
            # A store waits out what passes by, so this is a mistake of its own, and nobody knows what it stored.
            log.exception("a group of %d commits failed as no store may fail", len(batch))
            for owner in owners:
                _let_go(owner, outcome_unknown())
            return
        self.groups += 1
        if observe is not None:
            observe(len(batch), perf_counter() - began)
        for owner, result in zip(owners, results, strict=True):
            if isinstance(owner, asyncio.Future):
                if not owner.done():
                    owner.set_result(result)
                continue
            try:
                owner.concluded(result)
            except Exception:
                log.exception("what follows a commit could not be done")
                owner.abandon()


def _let_go(owner: Source | asyncio.Future[Committed], why: Unavailable) -> None:
    future = owner if isinstance(owner, asyncio.Future) else owner.announce
    if future is not None and not future.done():
        future.set_exception(why)
    if not isinstance(owner, asyncio.Future):
        owner.abandon()


def outcome_unknown() -> Unavailable:
    """Return what whoever waits for a commit is told when nobody knows whether it was stored."""
    return Unavailable("it is not known whether this was stored; look before asking again", code="commit.unknown")


def weight(commit: Commit) -> int:
    """Return roughly how many bytes a commit carries."""
    size = len(commit.record.body) if commit.record is not None else 0
    for _, body in commit.blobs:
        size += len(body)
    return size + (len(commit.snapshot) if commit.snapshot else 0)
