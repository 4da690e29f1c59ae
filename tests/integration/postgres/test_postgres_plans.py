"""The plans of the statements that run all the time use indexes, also on tables that were never analysed."""

from __future__ import annotations

import re

import asyncpg
import pytest

from tenuto.adapters.stores.postgres import PostgresStore
from tenuto.adapters.stores.postgres.sql import SQL, parse

pytestmark = pytest.mark.postgres

COMMITS = ["commit", "commit_full", "commit_records"]
CLAIMS = ["claim", "claimed", "head", "poll", "steal", "stealable"]
READS = [
    "chains", "decide_ticket", "delete_runs", "get_run", "histories", "inbox", "owners", "records", "send", "tail",
    "tail_heads",
]  # fmt: skip
LARGE = ("run", "rec", "inbox", "batch")


async def _plan(connection: asyncpg.Connection, name: str) -> str:
    """Return the plan made before any parameter is known, as it is kept for the life of a connection."""
    await connection.execute("set plan_cache_mode = force_generic_plan")
    await connection.execute(f"prepare p as {SQL[name]}")
    count = await connection.fetchval(
        "select cardinality(parameter_types) from pg_prepared_statements where name = 'p'"
    )
    arguments = f"({', '.join(['null'] * count)})" if count else ""
    rows = await connection.fetch(f"explain execute p{arguments}")
    await connection.execute("deallocate p")
    return "\n".join(row[0] for row in rows)


def _whole_reads(plan: str) -> list[str]:
    """Return the lines of a plan that read a large table, or all of one of its indexes."""
    lines = plan.splitlines()
    found: list[str] = []
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        large = re.search(r"Scan (?:using (\w+) )?on (\w+)\b", line)
        if large is None or large[2] not in LARGE or line.lstrip("-> ").startswith(("Tid", "Bitmap")):
            continue
        # Hopping over the owners reads one entry of the index of owned runs at a time.
        if "Index Cond" not in below and not (large[1] == "run_owned" and "Index Only" in line):
            found.append(line.strip())
    return found


@pytest.mark.parametrize("tables", ["new", "empty", "filled"])
async def test_no_statement_reads_a_whole_table(
    tables: str, store: PostgresStore, direct: asyncpg.Connection
):
    """Large tables are reached by index, whatever the statistics say when the plan is made."""
    if tables == "filled":
        await _fill(direct)
    elif tables == "empty":
        await direct.execute("analyze")
    links = [(store.parts.commits, COMMITS), (store.parts.lane, CLAIMS), (store.parts.pool.links[0], READS)]
    bad = {
        name: _whole_reads(await _plan(await link.probe(), name)) for link, names in links for name in names
    }
    assert {name: lines for name, lines in bad.items() if lines} == {}


async def test_a_claim_from_a_cold_backlog_reads_what_it_takes(
    store: PostgresStore, direct: asyncpg.Connection
):
    """Claiming 100 of 20,000 ready runs touches a bounded number of pages."""
    await _fill(direct)
    connection = await store.parts.lane.probe()
    rows = await connection.fetch("explain (analyze, buffers, format json) " + SQL["claim"], "w", 100, [], 1)
    text = "".join(row[0] for row in rows)
    touched = re.search(r'"Shared Hit Blocks": (\d+)', text)
    assert touched is not None and int(touched[1]) < 6_000, text


def test_statements_are_named_and_explained():
    """Every statement has a purpose in the file, and an unknown part is an error, not an empty text."""
    from importlib.resources import files

    text = files("tenuto.adapters.stores.postgres").joinpath("queries.sql").read_text(encoding="utf-8")
    heads = re.findall(r"^-- name: (\w+)\n(-- .+)?", text, re.MULTILINE)
    assert {name for name, _ in heads} == set(SQL)
    assert [name for name, purpose in heads if not purpose] == []
    with pytest.raises(KeyError, match="nowhere"):
        parse("-- name: x\n-- Breaks.\nselect {nowhere}\n")


async def _fill(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """
        insert into run (id, created_at, started_at, finished_at, wake_at, due_at, epoch, inbox_seq, priority, state,
                         status, ns, workflow, digest, goal, labels, error)
        select gen_random_uuid(), n, 0, 0, 0, n, 0, 0, n % 3, 'ready', 'queued', 'default', 'w', 'd', '', '{}', ''
        from generate_series(1, 20000) as n;
        insert into rec select id, 1, 0, '', '' from run;
        insert into batch select 1, n, '' from generate_series(1, 5000) as n;
        analyze
        """
    )
