"""Providers of models, their prices, and the routing of tasks to tiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from urllib.parse import urlsplit

from tenuto.domain.base.nearest import did_you_mean
from tenuto.domain.routing import OTHER, TABLE, TIERS, Routing
from tenuto.errors import Problem
from tenuto.ports.providers import FALLBACK, KINDS, PROVIDERS, Price, Provider, Providers
from tenuto.settings.keys import between, key

MOST_USD = 1_000_000.0
_UNSET = -1.0


def _urls(values: tuple[str, ...]) -> str:
    for value in values:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            return "holds an address that does not read http(s)://host[:port]/path, without a user or a query"
    return ""


def _kind(value: str) -> str:
    if not value or value in KINDS:
        return ""
    return f"must be one of {', '.join(KINDS)}" + did_you_mean(value, KINDS)


def _variable(value: str) -> str:
    name = value.replace("_", "a")
    return "" if not value or (name.isascii() and name.isalnum()) else "is no name of an environment variable"


@dataclass(frozen=True, kw_only=True)
class ProviderSettings:
    """One provider; what is left out of `openai`, `anthropic` and `ollama` is as shipped."""

    kind: str = key("", "protocol: openai, anthropic, ollama, or openai-compatible, the default for other names", _kind)
    base_urls: tuple[str, ...] = key((), "addresses of its hosts; the first that can be reached serves", _urls)
    # A key pasted here by mistake must not be shown back.
    key_env: str = key("", "name of the environment variable that holds its key", _variable, secret=True)
    timeout_s: float = key(0.0, "seconds without a byte after which an answer counts as lost; 0 is 120, for ollama 600",
                           between(0, 86_400, " s"))  # fmt: skip
    concurrency: int = key(0, "most requests under way at a time; 0 is 16, for ollama 4", between(0, 100_000))
    local: bool = key(False, "runs on machines of one's own, so that it costs nothing; always so for kind ollama")
    window: int = key(0, "most tokens of prompt and answer together; 0 is what the catalogue says", between(0, 10**9))


@dataclass(frozen=True, kw_only=True)
class PriceSettings:
    """The price of a model, in US dollars a million tokens."""

    input_usd: float = key(_UNSET, "USD a million tokens of the prompt", between(-1, MOST_USD, " USD"))
    output_usd: float = key(_UNSET, "USD a million tokens of the answer", between(-1, MOST_USD, " USD"))
    cached_usd: float = key(_UNSET, "of those read from the provider's cache; negative is as input_usd",
                            between(-1, MOST_USD, " USD"))  # fmt: skip
    cache_write_usd: float = key(_UNSET, "of those written to it; negative is as input_usd",
                                 between(-1, MOST_USD, " USD"))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FallbackPrice:
    """The price of models that neither the settings nor the catalogue know, in US dollars a million tokens."""

    input_usd: float = key(float(FALLBACK.input_usd), "of prompts, for models of unknown price", between(0, MOST_USD, " USD"))
    output_usd: float = key(float(FALLBACK.output_usd), "of answers, for models of unknown price", between(0, MOST_USD, " USD"))


@dataclass(frozen=True, kw_only=True)
class TierSettings:
    """The models of a tier."""

    models: tuple[str, ...] = key((), "provider:model names; a later one serves where the earlier cannot")


@dataclass(frozen=True, kw_only=True)
class RouteSettings:
    """The tiers of one type of task; what is left out is as shipped, or as for `other`."""

    simple: str = key("", "tier of simple tasks of this type")
    medium: str = key("", "tier of its medium tasks")
    complex: str = key("", "tier of its complex tasks")


def routing_of(tiers: Mapping[str, TierSettings], routes: Mapping[str, RouteSettings]) -> Routing:
    """Return the shipped routing with what was set written over it; a new tier comes after those shipped."""
    table = {name: dict(row) for name, row in TABLE.items()}
    given = {name: {level: tier for level, tier in asdict(row).items() if tier} for name, row in routes.items()}
    table[OTHER] |= given.pop(OTHER, {})
    for name, row in given.items():
        table[name] = {**table.get(name, table[OTHER]), **row}
    return Routing(tiers={**TIERS, **{name: tier.models for name, tier in tiers.items()}}, table=table)


def providers_of(
    providers: Mapping[str, ProviderSettings], prices: Mapping[str, PriceSettings], fallback: FallbackPrice
) -> Providers:
    """Return the shipped providers with what was set written over them, and the prices."""
    found = {**PROVIDERS, **{name: _provider(name, one) for name, one in providers.items()}}
    return Providers(
        providers=found, named=frozenset(providers), prices={name: _price(one) for name, one in prices.items()},
        fallback=Price(input_usd=_exact(fallback.input_usd), output_usd=_exact(fallback.output_usd)),
    )


def model_problems(
    providers: Mapping[str, ProviderSettings], prices: Mapping[str, PriceSettings],
    tiers: Mapping[str, TierSettings], routes: Mapping[str, RouteSettings],
) -> list[Problem]:
    """Return what is wrong with values that are fine one by one."""
    found = list(routing_of(tiers, routes).problems())
    for name, given in providers.items():
        place = f"providers.{name}"
        if not name or ":" in name:
            found.append(Problem(place, "is no name of a provider; it may hold no colon", code="settings.value"))
        if not given.base_urls and name not in PROVIDERS and given.kind in ("", "openai-compatible"):
            hint = "such as base_urls = [\"https://host/v1\"]" + did_you_mean(name, PROVIDERS)
            found.append(Problem(f"{place}.base_urls", "is missing", hint, "settings.missing"))
    for name, price in prices.items():
        for part in ("input_usd", "output_usd"):
            if getattr(price, part) < 0:
                found.append(Problem(f"prices.{name}.{part}", "is missing", "give 0 for what is free", "settings.missing"))
    return found


def _provider(name: str, given: ProviderSettings) -> Provider:
    kind = given.kind or (PROVIDERS[name].kind if name in PROVIDERS else "openai-compatible")
    shipped = PROVIDERS.get(name) or PROVIDERS.get(kind)
    base = shipped if shipped is not None and shipped.kind == kind else Provider(name=name, kind=kind, base_urls=())
    return Provider(
        name=name, kind=kind, base_urls=given.base_urls or base.base_urls, key_env=given.key_env or base.key_env,
        timeout_s=given.timeout_s or base.timeout_s, concurrency=given.concurrency or base.concurrency,
        local=given.local or base.local, window=given.window,
    )


def _price(given: PriceSettings) -> Price:
    return Price(
        input_usd=_exact(given.input_usd), output_usd=_exact(given.output_usd),
        cached_usd=_exact(given.cached_usd) if given.cached_usd >= 0 else None,
        cache_write_usd=_exact(given.cache_write_usd) if given.cache_write_usd >= 0 else None,
    )


def _exact(usd: float) -> Decimal:
    """Return the number a person wrote: its shortest text, not the nearest binary fraction."""
    return Decimal(repr(usd))
