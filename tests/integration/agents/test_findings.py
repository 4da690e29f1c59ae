"""Findings of agents: listed, filtered, and deleted so that later prompts leave them out, whatever happens to the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tenuto import App
from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.errors import FindingMissing
from tenuto.ports.model import ModelReply, ModelRequest
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.requests import ListFindings, Replay
from tenuto.runtime.worker.options import WorkerOptions
from tests.acceptance.features.harness import listening, seen, served
from tests.integration.agents.test_loop import with_model

CLOSES, TIDE, FEES = "Ports close at six.", "The tide is high at noon.", "Fees are due in May."
ROOMY = {"extract": True, "min_chars": 1}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/t.db"


def script(*texts: str) -> Callable[[ModelRequest], ModelReply | str]:
    """Find these, each in a category of its own; otherwise say something."""

    def reply(request: ModelRequest) -> ModelReply | str:
        if request.purpose == "knowledge_extraction":
            kinds = ("gotcha", "discovery", "decision")
            return ModelReply(data={"findings": [{"category": c, "text": t} for c, t in zip(kinds, texts, strict=False)]})
        return "what I found"

    return reply


def harbour(*texts: str, name: str = "w") -> tuple[App, ScriptedModel]:
    """Return an app whose first agent finds these, and whose second is told after a person has had a look."""
    app, model = with_model(script(*texts))
    add(app, name)
    return app, model


def add(app: App, name: str) -> None:
    flow = app.workflow(name).agent("look", model="m:x", prompt="look", knowledge=ROOMY)
    flow.approval("ok", message="Go on?", after="look")
    flow.agent("write", model="m:x", prompt="write", after="ok", knowledge={"inject": True, **ROOMY})


def prompts(model: ScriptedModel, begin: str) -> list[str]:
    said = [request.messages[-1].content for request in model.requests if request.purpose == "execution"]
    return [text for text in said if text.startswith(begin)]


async def asking(engine: Engine, run: str) -> str:
    """Return the ticket a run waits for."""
    await seen(engine, run, "ticket.opened")
    return (await engine.tickets.list(run=run, state="open")).items[0].id


async def texts(engine: Engine, **where: Any) -> list[str]:
    return [item.text for item in (await engine.findings.list(ListFindings(**where))).items]


async def projected(engine: Engine, count: int, **where: Any) -> list[str]:
    """Return what a list across runs shows once the projection has come so far."""
    # The projection has no signal of its own: it follows commits when it can.
    async with asyncio.timeout(15):
        while len(found := await texts(engine, **where)) < count:
            await asyncio.sleep(0.02)
    return found


async def test_a_deleted_finding_stands_in_no_later_prompt_and_does_not_come_back(url: str) -> None:
    """It was found before and is found again; the outputs keep it, the list tells who deleted it and why."""
    app, model = harbour(CLOSES, TIDE)
    async with app.engine(url) as engine:
        run = (await engine.runs.start("w", {})).id
        ticket = await asking(engine, run)
        first, second = (await engine.findings.list(ListFindings(run=run))).items
        assert [(f.text, f.category, f.node, f.workflow, f.run) for f in (first, second)] == [
            (CLOSES, "gotcha", "look", "w", run), (TIDE, "discovery", "look", "w", run),
        ]  # fmt: skip
        gone = await engine.findings.delete(first.id, by="ann", reason="they close at eight")
        assert gone.deleted_at is not None
        assert await engine.findings.delete(first.id, by="bob", reason="again") == gone, "a repeat changes nothing"
        await engine.tickets.decide(ticket, "approve")
        view = await engine.runs.result(run, timeout_s=15)
        outputs = {step.id: step.output for step in view.steps}
        assert prompts(model, "write") == [f"write\n\nKnown so far:\n- [discovery] {TIDE}"]
        assert [item["text"] for item in outputs["look"]["findings"]] == [CLOSES, TIDE]
        assert outputs["write"]["findings"] == [], "what was deleted is not found anew"
        assert await texts(engine, run=run) == [TIDE]
        (shown,) = (await engine.findings.list(ListFindings(run=run, state="deleted"))).items
        assert (shown.text, shown.deleted_by, shown.reason) == (CLOSES, "ann", "they close at eight")
        assert await texts(engine, run=run, state="all") == [CLOSES, TIDE]


async def test_what_was_told_stays_told_when_the_step_goes_on_elsewhere(tmp_path: Path) -> None:
    """The journal has what the prompt held: a finding deleted while the model works is in the prompt of the next try, too."""
    url = f"sqlite:///{tmp_path}/t.db"
    asked = asyncio.Event()

    class Slow(ScriptedModel):
        async def request(self, request: ModelRequest, **options: Any) -> ModelReply:
            if request.messages[-1].content.startswith("write"):
                self.requests.append(request)
                asked.set()
                await asyncio.Event().wait()
            return await super().request(request, **options)

    first, before = App("t"), Slow(script(CLOSES))
    first.model("m:x", before)
    second, after = with_model(script(CLOSES))
    for app in (first, second):
        add(app, "w")
    async with first.engine(url, options=WorkerOptions(grace_s=0)) as engine:
        run = (await engine.runs.start("w", {})).id
        await engine.tickets.decide(await asking(engine, run), "approve")
        async with asyncio.timeout(15):
            await asked.wait()
        (finding,) = (await engine.findings.list(ListFindings(run=run))).items
        await engine.findings.delete(finding.id)
    async with second.engine(url) as engine:
        view = await engine.runs.result(run, timeout_s=15)
        assert view.status == "completed"
        assert prompts(after, "write") == prompts(before, "write") == [f"write\n\nKnown so far:\n- [gotcha] {CLOSES}"]


async def test_a_replay_leaves_out_what_was_deleted_of_its_origin_also_after_the_end(url: str) -> None:
    """A run that has ended takes deletions; a replay's own deletions leave its origin as it is."""
    app, model = with_model(script(CLOSES, TIDE))
    flow = app.workflow("w").agent("look", model="m:x", prompt="look", knowledge=ROOMY)
    flow.agent("write", model="m:x", prompt="write", after="look", knowledge={"inject": True})
    async with app.engine(url) as engine:
        run = (await engine.runs.start("w", {})).id
        await engine.runs.result(run, timeout_s=15)
        assert prompts(model, "write")[-1].endswith(f"- [gotcha] {CLOSES}\n- [discovery] {TIDE}")
        (first, _) = (await engine.findings.list(ListFindings(run=run))).items
        await engine.findings.delete(first.id)
        again = (await engine.runs.replay(run, Replay(from_node="write"))).id
        assert (await engine.runs.result(again, timeout_s=15)).status == "completed"
        assert prompts(model, "write")[-1] == f"write\n\nKnown so far:\n- [discovery] {TIDE}"
        (left,) = (await engine.findings.list(ListFindings(run=again))).items
        assert (left.text, left.run) == (TIDE, again)
        await engine.findings.delete(left.id)
        assert await texts(engine, run=again) == []
        assert await texts(engine, run=run) == [TIDE]


