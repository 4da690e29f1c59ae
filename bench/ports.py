"""Free loopback ports."""

from __future__ import annotations

import socket


def free_ports(n: int) -> list[int]:
    """Return n distinct loopback ports that were free a moment ago; taking one can still lose a race."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
