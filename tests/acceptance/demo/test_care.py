"""`doctor`, `migrate` and `audit` as processes: what they say, and the code they end with."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tenuto.bundled.load import load_catalog
from tenuto.wiring import running

ENVIRON = {key: value for key, value in os.environ.items() if not key.startswith("TENUTO_")}


def tenuto(place: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a directory."""
    return subprocess.run(
        [sys.executable, "-m", "tenuto", *args], cwd=place, env={**ENVIRON, **environ}, capture_output=True,
        text=True, timeout=60, check=False,
    )


def checks(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """Return the doctor's checks by what they look at."""
    return {check["what"]: check for check in json.loads(done.stdout)["checks"]}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory whose default database holds a completed run."""

    async def make() -> None:
        async with running(f"sqlite:///{tmp_path}/.tenuto/tenuto.db", load_catalog(None)) as runtime:
            run = await runtime.engine.runs.start("conditional", {"score": 1})
            await runtime.engine.runs.result(run.id, timeout_s=30)

    asyncio.run(make())
    return tmp_path


def test_a_fresh_directory_is_fine(tmp_path: Path) -> None:
    """Without a database the doctor says when it will be made, and makes none."""
    done = tenuto(tmp_path, "doctor", "--output", "json")
    assert done.returncode == 0, done.stderr
    assert checks(done)["database"]["verdict"] == "warn"
    assert not (tmp_path / ".tenuto").exists()


def test_a_database_without_workers_is_pointed_out(place: Path) -> None:
    """Version, durability and schema are fine; that nobody works is said with the command that helps."""
    done = tenuto(place, "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok    durability  journal_mode = wal, synchronous = full" in done.stdout
    assert "ok    schema" in done.stdout
    assert "-> start one: tenuto serve, or tenuto worker" in done.stdout


def test_pending_steps_are_reported_and_not_applied(place: Path) -> None:
    """The doctor looks only; `migrate` is what changes the schema."""
    url = place / ".tenuto" / "tenuto.db"
    with sqlite3.connect(url) as db:
        db.execute("delete from migration where name like '0002%'")
        db.execute("alter table idempotency drop column answer")
    db.close()
    for _ in range(2):
        done = tenuto(place, "doctor", "--output", "json")
        assert done.returncode == 1, done.stdout
        says = checks(done)["schema"]["says"]
        assert re.fullmatch(r"1 of \d+ steps are not applied: 0002_expand_answers", says)
        assert checks(done)["schema"]["do"].startswith("tenuto migrate")
    assert tenuto(place, "migrate").returncode == 0
    done = tenuto(place, "doctor", "--output", "json")
    assert (done.returncode, checks(done)["schema"]["verdict"]) == (0, "ok")


def test_a_server_without_tables_is_reported_and_left_without(postgres_url: str, tmp_path: Path) -> None:
    """An empty database gets no tables by being looked at."""
    for _ in range(2):
        done = tenuto(tmp_path, "doctor", "--output", "json", "--database", postgres_url)
        assert done.returncode == 1, done.stdout
        assert "are not applied: 0001_expand_core" in checks(done)["schema"]["says"]


def test_a_server_that_is_down_is_reported(tmp_path: Path) -> None:
    """Everything else is still looked at, the report is whole, and the exit code is 1."""
    done = tenuto(tmp_path, "doctor", "--output", "json", "--database", "postgresql://me@127.0.0.1:1/db")
    found = checks(done)
    assert (done.returncode, found["database"]["verdict"]) == (1, "fail")
    assert "127.0.0.1:1" in found["database"]["says"]
    assert found["database"]["do"] == "see that it runs and is reachable"
    assert {"program", "settings", "app", "disk", "server"} <= set(found)
    assert done.stderr == ""


def test_an_app_that_does_not_load_fails(place: Path) -> None:
    """The fault is told with its cause, and the exit code is 1."""
    (place / "flow.py").write_text("import tenuto\napp = tenuto.App()\napp.workflow('w').step('missing')\n")
    done = tenuto(place, "doctor", "flow:app", "--output", "compact")
    assert done.returncode == 1
    assert "'missing'" in checks(done)["app"]["says"]


def test_a_database_that_is_none_fails(tmp_path: Path) -> None:
    """A file that is not a database is named, and the exit code is 1."""
    (tmp_path / "notes.db").write_text("this is not a database, however long it may be. " * 50)
    done = tenuto(tmp_path, "doctor", "--output", "json", "--database", "sqlite:///notes.db")
    assert done.returncode == 1, done.stdout
    assert checks(done)["database"]["verdict"] == "fail"


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    """The doctor shows the URL without its password, and does not wait long for who is not there."""
    done = tenuto(tmp_path, "doctor", "--output", "json", TENUTO_DATABASE_URL="postgresql://me:hidden@127.0.0.1:1/db")
    assert done.returncode == 1
    assert "hidden" not in done.stdout + done.stderr
    assert "postgresql://me:***@127.0.0.1:1/db" in checks(done)["settings"]["says"]


def test_postgres_is_examined(postgres_url: str, tmp_path: Path) -> None:
    """Durability and schema of a server are told."""
    assert tenuto(tmp_path, "migrate", "--database", postgres_url).returncode == 0
    found = checks(tenuto(tmp_path, "doctor", "--output", "json", "--database", postgres_url))
    assert found["database"]["says"].startswith("PostgreSQL 1")
    assert "fsync = on" in found["durability"]["says"]
    assert found["schema"]["verdict"] == "ok"


@pytest.mark.parametrize("url", ["sqlite:///never.db", "postgresql://nobody@nowhere.invalid/none"])
def test_a_migration_plan_needs_no_database(url: str, tmp_path: Path) -> None:
    """`migrate --plan` prints SQL, connects to nothing and makes nothing."""
    done = tenuto(tmp_path, "migrate", "--plan", "--database", url)
    assert done.returncode == 0, done.stderr
    assert "create table" in done.stdout.lower()
    assert not list(tmp_path.iterdir())


def test_migrate_says_what_is_applied(tmp_path: Path) -> None:
    """A new file gets every step; a second time changes nothing."""
    first, second = (tenuto(tmp_path, "migrate", "--output", "json") for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr
    assert json.loads(first.stdout) == json.loads(second.stdout)
    assert all(step["applied"] for step in json.loads(first.stdout)["steps"])


def test_an_export_is_checked_without_its_database(place: Path) -> None:
    """An export verifies offline, and against heads kept elsewhere."""
    assert tenuto(place, "audit", "export", "-o", "out.jsonl").returncode == 0
    heads = tenuto(place, "audit", "verify", "--output", "json")
    assert heads.returncode == 0, heads.stdout
    (place / "heads.json").write_text(heads.stdout)
    done = tenuto(place, "audit", "verify", "out.jsonl", "--heads", "heads.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("ok    1 runs,")


def test_an_altered_export_is_found(place: Path) -> None:
    """One changed value breaks the chain, and the record is named."""
    tenuto(place, "audit", "export", "-o", "out.jsonl")
    text = (place / "out.jsonl").read_text()
    (place / "out.jsonl").write_text(text.replace("well done", "well dine", 1))
    done = tenuto(place, "audit", "verify", "out.jsonl")
    assert done.returncode == 1
    assert "the record was altered" in done.stdout


def test_an_altered_database_is_found(place: Path) -> None:
    """A byte changed in the file shows in `audit verify`."""
    db = sqlite3.connect(place / ".tenuto" / "tenuto.db")
    with db:
        changed = db.execute(
            "update rec set body = cast(replace(cast(body as text), 'well done', 'well dine') as blob)"
            " where instr(cast(body as text), 'well done')"
        )
        assert changed.rowcount > 0
    db.close()
    done = tenuto(place, "audit", "verify")
    assert done.returncode == 1, done.stdout
    assert "FAIL" in done.stdout


def test_a_rewritten_journal_is_found_by_its_head(place: Path) -> None:
    """Heads that the journal does not contain are reported, also for runs that are gone."""
    (place / "heads.json").write_text(json.dumps({"heads": {"00000000-0000-7000-8000-000000000000": "ab" * 32}}))
    done = tenuto(place, "audit", "verify", "--heads", "heads.json")
    assert done.returncode == 1
    assert "the run is gone" in done.stdout


@pytest.mark.parametrize("words", [("audit", "verify"), ("audit", "export")])
def test_no_database_is_a_reason(words: tuple[str, ...], tmp_path: Path) -> None:
    """Nothing is made where there is nothing to look at."""
    done = tenuto(tmp_path, *words)
    assert done.returncode == 1
    assert "there is no database at" in done.stderr
    assert not list(tmp_path.iterdir())
