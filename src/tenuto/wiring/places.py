"""Where things are kept and run: from a URL, a path or the name of a package to a store, a depot, a sandbox."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from tempfile import gettempdir
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, cast

from tenuto.adapters.objects.places import ArtifactPlace, open_artifacts
from tenuto.errors import InvalidSettings
from tenuto.ports.artifacts import Depot
from tenuto.ports.cache import CacheEntries
from tenuto.ports.knowledge import Knowledge
from tenuto.ports.store import Store
from tenuto.runtime.artifacts import Shelf

if TYPE_CHECKING:
    from tenuto.adapters.optimizers.sandbox import WasmSandbox
    from tenuto.adapters.stores.sealed import KeyRing

DEFAULT_URL = "sqlite:///.tenuto/tenuto.db"
DEFAULT_HOME = ".tenuto"
DEFAULT_KNOWLEDGE = f"{DEFAULT_HOME}/knowledge"


def open_store(url: str, *, lease_ms: int = 10_000, master_keys: Sequence[str] = ()) -> Store:
    """Return the store a URL names; nothing is connected yet.

    Args:
        url: `sqlite:///relative.db`, `sqlite:////absolute.db`, `postgresql://user@host/db` or `memory:`.
        master_keys: `env:NAME` or `file:PATH` of the keys that seal what is stored, the one in force first; none leaves
            it as it is.

    Raises:
        InvalidSettings: The URL names no store, or a key is missing.
    """
    if master_keys:
        sealed = _encryption()
        return cast("Store", sealed.SealedStore(open_store(url, lease_ms=lease_ms), sealed.Masters(master_keys)))
    scheme = url.split(":", 1)[0]
    if scheme == "sqlite":
        from tenuto.adapters.stores.sqlite import SqliteStore

        return SqliteStore(sqlite_path(url))
    if scheme in ("postgres", "postgresql"):
        from tenuto.adapters.stores.postgres import PostgresStore

        return PostgresStore(url, lease_ms=lease_ms)
    if scheme == "memory":
        from tenuto.adapters.stores.memory import MemoryStore

        return MemoryStore()
    raise InvalidSettings(
        f"{url!r} names no store; use sqlite:///path/to.db, postgresql://user@host/database or memory:"
    )


def open_shelf(store: Store, place: ArtifactPlace, master_keys: Sequence[str] = ()) -> Shelf:
    """Return the artifacts of a store, sealed as the store is."""
    depot = place.depot
    if master_keys:
        sealed = _encryption()
        depot = cast("Depot", sealed.SealedDepot(depot, store))
    return Shelf(store, depot, spool=place.spool, named=not master_keys, max_bytes=place.max_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePlace:
    """A server of results beside the store.

    Attributes:
        password: `env:NAME` or `file:PATH` of it; empty for none.
    """

    url: str = field(kw_only=False)
    username: str = ""
    password: str = ""
    timeout_s: float = 0.5


def open_cache(place: CachePlace | None, store: Store, master_keys: Sequence[str] = ()) -> tuple[CacheEntries, Closes | None]:
    """Return where results of steps are kept, sealed as the store is, and what is to be closed at the end.

    Raises:
        InvalidSettings: A package is missing, or the password is not where it should be.
    """
    if place is None:
        return store, None
    try:
        from tenuto.adapters.caches.redis import RedisCache
    except ImportError as error:
        raise InvalidSettings(f"cache.url needs a package more ({error}); pip install 'tenuto[redis]'") from error
    cache = RedisCache(place.url, username=place.username, password=_secret(place.password), timeout_s=place.timeout_s)
    if master_keys:
        return _encryption().SealedCache(cache, store), cache
    return cache, cache


def _secret(reference: str) -> str:
    kind, _, name = reference.partition(":")
    try:
        found = Path(name).read_text(encoding="utf-8").strip() if kind == "file" else os.environ.get(name, "")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"cache.password_file names {name}, which cannot be read: {error}") from None
    if reference and not found:
        raise InvalidSettings(f"the password of the cache is looked for in {name}, and is not there")
    return found


class Closes(Protocol):
    """Something that is closed at the end."""

    async def close(self) -> None:
        """Release connections."""
        ...


def key_ring(store: Store, master_keys: Sequence[str]) -> KeyRing:
    """Return the keys a store holds, opened by master keys; nothing is read yet.

    Raises:
        InvalidSettings: A master key is missing.
    """
    sealed = _encryption()
    return sealed.KeyRing(store, sealed.Masters(master_keys))


def _encryption() -> ModuleType:
    try:
        from tenuto.adapters.stores import sealed
    except ImportError as error:
        raise InvalidSettings(f"encryption needs a package more ({error}); pip install 'tenuto[encryption]'") from error
    return sealed


async def refuse_sealed(store: Store, master_keys: Sequence[str]) -> None:
    """Close an open store whose contents are sealed, where nobody has its keys.

    Raises:
        InvalidSettings: It was closed.
    """
    if not master_keys and any(not row.destroyed_at for row in await store.data_keys()):
        await store.close()
        raise InvalidSettings(
            "the database is encrypted, but the settings name no master key; set encryption.key_env or encryption.key_file"
        )


def sqlite_path(url: str) -> Path:
    """Return the file of an SQLite URL: three slashes for a relative path, four for an absolute one.

    Raises:
        InvalidSettings: The URL has a host or no path.
    """
    rest = url.removeprefix("sqlite://")
    if not rest.startswith("/") or len(rest) < 2:
        raise InvalidSettings(f"{url!r} is not an SQLite URL; use sqlite:///relative.db or sqlite:////absolute.db")
    return Path(rest[1:])


def default_artifacts(url: str) -> ArtifactPlace:
    """Return where artifacts are kept when nobody says: in memory as the store, else in a directory beside it."""
    if url.startswith("memory:"):
        return open_artifacts("memory:", home=Path(gettempdir()) / "tenuto")
    return open_artifacts("", home=sqlite_path(url).parent if url.startswith("sqlite:") else Path(DEFAULT_HOME))


def owner_of(store: Store) -> str:
    """Return what stands for a store on whatever belongs to its runs: its place, without who asks and with what key."""
    scheme, _, rest = store.url.partition(":")
    if scheme == "memory":
        return f"memory:{token_hex(16)}"  # nobody else ever has the same runs
    place = str(sqlite_path(store.url).resolve()) if scheme == "sqlite" else rest.partition("?")[0].rpartition("@")[2]
    return sha256(place.strip("/").encode()).hexdigest()


def open_knowledge(
    root: str | Path, *, embedding: str = "auto", dimensions: int = 0, url: str = "", key: str = "",
    chunk_chars: int = 1000, overlap_chars: int = 150,
) -> Knowledge:
    """Return the knowledge bases below a directory; nothing is opened or loaded yet.

    Args:
        embedding: `auto`, `minilm`, `hash:DIMENSIONS`, or `provider:model` on the server at `url`.

    Raises:
        InvalidSettings: There is no such embedding model, or pieces would lap over by half or more.
    """
    from tenuto.adapters.knowledge import KnowledgeFiles, open_embedding

    if overlap_chars * 2 >= chunk_chars:
        raise InvalidSettings(
            f"knowledge.overlap_chars is {overlap_chars}; it must be less than half of chunk_chars, {chunk_chars}"
        )
    model = open_embedding(embedding, dimensions=dimensions, url=url, key=key)
    return KnowledgeFiles(Path(root), model, chunk_chars=chunk_chars, overlap_chars=overlap_chars)


def open_sandbox() -> WasmSandbox:
    """Return a sandbox for optimizers; whoever opens it closes it.

    Raises:
        InvalidSettings: The package that executes WebAssembly is not installed.
    """
    try:
        from tenuto.adapters.optimizers.sandbox import WasmSandbox
    except ImportError as error:
        raise InvalidSettings(
            f"optimizers need a package more ({error}); pip install 'tenuto[optimizers]'"
        ) from error
    return WasmSandbox()
