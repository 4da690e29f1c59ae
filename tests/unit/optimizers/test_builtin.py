"""The modules that ship: built from the sources that are checked in, and accepted by the sandbox."""

from __future__ import annotations

import runpy
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from tenuto.adapters.optimizers import builtin
from tenuto.adapters.optimizers.builtin import MANIFEST, Entry, builtin_optimizers
from tenuto.wiring import open_sandbox

ROOT = Path(__file__).parents[3]
SCRIPT = runpy.run_path(str(ROOT / "scripts/build_optimizers.py"))
ENTRIES = msgspec.json.decode(MANIFEST.read_bytes(), type=list[Entry])


def test_the_manifest_names_every_pass_and_no_other() -> None:
    assert [entry.name for entry in ENTRIES] == list(SCRIPT["PASSES"]) == [one.name for one in builtin_optimizers()]
    assert {path.stem for path in (ROOT / "optimizers").glob("*.ts")} == {path.stem for path in MANIFEST.parent.glob("*.wasm")}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_module_is_built_from_the_sources_as_they_are(entry: Entry) -> None:
    assert entry.sources == SCRIPT["sources_of"](entry.name), "the sources have changed; run: make optimizers"
    module = (MANIFEST.parent / f"{entry.name}.wasm").read_bytes()
    assert entry.digest == sha256(module).hexdigest(), "the module is not the one of the manifest; run: make optimizers"
    assert len(module) < 64 * 1024


async def test_the_sandbox_takes_them_all() -> None:
    sandbox = open_sandbox()
    for one in builtin_optimizers():
        await sandbox.check(one.module)
    sandbox.close()


def test_a_damaged_module_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in MANIFEST.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[:-1] if path.name == "prune.wasm" else path.read_bytes())
    monkeypatch.setattr(builtin, "MODULES", tmp_path)
    with pytest.raises(ValueError, match="'prune' is damaged"):
        builtin_optimizers.__wrapped__()
