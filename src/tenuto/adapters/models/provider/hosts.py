"""The library's clients of one provider: one a host and model, without retries of their own."""

from __future__ import annotations

from typing import Any

from pydantic_ai.models import Model

from tenuto.ports.providers import Provider

CONNECT_S = 10.0
NO_KEY = "none"  # clients insist on one, also where the server wants none


class Hosts:
    """Makes and keeps clients; the host that served last is asked first.

    They follow no redirects: the prompt and the key go to the host that was set up and nowhere else.
    """

    def __init__(self, provider: Provider, secret: str) -> None:
        """Prepare; nothing is connected."""
        self._provider = provider
        self._secret = secret
        self._clients: dict[str, Any] = {}
        self._models: dict[tuple[str, str], Model[Any]] = {}
        self._first = 0

    def order(self) -> list[str]:
        """Return the hosts in the order they are to be asked."""
        urls = self._provider.base_urls
        return [*urls[self._first :], *urls[: self._first]]

    def served(self, url: str) -> None:
        """Remember who served, so that an absent host is not tried before it every time."""
        self._first = self._provider.base_urls.index(url)

    def model(self, url: str, name: str) -> Model[Any]:
        """Return the library's model of a host."""
        if (url, name) not in self._models:
            make = self._anthropic if self._provider.kind == "anthropic" else self._openai
            self._models[url, name] = make(url, name)
        return self._models[url, name]

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()
        self._models.clear()

    def _openai(self, url: str, name: str) -> Model[Any]:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.profiles.openai import OpenAIModelProfile
        from pydantic_ai.providers.openai import OpenAIProvider

        timeout = Timeout(self._provider.timeout_s, connect=min(CONNECT_S, self._provider.timeout_s))
        client = self._clients.get(url) or AsyncOpenAI(
            base_url=url, api_key=self._secret or NO_KEY, max_retries=0, timeout=timeout, organization="", project="",
            http_client=DefaultAsyncHttpxClient(base_url=url, timeout=timeout, follow_redirects=False),
        )
        self._clients[url] = client
        provider = OpenAIProvider(openai_client=client)
        if self._provider.kind == "openai":
            return OpenAIChatModel(name, provider=provider)
        # Many servers that follow OpenAI know only the older name of the cap and would ignore the newer one.
        older = OpenAIModelProfile(openai_chat_supports_max_completion_tokens=False)
        return OpenAIChatModel(name, provider=provider, profile=older)

    def _anthropic(self, url: str, name: str) -> Model[Any]:
        from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient, Timeout
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        timeout = Timeout(self._provider.timeout_s, connect=min(CONNECT_S, self._provider.timeout_s))
        client = self._clients.get(url) or AsyncAnthropic(
            base_url=url, api_key=self._secret or NO_KEY, max_retries=0, timeout=timeout,
            http_client=DefaultAsyncHttpxClient(base_url=url, timeout=timeout, follow_redirects=False),
        )
        self._clients[url] = client
        return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))
