"""Step lists become definitions."""

from __future__ import annotations

import pytest

from tenuto.domain.graph.model import Edge
from tenuto.domain.graph.rules.subject import Known
from tenuto.domain.graph.steps import served_by, steps_to_definition
from tenuto.domain.graph.validate import check
from tenuto.errors import InvalidGraph


def test_a_list_becomes_a_graph_of_functions() -> None:
    """Both spellings of dependencies work; names become ids; the goal is kept."""
    definition = steps_to_definition({
        "goal": "ship it",
        "steps": [
            {"name": "tool_call.fetch", "input": {"a": 1}},
            {"name": "llm_call.draft", "dependsOn": ["tool_call.fetch", "tool_call.fetch"]},
            {"name": "check it!", "depends_on": ["llm_call.draft"]},
            {"name": "check it?", "depends_on": ["llm_call.draft"]},
        ],
    })
    assert [node.id for node in definition.nodes] == ["tool_call_fetch", "llm_call_draft", "check_it", "check_it_2"]
    assert [node.config for node in definition.nodes] == [
        {"handler": "tool_call.fetch", "name": "tool_call.fetch"},
        {"handler": "llm_call.draft", "name": "llm_call.draft"},
        {"handler": "noop", "name": "check it!"},
        {"handler": "noop", "name": "check it?"},
    ]
    assert definition.edges[0] == Edge(from_="tool_call_fetch", to="llm_call_draft")
    assert len(definition.edges) == 3
    assert definition.nodes[0].input == {"a": 1}
    assert definition.description == "ship it"
    assert check(definition) == ()


def test_all_faults_come_together() -> None:
    """Unknown names, duplicates, missing names and cycles are reported with their places."""
    with pytest.raises(InvalidGraph) as caught:
        steps_to_definition({"steps": [
            {"name": "a", "dependsOn": ["b"]}, {"name": "b", "depends_on": ["a", "cc"]}, {"name": "a"},
            {"nme": "c"}, 3, {"name": "ccc", "depends_on": "a"},
        ]})
    found = {problem.place: problem for problem in caught.value.problems}
    assert set(found) == {
        "/steps/0", "/steps/1/depends_on/1", "/steps/2/name", "/steps/3/nme", "/steps/3/name", "/steps/4",
        "/steps/5/depends_on",
    }
    assert "a -> b -> a" in found["/steps/0"].message
    assert found["/steps/1/depends_on/1"].hint == "did you mean 'ccc'?"


@pytest.mark.parametrize("document", [{}, {"steps": []}, {"steps": "a"}, 3])
def test_a_list_without_steps_is_refused(document: object) -> None:
    """There must be something to do."""
    with pytest.raises(InvalidGraph):
        steps_to_definition(document)


@pytest.mark.parametrize(
    ("name", "handler"),
    [("tool_call.x", "tool_call.x"), ("llm_call.x.y", "llm_call.x.y"), ("tool_call", "noop"), ("x.tool_call", "noop")],
)
def test_the_handler_follows_from_the_prefix(name: str, handler: str) -> None:
    """Without an app, only the two known prefixes name handlers."""
    assert served_by(name) == {"handler": handler}


@pytest.mark.parametrize(
    ("name", "served"),
    [
        ("charge.card", {"handler": "charge.card"}),
        ("charge.cash", {"handler": "charge"}),
        ("charge", {"handler": "charge"}),
        ("mail.anna", {"handler": "mail.anna"}),
        ("search.web", {"tool": "search"}),
        ("search", {"tool": "search"}),
        ("tool_call.x", None),
        ("rest", None),
    ],
)
def test_an_app_serves_a_name_by_itself_or_by_its_prefix(name: str, served: object) -> None:
    """Exact names win over families, families over prefixes, steps over tools."""
    known = Known(handlers=frozenset({"charge", "charge.card", "mail.*"}), tools=frozenset({"search"}))
    assert served_by(name, known) == served
    rest = Known(handlers=known.handlers and known.handlers | {"noop"}, tools=known.tools)
    assert served_by(name, rest) == (served or {"handler": "noop"})
