"""Files of a run: a directory that no path leads out of, neither by `..`, nor by a link, nor by a swap in between.

Every path is walked from an open directory, one name at a time, and no name is followed when it is a link. What was
checked is what is opened, so there is no moment in which somebody could put a link in its place.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

from tenuto.errors import Permanent, StepError
from tenuto.runtime.tools.catalog import CallInfo

RESERVED = ".tenuto"
OWNER = "owner"
RUN = "run-"
GONE = "gone-"
MAX_READ = 50_000
MAX_WRITE = 1_000_000
MAX_TOTAL = 100_000_000
MAX_FILES = 10_000
MAX_LISTED = 1_000
MAX_DEPTH = 32
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FRESH = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class PathRefused(Permanent):
    """The path leads out of the workspace, or to something that is no plain file or directory."""

    code = "workspace.path"


class FileMissing(Permanent):
    """The workspace has no such file or directory."""

    code = "workspace.missing"


class WorkspaceFull(Permanent):
    """What was to be written is over a limit of the workspace."""

    code = "workspace.full"


class WorkspaceFailed(StepError):
    """The disk of the workspace did not do what was asked."""

    code = "workspace.failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspaces:
    """Where workspaces are, and whether the runs of a project share one.

    Attributes:
        scope: `run`, or `project`: runs with the same label `project` share a workspace, others have their own.
        owner: Stands for the store that keeps the runs; workspaces of other stores' runs may be in the same directory.
    """

    root: Path
    scope: str = "run"
    max_read: int = MAX_READ
    max_write: int = MAX_WRITE
    max_total: int = MAX_TOTAL
    owner: str = ""

    def of(self, info: CallInfo) -> Workspace:
        """Return the workspace of a call; it is made when something is written."""
        if self.scope == "project" and info.project:
            return Workspace(self.root / _safe(info.ns) / f"project-{_safe(info.project)}", self)
        return Workspace(self.of_run(info.ns, info.run or "none"), self)

    def of_run(self, ns: str, run: str) -> Path:
        """Return where the files of a run are that it shares with no other."""
        return self.root / _safe(ns) / f"{RUN}{_safe(run)}"

    def held(self) -> list[tuple[str, Path]]:
        """Return every run of the owner's that has a workspace here, and where; none without an owner."""
        places = [place for space in _below(self.root) for place in _below(space) if place.name.startswith(RUN)]
        return [(place.name.removeprefix(RUN), place) for place in places if self.owner and _owner(place) == self.owner]

    def drop(self, place: Path) -> None:
        """Remove a workspace with all that is in it; from the first moment on nobody finds it, and links are not followed.

        What a crash leaves of it is removed by `clear`.
        """
        gone = place.with_name(f"{GONE}{token_hex(16)}")
        try:
            os.rename(place, gone)
        except FileNotFoundError:
            return  # there is none, or somebody else was faster
        shutil.rmtree(gone, ignore_errors=True)

    def clear(self) -> None:
        """Remove what is left of workspaces whose removal was broken off."""
        for space in _below(self.root):
            for place in _below(space):
                if place.name.startswith(GONE):
                    shutil.rmtree(place, ignore_errors=True)


