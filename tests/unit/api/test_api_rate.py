"""A limit of requests a second: a burst of one second passes, then a steady trickle, each client for itself."""

from __future__ import annotations

import pytest

from tenuto.api.errors import Refused
from tenuto.api.rate import Rate


def test_a_seconds_worth_then_a_trickle() -> None:
    now = [0.0]
    rate = Rate(4, clock=lambda: now[0])
    for _ in range(4):
        rate.take("a")
    with pytest.raises(Refused) as refused:
        rate.take("a")
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
    rate.take("b")
    now[0] = 0.25
    rate.take("a")
    with pytest.raises(Refused):
        rate.take("a")


def test_no_limit_and_slow_limits() -> None:
    now = [0.0]
    free, slow = Rate(0, clock=lambda: now[0]), Rate(0.1, clock=lambda: now[0])
    for _ in range(1000):
        free.take("a")
    slow.take("a")
    with pytest.raises(Refused) as refused:
        slow.take("a")
    assert refused.value.headers["Retry-After"] == "10"
    now[0] = 10.0
    slow.take("a")
