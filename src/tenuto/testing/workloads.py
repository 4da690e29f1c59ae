"""Workflows a simulation runs, what clients do to them meanwhile, and what must have come of it in the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

from tenuto.domain.graph.compile import compile_cached
from tenuto.domain.graph.digests import digest_of_definition
from tenuto.domain.graph.model import Budget, Definition
from tenuto.domain.graph.parse import parse_definition
from tenuto.domain.graph.plan import Plan
from tenuto.testing.workloads_steps import catalog

if TYPE_CHECKING:
    from tenuto.testing.simulation_client import Client, Outcome

Document = dict[str, Any]
Script = Callable[["Client"], Awaitable[None]]
Expect = Callable[["Outcome"], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of run.

    Attributes:
        given: The run's input.
        verdict: What the simulated person says to approvals.
        script: What a client does while the run goes on.
        expect: Returns what is wrong with the end of the run, or an empty string.
    """

    name: str
    document: Document
    expect: Expect
    given: Callable[[Random], Any] = lambda _: None
    verdict: str = "approve"
    script: Script | None = None
    budget: Budget | None = None


# --- writing graphs ----------------------------------------------------------------------------------------------


def node(name: str, handler: str = "work", **rest: Any) -> Document:
    """Return a function node."""
    return {"id": name, "kind": "function", "config": {"handler": handler}, **rest}


def special(name: str, kind: str, **config: Any) -> Document:
    """Return a node of another kind."""
    return {"id": name, "kind": kind, "config": config}


def edge(source: str, target: str, **rest: Any) -> Document:
    """Return an edge."""
    return {"from": source, "to": target, **rest}


def graph(nodes: Sequence[Document], *edges: Document, **rest: Any) -> Document:
    """Return a definition without a name."""
    return {"nodes": list(nodes), "edges": list(edges), **rest}


def line(*nodes: Document) -> Document:
    """Return a chain."""
    return graph(nodes, *(edge(a["id"], b["id"]) for a, b in zip(nodes, nodes[1:], strict=False)))


# --- what must come of it ----------------------------------------------------------------------------------------


def ends(status: str, output: Any = None, **counts: int) -> Expect:
    """Expect a status, an output (unless `None`), and how many outcomes nodes have."""

    def check(found: Outcome) -> str:
        if found.lost:
            return "" if found.status in (status, "completed", "failed", "budget_exceeded") else f"{found.status} after losses"
        if found.status != status:
            return f"expected {status}, found {found.status}: {found.why}"
        if output is not None and found.output != output:
            return f"expected the output {output!r}, found {found.output!r}"
        for name, count in counts.items():
            if found.completed(name) != count:
                return f"expected {count} outcomes of {name!r}, found {found.completed(name)}"
        return ""

    return check


def one_of(*expected: Expect) -> Expect:
    """Expect one of several ends."""

    def check(found: Outcome) -> str:
        wrong = [expect(found) for expect in expected]
        return "" if "" in wrong else " or ".join(wrong)

    return check


# --- scripts -----------------------------------------------------------------------------------------------------


async def _signals(client: Client) -> None:
    await client.signal("go", 1, key="s1")
    await client.sleep(4)
    await client.signal("go", 2, key="s2")


async def _note(client: Client) -> None:
    await client.sleep(4)
    await client.signal("note", "hello", key="n1")


async def _cancel(client: Client) -> None:
    await client.sleep(5)
    await client.cancel()


async def _cancel_any_time(client: Client) -> None:
    await client.sleep(0.3 if client.dice() < 0.5 else 4)
    await client.cancel()


async def _pause(client: Client) -> None:
    await client.sleep(1)
    await client.pause()
    await client.sleep(5)
    await client.resume()


async def _pause_for_good(client: Client) -> None:
    await client.sleep(1)
    await client.pause()


async def _cancel_paused(client: Client) -> None:
    await client.sleep(1)
    await client.pause()
    await client.sleep(1.5)
    await client.cancel()


async def _cancel_soon(client: Client) -> None:
    await client.sleep(0.6)
    await client.cancel()


async def _hurry(client: Client) -> None:
    await client.until_retrying("b")
    client.repair()
    await client.redrive("b")


async def _freeze(client: Client) -> None:
    await client.until("completed")
    await client.fork("b", mode="freeze", becomes="frozen")


async def _repair(client: Client) -> None:
    await client.until("failed")
    client.repair()
    await client.sleep(1)
    await client.redrive("b")


async def _repair_fresh(client: Client) -> None:
    await client.until("failed")
    client.repair()
    await client.redrive("b", fresh=True)


