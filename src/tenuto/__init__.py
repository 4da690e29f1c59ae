"""Tenuto: durable, replayable, governed multi-agent workflows.

Importing the package loads nothing else; each public name loads its module when it is first used, so that
the command line starts at once.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.domain.graph.model import Budget, Definition, Retry
    from tenuto.errors import Permanent, RunEnded, StepError, TenutoError
    from tenuto.runtime.services.engine import Engine
    from tenuto.runtime.worker.context import Context, SyncContext
    from tenuto.runtime.worker.options import WorkerOptions
    from tenuto.sdk.app import App
    from tenuto.sdk.running import run

__version__ = "0.1.0"

# Public name -> module that defines it.
_EXPORTS: dict[str, str] = {
    "App": "tenuto.sdk.app",
    "Budget": "tenuto.domain.graph.model",
    "Context": "tenuto.runtime.worker.context",
    "Definition": "tenuto.domain.graph.model",
    "Engine": "tenuto.runtime.services.engine",
    "Permanent": "tenuto.errors",
    "Retry": "tenuto.domain.graph.model",
    "RunEnded": "tenuto.errors",
    "StepError": "tenuto.errors",
    "SyncContext": "tenuto.runtime.worker.context",
    "TenutoError": "tenuto.errors",
    "WorkerOptions": "tenuto.runtime.worker.options",
    "run": "tenuto.sdk.running",
}

# A literal, because type checkers read it: every name of the table stands here too.
__all__ = [
    "App",
    "Budget",
    "Context",
    "Definition",
    "Engine",
    "Permanent",
    "Retry",
    "RunEnded",
    "StepError",
    "SyncContext",
    "TenutoError",
    "WorkerOptions",
    "__version__",
    "run",
]


def __getattr__(name: str) -> Any:
    """Load the module of a public name the first time the name is used."""
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import sys

    __import__(module)
    value = getattr(sys.modules[module], name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *_EXPORTS})
