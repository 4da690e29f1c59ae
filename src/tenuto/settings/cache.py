"""How results of steps are kept for others."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from tenuto.ports.cache import CacheBounds, CacheOptions
from tenuto.settings.keys import between, key
from tenuto.settings.tools import variable


def _place(value: str) -> str:
    if not value:
        return ""
    parts = urlsplit(value)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        return "must read redis://host:port/database, or rediss:// over TLS; empty is the store"
    return "holds more than a place; user and password have settings of their own" if "@" in parts.netloc else ""


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """What nodes that ask for the cache get from it."""

    enabled: bool = key(True, "whether results are kept and taken at all, whatever nodes say")
    url: str = key("", "redis://host:port/database where results are kept; empty is the store", _place)
    username: str = key("", "user of that server")
    password_env: str = key("", "environment variable that holds its password", variable, secret=True)
    password_file: str = key("", "file that holds its password", secret=True)
    timeout_s: float = key(0.5, "seconds after which a request to it is given up, and the step computes", between(0.01, 60, " s"))
    ttl_s: float = key(7 * 86_400.0, "seconds a result is kept where its node does not say; 0 is without end",
                       between(0, 3_153_600_000, " s"))  # fmt: skip
    max_bytes: int = key(2**20, "longest result that is kept where its node does not say", between(1, 2**25, " bytes"))
    max_entries: int = key(10_000, "results the store keeps of a namespace; what was put first leaves first",
                           between(1, 10_000_000))  # fmt: skip
    max_total_bytes: int = key(256 * 2**20, "bytes of results the store keeps of a namespace", between(1, 2**40, " bytes"))

    def options(self) -> CacheOptions:
        """Return them as workers take them."""
        return CacheOptions(
            enabled=self.enabled, ttl_s=self.ttl_s, max_bytes=self.max_bytes,
            bounds=CacheBounds(max_entries=self.max_entries, max_bytes=self.max_total_bytes),
        )