async def _raise_cap(client: Client) -> None:
    await client.until("budget_exceeded")
    await client.resume(Budget(tool_calls=60))


async def _fork(client: Client) -> None:
    await client.until("completed")
    await client.fork("b")


# --- the kinds of run ---------------------------------------------------------------------------------------------

PATIENT = {"attempts": 3, "backoff_s": 400.0}
RETRY = {"attempts": 4, "backoff_s": 0.3, "jitter": 0.2}
AGAIN = {"when": "iteration < 3", "max_iterations": 5}
DONE = {"when": "iteration >= 3"}


def _basic() -> list[Scenario]:
    diamond = [node("a", "echo"), node("b"), node("c"), node("d", "echo")]
    return [
        Scenario(
            name="chain",
            document=line(node("a"), node("b"), node("c", "echo", input={"x": "${nodes.a.output.v}"})),
            expect=ends("completed", {"c": {"x": "a"}}, a=1, b=1, c=1),
        ),
        Scenario(
            name="conditional", given=lambda _: {"n": 7},
            document=graph(diamond, edge("a", "b", when="output.n > 5"), edge("a", "c", when="output.n <= 5"),
                           edge("b", "d"), edge("c", "d")),
            expect=ends("completed", {"d": {"b": {"v": "b"}}}, b=1, c=0, d=1),
        ),
        Scenario(
            name="any",
            document=graph([node("a"), node("b"), node("c", "slow"), node("d", join="any"), node("e")],
                           edge("a", "b"), edge("a", "c"), edge("b", "d"), edge("c", "d"), edge("d", "e")),
            expect=ends("completed", {"e": {"v": "e"}}, b=1, c=1, d=1),
        ),
        Scenario(
            name="quorum",
            document=graph(
                [node("a"), node("b"), node("c"), node("x", "slow"), node("d", join={"quorum": 2}, cancel_losers=True)],
                edge("a", "b"), edge("a", "c"), edge("a", "x"), edge("b", "d"), edge("c", "d"), edge("x", "d")),
            expect=ends("completed", {"d": {"v": "d"}}, d=1),
        ),
        Scenario(
            name="unreachable",
            document=graph(
                [node("a"), node("b"), node("c"), node("d", join={"quorum": 2})],
                edge("a", "b"), edge("a", "c", when="false"), edge("b", "d"), edge("c", "d")),
            expect=ends("failed", b=1, d=0),
        ),
        Scenario(
            name="large",
            document=graph(
                [node("a", "large"), node("b", "large"), node("c", "echo", input={"n": "${nodes.a.output.n}"})],
                edge("a", "c", when="output.n == 7"), edge("b", "c")),
            expect=ends("completed", {"c": {"n": 7}}),
        ),
        Scenario(
            name="switch", given=lambda _: {"n": 3},
            document=graph([node("a", "echo"), {**special("s", "switch"), "route": "first"}, node("b"), node("c")],
                           edge("a", "s"), edge("s", "b", when="input.n > 5"), edge("s", "c", on="default")),
            expect=ends("completed", {"c": {"v": "c"}}, a=1, b=0, c=1),
        ),
        Scenario(name="plain", document=line(node("a", "plain"), node("b", "plain")),
                 expect=ends("completed", {"b": {"v": "plain"}})),
    ]


def _loops() -> list[Scenario]:
    return [
        Scenario(
            name="loop",
            document=graph([node("s"), node("b"), node("c"), node("e")], edge("s", "b"), edge("b", "c"),
                           edge("c", "b", **AGAIN), edge("c", "e", **DONE)),
            expect=ends("completed", {"e": {"v": "e"}}, b=3, c=3, e=1),
        ),
        Scenario(
            name="nested",
            document=graph(
                [node("o"), node("i"), node("j"), node("k"), node("e")], edge("o", "i"), edge("i", "j"),
                edge("j", "i", when="iteration < 2", max_iterations=4), edge("j", "k", when="iteration >= 2"),
                edge("k", "o", when="iteration < 2", max_iterations=4), edge("k", "e", when="iteration >= 2")),
            expect=ends("completed", {"e": {"v": "e"}}, o=2, i=4, j=4, k=2, e=1),
        ),
        Scenario(
            name="loop_join",
            document=graph(
                [node("h"), node("p"), node("q", "slow"), node("j", join="any"), node("t"), node("e")],
                edge("h", "p"), edge("h", "q"), edge("p", "j"), edge("q", "j"), edge("j", "t"),
                edge("t", "h", **AGAIN), edge("t", "e", **DONE)),
            expect=ends("completed", {"e": {"v": "e"}}, h=3, p=3, q=3, j=3, t=3),
        ),
        Scenario(
            name="loop_limit",
            document=graph([node("b"), node("c"), node("e"), node("late")], edge("b", "c"),
                           edge("c", "b", when="true", max_iterations=2), edge("c", "e", when="false"),
                           edge("c", "late", on="limit")),
            expect=ends("completed", {"late": {"v": "late"}}, b=2, c=2, e=0, late=1),
        ),
    ]


