"""A stream that cannot be taken up again says so, instead of looking like a run that never was."""

from __future__ import annotations

from pathlib import Path

import httpx

from features.harness import listening, ran, served
from tenuto import App

STRANGER = "01900000-0000-7000-8000-000000000000"


def app() -> App:
    made = App("w")
    made.workflow("one").transform("a", "1")
    return made


async def test_a_stream_of_pruned_history_answers_410(tmp_path: Path, both_url: str) -> None:
    async with served(app(), both_url, tmp_path) as (engine, client):
        run = (await ran(engine, "one")).id
        last = (await engine.history.events(run)).items[1].id
        assert (await client.get(f"/runs/{run}/stream", headers={"Last-Event-ID": last})).status_code == 200
        assert (await engine.runs.prune(before=9_999_999_999_999)).deleted == 1
        for answer in (
            await client.get(f"/runs/{run}/stream", headers={"Last-Event-ID": last}),
            await client.get(f"/runs/{run}/stream", params={"after": last}),
            await client.get(f"/runs/{run}/events", params={"after": last}),
        ):
            problem(answer, 410, "history.gone")
            assert answer.json()["run"] == run
        problem(await client.get(f"/runs/{run}/stream"), 404, "run.unknown")
        problem(await client.get("/runs/nope/stream", params={"after": last}), 404, "run.unknown")


async def test_a_stream_over_all_runs_answers_410_before_it_begins(tmp_path: Path, both_url: str) -> None:
    async with served(app(), both_url, tmp_path) as (engine, client):
        heads = await engine.store.tail_heads()
        await ran(engine, "one")
        await ran(engine, "one")
        await engine.store.project_steps("steps", [], await engine.store.tail_heads())
        await engine.store.prune_tail(0)
        assert await engine.store.prune_tail(0) > 0
        place = ",".join(f"{writer}:{n}" for writer, n in heads.items()) or "-"
        for answer in (
            await client.get("/stream", headers={"Last-Event-ID": place}),
            await client.get("/stream", params={"after": "-"}),
        ):
            problem(answer, 410, "history.gone")


async def test_the_command_line_is_told_too(tmp_path: Path, sqlite_url: str) -> None:
    async with listening(app(), sqlite_url, tmp_path) as (_, command):
        done = await command("logs", "stream", STRANGER, "--after", "3.0")
        assert (done.returncode, "was pruned" in done.stderr) == (2, True), done.stderr


def problem(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
