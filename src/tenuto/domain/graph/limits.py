"""How much a run may do before a person is asked whether it is to go on."""

from __future__ import annotations

import msgspec

UNBOUNDED = 2**62
NAMES = ("steps", "children", "depth")


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Limits a workflow sets itself; they hold where they are lower than those of the settings.

    Attributes:
        steps: Steps of one run that begin; each pass of a loop and each item of a map counts, another try does not.
        children: Sub-flows that one run starts.
        depth: How many runs may stand below each other, the first one apart.
    """

    steps: int | None = None
    children: int | None = None
    depth: int | None = None


class Most(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for every run, whatever its workflow says; the same names as in `Limits`."""

    steps: int = 100_000
    children: int = 1_000
    depth: int = 10

    def under(self, own: Limits | None) -> Most:
        """Return the limits of a workflow's runs: for each name the lower one."""
        if own is None:
            return self
        lower = {name: min(getattr(self, name), value) for name in NAMES if (value := getattr(own, name)) is not None}
        return msgspec.structs.replace(self, **lower)


SHIPPED = Most()
