"""The names a server goes by and the pages that may call it, so that no page elsewhere reaches into it.

A page can point its own host name at a loopback address (DNS rebinding); the `Host` header gives it away. A page can
also simply call; the `Origin` header, or the browser's fetch metadata, gives that away.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from tenuto.api.errors import Refused
from tenuto.errors import Problem
from tenuto.settings import Settings

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def cookie_name(headers: Headers) -> str:
    """Return the session cookie's name; it holds the port, because cookies are shared by all ports of a host."""
    port = _split_host(headers.get("host", ""))[1]
    return f"tenuto_session_{port}" if port else "tenuto_session"


class Names:
    """Checks `Host` and `Origin` of every request and handshake.

    Attributes:
        origins: Those of pages elsewhere that may call.
    """

    def __init__(self, settings: Settings) -> None:
        """Keep what is allowed; a server open to the network goes by its machine's name and any address too."""
        self.origins = frozenset(settings.cors_origins)
        own = urlsplit(settings.links.url).hostname
        self._any_address = not settings.is_loopback()
        self._hosts = {"localhost", settings.host.strip("[]").lower(), *(n.lower() for n in settings.allowed_hosts)}
        self._hosts |= {own.lower()} if own else set[str]()
        if self._any_address:
            self._hosts.add(socket.gethostname().lower())

    def check_host(self, headers: Headers) -> None:
        """Refuse names we do not go by.

        Raises:
            Refused: 421.
        """
        name = _split_host(headers.get("host", ""))[0]
        if name in self._hosts or _is_address(name, loopback_only=not self._any_address):
            return
        raise Refused(
            421, "request.host", f"this server does not go by the name {name!r}",
            problems=[Problem("Host", f"{name!r} is unknown", hint="list it in allowed_hosts", code="request.host")],
        )  # fmt: skip

    def check_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuse calls made by pages of other sites, unless their origin is listed.

        Raises:
            Refused: 403.
        """
        origin = headers.get("origin")
        if origin is not None:
            if not _is_same(origin, headers.get("host", "")) and origin not in self.origins:
                raise Refused(403, "auth.origin", f"pages from {origin!r} may not call this server")
        elif headers.get("sec-fetch-site", "") in ("cross-site", "same-site") and not _navigates(scope, headers):
            raise Refused(403, "auth.origin", "pages of other sites may not call this server")


def _is_same(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _navigates(scope: Scope, headers: Headers) -> bool:
    """Return whether a person follows a link; what it opens cannot be read by the page it was on."""
    return scope["type"] == "http" and scope["method"] in SAFE and headers.get("sec-fetch-mode") == "navigate"


def _split_host(value: str) -> tuple[str, str]:
    if value.startswith("["):
        name, _, rest = value[1:].partition("]")
        return name.lower(), rest.removeprefix(":")
    name, _, port = value.partition(":")
    return name.lower().rstrip("."), port


def _is_address(name: str, *, loopback_only: bool) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not loopback_only
