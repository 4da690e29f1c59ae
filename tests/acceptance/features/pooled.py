"""Work for processes of a pool, in a module that loads at once."""

from __future__ import annotations

import os


def square(item: int) -> dict[str, int]:
    """Return the square of an item, and which process did it."""
    return {"square": item * item, "pid": os.getpid()}
