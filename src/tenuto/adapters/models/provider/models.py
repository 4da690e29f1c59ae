"""All models of a process by name: those of its providers, and the offline one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from tenuto.adapters.models.provider.model import ProviderModel
from tenuto.adapters.models.provider.prices import Prices
from tenuto.adapters.models.provider.reach import HostCheck
from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.domain.base.nearest import did_you_mean
from tenuto.ports.model import Model, ModelReply, ModelRequest, ModelUnknown, OnDelta
from tenuto.ports.providers import Providers

OFFLINE = ("offline", "scripted")


class ProviderModels:
    """Answers for every `provider:model`; `offline` and `scripted` need neither network nor key."""

    def __init__(
        self, setup: Providers | None = None, *, offline: Model | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        """Prepare; nothing is loaded or connected before a provider is asked.

        Args:
            environ: Where the keys are; `None` is the process's own environment.
        """
        self._setup = setup or Providers()
        self._environ = os.environ if environ is None else environ
        self._offline = offline or ScriptedModel()
        self._prices = Prices(self._setup.prices, self._setup.fallback)
        self._models: dict[str, ProviderModel] = {}

    def of(self, name: str) -> Model:
        """Return the model of a name.

        Raises:
            ModelUnknown: There is no such provider; the message names the nearest.
        """
        provider, colon, model = name.partition(":")
        if provider in OFFLINE:
            return self._offline
        if provider not in self._setup.providers or not colon or not model:
            known = (*OFFLINE[:1], *self._setup.providers)
            wrong = f"there is no provider {provider!r}" if colon else f"{name!r} names no provider; write provider:model"
            raise ModelUnknown(
                f"{wrong}; providers are {', '.join(known)}{did_you_mean(provider, known)}; "
                f"set up another as providers.NAME.base_urls"
            )
        if provider not in self._models:
            found = self._setup.providers[provider]
            secret = self._environ.get(found.key_env, "") if found.key_env else ""
            self._models[provider] = ProviderModel(found, self._prices, secret)
        return self._models[provider]

    @property
    def names(self) -> frozenset[str]:
        """Return what a model's name may begin with."""
        return frozenset((*OFFLINE, *self._setup.providers))

    async def request(self, request: ModelRequest, *, key: str, on_delta: OnDelta | None = None) -> ModelReply:
        """Return the whole answer of the model that is asked."""
        return await self.of(request.model).request(request, key=key, on_delta=on_delta)

    def bound(self, request: ModelRequest) -> tuple[int, int]:
        """Return upper bounds of tokens and micro-USD."""
        return self.of(request.model).bound(request)

    async def ready(self, request: ModelRequest) -> None:
        """Load what the request's provider needs."""
        found = self.of(request.model)
        if isinstance(found, ProviderModel):
            await found.ready(request)

    def slots(self, request: ModelRequest) -> tuple[str, int] | None:
        """Return how many requests may be under way at its provider, under which name; `None` = any number."""
        found = self.of(request.model)
        return found.slots(request) if isinstance(found, ProviderModel) else None

    def faults(self, names: Iterable[str]) -> dict[str, str]:
        """Return what is wrong with models by name, without asking anybody: no provider, or no key."""
        found: dict[str, str] = {}
        for name in names:
            try:
                model = self.of(name)
            except ModelUnknown as error:
                found[name] = str(error)
                continue
            if isinstance(model, ProviderModel) and model.key_is_missing:
                variable = model.provider.key_env
                found[name] = f"the provider {model.provider.name!r} needs a key: set the environment variable {variable}"
        return found

    def checks(self) -> list[HostCheck]:
        """Return how to look at the hosts in use: those somebody set up, and those whose models were named."""
        used = [name for name in self._setup.providers if name in self._setup.named or name in self._models]
        found: dict[tuple[str, str], HostCheck] = {}
        for name in used:
            provider = self._setup.providers[name]
            secret = self._environ.get(provider.key_env, "") if provider.key_env else ""
            for url in provider.base_urls:
                check = HostCheck(provider, url, secret)
                found.setdefault((name, check.service.place), check)
        return list(found.values())

    async def close(self) -> None:
        """Close all connections."""
        for model in self._models.values():
            await model.close()
