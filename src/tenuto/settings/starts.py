"""How often one caller may start runs, by the weight of the workflow."""

from __future__ import annotations

from dataclasses import dataclass

from tenuto.settings.keys import between, key

_MOST = 10_000


@dataclass(frozen=True, kw_only=True)
class StartRates:
    """Starts over HTTP in any 60 seconds, counted over all servers of a store; 0 sets no limit."""

    simple: int = key(100, "starts a minute of workflows without agents; 0 sets no limit", between(0, _MOST))
    standard: int = key(20, "starts a minute of workflows with one or two agents; 0 sets no limit", between(0, _MOST))
    heavy: int = key(5, "starts a minute of workflows with three agents or more; 0 sets no limit", between(0, _MOST))
