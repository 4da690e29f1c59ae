"""Whether a host of models can be asked: its list of models is read, which costs nothing anywhere."""

from __future__ import annotations

import asyncio
import ssl
from functools import cache
from urllib.parse import urlsplit

from tenuto.ports.providers import Provider
from tenuto.ports.services import Service
from tenuto.ports.tools import Condition

SHOWN = 200


class HostCheck:
    """Looks at one host. The key goes there and nowhere else: no redirect is followed."""

    def __init__(self, provider: Provider, url: str, secret: str = "") -> None:
        """Prepare; nothing is connected.

        Args:
            secret: The provider's key; shown nowhere.
        """
        self._provider = provider
        self._url = url
        self._secret = secret

    def __repr__(self) -> str:
        """Return the name, without the key."""
        return f"HostCheck({self._provider.name!r}, {self._place!r})"

    @property
    def service(self) -> Service:
        """Return the host under its provider's name."""
        return Service(kind="model", name=self._provider.name, place=self._place)

    @property
    def _place(self) -> str:
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    async def look(self) -> tuple[Condition, str]:
        """Return whether it lists its models for our key; without a key that it wants, it is not asked."""
        import httpx

        variable = self._provider.key_env
        if variable and not self._secret:
            return "offline", f"it needs a key, so it is not asked: set the environment variable {variable}"
        headers, path = self._asked()
        trust = await asyncio.to_thread(_trust)
        try:
            # Whoever looks sets the limit that holds.
            async with (
                httpx.AsyncClient(follow_redirects=False, timeout=self._provider.timeout_s, verify=trust) as client,
                client.stream("GET", self._url.rstrip("/") + path, headers=headers) as answer,
            ):
                return _judged(answer.status_code, variable)
        except httpx.ConnectError as error:
            return "offline", f"it cannot be connected to: {error}"[:SHOWN]
        except httpx.HTTPError as error:
            return "offline", f"it was connected to and gave no answer: {type(error).__name__}"

    def _asked(self) -> tuple[dict[str, str], str]:
        if self._provider.kind == "anthropic":
            return {"x-api-key": self._secret, "anthropic-version": "2023-06-01"}, "/v1/models"
        return ({"authorization": f"Bearer {self._secret}"} if self._secret else {}), "/models"


@cache
def _trust() -> ssl.SSLContext:
    """Return whom to trust; reading the certificates takes longer than a look."""
    import httpx

    return httpx.create_ssl_context()


def _judged(code: int, variable: str) -> tuple[Condition, str]:
    if 200 <= code < 300:
        return "online", "it lists its models"
    if code in (404, 405, 501):
        return "online", f"it answers, and lists no models ({code})"
    if code in (401, 403):
        return "degraded", f"it refuses the key in {variable} ({code})" if variable else f"it wants a key ({code})"
    if 300 <= code < 400:
        return "degraded", f"it sends us elsewhere, where no key is taken to ({code})"
    return "degraded", f"it answers with {code}"