async def test_findings_of_many_runs_are_filtered_and_come_in_parts(url: str) -> None:
    """By workflow, agent, category and text; every part goes on exactly where the last one ended."""
    app, _ = harbour(CLOSES, TIDE, FEES)
    add(app, "other")
    app.workflow("plain").agent("look", model="m:x", prompt="look")
    async with app.engine(url) as engine:
        runs = [(await engine.runs.start(name, {})).id for name in ("w", "other", "w")]
        for run in runs:
            await asking(engine, run)
        await engine.runs.result((await engine.runs.start("plain", {})).id, timeout_s=15)
        assert len(await projected(engine, 9)) == 9
        assert await texts(engine, workflow="other") == [CLOSES, TIDE, FEES]
        assert await texts(engine, text="TIDE") == [TIDE] * 3
        assert await texts(engine, category="decision", workflow="w") == [FEES] * 2
        assert await texts(engine, node="write") == [] == await texts(engine, node="nobody")
        assert len(await texts(engine, node="look")) == 9
        whole = [item.id for item in (await engine.findings.list()).items]
        for limit in (1, 2, 4):
            parts, after = list[str](), ""
            while True:
                page = await engine.findings.list(after=after, limit=limit)
                assert len(page.items) <= limit
                parts += [item.id for item in page.items]
                if page.next is None:
                    break
                after = page.next
            assert parts == whole
        by_run, after = list[str](), ""
        while True:
            page = await engine.findings.list(ListFindings(run=runs[0]), after=after, limit=2)
            by_run += [item.text for item in page.items]
            if page.next is None:
                break
            after = page.next
        assert by_run == [CLOSES, TIDE, FEES]


