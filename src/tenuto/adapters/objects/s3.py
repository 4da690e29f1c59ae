"""Buckets that speak the protocol of S3, through `obstore`.

Every setting is given to the library, so that variables meant for other programs (`AWS_…`) change nothing here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore import exceptions
from obstore.store import S3Store

from tenuto.ports.objects import (
    NEW,
    ObjectChanged,
    ObjectsFailed,
    ObjectsNotSetUp,
    ObjectsRefused,
    ObjectStat,
)

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_MAY_PASS = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Bucket:
    """A bucket on an S3-compatible server.

    Attributes:
        endpoint: Root of the server; empty is Amazon's of the region.
        access_key: `env:NAME` or `file:PATH` of the key's id.
        secret_key: `env:NAME` or `file:PATH` of the key's secret.
        session_token: `env:NAME` or `file:PATH` of the token of temporary keys; empty without one.
        timeout_s: For one request with everything it sends and gets.
    """

    bucket: str
    access_key: str
    secret_key: str
    session_token: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    timeout_s: float = 300.0

    @property
    def url(self) -> str:
        """Root of the server."""
        return self.endpoint or f"https://s3.{self.region}.amazonaws.com"

    @property
    def host(self) -> tuple[str, int]:
        """Name and port of the server."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)

    async def put(
        self, path: str, content: bytes, *, replaces: str = NEW, media_type: str = "", meta: Mapping[str, str] = {}
    ) -> str:
        """Store an object whole; see the port."""
        attributes: dict[str, str] = dict(meta)
        if media_type:
            attributes["Content-Type"] = media_type
        mode: Any = {"e_tag": replaces} if replaces else "create"
        try:
            with self.errors("PUT", path):
                put = await obstore.put_async(
                    self.open(), path, content, attributes=attributes, mode=mode, use_multipart=False
                )
        except FileNotFoundError as error:
            if replaces and _code(error) != "NoSuchBucket":
                raise ObjectChanged(f"there is no object {path!r} in the bucket {self.bucket!r} to replace") from None
            raise ObjectsRefused(f"there is no bucket {self.bucket!r} at {self.url}") from None
        return put["e_tag"] or ""

    async def stat(self, path: str) -> ObjectStat | None:
        """Return what is known of an object; see the port."""
        try:
            with self.errors("HEAD", path):
                found = await obstore.get_async(self.open(), path, options={"head": True})
        except FileNotFoundError:
            return None
        attributes = {str(name).lower(): value for name, value in found.attributes.items()}
        media_type = attributes.pop("content-type", "")
        return ObjectStat(
            path=path, size=found.meta["size"], etag=found.meta["e_tag"] or "", media_type=media_type, meta=attributes
        )

    def open(self, longest_s: float | None = None) -> S3Store:
        """Return what speaks to the server, with the keys as they are now.

        Args:
            longest_s: For one request; `None` is `timeout_s`.

        Raises:
            ObjectsNotSetUp: A key is missing.
        """
        token = _secret(self.session_token, "the session token") if self.session_token else None
        found: Any = {
            "access_key_id": _secret(self.access_key, "the access key"),
            "secret_access_key": _secret(self.secret_key, "the secret key"), "token": token, "expires_at": None,
        }
        return S3Store(
            self.bucket,
            config={
                "endpoint": self.url, "aws_endpoint_url_s3": self.url, "region": self.region, "skip_signature": False,
                "virtual_hosted_style_request": False, "conditional_put": "etag",
            },
            client_options={
                "allow_http": self.url.startswith("http://"), "timeout": timedelta(seconds=longest_s or self.timeout_s),
                "read_timeout": timedelta(seconds=self.timeout_s),
                "connect_timeout": timedelta(seconds=min(10.0, self.timeout_s)),
            },
            retry_config={
                "max_retries": 2, "retry_timeout": timedelta(seconds=self.timeout_s),
                "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
            },
            credential_provider=lambda: found,
        )

    @contextmanager
    def errors(self, verb: str, path: str) -> Generator[None]:
        """Turn what the library says, which quotes the server at length, into one sentence."""
        what = f"{verb} {path!r} in the bucket {self.bucket!r} at {self.url}"
        try:
            yield
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            raise ObjectChanged(f"{what}: another object is there") from None
        except exceptions.UnauthenticatedError as error:
            raise ObjectsRefused(f"{what}: the server does not know the key{_said(error)}") from None
        except exceptions.PermissionDeniedError as error:
            raise ObjectsRefused(f"{what}: the key may not do that{_said(error)}") from None
        except (exceptions.InvalidPathError, ValueError) as error:
            raise ObjectsRefused(f"{what}: the path is not allowed: {str(error)[:200]}") from None
        except exceptions.BaseError as error:
            status = int(found[1]) if (found := _STATUS.search(str(error))) else 0
            if not status:
                raise ObjectsFailed(f"{what}: the server did not answer, or the connection broke", unknown=True) from None
            if 300 <= status < 500 and status not in _MAY_PASS:
                raise ObjectsRefused(f"{what}: the server answers {status}{_said(error)}") from None
            raise ObjectsFailed(f"{what}: the server answers {status}{_said(error)}", unknown=True) from None


def _code(error: Exception) -> str:
    found = _CODE.search(str(error))
    return found[1] if found else ""


def _said(error: Exception) -> str:
    code = _code(error)
    return f" ({code})" if code else ""


def _secret(reference: str, what: str) -> str:
    """Return what `env:NAME` or `file:PATH` refers to.

    Raises:
        ObjectsNotSetUp: There is nothing.
    """
    kind, _, name = reference.partition(":")
    if not name:
        raise ObjectsNotSetUp(f"the settings do not say where {what} of the bucket is; name a variable or a file")
    if kind == "env":
        place, text = f"the environment variable {name}", os.environ.get(name, "")
    else:
        place = f"the file {name}"
        try:
            text = Path(name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ObjectsNotSetUp(f"{place} with {what} of the bucket cannot be read: {type(error).__name__}") from None
    if not text:
        raise ObjectsNotSetUp(f"{place}, which holds {what} of the bucket, is not set or empty")
    return text
