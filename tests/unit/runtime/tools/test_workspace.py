"""The workspace of a run: no path leads out of it, and a write happens once for a key."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from pathlib import Path

import pytest

from tenuto.runtime.tools import workspace as ws
from tenuto.runtime.tools.catalog import CallInfo
from tenuto.runtime.tools.workspace import FileMissing, PathRefused, Workspace, WorkspaceFull, Workspaces

SECRET = "secret of somebody else"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the workspaces, with a file nobody may see or change."""
    found = tmp_path / "outside"
    found.mkdir()
    (found / "file.txt").write_text(SECRET)
    return found


@pytest.fixture
def files(tmp_path: Path) -> Workspace:
    found = Workspaces(root=tmp_path / "spaces").of(CallInfo(key="k", run="r1"))
    found.write("notes/a.txt", b"first", "seed")
    return found


ESCAPES = [
    ("", "empty"), ("   ", "empty"), ("/etc/passwd", "absolute"), ("//etc/passwd", "absolute"), ("~/.ssh/id", "absolute"),
    ("\\\\host\\share", "absolute"), ("C:\\Windows\\x", "absolute"), ("c:/Windows", "absolute"),
    ("..", "climbs"), ("../outside/file.txt", "climbs"), ("notes/../../outside/file.txt", "climbs"),
    ("notes/./../../x", "climbs"), ("notes/..", "climbs"), ("./..//x", "climbs"), ("a\\..\\..\\x", "backslash"),
    ("notes/a.txt\x00.png", "control"), ("notes/\nx", "control"), ("a/\x7f", "control"), (".", "no file"), ("./.", "no file"),
    (".tenuto/x", "notes"), (".TENUTO/x", "notes"), ("./.tenuto/x", "notes"), ("a/" * 40 + "b", "too long"),
    ("x" * 300, "too long"), ("\ud800", "UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "reason"), ESCAPES)
def test_a_path_that_leads_out_is_refused_with_its_reason(files: Workspace, outside: Path, path: str, reason: str):
    for act in (lambda: files.read(path), lambda: files.write(path, b"x", "k")):
        with pytest.raises(PathRefused, match=reason):
            act()
    assert (outside / "file.txt").read_text() == SECRET


@pytest.mark.parametrize("path", [path for path, _ in ESCAPES if path.strip(" /.")])
def test_no_such_path_is_listed_either(files: Workspace, path: str):
    with pytest.raises(PathRefused):
        files.list(path)


def test_links_are_not_followed_whatever_they_point_at(files: Workspace, outside: Path):
    (files.root / "to_file").symlink_to(outside / "file.txt")
    (files.root / "to_dir").symlink_to(outside)
    (files.root / "inside").symlink_to("notes")
    (files.root / "dangling").symlink_to(outside / "new.txt")
    for path in ("to_file", "to_dir/file.txt", "inside/a.txt", "dangling"):
        with pytest.raises(PathRefused, match="link"):
            files.read(path)
        with pytest.raises(PathRefused, match="link"):
            files.write(path, b"mine", f"k-{path}")
    with pytest.raises(PathRefused, match="link"):
        files.list("to_dir")
    listed = {entry["path"]: entry["kind"] for entry in files.list(recursive=True)["entries"]}
    assert listed == {
        "to_file": "link", "to_dir": "link", "inside": "link", "dangling": "link", "notes": "directory", "notes/a.txt": "file",
    }  # fmt: skip
    assert (outside / "file.txt").read_text() == SECRET
    assert not (outside / "new.txt").exists()


def test_the_workspace_itself_may_be_no_link(tmp_path: Path, outside: Path):
    spaces = Workspaces(root=tmp_path / "spaces")
    (tmp_path / "spaces" / "default").mkdir(parents=True)
    (tmp_path / "spaces" / "default" / "run-r2").symlink_to(outside)
    files = spaces.of(CallInfo(key="k", run="r2"))
    with pytest.raises(PathRefused, match="link"):
        files.read("file.txt")
    with pytest.raises(PathRefused, match="link"):
        files.write("new.txt", b"x", "k")
    assert os.listdir(outside) == ["file.txt"]


def test_its_own_notes_may_be_no_link(files: Workspace, outside: Path):
    for entry in (files.root / ".tenuto").iterdir():
        entry.unlink()
    (files.root / ".tenuto").rmdir()
    (files.root / ".tenuto").symlink_to(outside)
    with pytest.raises(PathRefused, match="link"):
        files.write("b.txt", b"x", "k")
    assert os.listdir(outside) == ["file.txt"]


def test_hard_links_pipes_sockets_and_directories_are_no_files(files: Workspace, outside: Path):
    os.link(outside / "file.txt", files.root / "hard")
    os.mkfifo(files.root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(files.root)  # the name of a socket has to be short
        try:
            listening.bind("sock")
        finally:
            os.chdir(here)
        for path, reason in (("hard", "hard link"), ("pipe", "no plain file"), ("sock", "cannot be used"), ("notes", "directory")):
            with pytest.raises(PathRefused, match=reason):
                files.read(path)
    for path in ("pipe", "notes"):
        with pytest.raises(PathRefused, match="no plain file"):
            files.write(path, b"x", f"k-{path}")
    files.write("hard", b"mine", "k-hard")  # a new file takes the name; the other file keeps its content
    assert (outside / "file.txt").read_text() == SECRET


def test_a_directory_swapped_for_a_link_at_any_moment_lets_nothing_out(files: Workspace, outside: Path):
    """Somebody swaps a directory on the way for a link, as fast as they can, while files are read and written."""
    real, aside, link = files.root / "d", files.root / "aside", files.root / "link"
    real.mkdir()
    (real / "file.txt").write_text("own")
    link.symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            try:
                os.rename(real, aside)
                os.rename(link, real)
                os.rename(real, link)
                os.rename(aside, real)
            except OSError:  # a write made the directory in between
                if real.is_symlink():
                    os.rename(real, link)
                elif aside.exists():
                    shutil.rmtree(real, ignore_errors=True)
                if aside.exists() and not real.exists():
                    os.rename(aside, real)

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen: set[str] = set()
    try:
        for n in range(1500):
            try:
                seen.add(files.read("d/file.txt")["content"])
            except (PathRefused, FileMissing) as exc:
                seen.add(type(exc).__name__)
            if n % 10 == 0:
                try:
                    files.write("d/mine.txt", b"mine", f"w{n}")
                except (PathRefused, FileMissing, ws.WorkspaceFailed):
                    pass
    finally:
        stop.set()
        swapping.join()
    assert "own" in seen
    assert {"PathRefused", "FileMissing"} & seen, "the swap was never met"
    assert not any(SECRET in text for text in seen)
    assert os.listdir(outside) == ["file.txt"]
    assert (outside / "file.txt").read_text() == SECRET


def test_a_file_swapped_for_a_link_at_any_moment_lets_nothing_out(files: Workspace, outside: Path):
    real, aside, link = files.root / "f.txt", files.root / "aside", files.root / "link"
    real.write_text("own")
    link.symlink_to(outside / "file.txt")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            try:
                os.rename(real, aside)
                os.rename(link, real)
                os.rename(real, link)
                os.rename(aside, real)
            except FileNotFoundError:  # a write took the place of the link
                link.unlink(missing_ok=True)
                link.symlink_to(outside / "file.txt")
                real.write_text("own")

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen: set[str] = set()
    try:
        for n in range(1500):
            try:
                seen.add(files.read("f.txt")["content"])
            except (PathRefused, FileMissing) as exc:
                seen.add(type(exc).__name__)
            if n % 10 == 0:
                try:
                    files.write("f.txt", b"own", f"w{n}")
                except (PathRefused, FileMissing, ws.WorkspaceFailed):
                    pass
    finally:
        stop.set()
        swapping.join()
    assert not any(SECRET in text for text in seen)
    assert (outside / "file.txt").read_text() == SECRET


# --- once for a key ------------------------------------------------------------------------------------------------


def test_a_repeat_with_the_same_key_changes_nothing(files: Workspace):
    first = files.write("n.txt", b"one", "key")
    files.write("n.txt", b"two", "another")
    assert files.write("n.txt", b"one", "key") == first
    assert files.read("n.txt")["content"] == "two"


@pytest.mark.parametrize("cut", ["before_receipt", "before_rename", "after_rename"])
def test_a_write_cut_at_any_point_is_finished_once(files: Workspace, monkeypatch: pytest.MonkeyPatch, cut: str):
    real = os.rename

    def cutting(src: str, dst: str, **kwargs: int) -> None:
        is_receipt = dst.endswith(".json")
        if (cut == "before_receipt") == is_receipt and cut != "after_rename":
            raise KeyboardInterrupt
        real(src, dst, **kwargs)
        if cut == "after_rename" and not is_receipt:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", cutting)
    with pytest.raises(KeyboardInterrupt):
        files.write("n.txt", b"one", "key")
    monkeypatch.setattr(os, "rename", real)
    if cut == "after_rename":
        files.write("n.txt", b"two", "another")
    files.write("n.txt", b"one", "key")
    assert files.read("n.txt")["content"] == ("two" if cut == "after_rename" else "one")
    assert [entry["path"] for entry in files.list()["entries"]] == ["n.txt", "notes"]


# --- limits --------------------------------------------------------------------------------------------------------


def test_a_long_file_is_read_in_parts(files: Workspace):
    files.write("long.txt", b"x" * 50_000 + b"end", "k")
    first = files.read("long.txt")
    assert (len(first["content"]), first["truncated"], first["bytes"]) == (50_000, True, 50_003)
    assert files.read("long.txt", first["offset"] + 50_000) == {
        "path": "long.txt", "content": "end", "bytes": 50_003, "offset": 50_000, "truncated": False,
    }  # fmt: skip


def test_what_is_too_much_is_refused_with_the_limit(tmp_path: Path):
    files = Workspaces(root=tmp_path, max_write=10, max_total=15).of(CallInfo(key="k", run="r"))
    with pytest.raises(WorkspaceFull, match="a file may have 10"):
        files.write("a", b"x" * 11, "a")
    files.write("a", b"x" * 10, "b")
    with pytest.raises(WorkspaceFull, match="its limit is 15"):
        files.write("b", b"x" * 6, "c")
    with pytest.raises(FileMissing, match="no 'b'"):
        files.read("b")


def test_workspaces_are_apart_by_namespace_run_and_project(tmp_path: Path):
    one = Workspaces(root=tmp_path)
    shared = Workspaces(root=tmp_path, scope="project")
    calls = [
        CallInfo(key="k", run="r1", project="p"), CallInfo(key="k", run="r2", project="p"), CallInfo(key="k", run="r1", ns="b"),
        CallInfo(key="k", run="../r1"), CallInfo(key="k", run="x" * 90),
    ]  # fmt: skip
    roots = {one.of(call).root for call in calls}
    assert len(roots) == 5
    assert all(root.resolve().is_relative_to(tmp_path) and root.parent.parent == tmp_path for root in roots)
    assert shared.of(calls[0]).root == shared.of(calls[1]).root
    assert shared.of(CallInfo(key="k", run="r9")).root.name == "run-r9"
    assert shared.of(CallInfo(key="k", run="r", project="../../etc")).root.parent == tmp_path / "default"


def test_an_empty_workspace_lists_nothing(tmp_path: Path):
    assert Workspaces(root=tmp_path).of(CallInfo(key="k", run="r")).list() == {"path": "", "entries": [], "truncated": False}
