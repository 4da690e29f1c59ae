"""Known ways to get the protocol wrong, put into the running engine on purpose: a simulation that misses one is blind.

Each mutant replaces functions while its context is entered and names a seed that catches it. `python -m
tenuto.testing.mutants` looks for the seeds anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from tenuto.testing.mutants_core import CORE
from tenuto.testing.mutants_store import STORE
from tenuto.testing.mutants_worker import WORKER
from tenuto.testing.simulation import Verdict, run_seed

Change = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A protocol bug.

    Attributes:
        says: What it gets wrong.
        places: `module:attribute` or `module:Class.attribute` of what is replaced, and what makes the replacement
            of the original.
        seed: A seed that catches it.
        only: Kind of run that the seed is filled with, where the bug is rarely met among others.
    """

    name: str
    says: str
    places: tuple[tuple[str, Change], ...]
    seed: int
    only: str = ""

    @contextmanager
    def alive(self) -> Generator[None]:
        """Let the bug be in the engine."""
        undo: list[tuple[Any, Any, Any]] = []
        try:
            for place, change in self.places:
                undo.append(_replace(place, change))
            yield
        finally:
            for owner, name, before in reversed(undo):
                _put(owner, name, before)

    def caught_by(self, seed: int) -> Verdict | None:
        """Return the verdict of a seed that finds something wrong, else `None`."""
        with self.alive():
            verdict = run_seed(seed, only=self.only)
        return verdict if verdict.wrong else None


def _replace(place: str, change: Change) -> tuple[Any, Any, Any]:
    """Put the changed thing in its place; return where it was and what it was."""
    module, _, path = place.partition(":")
    owner: Any = import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    if not isinstance(owner, dict):
        before = getattr(owner, name)
        setattr(owner, name, change(before))
        return owner, name, before
    table = cast("dict[Any, Any]", owner)
    key = next(key for key in table if key.__name__ == name)
    before = table[key]
    table[key] = change(before)
    return table, key, before


def _put(owner: Any, name: Any, value: Any) -> None:
    if isinstance(owner, dict):
        cast("dict[Any, Any]", owner)[name] = value
    else:
        setattr(owner, name, value)


ONLY = {"drops_creation": "subflow"}
SEEDS = {
    "unheld": 3,
    "lost_is_free": 3,
    "hopes_on": 3,
    "no_fence": 0,
    "parks_unread": 1,
    "times_out_unread": 1,
    "no_lease_taken": 0,
    "not_joined": 185,
    "snapshot_ahead": 3,
    "same_epoch": 0,
    "eats_when_read": 2,
    "sleeps_on": 0,
    "ack_first": 0,
    "forget_first": 0,
    "never_due": 0,
    "skips_messages": 0,
    "parent_not_told": 0,
    "always_starts": 8,
    "counts_anew": 0,
    "drops_creation": 15,
    "forgets_children": 0,
    "event_id_off": 0,
    "lost_effect": 0,
    "refund_on_unknown": 45,
    "keeps_numbers": 7,
    "patches_the_past": 7,
    "key_per_attempt": 0,
    "late_edge": 1,
    "begins_unrecorded": 0,
    "timer_twice": 5,
    "settles_twice": 131,
    "answers_twice": 31,
    "lifo": 4,
    "retries_for_ever": 0,
    "ignores_reuse": 0,
    "waits_for_unknown": 0,
    "asks_once": 132,
    "restarts": 2,
    "forgets_open_calls": 0,
    "keeps_flights": 19,
    "looks_once": 9,
}
"""Seeds that catch each mutant, as `main` printed them."""


def mutants() -> list[Mutant]:
    """Return every mutant."""
    return [
        Mutant(name, says, tuple(places), SEEDS.get(name, -1), ONLY.get(name, ""))
        for name, says, *places in (*STORE, *WORKER, *CORE)
    ]


def find(mutant: Mutant, first: int = 0, last: int = 299) -> int:
    """Return the first seed that catches a mutant, or -1."""
    for seed in range(first, last + 1):
        if mutant.caught_by(seed) is not None:
            return seed
    return -1


def main() -> int:
    """Print the first killing seed of every mutant, and what it found."""
    alive = 0
    for mutant in mutants():
        if len(sys.argv) > 1 and mutant.name not in sys.argv[1:]:
            continue
        seed = find(mutant)
        verdict = mutant.caught_by(seed) if seed >= 0 else None
        alive += verdict is None
        print(f'    "{mutant.name}": {seed},  # {verdict.wrong[0][:120] if verdict else "SURVIVED"}', flush=True)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
