"""Which addresses outgoing calls may reach: public ones, and hosts an operator has listed. Nothing else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from tenuto.errors import Permanent, StepError

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]


class AddressRefused(Permanent):
    """The address is not one that steps may call."""

    code = "http.address_refused"


class HostUnknown(StepError):
    """The host's name has no address, for now."""

    code = "http.host_unknown"


def refusal(address: Address) -> str:
    """Return why an address is refused, or an empty string for a public one."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return refusal(address.ipv4_mapped)
        if address.sixtofour is not None:
            return refusal(address.sixtofour)
        if address.teredo is not None:
            return "tunnelled (Teredo)"
        if address in _NAT64:
            return refusal(IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _UNICAST and not (address.is_loopback or address.is_link_local or address.is_multicast):
            # Old ways to write an IPv4 address in an IPv6 one (`::127.0.0.1`) count as public, and lead elsewhere.
            return "unspecified" if address.is_unspecified else "private or reserved"
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local (cloud metadata lives there)"
    if address.is_multicast:
        return "multicast"
    if address.is_unspecified:
        return "unspecified"
    if not address.is_global:
        return "private or reserved"
    return ""


async def system_resolve(host: str, port: int) -> list[str]:
    """Return a host's addresses from the system's resolver."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise HostUnknown(f"the host {host!r} has no address: {exc}") from exc
    return list(dict.fromkeys(str(item[4][0]) for item in found))


async def safe_address(host: str, port: int, allowed: frozenset[str], resolve: Resolve) -> str:
    """Return the address to connect to; every address of the name must be allowed, so none can be swapped in.

    Raises:
        AddressRefused: The host, or one of its addresses, is not public and not listed.
        HostUnknown: The name has no address.
    """
    literal = _literal(host)
    addresses = [literal] if literal is not None else [ip_address(a) for a in await resolve(host, port)]
    if not addresses:
        raise HostUnknown(f"the host {host!r} has no address")
    if host.lower() in allowed or f"{host.lower()}:{port}" in allowed:
        return str(addresses[0])
    for address in addresses:
        why = refusal(address)
        if why:
            named = f"{host!r}" if literal is not None else f"{host!r} is {address}, which"
            raise AddressRefused(
                f"{named} is {why}; steps may call public addresses, and hosts listed in TENUTO_HTTP_ALLOW"
            )
    return str(addresses[0])


def _literal(host: str) -> Address | None:
    """Return an address written as such, odd spellings (`0x7f.1`, `2130706433`) included."""
    text = host.strip("[]")
    try:
        return ip_address(text.split("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(text))
    except OSError:
        return None


_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
