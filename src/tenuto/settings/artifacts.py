"""Where artifacts are kept."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from tenuto.settings.keys import between, key
from tenuto.settings.tools import endpoint, variable


def _place(value: str) -> str:
    parts = urlsplit(value)
    if parts.query or parts.fragment or "@" in parts.netloc:
        return "holds more than a place; keys and endpoint have settings of their own"
    if not value or value == "memory:" or (parts.scheme == "file" and not parts.netloc and len(parts.path) > 1):
        return ""
    if parts.scheme == "s3" and parts.hostname and not parts.port:
        return ""
    return "must read s3://bucket/prefix, file:///absolute/directory or memory:"


def _places(values: tuple[str, ...]) -> str:
    return next((wrong for value in values if (wrong := _place(value) or ("" if value else "holds an empty text"))), "")


@dataclass(frozen=True, kw_only=True)
class Artifacts:
    """The depot of artifacts; the keys of S3 are for every bucket it names."""

    url: str = key("", "s3://bucket/prefix, file:///directory or memory:; empty is `artifacts` in the data directory", _place)
    former: tuple[str, ...] = key((), "where artifacts were kept before and are still read, the latest first", _places)
    max_bytes: int = key(5 * 2**30, "longest artifact", between(1, 2**43, " bytes"))
    endpoint: str = key("", "root of the server of S3; empty is Amazon's of the region", endpoint, secret=True)
    region: str = key("us-east-1", "its region")
    access_key_env: str = key("", "environment variable that holds the id of the key", variable, secret=True)
    access_key_file: str = key("", "file that holds the id of the key")
    secret_key_env: str = key("", "environment variable that holds the secret of the key", variable, secret=True)
    secret_key_file: str = key("", "file that holds the secret of the key")
    session_token_env: str = key("", "environment variable that holds the token of a temporary key", variable, secret=True)
    session_token_file: str = key("", "file that holds the token of a temporary key")
    timeout_s: float = key(60.0, "seconds without a byte after which the server counts as lost", between(0.1, 3600, " s"))
