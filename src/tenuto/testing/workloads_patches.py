"""Kinds of run whose graphs are patched: by their own steps, by people, with approval and without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenuto.testing.workloads_kinds import (
    AGAIN,
    DONE,
    RETRY,
    Document,
    Scenario,
    edge,
    ends,
    graph,
    line,
    node,
    one_of,
)

if TYPE_CHECKING:
    from tenuto.testing.simulation_client import Client

ASKED: Document = {"patches": {"approval": ["all"]}}


def behind(source: str, name: str) -> list[Document]:
    """Return the operations that put a node behind another."""
    return [
        {"op": "add", "path": "/nodes/0", "value": node(name)},
        {"op": "add", "path": "/edges/0", "value": edge(source, name)},
    ]


async def _propose(client: Client) -> None:
    """Propose while the run goes on; what comes too late is refused."""
    await client.sleep(client.dice() * 4)
    await client.propose(behind("b", "extra"), key="p1")
    await client.sleep(client.dice() * 2)
    await client.propose([{"op": "remove", "path": "/edges/b->c"}, *behind("b", "more")], key="p2")


async def _propose_meanwhile(client: Client) -> None:
    """Propose while a step waits for its next attempt, whose input is looked up by the edges that led to it."""
    await client.until_retrying("b")
    await client.propose(behind("b", "extra"), key="p1")


async def _propose_and_take_back(client: Client) -> None:
    await client.propose(behind("c", "extra"), key="p1")
    await client.sleep(client.dice() * 3)
    await client.take_back("u1")


def patched() -> list[Scenario]:
    """Return runs whose graphs change while they go on."""
    looped = graph(
        [node("a", "patches"), node("b"), node("c")], edge("a", "b"), edge("b", "a", **AGAIN), edge("b", "c", **DONE)
    )
    return [
        Scenario(name="patched", document=line(node("a", "patches"), node("b")),
                 expect=ends("completed", a=1, b=1, extra=1)),
        Scenario(name="patched_approved", document={**line(node("a", "patches"), node("b")), **ASKED},
                 expect=ends("completed", a=1, b=1, extra=1)),
        Scenario(name="patched_rejected", document={**line(node("a", "patches"), node("b")), **ASKED}, verdict="reject",
                 expect=ends("completed", a=1, b=1, extra=0)),
        Scenario(name="patched_loop", document=looped, expect=ends("completed", b=3, c=1, extra=1)),
        Scenario(name="patched_outside", document=line(node("a", "slow"), node("b", "slow"), node("c", "slow")),
                 script=_propose, expect=one_of(ends("completed", a=1, b=1, c=1), ends("completed", a=1, b=1, more=1))),
        Scenario(name="patched_retry", document=line(node("a"), node("b", "flaky_echo", retry=RETRY), node("c", "echo")),
                 script=_propose_meanwhile, expect=one_of(*(
                     ends("completed", {"c": {"b": {"a": {"v": "a"}}}, **more}) for more in ({"extra": {"v": "extra"}}, {})
                 ))),
        Scenario(name="patched_back", document=line(node("a", "slow"), node("b", "slow"), node("c", "slow")),
                 script=_propose_and_take_back, expect=ends("completed", a=1, b=1, c=1)),
    ]  # fmt: skip
