"""Workflows: every problem at once, versions by content, tags, retiring."""

from __future__ import annotations

import json

import pytest

from tenuto.errors import Invalid, InvalidGraph, WorkflowMissing
from tenuto.runtime.services.engine import Engine
from tests.unit.services.harness import ASK, CALC, node

OTHER = {**CALC, "description": "another"}


async def test_validate_tells_every_problem_and_stores_nothing(idle: Engine):
    bad = {"name": "bad", "nodes": [node("a", "nobody"), node("a")], "edges": [{"from": "a", "to": "zz"}]}
    found = await idle.workflows.validate(bad)
    assert not found.valid
    assert len(found.problems) >= 3
    assert {problem.place for problem in found.problems} >= {"/edges/0/to"}
    assert (await idle.workflows.list()).items == []


async def test_a_document_may_be_text_in_json_or_yaml(idle: Engine):
    one = await idle.workflows.publish(json.dumps(CALC))
    two = await idle.workflows.publish(CALC)
    assert one.version == two.version
    yaml = "name: y\nnodes:\n  - id: a\n    kind: function\n    config: {handler: echo}\n"
    assert (await idle.workflows.publish(yaml)).name == "y"
    with pytest.raises(InvalidGraph, match="cannot be read"):
        await idle.workflows.publish("a: [")


async def test_latest_follows_what_is_published_last(idle: Engine):
    first = await idle.workflows.publish(CALC)
    second = await idle.workflows.publish(OTHER)
    assert await idle.workflows.resolve("calc") == second.version
    await idle.workflows.publish(CALC)
    assert await idle.workflows.resolve("calc") == first.version
    assert [item.version for item in (await idle.workflows.list()).items] == [first.version]
    assert len((await idle.workflows.list("calc")).items) == 2


async def test_a_tag_points_at_a_version_until_it_is_moved(idle: Engine):
    first = await idle.workflows.publish(CALC)
    await idle.workflows.publish(OTHER)
    await idle.workflows.tag("calc", "prod", first.version)
    assert await idle.workflows.resolve("calc", "prod") == first.version
    await idle.workflows.tag("calc", "prod", "latest")
    assert await idle.workflows.resolve("calc", "prod") != first.version
    with pytest.raises(Invalid, match="not a tag"):
        await idle.workflows.tag("calc", "a b", "latest")


async def test_what_does_not_exist_is_named_with_the_nearest(idle: Engine):
    await idle.workflows.publish(CALC)
    with pytest.raises(WorkflowMissing, match="did you mean 'calc'"):
        await idle.workflows.resolve("clac")
    with pytest.raises(WorkflowMissing, match="did you mean 'latest'"):
        await idle.workflows.resolve("calc", "latst")


async def test_a_retired_version_cannot_be_started(idle: Engine):
    await idle.workflows.publish(CALC)
    assert await idle.workflows.retire("calc") == 1
    with pytest.raises(WorkflowMissing, match="retired"):
        await idle.runs.start("calc", {"n": 1})


async def test_a_version_shows_its_definition_and_shape(idle: Engine):
    await idle.workflows.publish(ASK)
    view = await idle.workflows.get("ask")
    assert view.definition["name"] == "ask"
    assert view.graph is not None
    assert [(item.id, item.kind) for item in view.graph.nodes][1] == ("ok", "approval")
    edge = view.graph.edges[0]
    assert (edge.from_, edge.to, edge.conditional) == ("first", "ok", False)


async def test_lists_are_paged(idle: Engine):
    for name in ("a", "b", "c"):
        await idle.workflows.publish({**CALC, "name": name})
    first = await idle.workflows.list(limit=2)
    rest = await idle.workflows.list(limit=2, after=first.next or "")
    assert len(first.items) == 2
    assert rest.next is None
    assert {item.name for item in first.items + rest.items} == {"a", "b", "c"}


async def test_validate_tells_findings_at_the_places_their_author_wrote(idle: Engine):
    text = "name: w\nnodes:\n  - {id: a, kind: http, url: 'https://a.example', headers: {x: AKIAABCDEFGHIJKLMNOP}}\n"
    found = await idle.workflows.validate(text)
    assert found.valid
    assert found.version
    assert [(one.id, one.severity, one.place) for one in found.findings] == [
        ("secret.literal", "error", "/nodes/0/config/headers/x"), ("http.slow", "note", "/nodes/0"),
    ]  # fmt: skip
    assert "AKIAABCDEF" not in repr(found)
    assert (await idle.workflows.list()).items == []
    keyed = {"name": "w", "nodes": {"a": {"kind": "http", "config": {"url": "https://a.example"}}}}
    assert [one.place for one in (await idle.workflows.validate(keyed)).findings] == ["/nodes/a"]
