"""Findings: each fires where it should and nowhere else, names its place, and shows no secret."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
import yaml
from scripts.docs_pages.finding_examples import EXAMPLES

from tenuto.bundled.examples import app as examples
from tenuto.domain.graph.analysis import RULES, Finding, analyse
from tenuto.domain.graph.validate import Known, load_definition
from tests.docs.pages import ROOT, blocks, pages

NODE = {"kind": "function", "config": {"handler": "h"}}


def findings(text: str, known: Known | None = None, **top: Any) -> list[Finding]:
    """Return what is found in a definition in YAML, which has no problems."""
    return list(analyse(load_definition({"name": "w"} | yaml.safe_load(text) | top, known), known))


def ids(text: str, known: Known | None = None, **top: Any) -> list[str]:
    """Return the ids of what is found."""
    return [one.id for one in findings(text, known, **top)]


def test_every_finding_has_an_example_of_both():
    assert set(EXAMPLES) == set(RULES)


@pytest.mark.parametrize("id", sorted(EXAMPLES))
def test_the_example_triggers_its_finding_and_the_corrected_one_nothing(id: str):
    bad, good = EXAMPLES[id]
    found = {one.id: one for one in findings(bad)}
    assert id in found
    assert found[id].severity == RULES[id].severity
    assert found[id].place.startswith("/")
    assert ids(good) == []


def test_the_bundled_examples_and_those_of_the_documentation_are_clean():
    catalog = examples.catalog()
    assert len(catalog.workflows) >= 6
    for definition in catalog.workflows:
        assert analyse(definition, catalog.known()) == (), definition.name
    assert ids((ROOT / "examples" / "conditional.yaml").read_text(encoding="utf-8"), name="conditional") == []
    looked_at = 0
    for page in pages():
        for block in blocks(page):
            if block.language in ("yaml", "json") and "nodes:" in block.text and not block.reason:
                looked_at += 1
                assert ids(block.text) == [], f"{page}:{block.line}"
    assert looked_at >= 2


def test_errors_come_first_and_places_are_those_of_nodes_in_maps():
    found = findings("""
nodes:
  - id: each
    kind: map
    config:
      over: "${input.items}"
      concurrency: 2
      body:
        nodes:
          - {id: get, kind: http, config: {url: "https://a.example", headers: {x: "AKIAABCDEFGHIJKLMNOP"}}}
""")
    assert [(one.id, one.place) for one in found] == [
        ("secret.literal", "/nodes/0/config/body/nodes/0/config/headers/x"),
        ("http.slow", "/nodes/0/config/body/nodes/0"),
    ]


# --- races ------------------------------------------------------------------------------------------------------


def writers(edges: str, *extra: str) -> str:
    """Return a graph in which `a` and `b` write one file."""
    write = "kind: function, config: {tool: write_file, args: {path: r.md, content: x}}"
    lines = [f"  - {{id: a, {write}}}", f"  - {{id: b, {write}}}", *(f"  - {line}" for line in extra)]
    return "nodes:\n" + "\n".join(lines) + f"\nedges: {edges}\n"


@pytest.mark.parametrize(
    ("edges", "extra"),
    [
        ("[{from: s, to: a}, {from: s, to: b}]", ["{id: s, kind: switch}"]),
        ("[{from: s, to: a, when: 'input.x > 1'}, {from: s, to: b}]", ["{id: s, kind: switch}"]),
        # a join that takes the first leaves the other running
        (
            "[{from: s, to: a}, {from: s, to: c}, {from: a, to: j}, {from: c, to: j}, {from: j, to: b}]",
            ["{id: s, kind: switch}", "{id: c, kind: join}", "{id: j, kind: join, join: any}"],
        ),
    ],
)
def test_what_may_run_at_once_races(edges: str, extra: list[str]):
    assert ids(writers(edges, *extra)) == ["race.shared_write"]


@pytest.mark.parametrize(
    ("edges", "extra"),
    [
        ("[{from: s, to: a, when: 'input.x > 1'}, {from: s, to: b, on: default}]", ["{id: s, kind: switch}"]),
        ("[{from: s, to: a}, {from: s, to: b, on: error}]", ["{id: s, kind: function, config: {handler: h}}"]),
        (
            "[{from: s, to: a, when: 'input.x > 1'}, {from: s, to: b}]",
            ["{id: s, kind: switch, route: first}"],
        ),
        (
            "[{from: s, to: a}, {from: s, to: c}, {from: a, to: j}, {from: c, to: j}, {from: j, to: b}]",
            ["{id: s, kind: switch}", "{id: c, kind: join}", "{id: j, kind: join, join: any, cancel_losers: true}"],
        ),
    ],
)
def test_branches_that_exclude_each_other_do_not_race(edges: str, extra: list[str]):
    assert ids(writers(edges, *extra)) == []


def test_a_common_lock_keeps_writers_apart_and_an_apps_own_tool_is_not_judged_by_its_name():
    assert ids(writers("[]").replace("kind: function,", "kind: function, resources: [report],")) == []
    own = Known(tools=frozenset({"write_file"}), effects={"tool:write_file": "pure"})
    assert ids(writers("[]"), own) == []


def test_maps_that_write_the_same_race_with_each_other():
    body = "{nodes: [{id: ID, kind: http, timeout_s: 9, config: {url: 'https://a.example/x', method: PUT}}]}"
    one = "  - {id: mID, kind: map, config: {over: [1], concurrency: 1, body: " + body + "}}\n"
    assert ids("nodes:\n" + one.replace("ID", "p") + one.replace("ID", "q")) == ["race.shared_write"]


# --- approvals --------------------------------------------------------------------------------------------------


def test_an_approval_after_a_map_of_effects_is_too_late():
    assert ids("""
