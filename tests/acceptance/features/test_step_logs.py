"""What steps log while they run is seen live by whoever follows the run, and changes nothing else."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

from tests.acceptance.features.programs import Place, environment, start

from features.harness import Gate, ended, served
from tenuto import App, Context


async def test_lines_of_a_step_come_between_its_events_without_a_place(tmp_path: Path, both_url: str) -> None:
    app, gate = App("w"), Gate()

    @app.step
    async def talks(ctx: Context) -> int:
        await gate()
        ctx.log("half way", done=5, of=object)
        return 1

    @app.step
    def shouts(ctx: Any) -> int:
        ctx.log("from a thread")
        return 2

    app.workflow("w").step(talks).then(shouts)
    async with served(app, both_url, tmp_path) as (engine, _):
        run = (await engine.runs.start("w")).id
        found: list[Any] = []
        async with asyncio.timeout(20), aclosing(cast("Any", engine.history.stream(run))) as stream:
            async for event in stream:
                found.append(event)
                gate.open.set()
        told = [(event.type, event.step, event.data.get("message")) for event in found if event.type in ("step.log", "step.completed")]
        assert told == [
            ("step.log", "talks", "half way"), ("step.completed", "talks", None),
            ("step.log", "shouts", "from a thread"), ("step.completed", "shouts", None),
        ]  # fmt: skip
        line = next(event for event in found if event.type == "step.log")
        assert (line.id, line.name, line.data["done"], line.data["level"]) == ("", "talks", 5, "info")
        assert line.data["provisional"] is True
        assert "object" in line.data["of"]
        kept = (await engine.history.events(run, limit=1000)).items
        assert [event.id for event in kept] == [event.id for event in found if event.id], "the journal has none of it"


async def test_filters_hold_lines_back_like_events(tmp_path: Path) -> None:
    app, gate = App("w"), Gate()

    @app.step
    async def talks(ctx: Context) -> int:
        await gate()
        ctx.log("hello")
        return 1

    app.workflow("w").step(talks)
    async with served(app, "memory:", tmp_path) as (engine, client):
        run = (await engine.runs.start("w")).id
        await gate.wait()

        async def lines(query: str) -> list[str]:
            answer = await client.get(f"/runs/{run}/stream?{query}")
            return [line for line in answer.text.splitlines() if "hello" in line]

        asked = [asyncio.create_task(lines(query)) for query in ("type=step.log", "node=talks", "node=other", "errors=true", "type=run.")]
        while sum(len(watchers) for watchers in engine.context.bus._by_run.values()) < len(asked):
            await asyncio.sleep(0)
        gate.open.set()
        assert [len(await task) for task in asked] == [1, 1, 0, 0, 0]
        assert (await ended(engine, run)).status == "completed"


def test_python_logging_inside_a_step_is_followed_from_the_command_line(tmp_path: Path) -> None:
    """A served app, the standard module, both kinds of functions: lines reach `logs stream` and the SSE stream."""
    (tmp_path / "chatty.py").write_text(
        "import logging, pathlib, time\nimport tenuto\nlog = logging.getLogger('mine')\napp = tenuto.App()\n\n"
        "@app.step\ndef speaks(gate: str) -> int:\n"
        "    while not pathlib.Path(gate).exists():\n        time.sleep(0.01)\n"
        "    log.info('counted %d', 7)\n    log.error('oh no')\n    return 1\n\n"
        "app.workflow('w').step(speaks, input={'gate': '${input.gate}'})\nlog.info('outside of any step')\n"
    )
    gate = tmp_path / "gate"
    with Place(tmp_path, f"sqlite:///{tmp_path}/t.db", "chatty:app") as place:
        server = place.serve(home=tmp_path)
        client = place.client(server)
        run = start(client, "w", {"gate": str(gate)})
        command = [sys.executable, "-m", "tenuto", "logs", "stream", run]
        env = environment(server.home, TENUTO_API_URL=server.url)
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as follower,
            client.stream("GET", f"/runs/{run}/stream", params={"type": "step.started,step.log"}) as answer,
        ):
            lines, shown = answer.iter_lines(), follower.stdout
            assert shown is not None
            assert any("step.started" in line for line in lines), "the stream is live from here on"
            assert any("step.started" in line for line in shown)
            gate.touch()
            text, printed = list(lines), shown.read()
        said = [json.loads(line[5:]) for line in text if line.startswith("data:")]
        assert [event["data"]["message"] for event in said if event["type"] == "step.log"] == ["counted 7", "oh no"]
        assert {event["data"].get("logger") for event in said if event["type"] == "step.log"} == {"mine"}
        assert not any(line.startswith("id:") for line in text), "a client goes on from the last real event"
        assert "counted 7" in printed
        assert "error: oh no" in printed
        assert "outside" not in printed
