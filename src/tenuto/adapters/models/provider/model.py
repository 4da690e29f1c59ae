"""One provider as a `Model`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from tenuto.adapters.models.provider.complaints import NotSent, key_missing, not_installed, unreachable
from tenuto.adapters.models.provider.prices import Prices
from tenuto.ports.model import ModelReply, ModelRequest, OnDelta, PromptTooLong
from tenuto.ports.providers import Provider

if TYPE_CHECKING:
    from tenuto.adapters.models.provider.hosts import Hosts

PER_MESSAGE = 16  # tokens with which a provider's template may frame a message, and more for tools and schemas
PER_TOOLS = 1024
TIGHTEST = 8  # characters no tokenizer puts into one token on average; fewer tokens than that fit nowhere


class ProviderModel:
    """Asks one provider over HTTP. Its clients retry nothing by themselves: every request that is made is known."""

    def __init__(self, provider: Provider, prices: Prices, secret: str = "") -> None:
        """Prepare; the library is loaded and a host connected at the first request.

        Args:
            secret: The provider's key; kept here, shown nowhere.
        """
        self.provider = provider
        self._prices = prices
        self._secret = secret
        self._hosts: Hosts | None = None
        self._is_loaded = False
        self._room = asyncio.Semaphore(provider.concurrency)

    def __repr__(self) -> str:
        """Return the name, without the key."""
        return f"ProviderModel({self.provider.name!r})"

    @property
    def key_is_missing(self) -> bool:
        """Return whether the provider wants a key and none is set."""
        return bool(self.provider.key_env) and not self._secret

    def slots(self, request: ModelRequest) -> tuple[str, int] | None:
        """Return under which name requests like this one are counted, and how many may be under way at a time."""
        return self.provider.name, self.provider.concurrency

    def bound(self, request: ModelRequest) -> tuple[int, int]:
        """Return upper bounds: every byte of the request counts as a token, at the dearest price that may apply."""
        self._require_key()
        name = _model_of(request)
        n_bytes = _bytes(request)
        window = self._prices.window(self.provider, name)
        least = sum(len(message.content) for message in request.messages) // TIGHTEST
        if window and least + 1 > window:
            raise PromptTooLong(
                f"the prompt has about {least * TIGHTEST // 4:,} tokens and the window of {request.model} holds {window:,}; "
                "shorten it, or choose a model with a larger window"
            )
        prompt = n_bytes + PER_MESSAGE * len(request.messages)
        if request.tools or request.schema or request.choices:
            prompt += PER_TOOLS
        if window:
            prompt = min(prompt, window)
        return prompt + request.max_tokens, self._prices.bound(self.provider, name, prompt, request.max_tokens)

    async def ready(self, request: ModelRequest) -> None:
        """Load the provider's library and the catalogue of prices on a thread, once: that takes seconds."""
        if not self._is_loaded:
            await asyncio.to_thread(_load, self.provider.kind)
            await asyncio.to_thread(self._prices.bound, self.provider, _model_of(request), 1, 1)
            self._is_loaded = True

    async def request(self, request: ModelRequest, *, key: str, on_delta: OnDelta | None = None) -> ModelReply:
        """Return the whole answer of the first host that can be reached."""
        self._require_key()
        await self.ready(request)
        async with self._room:
            return await self._ask(request, key, on_delta)

    async def close(self) -> None:
        """Close the connections."""
        if self._hosts is not None:
            await self._hosts.close()
            self._hosts = None

    async def _ask(self, request: ModelRequest, key: str, on_delta: OnDelta | None) -> ModelReply:
        from tenuto.adapters.models.provider.hosts import Hosts

        self._hosts = self._hosts or Hosts(self.provider, self._secret)
        reasons: list[str] = []
        for url in self._hosts.order():
            try:
                reply = await self._ask_host(url, request, key, on_delta)
            except NotSent as error:
                reasons.append(str(error))
                continue
            self._hosts.served(url)
            return self._priced(reply, _model_of(request))
        raise unreachable(self.provider, reasons)

    async def _ask_host(self, url: str, request: ModelRequest, key: str, on_delta: OnDelta | None) -> ModelReply:
        from pydantic_ai.direct import model_request
        from pydantic_ai.exceptions import AgentRunError

        from tenuto.adapters.models.provider import convert, failures

        assert self._hosts is not None
        name = _model_of(request)
        asked: dict[str, Any] = {
            "model_settings": convert.settings(request, self.provider, key),
            "model_request_parameters": convert.parameters(request, self.provider),
        }
        messages = convert.conversation(request, self.provider)
        model = self._hosts.model(url, name)
        try:
            if on_delta is None:
                response = await model_request(model, messages, **asked)
            else:
                response = await _streamed(model, messages, asked, on_delta)
        except AgentRunError as error:
            failures.raise_from(error, self.provider, name, self._secret)
        return convert.reply(request, response, self.provider)

    def _priced(self, reply: ModelReply, name: str) -> ModelReply:
        cost = self._prices.cost(
            self.provider, name, input_tokens=reply.input_tokens, output_tokens=reply.output_tokens,
            cached_tokens=reply.cached_tokens, cache_write_tokens=reply.cache_write_tokens,
        )  # fmt: skip
        return msgspec.structs.replace(reply, cost_usd_micros=cost)

    def _require_key(self) -> None:
        if self.key_is_missing:
            raise key_missing(self.provider)


async def _streamed(model: Any, messages: Any, asked: dict[str, Any], on_delta: OnDelta) -> Any:
    from pydantic_ai.direct import model_request_stream
    from pydantic_ai.exceptions import UnexpectedModelBehavior
    from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta

    async with model_request_stream(model, messages, **asked) as stream:
        async for event in stream:
            if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart) and event.part.content:
                on_delta(event.part.content)
            elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                on_delta(event.delta.content_delta)
        response = stream.get()
    if response.finish_reason is None:
        raise UnexpectedModelBehavior("the stream ended before the answer did")
    return response


def _load(kind: str) -> None:
    """Load what one kind of provider needs, which takes seconds.

    Raises:
        InvalidSettings: It is not installed; the message says how to get it.
    """
    try:
        from pydantic_ai import direct

        if kind == "anthropic":
            from pydantic_ai.models import anthropic as models
        else:
            from pydantic_ai.models import openai as models
    except ImportError as error:
        raise not_installed(error) from None
    del direct, models


def _model_of(request: ModelRequest) -> str:
    return request.model.partition(":")[2]


def _bytes(request: ModelRequest) -> int:
    return len(msgspec.json.encode((request.messages, request.tools, request.schema, request.choices)))
