"""Rules of the requests of an `http` node."""

from __future__ import annotations

from typing import Any, cast

from tenuto.domain.base.references import REQUESTS, Reference
from tenuto.domain.graph.cycles import first_cycle
from tenuto.domain.graph.kinds import METHODS, REQUEST
from tenuto.domain.graph.model import Node
from tenuto.domain.graph.reading import nearest, pointer, read_field
from tenuto.domain.graph.requests import MOST, readable, requests_of
from tenuto.domain.graph.rules.structure import NODE_ID
from tenuto.domain.graph.rules.subject import Spot, Subject, text_of


def check_http(s: Subject, spot: Spot, place: str) -> None:
    """Report every fault in what an `http` node sends."""
    config = spot.node.config
    if "requests" not in config:
        _check_target(s, config, place)
        if "result" in config:
            s.report(pointer(place, "result"), "'result' is for a node with 'requests'", "graph.unknown_field")
        return
    for key in config:
        if key not in ("requests", "result", "url") and key in REQUEST:
            message = f"{key!r} belongs into each of the 'requests' here"
            s.report(pointer(place, key), message, "graph.unknown_field")
    if spot.node.on_unknown not in ("", "retry", "ask"):
        message = f"{spot.node.on_unknown!r} is a status hook, which answers for one request; allowed here: 'retry', 'ask'"
        s.report(pointer(spot.place, "on_unknown"), message, "graph.unknown_hook")
    requests = config["requests"]
    if isinstance(requests, list):
        _check_several(s, spot.node, cast("list[Any]", requests), place)


def _check_several(s: Subject, node: Node, requests: list[Any], place: str) -> None:
    within, result = pointer(place, "requests"), text_of(node.config.get("result"))
    if not 1 <= len(requests) <= MOST:
        s.report(within, f"{len(requests)} requests are given; allowed: 1 to {MOST}", "graph.range")
    ids: dict[str, str] = {}
    for at, item in enumerate(requests):
        if isinstance(item, dict):
            _check_one(s, cast("dict[str, Any]", item), pointer(within, at), ids)
    if result and result not in ids:
        s.report(pointer(place, "result"), f"there is no request {result!r}", "graph.unknown_request", nearest(result, ids))
    needs = {text_of(request.get("id")): readable(request) for request, _ in requests_of(node)}
    for at, item in enumerate(requests):
        after: Any = cast("dict[str, Any]", item).get("after") if isinstance(item, dict) else None
        for n, name in enumerate(cast("list[Any]", after) if isinstance(after, list) else []):
            if isinstance(name, str) and name not in ids:
                there = pointer(within, at, "after", n)
                s.report(there, f"there is no request {name!r}", "graph.unknown_request", nearest(name, ids))
    if cycle := first_cycle(needs, {name: list(others) for name, others in needs.items()}):
        s.report(within, f"requests wait for each other: {' -> '.join(cycle)}", "graph.cycle", "let one of them not wait")


def _check_one(s: Subject, request: dict[str, Any], place: str, ids: dict[str, str]) -> None:
    for key, value in request.items():
        if key not in REQUEST:
            s.found.unknown_field(place, key, REQUEST, "a request")
        else:
            read_field(REQUEST[key], value, pointer(place, key), s.found)
    for key in ("id", "url"):
        if key not in request:
            s.report(place, f"a request needs {key!r}", "graph.missing_field")
    name, spot = text_of(request.get("id")), pointer(place, "id")
    if "id" in request and not NODE_ID.fullmatch(name):
        message = f"{name!r} is no id of a request; allowed: up to 128 letters, digits, '_' and '-'"
        s.report(spot, message, "graph.id")
    elif name in ids:
        s.report(spot, f"the id {name!r} is already used at {ids[name]}", "graph.duplicate_id")
    ids.setdefault(name, spot)
    timeout = request.get("timeout_s")
    if isinstance(timeout, int | float) and timeout <= 0:
        s.report(pointer(place, "timeout_s"), f"{timeout!r} is not allowed; allowed: more than 0 seconds", "graph.range")
    _check_target(s, request, place)


def _check_target(s: Subject, config: dict[str, Any], place: str) -> None:
    url, method = text_of(config.get("url")), text_of(config.get("method")) or "GET"
    if url and not url.startswith("${"):
        scheme = url.partition("://")[0].lower() if "://" in url else ""
        if scheme not in ("http", "https"):
            s.report(pointer(place, "url"), f"{url!r} has the scheme {scheme!r}; allowed: http, https", "graph.url")
    if method.upper() not in METHODS:
        message = f"{method!r} is no method; allowed: {', '.join(METHODS)}"
        s.report(pointer(place, "method"), message, "graph.method", nearest(method, METHODS))


def check_answer_read(s: Subject, node: Node, reference: Reference, place: str, *, within: bool) -> None:
    """Report a reference to a request's answer that has no value.

    Args:
        within: Whether it stands in the `requests` of its node.
    """
    if reference.root != REQUESTS:
        return
    names = [text_of(request.get("id")) for request, _ in requests_of(node)] if within else []
    if not within:
        message = f"{reference.text} has a value inside the 'requests' of an http node only"
        s.report(place, message, "graph.reference")
    elif not reference.path:
        s.report(place, f"{reference.text} names no request; write ${{requests.ID.body}}", "graph.reference")
    elif str(reference.path[0]) not in names:
        name = str(reference.path[0])
        s.report(place, f"{reference.text}: there is no request {name!r}", "graph.unknown_request", nearest(name, names))