nodes:
  - id: each
    kind: map
    config:
      over: [1, 2]
      body: {nodes: [{id: pay, kind: function, effect: effect, config: {handler: h}}]}
  - {id: ask, kind: approval, config: {message: "Pay?"}}
edges: [{from: each, to: ask}]
""") == ["approval.after_effect"]


def test_a_second_approval_after_a_guarded_effect_is_not_late():
    assert ids("""
nodes:
  - {id: ask, kind: approval, config: {message: "Pay?"}}
  - {id: pay, kind: function, effect: effect, config: {handler: h}}
  - {id: confirm, kind: approval, config: {message: "Did it arrive?"}}
edges: [{from: ask, to: pay}, {from: pay, to: confirm}]
""") == []


# --- caps -------------------------------------------------------------------------------------------------------

CALLS = """
nodes:
  - {id: s, kind: switch}
  - {id: a, kind: function, config: {tool: t}}
  - {id: b, kind: function, config: {tool: t}}
  - {id: c, kind: function, config: {tool: t}}
edges: [{from: s, to: a, when: "input.x"}, {from: s, to: b, on: default}, {from: a, to: c}, {from: b, to: c}]
budget: {tool_calls: 2}
"""


def test_only_calls_that_every_run_makes_count():
    assert ids(CALLS) == []  # the third call happens in no run
    chain = CALLS.split("edges:")[0] + "edges: [{from: s, to: a}, {from: a, to: b}, {from: b, to: c}]\n"
    assert ids(chain + "budget: {tool_calls: 3}") == []
    assert ids(chain + "budget: {tool_calls: 2}") == ["cap.tool_calls"]
    assert ids(chain + "budget: {per_tool: {t: 2}}") == ["cap.tool_calls"]
    tolerant = chain.replace("{id: a, kind: function,", "{id: a, kind: function, on_error: skip,")
    assert ids(tolerant + "budget: {tool_calls: 2}") == []


def test_the_items_of_a_written_list_count():
    text = "nodes: [{id: m, kind: map, config: {over: [1, 2, 3], body: {nodes: [{id: x, kind: function, config: {tool: t}}]}}}]"
    assert ids(text, budget={"tool_calls": 2}) == ["cap.tool_calls"]
    assert ids(text, budget={"tool_calls": 3}) == []
    assert ids(text.replace("[1, 2, 3]", "input.x"), budget={"tool_calls": 0}) == []


def test_waits_that_any_of_two_can_end_are_not_summed():
    text = """
nodes:
  - {id: long, kind: wait, config: {seconds: 50}}
  - {id: short, kind: wait, config: {seconds: 5}}
  - {id: j, kind: join, join: any, cancel_losers: true}
  - {id: then, kind: wait, config: {seconds: 10}}
