"""Checks of the database's URL that give a person a clear answer before anything is tried."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from tenuto.errors import InvalidSettings

_FORM = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"


def place_of(url: str) -> str:
    """Return `host:port/database` of a usable URL, without credentials.

    Raises:
        InvalidSettings: The URL is of another kind or names no database.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise InvalidSettings(f"the database URL starts with {parts.scheme!r}://; PostgreSQL's reads {_FORM}")
    query = parse_qs(parts.query)
    named = query.get("dbname") or query.get("database")
    database = named[0] if named else parts.path.strip("/")
    server = parts.netloc.rpartition("@")[2] or query.get("host", [""])[0]
    if not database:
        raise InvalidSettings(
            f"the database URL for {server or 'PostgreSQL'} names no database; it reads {_FORM}"
        )
    return f"{server}/{database}"