def _below(directory: Path) -> list[Path]:
    """Return the directories in a directory; one that is not there has none, and links are none."""
    try:
        with os.scandir(directory) as found:
            return sorted(Path(item.path) for item in found if item.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _owner(place: Path) -> str:
    """Return whose a workspace is; empty when nobody says."""
    try:
        own = os.open(place / RESERVED, _DIRECTORY)
        try:
            with _opened(OWNER, _FILE, own) as file:
                return _read_all(file, os.fstat(file).st_size).decode()
        finally:
            os.close(own)
    except OSError:
        return ""


def _safe(name: str) -> str:
    """Return a name that is one plain component of a path; one that is not becomes a digest, which meets no other."""
    return name if _PLAIN.fullmatch(name) else "x-" + sha256(name.encode()).hexdigest()[:32]


class Workspace:
    """One directory with everything below it. Methods block; call them on a thread."""

    def __init__(self, root: Path, limits: Workspaces) -> None:
        """Name the directory; nothing is touched."""
        self.root = root
        self._limits = limits

    def read(self, path: str, offset: int = 0) -> dict[str, Any]:
        """Return a file's text, at most the limit's bytes of it from an offset.

        Returns:
            `{path, content, bytes, offset, truncated}`; bytes that are no UTF-8 are replaced.

        Raises:
            PathRefused: The path leads out, or to no plain file.
            FileMissing: There is no such file.
        """
        with self._parent(path) as (parent, name), _errors(path), _opened(name, _FILE, parent) as file:
            found = os.fstat(file)
            _require_plain(found, path)
            raw = os.pread(file, self._limits.max_read, offset)
        return {
            "path": path, "content": raw.decode("utf-8", "replace"), "bytes": found.st_size, "offset": offset,
            "truncated": offset + len(raw) < found.st_size,
        }

    def read_bytes(self, path: str, most: int) -> bytes:
        """Return a whole file.

        Raises:
            PathRefused: The path leads out, or to no plain file.
            FileMissing: There is no such file.
            WorkspaceFull: It is longer than `most` bytes.
        """
        with self._parent(path) as (parent, name), _errors(path), _opened(name, _FILE, parent) as file:
            found = os.fstat(file)
            _require_plain(found, path)
            if found.st_size > most:
                raise WorkspaceFull(f"{path!r} has {found.st_size:,} bytes; at most {most:,} may be taken")
            return _read_all(file, found.st_size)

    def list(self, path: str = "", *, recursive: bool = False) -> dict[str, Any]:
        """Return what a directory holds, in order of names; links are named and never followed.

        Returns:
            `{path, entries: [{path, kind, bytes?}], truncated}` with kinds `file`, `directory`, `link` and `other`.

        Raises:
            PathRefused: The path leads out, or to no directory.
            FileMissing: There is no such directory.
        """
        parts = parts_of(path) if path.strip("/") not in ("", ".") else []
        try:
            with _errors(path or "."), self._directory(parts) as found:
                entries = list(_entries(found, "/".join(parts), recursive, 0))
        except FileMissing:
            if parts:
                raise
            entries = []
        cut = entries[:MAX_LISTED]
        return {"path": "/".join(parts), "entries": cut, "truncated": len(entries) > MAX_LISTED}

    def write(self, path: str, content: bytes, key: str, most: int = 0) -> dict[str, Any]:
        """Put a whole file in place, once for a key: a repeat changes nothing and returns what the first one did.

        A reader sees the old file or the new one, never a part. The key is remembered on this disk, so it holds over
        the death of this process and takeovers on this machine.

        Args:
            most: Longest content in bytes; 0 is the workspace's own limit.

        Returns:
            `{path, bytes, sha256}`.

        Raises:
            PathRefused: The path leads out, or a directory or link is in its place.
            WorkspaceFull: The file or the workspace would be over its limit.
        """
        parts = parts_of(path)
        mark = sha256(key.encode()).hexdigest()
        result = {"path": "/".join(parts), "bytes": len(content), "sha256": sha256(content).hexdigest()}
        with _errors(path), self._directory([], create=True) as top, _made(RESERVED, top) as own:
            self._sign(own)
            known = _receipt(own, mark)
            if known is None:
                self._check_room(top, path, len(content), most or self._limits.max_write)
                with self._directory(parts[:-1], create=True) as parent:
                    _require_replaceable(parts[-1], parent, path)
                _put(own, f"{mark}.new", content)
                # From here on the write is decided: whoever finds the receipt finishes it, if it is not finished.
                _put(own, f"{mark}.part", json.dumps(result).encode())
                os.rename(f"{mark}.part", f"{mark}.json", src_dir_fd=own, dst_dir_fd=own)
            with self._directory(parts[:-1], create=True) as parent:
                try:
                    os.rename(f"{mark}.new", parts[-1], src_dir_fd=own, dst_dir_fd=parent)
                except FileNotFoundError:
                    if known is None:
                        raise
                os.fsync(parent)
        return known or result

    def _sign(self, own: int) -> None:
        """Say whose the workspace is, before anything is in it."""
        try:
            os.stat(OWNER, dir_fd=own, follow_symlinks=False)
        except FileNotFoundError:
            _put(own, f"{OWNER}.part", self._limits.owner.encode())
            os.rename(f"{OWNER}.part", OWNER, src_dir_fd=own, dst_dir_fd=own)

    def _check_room(self, top: int, path: str, size: int, most: int) -> None:
        if size > most:
            raise WorkspaceFull(f"{path!r} would have {size:,} bytes; a file may have {most:,}")
        files, total = 0, 0
        for entry in _entries(top, "", True, 0):
            files += 1
            total += entry.get("bytes", 0)
        if files >= MAX_FILES:
            raise WorkspaceFull(f"{path!r} was not written: the workspace holds {MAX_FILES:,} files, its limit")
        if total + size > self._limits.max_total:
            raise WorkspaceFull(
                f"{path!r} was not written: the workspace would hold {total + size:,} bytes; its limit is "
                f"{self._limits.max_total:,}"
            )

    @contextmanager
    def _parent(self, path: str) -> Generator[tuple[int, str]]:
        parts = parts_of(path)
        with _errors(path), self._directory(parts[:-1]) as parent:
            yield parent, parts[-1]

    @contextmanager
    def _directory(self, parts: list[str], *, create: bool = False) -> Generator[int]:
        """Yield an open directory below the root, reached name by name without following a link."""
        if create:
            self.root.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.root.mkdir(exist_ok=True, mode=0o700)
        at = os.open(self.root, _DIRECTORY)
        try:
            for part in parts:
                if create:
                    _make_directory(part, at)
                below = os.open(part, _DIRECTORY, dir_fd=at)
                os.close(at)
                at = below
            yield at
        finally:
            os.close(at)


def parts_of(path: str) -> list[str]:
    """Return the names of a relative path.

    Raises:
        PathRefused: It is empty, absolute, climbs, or holds a name no file may have.
    """
    if not path or not path.strip():
        raise PathRefused("the path is empty; name a file, such as 'notes/today.txt'")
    if path.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:[\\/]", path):
        raise PathRefused(f"{path!r} is absolute; paths are relative to the workspace")
    if "\\" in path or any(ord(mark) < 32 or ord(mark) == 127 for mark in path):
        raise PathRefused(f"{path!r} holds a backslash or a control character; parts of a path are joined by '/'")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise PathRefused(f"{path!r} is no UTF-8 text") from None
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise PathRefused(f"{path!r} climbs with '..'; paths stay inside the workspace")
    if not parts:
        raise PathRefused(f"{path!r} names no file")
    if parts[0].casefold() == RESERVED:
        raise PathRefused(f"{path!r} is where the workspace keeps its own notes")
    if len(parts) > MAX_DEPTH or any(len(part.encode()) > 255 for part in parts):
        raise PathRefused(f"{path[:80]!r}… is too long: {MAX_DEPTH} names of 255 bytes are allowed")
    return parts


def _make_directory(name: str, at: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=at)
    except FileExistsError:
        pass


@contextmanager
def _made(name: str, at: int) -> Generator[int]:
    _make_directory(name, at)
    with _opened(name, _DIRECTORY, at) as found:
        yield found


@contextmanager
def _opened(name: str, flags: int, at: int) -> Generator[int]:
    found = os.open(name, flags, 0o600, dir_fd=at)
    try:
        yield found
    finally:
        os.close(found)


def _put(at: int, name: str, content: bytes) -> None:
    with _opened(name, _FRESH, at) as file:
        left = memoryview(content)
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)


