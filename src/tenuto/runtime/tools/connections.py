"""Connections of outgoing requests: shared where that is safe, and only there."""

from __future__ import annotations

import ssl
from functools import cache

import httpx


class Connections(httpx.AsyncBaseTransport):
    """Pools of connections, one for each host that is asked for, whatever its address.

    Requests go to addresses that were checked, and hosts may share one. A certificate speaks for the host it was checked
    for, so a connection is never used for another.
    """

    def __init__(self) -> None:
        """Open nothing yet."""
        self._pools: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on a connection that was made for its host."""
        host = request.headers["host"].lower()
        pool = self._pools.get(host)
        if pool is None:
            pool = self._pools[host] = httpx.AsyncHTTPTransport(verify=_trust(), trust_env=False)
        return await pool.handle_async_request(request)

    async def aclose(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            await pool.aclose()


class Lent(httpx.AsyncBaseTransport):
    """Somebody else's connections, which stay open when a client that used them is closed."""

    def __init__(self, connections: Connections) -> None:
        """Use them."""
        self._connections = connections

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on them."""
        return await self._connections.handle_async_request(request)


def open_client(timeout_s: float, connections: Connections | None = None) -> httpx.AsyncClient:
    """Return a client with cookies of its own, on connections of its own unless some are given."""
    transport = Connections() if connections is None else Lent(connections)
    return httpx.AsyncClient(timeout=httpx.Timeout(timeout_s), follow_redirects=False, trust_env=False, transport=transport)


@cache
def _trust() -> ssl.SSLContext:
    """Return whose certificates are believed; read once, for it takes longer than a request."""
    return httpx.create_ssl_context(trust_env=False)
