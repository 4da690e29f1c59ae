"""The requests of an `http` node: one, or several that go out together and may read each other's answers."""

from __future__ import annotations

from typing import Any, cast

from tenuto.domain.base.references import REQUESTS, ReferenceSyntaxError, parse_template
from tenuto.domain.graph.cycles import depth_first_order
from tenuto.domain.graph.model import Node

MOST = 32
"""Requests of one node."""

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that only read."""


class Unanswered(dict[str, Any]):
    """Stands for answers that are not there yet, and for whatever is inside them: in JSON, the path that leads there."""

    def __init__(self, path: str = "") -> None:
        """Stand for what is at a path."""
        super().__init__({REQUESTS: path})
        self._path = path

    def __contains__(self, key: object) -> bool:
        """Say that everything will be there."""
        return True

    def __getitem__(self, key: str) -> Unanswered:
        """Return what stands for a member."""
        return Unanswered(f"{self._path}/{key}")


def requests_of(node: Node) -> list[tuple[dict[str, Any], str]]:
    """Return the config of each request an `http` node makes, with its place below the node; none of other kinds."""
    if node.kind != "http":
        return []
    several = node.config.get("requests")
    if several is None:
        return [(node.config, "/config")]
    items: list[Any] = cast("list[Any]", several) if isinstance(several, list) else []
    return [
        (cast("dict[str, Any]", item), f"/config/requests/{at}") for at, item in enumerate(items) if isinstance(item, dict)
    ]


def method_of(request: dict[str, Any]) -> str:
    """Return a request's method."""
    method = request.get("method")
    return method.upper() if isinstance(method, str) and method else "GET"


def only_reads(node: Node) -> bool:
    """Say whether an `http` node changes nothing, as far as the methods of its requests tell."""
    return all(method_of(request) in SAFE for request, _ in requests_of(node))


def awaited(request: dict[str, Any]) -> tuple[str, ...]:
    """Return the ids of the requests whose answers a request waits for: those it reads, and those of `after`.

    Raises:
        ReferenceSyntaxError: A reference of it cannot be read.
    """
    after: Any = request.get("after") or []
    named = [name for name in cast("list[Any]", after) if isinstance(name, str)] if isinstance(after, list) else []
    read = (str(one.path[0]) for one in parse_template(request).references if one.root == REQUESTS and one.path)
    return tuple(dict.fromkeys((*named, *read)))


def in_order(requests: list[dict[str, Any]]) -> list[tuple[dict[str, Any], tuple[str, ...]]]:
    """Return checked requests, each after those it waits for, with their ids."""
    needs = {str(request["id"]): awaited(request) for request in requests}
    leads: dict[str, list[str]] = {}
    for name, others in needs.items():
        for other in others:
            leads.setdefault(other, []).append(name)
    by_id = {str(request["id"]): request for request in requests}
    return [(by_id[name], needs[name]) for name in depth_first_order(by_id, leads)]


def readable(request: dict[str, Any]) -> tuple[str, ...]:
    """Return what a request waits for, as far as it can be read."""
    try:
        return awaited(request)
    except ReferenceSyntaxError:
        return ()