def _receipt(own: int, mark: str) -> dict[str, Any] | None:
    try:
        with _opened(f"{mark}.json", _FILE, own) as file:
            return json.loads(_read_all(file, os.fstat(file).st_size))
    except FileNotFoundError:
        return None


def _read_all(file: int, size: int) -> bytes:
    pieces = bytearray()
    while piece := os.read(file, max(size - len(pieces), 4096)):
        pieces += piece
        if len(pieces) > size:
            break
    return bytes(pieces[:size])


def _require_plain(found: os.stat_result, path: str) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise PathRefused(f"{path!r} is a directory; use list_files")
    if not stat.S_ISREG(found.st_mode):
        raise PathRefused(f"{path!r} is no plain file")
    if found.st_nlink > 1:
        raise PathRefused(f"{path!r} has a second name elsewhere (a hard link), so it may be somebody else's file")


def _require_replaceable(name: str, at: int, path: str) -> None:
    """Refuse what a rename would replace by surprise; a swap after this look still replaces a name in here only."""
    try:
        found = os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise PathRefused(f"{path!r} is a symbolic link; links are not followed")
    if not stat.S_ISREG(found.st_mode):
        raise PathRefused(f"{path!r} is no plain file, so it is not replaced")


def _entries(at: int, prefix: str, recursive: bool, depth: int) -> Iterator[dict[str, Any]]:
    with os.scandir(at) as found:
        items = sorted(found, key=lambda item: item.name)
    for item in items:
        if not prefix and item.name == RESERVED:
            continue
        path = f"{prefix}/{item.name}" if prefix else item.name
        if item.is_symlink():
            yield {"path": path, "kind": "link"}
        elif item.is_dir(follow_symlinks=False):
            yield {"path": path, "kind": "directory"}
            if recursive and depth < MAX_DEPTH:
                try:
                    with _opened(item.name, _DIRECTORY, at) as below:
                        yield from _entries(below, path, True, depth + 1)
                except OSError:  # gone, or a link by now
                    continue
        elif item.is_file(follow_symlinks=False):
            try:
                yield {"path": path, "kind": "file", "bytes": item.stat(follow_symlinks=False).st_size}
            except FileNotFoundError:
                continue
        else:
            yield {"path": path, "kind": "other"}


@contextmanager
def _errors(path: str) -> Generator[None]:
    """Turn what the system says into one sentence about the path."""
    try:
        yield
    except OSError as exc:
        if exc.errno == errno.ENOENT:
            raise FileMissing(f"there is no {path!r} in the workspace") from exc
        if exc.errno in (errno.ELOOP, errno.ENOTDIR):
            raise PathRefused(f"{path!r} goes through a symbolic link or a file; links are not followed") from exc
        if exc.errno in (errno.EISDIR, errno.ENXIO, errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTEMPTY):
            raise PathRefused(f"{path!r} cannot be used as a file: {exc.strerror}") from exc
        raise WorkspaceFailed(f"{path!r}: {exc.strerror}") from exc
