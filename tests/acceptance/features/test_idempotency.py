"""Commands under an Idempotency-Key: asked twice is done once, and told the same, whatever happened in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from features.harness import ended, seen, served
from tenuto import App, Context
from tenuto.runtime.services.engine import Engine

KEY = {"Idempotency-Key": "once"}
REPLAYED = "idempotent-replayed"


def app() -> App:
    made = App("w")

    @made.step
    def fails(ctx: Context) -> str:
        if not ctx.guidance:
            raise RuntimeError("jammed")
        return "ok"

    made.workflow("listens").wait_signal("go")
    made.workflow("asks").approval("may", message="May I?")
    made.workflow("mends").step(fails)
    return made


async def twice(client: httpx.AsyncClient, path: str, body: Any, other: Any, between: Any = None) -> httpx.Response:
    """Send a command, something in between, the same again and another body under its key; return the first answer."""
    first = await client.post(path, json=body, headers=KEY)
    assert first.status_code in (200, 202), first.text
    assert REPLAYED not in first.headers
    if between is not None:
        await between()
    again = await client.post(path, json=body, headers=KEY)
    assert (again.status_code, again.headers.get(REPLAYED)) == (first.status_code, "true"), again.text
    assert {**again.json(), "replayed": 0} == {**first.json(), "replayed": 0}
    if other is not None:
        refused = await client.post(path, json=other, headers=KEY)
        assert refused.status_code == 409, refused.text
    return first


@pytest.mark.parametrize(
    ("what", "body", "other"),
    [("signals/go", {"a": 1, "b": 2}, {"a": 1}), ("cancel", {"reason": "x"}, {"reason": "y"}),
     ("pause", {"reason": "x"}, {}), ("replay", {"from_step": 0}, {"from_step": 0, "mode": "shadow"})],
)  # fmt: skip
async def test_a_command_answers_as_before_after_the_run_ended(
    tmp_path: Path, both_url: str, what: str, body: Any, other: Any
) -> None:
    async with served(app(), both_url, tmp_path) as (engine, client):
        run = (await engine.runs.start("listens")).id
        await seen(engine, run, "step.waiting")

        async def end() -> None:
            if not what.startswith("signals"):
                await engine.runs.cancel(run)
            await ended(engine, run)

        await twice(client, f"/runs/{run}/{what}", body, other, end)
        fresh = await client.post(f"/runs/{run}/{what}", json=body, headers={"Idempotency-Key": "new"})
        assert fresh.status_code == (202 if what == "replay" else 409), "another key is another request"
        assert (what == "replay") == (len((await engine.runs.list()).items) > 1)


async def test_the_order_of_a_bodys_fields_does_not_matter(tmp_path: Path) -> None:
    async with served(app(), "memory:", tmp_path) as (engine, client):
        run = (await engine.runs.start("listens")).id
        await client.post(f"/runs/{run}/signals/go", json={"a": 1, "b": [1, {"c": 2, "d": 3}]}, headers=KEY)
        again = await client.post(f"/runs/{run}/signals/go", json={"b": [1, {"d": 3, "c": 2}], "a": 1}, headers=KEY)
        assert again.headers[REPLAYED] == "true"
        assert (await ended(engine, run)).status == "completed"


async def test_resume_retry_and_redrive_answer_as_before(tmp_path: Path, both_url: str) -> None:
    async with served(app(), both_url, tmp_path) as (engine, client):
        for path, body, other in [
            ("/runs/{run}/resume", {}, {"budget": {"tokens": 5}}),
            ("/runs/{run}/steps/fails/retry", {"guidance": "x"}, {"guidance": "y"}),
            ("/dead-letters/{letter}/redrive", {"guidance": "x", "reason": "z"}, {"guidance": "x"}),
        ]:
            run = await broken(engine)
            letter = (await engine.dead_letters.list(run=run)).items[0].id

            async def mended(run: str = run, path: str = path) -> None:
                if "resume" in path:  # a resumed run fails again unless a step is sent round
                    await engine.runs.cancel(run)
                assert (await ended(engine, run)).status in ("completed", "cancelled", "failed")

            await twice(client, path.format(run=run, letter=letter), body, other, mended)


async def broken(engine: Engine) -> str:
    run = (await engine.runs.start("mends")).id
    assert (await ended(engine, run)).status == "failed"
    return run


async def test_a_decision_answers_as_before(tmp_path: Path, both_url: str) -> None:
    async with served(app(), both_url, tmp_path) as (engine, client):
        run = (await engine.runs.start("asks")).id
        await seen(engine, run, "ticket.opened")
        ticket = (await engine.tickets.list(run=run)).items[0].id

        async def end() -> None:
            await ended(engine, run)

        body = {"decision": "approve", "reason": "fine"}
        await twice(client, f"/tickets/{ticket}/decision", body, {"decision": "reject", "reason": "no"}, end)


async def test_a_start_answers_as_before_after_its_workflow_was_changed_or_retired(tmp_path: Path, both_url: str) -> None:
    async with served(app(), both_url, tmp_path) as (engine, client):
        body = {"workflow": "listens", "input": {"a": 1}}
        first = await client.post("/runs", json=body, headers=KEY)
        strict = {
            "name": "listens", "input_schema": {"type": "object", "required": ["b"]},
            "nodes": [{"id": "w", "kind": "wait", "config": {"signal": "go"}}],
        }
        await engine.workflows.publish(strict)
        changed = await client.post("/runs", json=body, headers=KEY)
        assert (await client.post("/runs", json=body)).status_code == 422
        await engine.workflows.retire("listens")
        retired = await client.post("/runs", json=body, headers=KEY)
        for again in (changed, retired):
            assert (again.status_code, again.headers.get(REPLAYED)) == (first.status_code, "true"), again.text
            assert again.json()["id"] == first.json()["id"]
        assert (await client.post("/runs", json=body)).status_code == 404
        other = await client.post("/runs", json={**body, "input": {}}, headers=KEY)
        assert other.status_code in (404, 409), other.text
