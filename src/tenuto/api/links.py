"""Which secret the links are signed with: one of their own, or one derived from the token that every server has."""

from __future__ import annotations

import os
from pathlib import Path

from tenuto.api.auth import kept_token
from tenuto.errors import InvalidSettings
from tenuto.runtime.services.links import Links
from tenuto.settings import MIN_TOKEN, Settings


def links_of(settings: Settings) -> Links | None:
    """Return what makes and reads links; `None` while no address for them is set.

    Raises:
        InvalidSettings: Their secret is missing, or too short.
    """
    if not settings.links.url:
        return None
    return Links(_secret(settings), settings.links.url, valid_ms=int(settings.links.valid_s * 1000))


def _secret(settings: Settings) -> bytes:
    variable, file = settings.links.key_env, settings.links.key_file
    if not variable and not file:
        return (settings.token or kept_token(settings.data_dir)).encode()
    try:
        found = os.environ.get(variable, "").encode() if variable else Path(file).read_bytes().strip()
    except OSError as error:
        raise InvalidSettings(f"links.key_file: {file!r} cannot be read: {error.strerror}") from None
    if len(found) < MIN_TOKEN:
        named = f"the variable {variable!r}" if variable else f"the file {file!r}"
        raise InvalidSettings(f"{named}, the secret of links, holds {len(found)} bytes; at least {MIN_TOKEN} are needed")
    return found
