"""Signs of life as locked files: the kernel lets go of a lock when its process dies, and not a moment before."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks; leases alone decide there
    fcntl = None

SUFFIX = ".alive"


class LockFiles:
    """One directory a user and store; one locked file a worker. A stopped process keeps its lock, so it is not dead."""

    def __init__(self, store_url: str, root: Path | None = None) -> None:
        """Use a directory of the system's for temporary files, unless another is given."""
        name = sha256(store_url.encode()).hexdigest()[:16]
        user = os.getuid() if hasattr(os, "getuid") else 0
        self._directory = (root or Path(tempfile.gettempdir())) / f"tenuto-{user}" / name
        self._held: dict[str, int] = {}

    def show(self, worker: str) -> None:
        """Lock this worker's file; without a place for it there is simply no sign."""
        if fcntl is None:
            return
        with suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._directory / (worker + SUFFIX), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._held[worker] = handle

    def hide(self, worker: str) -> None:
        """Remove this worker's file, then let go of it."""
        handle = self._held.pop(worker, None)
        if handle is not None:
            self.bury(worker)
            os.close(handle)

    def dead(self) -> list[str]:
        """Return the workers whose file nobody holds."""
        if fcntl is None:
            return []
        found: list[str] = []
        with suppress(OSError):
            for entry in os.scandir(self._directory):
                worker = entry.name.removesuffix(SUFFIX)
                if entry.name.endswith(SUFFIX) and worker not in self._held and self._free(entry.path):
                    found.append(worker)
        return found

    def _free(self, path: str) -> bool:
        assert fcntl is not None
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(handle)
        return True

    def bury(self, worker: str) -> None:
        """Remove a dead worker's file."""
        with suppress(OSError):
            (self._directory / (worker + SUFFIX)).unlink()
