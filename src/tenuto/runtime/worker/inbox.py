"""Reading what runs were sent: in order, each message once an ownership."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tenuto.domain.runs import inputs as io
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.state import RunState
from tenuto.errors import Corrupt, Gone, TenutoError
from tenuto.ports.store import Store
from tenuto.runtime.worker.background import Background


class Recipient(Protocol):
    """A run that is sent messages.

    Attributes:
        inbox_seen: Number of the newest message that was read for it.
        dropped: Whether it belongs to this worker no more.
    """

    st: RunState
    inbox_seen: int
    dropped: bool

    def push(self, inp: io.Input) -> None:
        """Take a message."""
        ...

    def touch(self) -> None:
        """Learn that there was none, which may be what it waited for."""
        ...


class Inbox:
    """The inboxes of the runs of one worker."""

    def __init__(self, store: Store, background: Background, refused: Callable[[str, TenutoError], None]) -> None:
        """Read from a store; `refused` hears of runs whose messages it does not hand out."""
        self._store = store
        self._refused = refused
        self._background = background
        self._reading: set[str] = set()

    def read(self, run: Recipient) -> None:
        """Fetch a run's new messages; at most one fetch a run at a time."""
        if run.st.id not in self._reading and not run.dropped:
            self._reading.add(run.st.id)
            self._background.spawn(self._read(run))

    async def _read(self, run: Recipient) -> None:
        try:
            messages = await self.messages(run)
        except (Corrupt, Gone) as fault:
            self._refused(run.st.id, fault)
            return
        finally:
            self._reading.discard(run.st.id)
        if messages and not run.dropped:
            for message in messages:
                run.push(message)
        elif not run.dropped:
            run.touch()

    async def messages(self, run: Recipient) -> list[io.Input]:
        """Read what a run was sent since its last messages; from now on it counts as seen."""
        rows = await self._store.inbox(run.st.id, run.inbox_seen)
        found: list[io.Input] = []
        for row in rows:
            if row.n <= run.inbox_seen:
                continue
            run.inbox_seen = row.n
            found.append(io.Arrived(n=row.n, key=row.key, message=msg.decode_message(row.body)))
        return found
