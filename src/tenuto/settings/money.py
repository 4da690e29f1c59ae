"""What may be spent: caps over all runs of a namespace or a project."""

from __future__ import annotations

from dataclasses import dataclass

from tenuto.settings.keys import between, key

MOST_USD = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Caps:
    """Caps of one scope in US dollars; a negative value sets none, zero stops every call that costs anything."""

    day_usd: float = key(-1.0, "USD a day (UTC); negative sets no cap", between(-1, MOST_USD, " USD"))
    month_usd: float = key(-1.0, "USD a month (UTC); negative sets no cap", between(-1, MOST_USD, " USD"))
    total_usd: float = key(-1.0, "USD for ever; negative sets no cap", between(-1, MOST_USD, " USD"))
