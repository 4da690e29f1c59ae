"""How much one run may do before a person is asked whether it is to go on."""

from __future__ import annotations

from dataclasses import dataclass

from tenuto.domain.graph.limits import Most
from tenuto.settings.keys import between, key


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of every run; a workflow may set lower ones."""

    steps: int = key(100_000, "steps one run begins, passes of loops and items of maps included", between(1, 2**53))
    children: int = key(1_000, "sub-flows one run starts", between(1, 1_000_000))
    depth: int = key(10, "runs that may stand below each other as sub-flows", between(1, 1_000))

    def most(self) -> Most:
        """Return them as the engine takes them."""
        return Most(steps=self.steps, children=self.children, depth=self.depth)
