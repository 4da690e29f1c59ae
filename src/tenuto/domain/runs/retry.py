"""When a failed attempt is made again. Jitter is a hash, so a replay decides the same."""

from __future__ import annotations

from hashlib import sha256

from tenuto.domain.graph.model import Retry
from tenuto.domain.runs.events import Failure

NO_RETRY = Retry()
MAX_LOSSES = 3
"""Attempts of a step that may end without a definite outcome: with the third, it is not tried again by itself."""


def may_retry(policy: Retry, fails: int, failure: Failure) -> bool:
    """Return whether one more attempt is allowed after `fails` definite failures, this one included."""
    if not failure.retryable or fails >= policy.attempts:
        return False
    return failure.type not in policy.non_retryable and failure.code not in policy.non_retryable


def delay_ms(policy: Retry, fails: int, run: str, step: str) -> int:
    """Return the wait before the next attempt: exponential, capped, with repeatable jitter."""
    base = min(policy.backoff_s * policy.multiplier ** (fails - 1), policy.max_backoff_s)
    share = int.from_bytes(sha256(f"{run}/{step}/{fails}".encode()).digest()[:4], "big") / 0xFFFFFFFF
    return int(base * 1000 * (1 + policy.jitter * (2 * share - 1)))