def _failing_loops() -> list[Scenario]:
    looping = graph([node("b"), node("c")], edge("b", "c"), edge("c", "b", when="true", max_iterations=2))
    return [Scenario(name="loop_fails", document=looping, expect=ends("failed", b=2, c=2))]


def _map(body: str, policy: Any, items: Sequence[int], concurrency: int) -> Document:
    inner = {"nodes": [{**node("w", body), "input": {"item": "${item}"}}], "edges": []}
    return graph(
        [special("m", "map", over=list(items), body=inner, on_failure=policy, concurrency=concurrency), node("z", "echo")],
        edge("m", "z"),
    )


def _maps() -> list[Scenario]:
    doubled = [{"v": 2}, {"v": 4}, {"v": 6}, {"v": 8}, {"v": 10}]
    return [
        Scenario(name="map", document=_map("double", "fail_fast", [1, 2, 3, 4, 5], 2),
                 expect=ends("completed", {"z": {"m": doubled}}, m=1)),
        Scenario(name="map_fails", document=_map("odd", "fail_fast", [2, 3, 4], 3), expect=ends("failed", z=0)),
        Scenario(name="map_collects", document=_map("odd", "collect", [1, 2, 3, 4], 2), expect=ends("completed", m=1)),
        Scenario(
            name="map_chain",
            document=graph(
                [special("m", "map", over=[1, 2, 3], concurrency=2, on_failure="fail_fast", body={
                    "nodes": [{**node("u", "double"), "input": {"item": "${item}"}}, node("t", "flaky", retry=RETRY)],
                    "edges": [edge("u", "t")]}), node("z")],
                edge("m", "z")),
            expect=ends("completed", {"z": {"v": "z"}}, m=1, u=3, t=3),
        ),
    ]


def _failures() -> list[Scenario]:
    fallback = {"action": "fallback", "fallback": {"value": {"v": "instead"}}}
    return [
        Scenario(name="retry", document=line(node("a"), node("b", "flaky", retry=RETRY), node("c")),
                 expect=ends("completed", {"c": {"v": "c"}}, b=1)),
        Scenario(
            name="error_edge",
            document=graph([node("a", "broken"), node("ok"), node("h")], edge("a", "ok"), edge("a", "h", on="error")),
            expect=ends("completed", {"h": {"v": "h"}}, ok=0, h=1),
        ),
        Scenario(name="fallback", document=line(node("a", "broken", on_error=fallback), node("b", "echo")),
                 expect=ends("completed", {"b": {"a": {"v": "instead"}}})),
        Scenario(
            name="skip",
            document=graph([node("a", "broken", on_error={"action": "skip"}), node("b"), node("c"), node("d")],
                           edge("a", "b"), edge("b", "d"), edge("c", "d")),
            expect=ends("completed", {"d": {"v": "d"}}, b=0, c=1),
        ),
        Scenario(name="continue", document=line(node("a", "broken", on_error={"action": "continue"}), node("b")),
                 expect=ends("completed", {"b": {"v": "b"}}, b=1)),
        Scenario(name="escalate", document=line(node("a"), node("b", "repairable", on_error={"action": "escalate"})),
                 expect=ends("completed", {"b": {"v": "repaired"}})),
        Scenario(name="redrive", document=graph([node("a"), node("b", "repairable"), node("c"), node("d")],
                                                edge("a", "b"), edge("b", "c"), edge("a", "d")),
                 script=_repair, expect=ends("completed", a=1, b=1, c=1, d=1)),
        Scenario(name="redrive_fresh", document=line(node("a"), node("b", "repairable"), node("c", "effect")),
                 script=_repair_fresh, expect=ends("completed", {"c": {"v": "done"}}, b=1)),
        Scenario(name="timeout", document=line(node("a", "hangs", timeout_s=1.5, retry=RETRY), node("b")),
                 expect=ends("completed", {"b": {"v": "b"}}, a=1)),
        Scenario(name="again", document={**line(node("a"), node("b", "flaky"), node("c")), "retry": {
            "attempts": 5, "backoff_s": 0.5}}, expect=ends("completed", {"c": {"v": "c"}}, a=1, b=1)),
        Scenario(name="bad_wait", document=line(
            node("a"), {**special("w", "wait", seconds="${nodes.a.output.none}"), "on_error": {"action": "continue"}}, node("b")),
            expect=ends("completed", {"b": {"v": "b"}}, a=1, b=1)),
        Scenario(name="hurry", document=line(node("a"), node("b", "repairable", retry=PATIENT)), script=_hurry,
                 expect=ends("completed", {"b": {"v": "repaired"}}, b=1)),
        Scenario(name="cancel_retrying", document=line(node("a"), node("b", "broken", retry=PATIENT)), script=_cancel,
                 expect=ends("cancelled", b=0)),
        Scenario(name="cancel_failing", document=line(node("a"), node("b", "broken")), script=_cancel_soon,
                 expect=one_of(ends("cancelled", b=0), ends("failed", b=0))),
        Scenario(name="impatient", document=line(node("a", "impatient", timeout_s=1.5, retry=RETRY), node("b")),
                 expect=ends("completed", {"b": {"v": "b"}}, a=1)),
    ]


