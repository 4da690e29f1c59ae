"""Which bucket or depot a name stands for; nothing is connected or made before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tenuto.adapters.objects.chain import DepotChain
from tenuto.adapters.objects.disk import DiskDepot
from tenuto.adapters.objects.memory import MemoryDepot
from tenuto.errors import InvalidSettings
from tenuto.ports.artifacts import MAX_BYTES, Depot

if TYPE_CHECKING:
    from tenuto.adapters.objects.s3 import S3Bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPlace:
    """Where artifacts are kept, and through which directory they go there."""

    depot: Depot
    spool: Path
    max_bytes: int = MAX_BYTES


def open_objects(
    bucket: str, *, access_key: str, secret_key: str, session_token: str = "", endpoint: str = "",
    region: str = "us-east-1", timeout_s: float = 300.0,
) -> S3Bucket:
    """Return a bucket of an S3-compatible server.

    Args:
        access_key: `env:NAME` or `file:PATH`; so are `secret_key` and `session_token`.
        endpoint: Root of the server; empty is Amazon's of the region.

    Raises:
        InvalidSettings: A package is missing.
    """
    try:
        from tenuto.adapters.objects.s3 import S3Bucket
    except ImportError as error:
        raise InvalidSettings(f"buckets need a package more ({error}); pip install 'tenuto[s3]'") from error
    return S3Bucket(
        bucket=bucket, access_key=access_key, secret_key=secret_key, session_token=session_token, endpoint=endpoint.rstrip("/"),
        region=region, timeout_s=timeout_s,
    )


def open_depot(url: str, **bucket: Any) -> Depot:
    """Return the depot a URL names.

    Args:
        url: `file:///absolute/directory`, `s3://bucket/prefix` or `memory:`.
        bucket: What `open_objects` takes, for S3.

    Raises:
        InvalidSettings: The URL names no depot, or a package is missing.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and len(parts.path) > 1:
        return DiskDepot(Path(unquote(parts.path)))
    if url == "memory:":
        return MemoryDepot()
    if parts.scheme == "s3" and parts.netloc:
        objects = open_objects(parts.netloc, **bucket)
        from tenuto.adapters.objects.s3_depot import S3Depot

        return S3Depot(objects, parts.path.strip("/"))
    raise InvalidSettings(
        f"{url!r} is no place for artifacts; use s3://bucket/prefix, file:///absolute/directory or memory:"
    )


def open_artifacts(
    url: str, *, home: Path, former: Sequence[str] = (), max_bytes: int = MAX_BYTES, **bucket: Any
) -> ArtifactPlace:
    """Return where artifacts are kept.

    Args:
        url: See `open_depot`; empty is the directory `artifacts` in `home`.
        home: Directory of this installation.
        former: Where they were kept before, the latest first.

    Raises:
        InvalidSettings: As `open_depot`.
    """
    root = (home / "artifacts").absolute()
    depot = open_depot(url, **bucket) if url else DiskDepot(root)
    spool = (depot.root if isinstance(depot, DiskDepot) else root) / "spool"
    if former:
        depot = DepotChain([depot, *(open_depot(each, **bucket) for each in former)])
    return ArtifactPlace(depot=depot, spool=spool, max_bytes=max_bytes)
