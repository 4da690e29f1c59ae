"""The audit tells the whole story and finds any altered byte, with a store or without one."""

from __future__ import annotations

import msgspec
import pytest

from tenuto.errors import Invalid
from tenuto.runtime.services.audit import verify_export
from tenuto.runtime.services.engine import Engine
from tests.unit.services.harness import CALC


async def ended(engine: Engine) -> str:
    await engine.workflows.publish(CALC)
    run = await engine.runs.start("calc", {"n": 4})
    await engine.runs.result(run.id, timeout_s=10)
    return run.id


async def test_the_trail_names_every_transition_and_its_worker(engine: Engine):
    run = await ended(engine)
    trail = await engine.audit.trail(run)
    assert trail.verified
    assert [entry.type for entry in trail.entries][:2] == ["run.created", "run.claimed"]
    assert trail.entries[-1].type == "run.completed"
    assert trail.entries[-1].worker
    assert trail.entries[-1].chain == trail.head
    short = await engine.audit.trail(run, limit=3)
    rest = await engine.audit.trail(run, after=short.next or "")
    assert short.entries + rest.entries == trail.entries


async def test_everything_is_verified_against_heads_kept_elsewhere(engine: Engine):
    run = await ended(engine)
    found = await engine.audit.verify()
    assert (found.ok, found.runs) == (True, 1)
    kept = {run: found.heads[run]["chain"]}
    assert (await engine.audit.verify(heads=kept)).ok
    wrong = await engine.audit.verify(heads={run: "00" * 32, "gone": "11" * 32})
    assert {item.rule for item in wrong.violations} == {"head"}
    assert len(wrong.violations) == 2


async def test_an_export_is_checked_without_a_store(engine: Engine):
    run = await ended(engine)
    lines = [line async for line in engine.audit.export(run)]
    good = verify_export(lines)
    assert good.ok
    assert good.heads == (await engine.audit.verify(run)).heads
    for at in range(len(lines)):
        line = msgspec.json.decode(lines[at])
        altered = [*lines]
        altered[at] = msgspec.json.encode({**line, "body": line["body"].replace('"t":1', '"t":2', 1)})
        assert not verify_export(altered).ok
    assert not verify_export(lines[1:]).ok
    with pytest.raises(Invalid, match="line 1"):
        verify_export([b"{}"])


async def test_usage_and_workers_are_read(engine: Engine):
    run = await ended(engine)
    assert (await engine.usage.run(run)).budget.spent["tokens"] == 0
    (worker,) = await engine.workers.list()
    assert worker.alive
    assert "echo" in worker.manifest["handlers"]