edges: [{from: long, to: j}, {from: short, to: j}, {from: j, to: then}]
"""
    assert ids(text, budget={"wall_clock_s": 20}) == []
    assert ids(text.replace("join: any, cancel_losers: true", "join: all"), budget={"wall_clock_s": 59}) == ["cap.wall_clock"]
    assert ids(text.replace("join: any, cancel_losers: true", "join: all"), budget={"wall_clock_s": 60}) == []


# --- secrets ----------------------------------------------------------------------------------------------------

KEYS = [
    "sk-ant-api03-" + "Zk9" * 10, "sk_live_" + "4eC39HqLyjWD" * 2, "AKIA" + "QWERTYUIOPASDFGH", "ghp_" + "a1B2" * 10,
    "xoxb-" + "123456789012-abcdef", "https://joe:hunter2secret@db.internal/x", "-----BEGIN RSA PRIVATE KEY-----",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_found_wherever_it_stands_and_never_shown(key: str):
    for field in ({"prompt": f"Use {key} for it."}, {"system": key}, {"options": {"deep": [{"k": key}]}}):
        node = {"id": "a", "kind": "agent", "config": {"pattern": "pipeline", "prompt": "p", **field}}
        found = analyse(load_definition({"name": "w", "nodes": [node]}))
        assert [one.id for one in found] == ["secret.literal"], field
        assert key not in repr(found)
        assert key[6:] not in repr(found)
    described = analyse(load_definition({"name": "w", "metadata": {"note": key}, "nodes": [{"id": "a", "kind": "join"}]}))
    assert [(one.id, one.place) for one in described] == [("secret.literal", "/metadata/note")]


@pytest.mark.parametrize(
    "args",
    [
        {"api_key": "${input.key}"}, {"token": "next-page-token"}, {"digest": "sha256:" + "9f86d081884c7d65" * 4},
        {"max_tokens": "1000"}, {"url": "https://a.example/x?sig=1"}, {"password": "your_password_here_12345"},
        {"id": "0192f3a1-7c4e-7000-8000-2f1d4c6b8a90"}, {"text": "Basic instructions for the pump follow."},
        {"authorization": "Bearer ${input.token}"}, {"key": "AKIAIOSFODNN7EXAMPLE"},
    ],
)  # fmt: skip
def test_what_only_looks_like_a_key_is_left_alone(args: dict[str, str]):
    node = {"id": "a", "kind": "function", "config": {"tool": "t", "args": args}}
    assert analyse(load_definition({"name": "w", "nodes": [node]})) == ()


# --- input, locks, limits ---------------------------------------------------------------------------------------


def test_input_that_may_be_read_as_a_whole_is_not_called_unused():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert ids("nodes: [{id: f, kind: function, config: {handler: h}}]", input_schema=schema) == []
    assert ids("nodes: [{id: f, kind: transform, config: {value: 'input'}}]", input_schema=schema) == []
    assert ids("nodes: [{id: f, kind: transform, config: {value: '1'}}]", input_schema=schema) == ["input.unused"]
    gate = "nodes: [{id: f, kind: wait, config: {seconds: 0}}, {id: g, kind: join}]\nedges: [{from: f, to: g, when: 'input.a == 1'}]"
    assert ids(gate, input_schema=schema) == []


def test_locks_in_a_circle_matter_only_where_nodes_may_run_at_once():
    bad, _ = EXAMPLES["lock.order"]
    assert ids(bad) == ["lock.order"]
    assert ids(bad + "edges: [{from: one, to: two}]\n") == []
    shared = bad.replace("[ledger]", "[{name: ledger, mode: shared}]")
    assert ids(shared) == []


def test_a_cache_on_a_tool_that_acts_is_found_although_the_node_says_pure():
    text = "nodes: [{id: a, kind: function, effect: pure, cache: read_through, config: {tool: pay}}]"
    known = Known(tools=frozenset({"pay"}), effects={"tool:pay": "effect"})
    assert ids(text, known) == ["cache.on_effect"]
    assert ids(text, Known(tools=frozenset({"pay"}), effects={"tool:pay": "pure"})) == []


def test_ten_thousand_nodes_are_looked_at_in_seconds():
    """Random layers of everything that is looked for; a rule that compares all with all would take minutes."""
    rng = random.Random(7)
    count = 10_000
    nodes: list[dict[str, Any]] = []
    for at in range(count):
        kind = rng.randrange(5)
        config: dict[str, Any] = {"url": f"https://a.example/{at // 2}", "method": "PUT", "body": "x" * 50}
        made: dict[str, Any] = {"id": f"n{at}", "kind": "http", "timeout_s": 5, "config": config}
        if kind == 1:
            made = {"id": f"n{at}", "kind": "approval", "config": {"message": "Go on?"}}
        elif kind == 2:
            made = {"id": f"n{at}", "kind": "function", "resources": [f"r{at % 9}"], "config": {"tool": "t"}}
        nodes.append(made)
    edges = [{"from": f"n{rng.randrange(max(0, at - 40), at)}", "to": f"n{at}"} for at in range(1, count)]
    definition = load_definition({"name": "w", "nodes": nodes, "edges": edges, "budget": {"tool_calls": 10, "wall_clock_s": 60}})
    began = time.process_time()
    found = analyse(definition)
    assert time.process_time() - began < 5
    assert found
