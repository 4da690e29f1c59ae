"""What is said before a request leaves: no key, no host, no library."""

from __future__ import annotations

from tenuto.errors import InvalidSettings
from tenuto.ports.model import ModelKeyMissing, ModelUnreachable
from tenuto.ports.providers import Provider

EXTRA = "pip install 'tenuto[models]'"


class NotSent(Exception):
    """The host could not be reached, so another one may be asked."""


def unreachable(provider: Provider, reasons: list[str]) -> ModelUnreachable:
    """Return that none of a provider's hosts answers."""
    hosts = ", ".join(provider.base_urls)
    return ModelUnreachable(
        f"nobody answers at {hosts} for the provider {provider.name!r} ({'; '.join(dict.fromkeys(reasons))}); "
        f"start it, or set providers.{provider.name}.base_urls",
        hosts=list(provider.base_urls), local=provider.local,
    )


def key_missing(provider: Provider) -> ModelKeyMissing:
    """Return that a provider's key is not there."""
    return ModelKeyMissing(
        f"the provider {provider.name!r} needs a key and the environment variable {provider.key_env} is not set; "
        f"set it, or name another variable in providers.{provider.name}.key_env",
        variable=provider.key_env,
    )


def not_installed(error: ImportError) -> InvalidSettings:
    """Return that the library is missing, and how to get it."""
    return InvalidSettings(f"models of providers need the package {error.name!r}, which is not installed: {EXTRA}")
