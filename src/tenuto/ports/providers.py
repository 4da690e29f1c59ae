"""How the providers of models are reached and what they ask for their tokens, as plain values for their adapters."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

KINDS = ("openai", "anthropic", "ollama", "openai-compatible")


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One provider.

    Attributes:
        kind: The protocol it speaks; all but `anthropic` are the chat completions of OpenAI.
        base_urls: The same models on several hosts; the first that can be reached serves.
        key_env: Environment variable that holds the key; empty when it wants none.
        timeout_s: Without a byte for so long, an answer counts as lost.
        concurrency: Most requests under way at a time.
        local: Runs on machines of one's own, so its tokens cost nothing.
        window: Most tokens of a prompt and its answer together; 0 = what the catalogue of models says.
    """

    name: str
    kind: str = "openai-compatible"
    base_urls: tuple[str, ...]
    key_env: str = ""
    timeout_s: float = 120.0
    concurrency: int = 16
    local: bool = False
    window: int = 0


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a million tokens cost in US dollars; `None` for the cache = as other input."""

    input_usd: Decimal
    output_usd: Decimal
    cached_usd: Decimal | None = None
    cache_write_usd: Decimal | None = None


PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider(
        name="openai", kind="openai", base_urls=("https://api.openai.com/v1",), key_env="OPENAI_API_KEY"
    ),
    "anthropic": Provider(
        name="anthropic", kind="anthropic", base_urls=("https://api.anthropic.com",), key_env="ANTHROPIC_API_KEY"
    ),
    "ollama": Provider(
        name="ollama", kind="ollama", base_urls=("http://127.0.0.1:11434/v1",), local=True, timeout_s=600.0,
        concurrency=4,
    ),
}  # fmt: skip
"""Those that need no more than their key, or nothing."""

FALLBACK = Price(input_usd=Decimal(15), output_usd=Decimal(75))
"""The price of a model that no catalogue knows: dear, so that a cap holds all the same."""


class Providers(msgspec.Struct, frozen=True, kw_only=True):
    """All providers of a process and the prices that differ from the catalogue's.

    Attributes:
        prices: By `provider:model`.
        named: The providers that somebody set up here; the others are known and perhaps never used.
    """

    providers: Mapping[str, Provider] = msgspec.field(default_factory=lambda: dict(PROVIDERS))
    prices: Mapping[str, Price] = {}
    fallback: Price = FALLBACK
    named: frozenset[str] = frozenset()
