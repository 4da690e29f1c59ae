"""What a request of a pydantic-ai agent may cost at most, and what it did cost. No model is free for being unknown."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from tenuto.domain.runs.events import Charge

try:
    from genai_prices import Usage, calc_price
    from pydantic_ai import ModelResponse
    from pydantic_ai.models import Model
    from pydantic_ai.models.fallback import FallbackModel
    from pydantic_ai.models.wrapper import WrapperModel
except ImportError as error:
    raise ImportError("pydantic-ai is not installed; install the extra: pip install 'tenuto[pydantic-ai]'") from error

Price = tuple[float, float]
"""Dollars for a million tokens in, and out."""
DEFAULT_PRICE: Price = (15.0, 75.0)
FREE = frozenset({"test", "function", "ollama"})
OVERHEAD = 1024
"""Tokens a provider may add to what was sent."""


def bound(model: Model, size: int, max_tokens: int, fallback: Price) -> Charge:
    """Return the most a request of so many bytes may use, whichever model serves it: no token is shorter than a byte."""
    tokens_in = size + OVERHEAD
    costs = [
        _cost([(each.system, each.model_name)], tokens_in, max_tokens, fallback=fallback) for each in serving(model)
    ]
    return Charge(tokens=tokens_in + max_tokens, cost_usd_micros=max(costs))


def spent(model: Model, response: ModelResponse, fallback: Price) -> Charge:
    """Return what a request used, at the price of the model that answered."""
    usage = response.usage
    cost = _cost(
        _answered(model, response), usage.input_tokens, usage.output_tokens, usage.cache_write_tokens,
        usage.cache_read_tokens, fallback=fallback,
    )  # fmt: skip
    return Charge(tokens=usage.input_tokens + usage.output_tokens, cost_usd_micros=cost)


def facts(model: Model, response: ModelResponse, fallback: Price, n: int) -> dict[str, Any]:
    """Return what usage reports show of request `n`."""
    usage = response.usage
    return {
        "provider": response.provider_name or model.system, "model": response.model_name or model.model_name,
        "input_tokens": usage.input_tokens, "cached_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens, "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.output_reasoning_tokens or 0,
        "cost_usd_micros": spent(model, response, fallback).cost_usd_micros, "purpose": "agent", "round": n,
    }  # fmt: skip


def serving(model: Model) -> list[Model]:
    """Return the models that may serve a request: one, or all that a model with fallbacks has."""
    if isinstance(model, WrapperModel):
        return serving(model.wrapped)
    if isinstance(model, FallbackModel):
        return [found for each in model.models for found in serving(each)]
    return [model]


def is_priced(model: Model) -> bool:
    """Return whether the catalogue of prices has a model, or it costs nothing."""
    return model.system in FREE or _dollars(Usage(input_tokens=1), model.system, model.model_name) is not None


def _answered(model: Model, response: ModelResponse) -> list[tuple[str, str]]:
    """Return who answered, by provider and model: as the answer says it, then as it was asked."""
    said = [(response.provider_name, response.model_name)] if response.provider_name and response.model_name else []
    return [*said, *((each.system, each.model_name) for each in serving(model))]


def _cost(
    refs: list[tuple[str, str]], tokens_in: int, tokens_out: int, cache_write: int = 0, cache_read: int = 0, *,
    fallback: Price,
) -> int:  # fmt: skip
    """Return the cost in millionths of a dollar, rounded up once, by the first of the models whose price is known."""
    if refs[0][0] in FREE:
        return 0
    usage = Usage(
        input_tokens=tokens_in, cache_write_tokens=cache_write, cache_read_tokens=cache_read, output_tokens=tokens_out
    )
    for provider, name in refs:
        dollars = _dollars(usage, provider, name)
        if dollars is not None:
            return math.ceil(dollars * 1_000_000)
    return math.ceil(tokens_in * Decimal(str(fallback[0])) + tokens_out * Decimal(str(fallback[1])))


def _dollars(usage: Usage, provider: str, name: str) -> Decimal | None:
    try:
        return calc_price(usage, model_ref=name, provider_id=provider).total_price
    except LookupError:
        return None
