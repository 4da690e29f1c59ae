"""Worker processes of the demo: started, killed without warning, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from tenuto.bundled.load import BUNDLED
from tenuto.errors import Unavailable

_STOP_S = 10
_TAIL = 12


class DemoFailed(Unavailable):
    """The story could not be told to its end: a process, or the engine, did not do its part in time."""

    code = "demo.failed"


class WorkerProcess:
    """One `tenuto worker` process on the bundled examples; its output goes to a file."""

    def __init__(self, number: int, url: str, home: Path, lease_s: float) -> None:
        """Start the process."""
        self.log = home / f"worker-{number}.log"
        environ = {
            **os.environ, "TENUTO_HOME": str(home), "TENUTO_LEASE_S": f"{lease_s:g}", "TENUTO_DATABASE_URL": url,
        }
        environ.pop("TENUTO_DATABASE", None)
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tenuto", "worker", BUNDLED], env=environ, stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """Return the process's id."""
        return self._process.pid

    def check(self) -> None:
        """Do nothing while the process lives.

        Raises:
            DemoFailed: It ended by itself; the end of its output is told.
        """
        code = self._process.poll()
        if code is not None:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
            told = "\n".join(f"  {line}" for line in lines) or "  (it said nothing)"
            raise DemoFailed(f"worker process {self.pid} ended by itself with code {code}:\n{told}")

    def kill(self) -> str:
        """Kill the process as a power cut would, and return how it ended, in words."""
        self._process.send_signal(signal.SIGKILL)
        code = self._process.wait(_STOP_S)
        return f"signal {-code}, {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def stop(self) -> None:
        """End the process, gently first; one that has ended is left alone."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        """Keep the process for the block."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Make sure that it is gone."""
        self.stop()