def _people() -> list[Scenario]:
    approval = special("ap", "approval", message="Pay?")
    split = graph([node("a"), approval, node("y"), node("n")], edge("a", "ap"), edge("ap", "y"),
                  edge("ap", "n", on="rejected"))
    expiring = special("ap", "approval", message="Pay?", timeout_s=0.5, on_timeout="approve")
    return [
        Scenario(name="approved", document=split, expect=ends("completed", {"y": {"v": "y"}}, n=0)),
        Scenario(name="rejected", document=split, verdict="reject", expect=ends("completed", {"n": {"v": "n"}}, y=0)),
        Scenario(name="refused", document=line(approval, node("y")), verdict="reject", expect=ends("failed", y=0)),
        Scenario(name="refused_handled", document=line({**approval, "on_error": {"action": "continue"}}, node("y")),
                 verdict="reject", expect=ends("completed", {"y": {"v": "y"}})),
        Scenario(name="cancel_asking", document=line(node("a"), approval, node("y")), verdict="wait", script=_cancel,
                 expect=ends("cancelled", y=0)),
        Scenario(name="cancel_paused", document=line(node("a"), special("w", "wait", seconds=5000)),
                 script=_cancel_paused, expect=ends("cancelled")),
        Scenario(name="expires", document=line(expiring, node("y")), verdict="wait",
                 expect=ends("completed", {"y": {"v": "y"}})),
        Scenario(
            name="signals",
            document=line(node("a"), special("w1", "wait", signal="go"), node("b", "echo"), special("w2", "wait", signal="go"),
                          node("c", "echo", input={"one": "${nodes.w1.output.payload}", "two": "${nodes.w2.output.payload}"})),
            script=_signals, expect=ends("completed", {"c": {"one": 1, "two": 2}}),
        ),
        Scenario(name="deaf", document=line(special("w", "wait", signal="never", timeout_s=3), node("b", "echo")),
                 expect=ends("completed", {"b": {"w": {"signal": "never", "payload": None, "timed_out": True}}})),
        Scenario(name="cancelled", document=line(node("a"), special("w", "wait", seconds=5000), node("b")),
                 script=_cancel, expect=ends("cancelled", b=0)),
        Scenario(
            name="cancel_busy",
            document=graph([node("a"), node("l", "slow"), node("r", "slow"), node("w"), special("z", "wait", signal="never")],
                           edge("a", "l"), edge("l", "r"), edge("a", "w"), edge("w", "z")),
            script=_cancel, expect=ends("cancelled"),
        ),
        Scenario(name="paused", document=line(node("a"), node("b"), special("w", "wait", seconds=1.5), node("c")),
                 script=_pause, expect=ends("completed", {"c": {"v": "c"}}, a=1, b=1)),
    ]


