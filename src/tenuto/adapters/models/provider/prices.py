"""What tokens cost: the price that was set, else the catalogue's, else the fallback with one clear warning."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from tenuto.adapters.models.provider.complaints import not_installed
from tenuto.ports.providers import Price, Provider

log = logging.getLogger("tenuto")


class Prices:
    """The prices of a process. Costs are exact decimals until they are rounded up, once, to a micro-dollar."""

    def __init__(self, prices: Mapping[str, Price], fallback: Price) -> None:
        """Take what was set; the catalogue is loaded at the first question it must answer."""
        self._set = prices
        self._fallback = fallback
        self._warned: set[str] = set()

    def cost(
        self, provider: Provider, model: str, *, input_tokens: int, output_tokens: int, cached_tokens: int = 0,
        cache_write_tokens: int = 0,
    ) -> int:
        """Return what an answer cost, in micro-USD; `input_tokens` include the cached and the written ones."""
        name = f"{provider.name}:{model}"
        price = self._set.get(name)
        if price is None:
            if provider.local:
                return 0
            found = _from_catalogue(provider, model, input_tokens, output_tokens, cached_tokens, cache_write_tokens)
            if found is not None:
                return _micros(found)
            self._warn(name)
            price = self._fallback
        plain = input_tokens - cached_tokens - cache_write_tokens
        written = price.input_usd if price.cache_write_usd is None else price.cache_write_usd
        cached = price.input_usd if price.cached_usd is None else price.cached_usd
        per_million = plain * price.input_usd + cached_tokens * cached + cache_write_tokens * written
        return _micros((per_million + output_tokens * price.output_usd) / 1_000_000)

    def bound(self, provider: Provider, model: str, input_tokens: int, output_tokens: int) -> int:
        """Return the most that so many tokens can cost, by the dearest price that may apply to them."""
        amounts = {"input_tokens": input_tokens, "output_tokens": output_tokens}
        return max(
            self.cost(provider, model, **amounts),
            self.cost(provider, model, **amounts, cache_write_tokens=input_tokens),
            self.cost(provider, model, **amounts, cached_tokens=input_tokens),
        )

    def window(self, provider: Provider, model: str) -> int:
        """Return the most tokens a request and its answer may have; 0 where nobody knows."""
        if provider.window:
            return provider.window
        if provider.local:
            return 0
        found = _look_up(provider, model, input_tokens=1)
        return int(found.model.context_window or 0) if found is not None else 0

    def _warn(self, name: str) -> None:
        if name in self._warned:
            return
        self._warned.add(name)
        log.warning(
            'no price is known for the model %s; it is counted at %s USD a million tokens in and %s out. Set it: [prices."%s"]'
            " input_usd = …, output_usd = …",
            name, self._fallback.input_usd, self._fallback.output_usd, name,
        )  # fmt: skip


def _micros(usd: Decimal) -> int:
    return int((usd * 1_000_000).to_integral_value(ROUND_CEILING))


def _from_catalogue(
    provider: Provider, model: str, input_tokens: int, output_tokens: int, cached_tokens: int, written: int
) -> Decimal | None:
    found = _look_up(
        provider, model, input_tokens=input_tokens, output_tokens=output_tokens, cache_read_tokens=cached_tokens,
        cache_write_tokens=written,
    )
    return found.total_price if found is not None else None


def _look_up(provider: Provider, model: str, **tokens: int) -> Any:
    try:
        from genai_prices import Usage, calc_price
    except ImportError as error:
        raise not_installed(error) from None
    try:
        return calc_price(Usage(**tokens), model, provider_id=provider.name)
    except LookupError:
        return None
