"""The simulation sees: every known protocol bug, put into the engine on purpose, is caught by its seed."""

from __future__ import annotations

import pytest

from tenuto.testing.mutants import Mutant, mutants
from tenuto.testing.simulation import run_seed, shown

REQUIRED = {
    "ack_first", "no_fence", "parks_unread", "no_lease_taken", "not_joined", "lost_effect", "refund_on_unknown",
    "key_per_attempt", "late_edge", "begins_unrecorded", "timer_twice", "snapshot_ahead", "event_id_off",
}


def test_every_bug_the_protocol_is_known_to_invite_is_tried():
    names = [mutant.name for mutant in mutants()]
    assert set(names) >= REQUIRED
    assert len(names) == len(set(names)) >= 15


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_the_mutant_is_caught_by_its_seed(mutant: Mutant):
    assert mutant.caught_by(mutant.seed) is not None, f"{mutant.name} survives: {mutant.says}"


@pytest.mark.parametrize(("seed", "only"), sorted({(mutant.seed, mutant.only) for mutant in mutants()}))
def test_the_engine_itself_passes_the_seeds_that_catch_mutants(seed: int, only: str):
    verdict = run_seed(seed, only=only)
    assert not verdict.wrong, shown(verdict, 60)
