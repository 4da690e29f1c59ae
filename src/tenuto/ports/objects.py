"""A bucket of objects elsewhere, as S3 and what is compatible with it have them: whole, by path, put on a condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from tenuto.errors import Permanent, StepError

NEW = ""
"""Condition of a put: there is no object at the path yet."""


class ObjectStat(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an object without reading it.

    Attributes:
        etag: Changes with the object; says which one a put replaces.
        meta: What was stored beside it; names in lower case.
    """

    path: str
    size: int
    etag: str
    media_type: str = ""
    meta: Mapping[str, str] = {}


class ObjectsNotSetUp(Permanent):
    """A setting of the bucket is missing, or names nothing."""

    code = "objects.not_set_up"


class ObjectsRefused(Permanent):
    """The server of the bucket refuses the request, and would refuse it again."""

    code = "objects.refused"


class ObjectsFailed(StepError):
    """The server of the bucket could not be reached, broke off, or answered with an error that may pass."""

    code = "objects.failed"


class ObjectChanged(Permanent):
    """The object at the path is not the one that the request is about."""

    code = "objects.changed"


class Objects(Protocol):
    """One bucket. Secrets are read where they are kept at each call."""

    @property
    def host(self) -> tuple[str, int]:
        """Name and port of the server."""
        ...

    async def put(
        self, path: str, content: bytes, *, replaces: str = NEW, media_type: str = "", meta: Mapping[str, str] = {}
    ) -> str:
        """Store an object whole and return its etag; nobody ever sees a part of it.

        Args:
            replaces: Etag of the object it takes the place of; `NEW` when there must be none.

        Raises:
            ObjectChanged: Another object is there, or none; nothing was stored.
            ObjectsRefused: Nothing was stored.
            ObjectsFailed: It may have been stored, or may still be: only `stat` can tell.
        """
        ...

    async def stat(self, path: str) -> ObjectStat | None:
        """Return what is known of an object, or `None` when there is none.

        Raises:
            ObjectsRefused: The server does not say.
            ObjectsFailed: The server could not be asked.
        """
        ...
