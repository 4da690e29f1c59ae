"""Run ids: they grow, they never repeat, and a forked process makes its own."""

from __future__ import annotations

import os
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from tenuto.runtime.services.ids import RunIds


@given(st.lists(st.integers(min_value=1, max_value=2**47), min_size=1, max_size=50))
def test_ids_are_version_7_and_grow_whatever_the_clock_does(times: list[int]) -> None:
    clock = iter(times)
    ids = RunIds(lambda: next(clock))
    made = [ids.new() for _ in times]
    assert made == sorted(set(made))
    assert {(UUID(one).version, UUID(one).variant) for one in made} == {(7, "specified in RFC 4122")}


def test_ids_of_one_millisecond_differ_and_grow() -> None:
    ids = RunIds(lambda: 1_700_000_000_000)
    made = [ids.new() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_a_forked_process_draws_its_own_randomness() -> None:
    ids = RunIds(lambda: 1_700_000_000_000)
    ids.new()
    out, into = os.pipe()
    child = os.fork()
    if not child:
        os.write(into, ids.new().encode())
        os._exit(0)
    os.close(into)
    theirs = os.read(out, 36).decode()
    os.close(out)
    assert os.waitpid(child, 0)[1] == 0
    assert len(theirs) == 36 and theirs[-16:] != ids.new()[-16:]
