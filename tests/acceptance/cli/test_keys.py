"""`tenuto keys`: from a new master key to contents nobody can read again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tenuto import App

CANARY = "canary-heron-317"


def _keys(home: Path, *more: str, code: int = 0, **environ: str) -> Any:
    env = {**{name: value for name, value in os.environ.items() if not name.startswith("TENUTO_")}, **environ}
    argv = [sys.executable, "-m", "tenuto", "keys", *more, "--output", "json"]
    done = subprocess.run(argv, cwd=home, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if code == 0 else done.stderr


async def test_keys_are_made_turned_and_destroyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The file shows no payload; keys turn while what was written stays readable; a shredded namespace is gone."""
    from tenuto.wiring import open_store, running

    (tmp_path / "tenuto.toml").write_text('[encryption]\nkey_env = "OUR_KEY"\n')
    master = _keys(tmp_path, "generate")["key"]
    monkeypatch.setenv("OUR_KEY", master)
    (tmp_path / ".tenuto").mkdir()
    url = f"sqlite:///{tmp_path}/.tenuto/tenuto.db"
    app = App("t")

    @app.step
    def say(text: str) -> str:
        return text.upper()

    app.workflow("w").step(say, id="say")

    async def run() -> str:
        async with running(url, app.catalog(), master_keys=("env:OUR_KEY",)) as runtime:
            return (await runtime.engine.runs.execute("w", {"text": CANARY})).id

    first = await run()
    assert CANARY.encode() not in b"".join(path.read_bytes() for path in (tmp_path / ".tenuto").glob("tenuto.db*"))
    before = {key["id"] for key in _keys(tmp_path, "list")["keys"]}
    assert "default" in _keys(tmp_path, "rotate")["rotated"]
    assert before < {key["id"] for key in _keys(tmp_path, "list")["keys"]}
    await run()
    assert _keys(tmp_path, "rewrap")["rewrapped"] >= 0
    assert "--confirm default" in _keys(tmp_path, "shred", "default", code=1)
    store = open_store(url, master_keys=("env:OUR_KEY",))
    await store.open()
    assert (await store.load([first]))[0].fault is None
    await store.close()
    assert _keys(tmp_path, "shred", "default", "--confirm", "default")["keys"] >= 2
    store = open_store(url, master_keys=("env:OUR_KEY",))
    await store.open()
    assert (await store.load([first]))[0].fault is not None
    await store.close()


def test_without_its_key_an_encrypted_database_stays_shut(tmp_path: Path):
    """The error names the variable, and no key."""
    (tmp_path / "tenuto.toml").write_text('[encryption]\nkey_env = "OUR_KEY"\n')
    (tmp_path / ".tenuto").mkdir()
    (tmp_path / ".tenuto" / "tenuto.db").touch()
    assert "OUR_KEY" in _keys(tmp_path, "list", code=1)
