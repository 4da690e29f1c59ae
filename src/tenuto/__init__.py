"""Tenuto: durable, replayable, governed multi-agent workflows.

Importing the package loads nothing else; each public name loads its module when it is first used, so that
the command line starts at once.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

# Public name -> module that defines it.
_EXPORTS: dict[str, str] = {}

# A literal, because type checkers read it: every name of the table stands here too.
__all__ = ["__version__"]


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