def _durable() -> list[Scenario]:
    spend = graph([node("a"), node("b", "spends"), node("c", "spends")], edge("a", "b"), edge("b", "c"),
                  budget={"tool_calls": 5})
    return [
        Scenario(name="timers", document=line(special("w", "wait", seconds=2), node("a"), special("v", "wait", seconds=3),
                                              node("b")), expect=ends("completed", {"b": {"v": "b"}})),
        Scenario(name="calls", document=line(node("a"), node("b", "calls"), node("c")), script=_note,
                 expect=ends("completed", {"c": {"v": "c"}}, b=1)),
        Scenario(name="asks", document=line(node("a", "asks"), node("b")), expect=ends("completed", {"b": {"v": "b"}})),
        Scenario(name="fans", document=line(node("a", "fans"), node("b", "echo")),
                 expect=ends("completed", {"b": {"a": {"sum": 30}}})),
        Scenario(name="both", document=line(node("a", "both"), node("b")),
                 expect=ends("completed", {"b": {"v": "b"}}, a=1, b=1)),
        Scenario(name="effect_retry", document=line(
            node("a"), node("b", "effect", effect="effect", on_unknown="retry"), node("c")),
            expect=ends("completed", {"c": {"v": "c"}}, b=1)),
        Scenario(name="effect_ask", document=line(node("b", "effect", effect="effect", on_unknown="ask"), node("c")),
                 expect=ends("completed", {"c": {"v": "c"}}, b=1)),
        Scenario(name="budget", document=spend, expect=ends("budget_exceeded", a=1)),
        Scenario(name="budget_raised", document=spend, script=_raise_cap, expect=ends("completed", a=1, b=1, c=1)),
        Scenario(name="deadline", document={**line(node("a"), special("w", "wait", signal="never"), node("b")),
                                            "budget": {"wall_clock_s": 5}}, expect=ends("budget_exceeded", b=0)),
        Scenario(name="deadline_paused", script=_pause_for_good, document={
            **line(node("a"), special("w", "wait", seconds=5000)), "budget": {"wall_clock_s": 6}},
            expect=ends("budget_exceeded")),
        Scenario(name="overspends", document={**line(node("a"), node("b", "overspends")), "budget": {"tokens": 30}},
                 expect=ends("budget_exceeded", a=1, b=0)),
        Scenario(name="freeze", document=line(node("a"), node("b"), node("c")), script=_freeze,
                 expect=ends("completed", {"c": {"v": "c"}}, a=1, b=1, c=1)),
        Scenario(name="subflow", document=line(node("a"), special("s", "subflow", workflow="child"), node("c")),
                 expect=ends("completed", {"c": {"v": "c"}})),
        Scenario(name="subflow_fails", document=line(special("s", "subflow", workflow="child_fails"), node("c")),
                 expect=ends("failed", c=0)),
        Scenario(name="subflow_cancelled", document=line(special("s", "subflow", workflow="child_waits"), node("c")),
                 script=_cancel_any_time, expect=ends("cancelled", c=0)),
        Scenario(name="fork", document=line(node("a", "calls"), node("b"), node("c", "effect")), script=_note_and_fork,
                 expect=ends("completed", {"c": {"v": "done"}}, a=1, b=1, c=1)),
    ]


async def _note_and_fork(client: Client) -> None:
    await _note(client)
    await _fork(client)


CHILDREN = {
    "child": line(node("x"), node("y", "flaky", retry=RETRY), special("t", "wait", seconds=1)),
    "child_fails": line(node("x"), node("y", "broken")),
    "child_waits": line(node("x"), special("t", "wait", signal="never")),
}


@cache
def scenarios() -> dict[str, Scenario]:
    """Return every kind of run by name."""
    groups = (_basic(), _loops(), _failing_loops(), _maps(), _failures(), _people(), _durable())
    return {scenario.name: scenario for group in groups for scenario in group}


def frozen() -> Scenario:
    """Return what is expected of a frozen replay whose origin lacks an outcome: it says so and fails."""
    return Scenario(name="frozen", document={}, expect=ends("failed", a=1, b=0))


@dataclass(frozen=True, slots=True)
class Compiled:
    """All workflows, ready to run, by digest and by name."""

    definitions: dict[str, Definition] = field(default_factory=dict[str, Definition])
    digests: dict[str, str] = field(default_factory=dict[str, str])
    plans: dict[str, Plan] = field(default_factory=dict[str, Plan])


@cache
def compiled() -> Compiled:
    """Compile everything once a process."""
    found = Compiled()
    documents = {name: scenario.document for name, scenario in scenarios().items()} | CHILDREN
    for name, document in documents.items():
        definition = catalog().complete(parse_definition({"name": name, **document}))
        digest = digest_of_definition(definition)
        found.definitions[digest] = definition
        found.digests[name] = digest
        found.plans[digest] = compile_cached(digest, definition)
    return found


def choose(random: Random, runs: int) -> list[Scenario]:
    """Return the kinds of run for a seed, as different as there is room for."""
    every = list(scenarios().values())
    random.shuffle(every)
    while len(every) < runs:
        every.append(random.choice(every))
    return every[:runs]
