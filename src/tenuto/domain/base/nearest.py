"""The 'did you mean' of every error message."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_ALIKE = 0.6


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice a person most likely meant, or `None` when none is close.

    Case is ignored. Among equally close choices the result does not depend on their order.
    """
    by_folded = {choice.casefold(): choice for choice in sorted(choices, reverse=True)}
    found = get_close_matches(word.casefold(), sorted(by_folded), n=1, cutoff=_ALIKE)
    return by_folded[found[0]] if found else None


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return the question to append to an error message, or an empty text when no choice is close."""
    found = nearest(word, choices)
    return f"; did you mean {found!r}?" if found else ""
