"""An `http` node with several requests: its rules, and that everything which judges a node sees into them."""

from __future__ import annotations

from typing import Any

import pytest

from tenuto.domain.graph.analysis import analyse
from tenuto.domain.graph.model import Definition
from tenuto.domain.graph.validate import Known, check, load_definition
from tenuto.domain.overlays.guards import acts, weakened
from tenuto.domain.overlays.secrets import secrets_in
from tenuto.errors import InvalidGraph

URL = "https://api.example/x"


def node(requests: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "all", "kind": "http", "config": {"requests": requests, **fields.pop("config", {})}, **fields}


def get(id: str, url: str = URL, **fields: Any) -> dict[str, Any]:
    return {"id": id, "url": url, **fields}


def loaded(*nodes: dict[str, Any], edges: Any = ()) -> Definition:
    return load_definition({"name": "w", "nodes": list(nodes), "edges": list(edges)})


def faults(*nodes: dict[str, Any]) -> dict[str, tuple[str, str]]:
    with pytest.raises(InvalidGraph) as caught:
        loaded(*nodes)
    return {problem.place: (problem.code, str(problem)) for problem in caught.value.problems}


def test_requests_may_read_each_other_in_any_order() -> None:
    definition = loaded(node([get("b", f"{URL}/${{requests.a.body.id}}"), get("a"), get("c", after=["b"])], config={"result": "c"}))
    assert not check(definition)


@pytest.mark.parametrize(
    ("broken", "place", "code", "says"),
    [
        (node([]), "/nodes/0/config/requests", "graph.range", "0 requests are given; allowed: 1 to 32"),
        (node([get(f"r{n}") for n in range(33)]), "/nodes/0/config/requests", "graph.range", "33 requests"),
        (node("all"), "/nodes/0/config/requests", "graph.type", ""),
        (node([get("a"), get("a")]), "/nodes/0/config/requests/1/id", "graph.duplicate_id", "already used at /nodes/0/config/requests/0/id"),
        (node([get("a b")]), "/nodes/0/config/requests/0/id", "graph.id", "'a b' is no id of a request"),
        (node([{"id": "a"}]), "/nodes/0/config/requests/0", "graph.missing_field", "a request needs 'url'"),
        (node([{"url": URL}]), "/nodes/0/config/requests/0", "graph.missing_field", "a request needs 'id'"),
        (node([get("a", metod="GET")]), "/nodes/0/config/requests/0/metod", "graph.unknown_field", "method"),
        (node([get("a", method="FETCH")]), "/nodes/0/config/requests/0/method", "graph.method", "'FETCH' is no method"),
        (node([get("a", "ftp://x/y")]), "/nodes/0/config/requests/0/url", "graph.url", "scheme 'ftp'"),
        (node([get("a", timeout_s=0)]), "/nodes/0/config/requests/0/timeout_s", "graph.range", "more than 0 seconds"),
        (node([get("a", after=["aa"])]), "/nodes/0/config/requests/0/after/0", "graph.unknown_request", "there is no request 'aa'"),
        (node([get("a", f"{URL}/${{requests.b.body}}")]), "/nodes/0/config/requests/0/url", "graph.unknown_request", "there is no request 'b'"),
        (node([get("a", "${requests}")]), "/nodes/0/config/requests/0/url", "graph.reference", "names no request"),
        (node([get("a", after=["b"]), get("b", f"{URL}/${{requests.a.body}}")]), "/nodes/0/config/requests", "graph.cycle", "wait for each other: a -> b -> a"),
        (node([get("a", after=["a"])]), "/nodes/0/config/requests", "graph.cycle", "a -> a"),
        (node([get("a")], config={"result": "b"}), "/nodes/0/config/result", "graph.unknown_request", "'b'"),
        (node([get("a")], config={"url": URL}), "/nodes/0/config", "graph.missing_field", "exactly one of 'url' or 'requests'"),
        (node([get("a")], config={"method": "POST"}), "/nodes/0/config/method", "graph.unknown_field", "into each of the 'requests'"),
        (node([get("a")], on_unknown="asks_the_bank"), "/nodes/0/on_unknown", "graph.unknown_hook", "answers for one request"),
        ({"id": "a", "kind": "http", "config": {"url": URL, "result": "a"}}, "/nodes/0/config/result", "graph.unknown_field", "'requests'"),
        ({"id": "a", "kind": "http", "config": {"url": "${requests.b.body}"}}, "/nodes/0/config/url", "graph.reference", "inside the 'requests'"),
        ({"id": "a", "kind": "transform", "config": {"template": "${requests.b}"}}, "/nodes/0/config/template", "graph.reference", "inside the 'requests'"),
        (node([get("a", "${nodes.zz.output}")]), "/nodes/0/config/requests/0/url", "graph.unknown_node", "zz"),
    ],
)  # fmt: skip
def test_each_fault_is_named_in_its_place(broken: dict[str, Any], place: str, code: str, says: str) -> None:
    found = faults(broken)
    assert place in found, found
    assert (found[place][0], says in found[place][1]) == (code, True), found[place]