async def test_a_long_search_goes_on_in_the_next_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many steps are looked into at a time; an empty part says where to go on."""
    monkeypatch.setattr("tenuto.runtime.services.findings.STEPS_AT_ONCE", 2)
    monkeypatch.setattr("tenuto.runtime.services.findings.STEPS_SEARCHED", 2)
    app, _ = harbour(CLOSES)
    app.workflow("plain").agent("look", model="m:x", prompt="look")
    async with app.engine("memory:") as engine:
        await asking(engine, (await engine.runs.start("w", {})).id)
        assert await projected(engine, 1) == [CLOSES]
        for _ in range(4):
            await engine.runs.result((await engine.runs.start("plain", {})).id, timeout_s=15)
        # As above: the table of steps follows commits in its own time.
        async with asyncio.timeout(15):
            while len((await engine.steps.list()).items) < 5:
                await asyncio.sleep(0.02)
        parts = [page := await engine.findings.list()]
        while page.next is not None:
            parts.append(page := await engine.findings.list(after=page.next))
        assert [len(part.items) for part in parts] == [0, 0, 1]


async def test_only_a_finding_that_is_there_can_be_deleted(url: str) -> None:
    """Not one of another run, of no run, or of another namespace."""
    app, _ = harbour(CLOSES)
    async with app.engine(url) as engine:
        run = (await engine.runs.start("w", {})).id
        await asking(engine, run)
        (finding,) = (await engine.findings.list(ListFindings(run=run))).items
        own = finding.id.partition(".")[2]
        other = run[:-1] + ("0" if run[-1] != "0" else "1")
        for wrong in (f"{run}.0000000000000000", run, f"{other}.{own}", f"nobody.{own}", ""):
            with pytest.raises(FindingMissing, match="there is no finding"):
                await engine.findings.delete(wrong)
        with pytest.raises(FindingMissing):
            await engine.within("other").findings.delete(finding.id)
        assert await texts(engine, run=run) == [CLOSES]


async def test_the_api_lists_filters_and_deletes(tmp_path: Path) -> None:
    app, _ = harbour(CLOSES, TIDE)
    async with served(app, "memory:", tmp_path) as (engine, client):
        run = (await engine.runs.start("w", {})).id
        await asking(engine, run)
        found = (await client.get("/findings", params={"run": run, "text": "tide"})).json()["items"]
        assert [item["text"] for item in found] == [TIDE]
        gone = await client.delete(f"/findings/{found[0]['id']}", params={"reason": "wrong sea"})
        assert (gone.status_code, gone.json()["reason"]) == (200, "wrong sea")
        assert gone.json()["deleted_at"]
        left = (await client.get("/findings", params={"run": run})).json()["items"]
        assert [item["text"] for item in left] == [CLOSES]
        wrong = await client.delete("/findings/nope")
        assert (wrong.status_code, wrong.json()["code"]) == (404, "finding.unknown")
        assert (await client.get("/findings", params={"state": "lost"})).status_code == 422
        assert (await client.get("/findings", params={"run": "nope"})).status_code == 404


async def test_the_command_line_lists_and_deletes(tmp_path: Path) -> None:
    app, _ = harbour(CLOSES, TIDE)
    async with listening(app, "memory:", tmp_path) as (engine, command):
        run = (await engine.runs.start("w", {})).id
        await asking(engine, run)
        listed = await command("findings", "list", "--run", run)
        assert listed.returncode == 0, listed.stderr
        assert CLOSES in listed.stdout
        (finding, _) = (await engine.findings.list(ListFindings(run=run))).items
        deleted = await command("findings", "delete", finding.id, "--reason", "old")
        assert deleted.returncode == 0, deleted.stderr
        assert CLOSES in deleted.stdout
        left = await command("findings", "list", "--run", run)
        assert TIDE in left.stdout
        assert CLOSES not in left.stdout
        gone = await command("findings", "list", "--run", run, "--state", "deleted")
        assert "old" in gone.stdout
        assert TIDE not in gone.stdout


async def test_findings_inside_a_map_are_listed_with_the_item_that_found_them() -> None:
    app, _ = with_model(lambda request: (
        ModelReply(data={"findings": [{"category": "gotcha", "text": f"of {request.messages[-1].content[-1]}"}]})
        if request.purpose == "knowledge_extraction" else f"seen {request.messages[-1].content}"
    ))  # fmt: skip
    body = app.body()
    body.agent("look", model="m:x", prompt="${item}", knowledge=ROOMY)
    app.workflow("w").map("each", over="input.ports", body=body)
    async with app.engine("memory:") as engine:
        run = (await engine.runs.start("w", {"ports": ["a", "b"]})).id
        await engine.runs.result(run, timeout_s=15)
        found = (await engine.findings.list(ListFindings(run=run))).items
        assert sorted(item.text for item in found) == ["of a", "of b"]
        assert len({item.step for item in found}) == 2
        assert len(await projected(engine, 2, workflow="w")) == 2
