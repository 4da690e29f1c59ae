"""`s3_upload`: a text, bytes or a file of the workspace into a bucket an operator has set up, once for a call.

The object carries a mark that derives from the call's key, and is put on the condition that the path is free, or holds
the very object it is to replace. So a repeat finds its own object, and a part of one is never there.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from hashlib import sha256
from typing import Any

from tenuto.errors import Permanent, StepError
from tenuto.ports.objects import NEW, ObjectChanged, ObjectsFailed, ObjectStat
from tenuto.runtime.tools.addresses import safe_address
from tenuto.runtime.tools.builtin.kit import Bucket, Kit, ToolNotSetUp, declare, text
from tenuto.runtime.tools.catalog import CallInfo
from tenuto.runtime.tools.workspace import WorkspaceFull

NAME = "s3_upload"
MARK, DIGEST = "tenuto-call", "tenuto-sha256"
MAX_PATH = 1024
MAX_INLINE = 10_000_000


class UploadRefused(Permanent):
    """The object was not uploaded: it breaks a rule here, or another object is at its path."""

    code = "upload.refused"


class UploadFailed(StepError):
    """The object could not be uploaded; `details["unknown"]` says whether it may be there all the same."""

    code = "upload.failed"


async def _upload(
    kit: Kit, info: CallInfo, destination: str, path: str, text: str | None = None, base64: str | None = None,
    file: str | None = None, content_type: str = "", overwrite: bool = False,
) -> dict[str, Any]:
    bucket = _bucket(kit, destination)
    _check_path(bucket, destination, path)
    content = await _content(kit, info, bucket, text, base64, file)
    await safe_address(*bucket.objects.host, kit.http.allowed, kit.http.resolve)
    mark, replaces = _mark(info.key), NEW
    if overwrite and (found := await bucket.objects.stat(path)) is not None:
        if _is_ours(found, mark):
            return _result(bucket, destination, found)
        replaces = found.etag
    meta = {MARK: mark, DIGEST: sha256(content).hexdigest()}
    media_type = content_type or ("text/plain; charset=utf-8" if text is not None else "application/octet-stream")
    try:
        etag = await bucket.objects.put(path, content, replaces=replaces, media_type=media_type, meta=meta)
    except (ObjectChanged, ObjectsFailed) as exc:
        return _result(bucket, destination, await _found_after(exc, bucket, path, mark, overwrite))
    stat = ObjectStat(path=path, size=len(content), etag=etag, media_type=media_type, meta=meta)
    return _result(bucket, destination, stat)


async def _found_after(
    exc: ObjectChanged | ObjectsFailed, bucket: Bucket, path: str, mark: str, overwrite: bool
) -> ObjectStat:
    """Return this call's object, which may be there although the put did not say so.

    Raises:
        UploadRefused: Another object is there.
        UploadFailed: It is not there; or nobody can say.
    """
    try:
        found = await bucket.objects.stat(path)
    except ObjectsFailed as again:
        raise UploadFailed(f"{exc.message}; {path!r} may be there all the same: {again.message}", unknown=True) from exc
    if found is not None and _is_ours(found, mark):
        return found
    if isinstance(exc, ObjectsFailed):
        raise UploadFailed(f"{exc.message}; {path!r} was not uploaded") from exc
    if overwrite:
        raise UploadFailed(f"{path!r} was not uploaded: somebody else put an object there at the same time") from exc
    raise UploadRefused(
        f"{path!r} was not uploaded: {bucket.name!r} holds another object there; "
        "take another path, or set overwrite to replace it"
    ) from exc


async def _became(kit: Kit, info: CallInfo, destination: str, path: str, **_: Any) -> tuple[str, Any]:
    """Say what became of a call: succeeded with its result, or to be made again, which finds what may come late."""
    bucket = _bucket(kit, destination)
    await safe_address(*bucket.objects.host, kit.http.allowed, kit.http.resolve)
    try:
        found = await bucket.objects.stat(path)
    except ObjectsFailed as exc:
        raise UploadFailed(f"what became of the upload of {path!r} is still not known: {exc.message}", unknown=True) from exc
    if found is not None and _is_ours(found, _mark(info.key)):
        return "succeeded", _result(bucket, destination, found)
    return "retry", None


def _bucket(kit: Kit, destination: str) -> Bucket:
    if destination not in kit.buckets:
        told = f"there are {', '.join(sorted(kit.buckets))}" if kit.buckets else "none is set up (settings: s3)"
        raise ToolNotSetUp(f"there is no bucket {destination[:80]!r}; {told}")
    return kit.buckets[destination]


def _check_path(bucket: Bucket, destination: str, path: str) -> None:
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise UploadRefused(f"{path[:80]!r} is no path of an object, such as 'reports/today.csv', without '..' or '//'")
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        raise UploadRefused(f"{path[:80]!r} is no UTF-8 text") from None
    if len(raw) > MAX_PATH or any(mark < 32 or mark == 127 for mark in raw):
        raise UploadRefused(f"{path[:80]!r} is over {MAX_PATH} bytes, or holds a control character")
    if bucket.prefixes and not any(path.startswith(prefix.rstrip("/") + "/") for prefix in bucket.prefixes):
        raise UploadRefused(f"{path!r} may not be written; s3.{destination}.prefixes lists {', '.join(bucket.prefixes)}")


async def _content(
    kit: Kit, info: CallInfo, bucket: Bucket, plain: str | None, encoded: str | None, file: str | None
) -> bytes:
    if sum(given is not None for given in (plain, encoded, file)) != 1:
        raise UploadRefused("give the content in one of text, base64 and file")
    if file is not None:
        try:
            return await asyncio.to_thread(kit.workspaces.of(info).read_bytes, file, bucket.max_bytes)
        except WorkspaceFull as exc:
            raise UploadRefused(f"{exc.message} (setting: max_bytes of the bucket)") from exc
    if plain is not None:
        content = plain.encode("utf-8", "surrogatepass")
    else:
        try:
            content = base64.b64decode(encoded or "", validate=True)
        except (binascii.Error, ValueError) as exc:
            raise UploadRefused(f"the argument base64 is no base64: {exc}") from None
    if len(content) > bucket.max_bytes:
        raise UploadRefused(f"the content has {len(content):,} bytes; at most {bucket.max_bytes:,} may be uploaded")
    return content


def _mark(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def _is_ours(found: ObjectStat, mark: str) -> bool:
    return found.meta.get(MARK) == mark


def _result(bucket: Bucket, destination: str, found: ObjectStat) -> dict[str, Any]:
    return {
        "destination": destination, "bucket": bucket.name, "path": found.path, "bytes": found.size,
        "sha256": found.meta.get(DIGEST, ""), "etag": found.etag, "content_type": found.media_type,
    }


TOOLS = (
    declare(
        _upload, NAME, "Upload a text, bytes or a file of the workspace to a bucket that was set up.",
        {
            "destination": text("Name of the bucket, as the settings have it."),
            "path": text("Path of the object, such as 'reports/today.csv'."),
            "text": text("The content as text; or give base64 or file.", maxLength=MAX_INLINE),
            "base64": text("The content in base64.", maxLength=MAX_INLINE),
            "file": text("Path of a file of the workspace that is the content."),
            "content_type": text("Media type, such as 'text/csv'.", maxLength=200, pattern=r"^[\x20-\x7e]*$", default=""),
            "overwrite": {"type": "boolean", "description": "Whether to replace an object that is there.", "default": False},
        },
        required=("destination", "path"), effect="effect", on_unknown=NAME, status=_became,
    ),
)