def test_a_node_is_as_harmful_as_its_most_harmful_request() -> None:
    reading = loaded(node([get("a"), get("b", method="head")])).nodes[0]
    writing = loaded(node([get("a"), get("b", method="POST")])).nodes[0]
    assert [acts(one, Known()) for one in (reading, writing)] == [False, True]


def test_a_patch_cannot_hide_an_effect_among_requests() -> None:
    before = loaded({"id": "t", "kind": "transform", "config": {"value": "1"}})
    after = loaded(
        {"id": "t", "kind": "transform", "config": {"value": "1"}},
        node([get("a"), get("b", method="DELETE")], effect="idempotent"),
        edges=[{"from": "t", "to": "all"}],
    )
    assert [problem.place for problem in weakened(before, after, Known())] == ["/nodes/1/effect"]


def test_a_request_that_acts_cannot_be_cached() -> None:
    found = faults(node([get("a"), get("b", method="POST")], cache="read_through", effect=None))
    assert "it has an effect" in found["/nodes/0/cache"][1]


def test_a_secret_among_requests_is_found() -> None:
    token = "Bearer " + "a1B2c3D4" * 4
    config = [get("a", headers={"authorization": token})]
    assert [problem.place for problem in secrets_in([{"value": node(config)}])] == ["/0/value/config/requests/0/headers/authorization"]
    findings = [(one.id, one.place) for one in analyse(loaded(node(config)), Known())]
    assert ("secret.literal", "/nodes/0/config/requests/0/headers/authorization") in findings


def test_the_analyser_looks_at_every_request() -> None:
    definition = loaded(
        node([
            get("a"),
            get("b", "https://${input.host}/x", method="POST", headers={"Idempotency-Key": "1"}),
            get("c", method="PUT"),
        ], effect="pure", cache="read_through"),
        {"id": "other", "kind": "http", "timeout_s": 1, "config": {"url": URL, "method": "PUT"}},
    )  # fmt: skip
    found = {(one.id, one.place) for one in analyse(definition, Known())}
    assert {
        ("http.open_host", "/nodes/0/config/requests/1/url"),
        ("retry.constant_key", "/nodes/0/config/requests/1/headers/Idempotency-Key"),
        ("http.slow", "/nodes/0"),
        ("cache.on_effect", "/nodes/0/cache"),
    } <= found
    assert "race.shared_write" in {id for id, _ in found}


def test_the_builder_writes_what_a_document_says() -> None:
    from tenuto import App

    app = App("t")
    app.workflow("w").requests("all", [get("a"), get("b", after=["a"])], result="b", timeout_s=3)
    assert app.catalog().workflows[0].nodes == loaded(node([get("a"), get("b", after=["a"])], config={"result": "b"}, timeout_s=3)).nodes
