"""Finds the texts below a directory. Used by the engine and by the command line, so it needs the standard library only."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike

MAX_BYTES = 10_000_000


class Found:
    """Texts by path below the place, and why others were skipped.

    Attributes:
        name: Last part of the place's path.
    """

    def __init__(self, name: str) -> None:
        """Start empty."""
        self.name = name
        self.texts: dict[str, str] = {}
        self.skipped: dict[str, str] = {}

    def take(self, path: str, name: str) -> None:
        """Read one file, or note why not."""
        try:
            if os.path.getsize(path) > MAX_BYTES:
                self.skipped[name] = f"is over {MAX_BYTES:,} bytes"
                return
            with open(path, "rb") as file:
                raw = file.read(MAX_BYTES + 1)
            if b"\0" in raw:
                self.skipped[name] = "is no text"
                return
            self.texts[name] = raw.decode("utf-8")
        except UnicodeDecodeError:
            self.skipped[name] = "is no UTF-8 text"
        except OSError as error:
            self.skipped[name] = f"cannot be read: {error.strerror}"


def collect(place: str | PathLike[str]) -> Found:
    """Return the texts of a file, or of all files below a directory.

    Hidden files and directories are left out; links are named as skipped and never followed.

    Raises:
        OSError: There is no such place.
    """
    root: str = os.path.abspath(os.fspath(place))
    found = Found(os.path.basename(root) or "root")
    if not os.path.isdir(root):
        os.stat(root)
        found.take(root, os.path.basename(root))
        return found
    for directory, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in [*names, *sorted(files)]:
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, root).replace(os.sep, "/")
            if os.path.islink(path):
                found.skipped[relative] = "is a link"
            elif name in files and not name.startswith(".") and os.path.isfile(path):
                found.take(path, relative)
    return found
