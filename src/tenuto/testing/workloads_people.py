"""Kinds of run that fail, wait, spend and are steered: by clients, people, clocks and budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenuto.domain.graph.model import Budget
from tenuto.testing.workloads_kinds import (
    PATIENT,
    RETRY,
    Scenario,
    edge,
    ends,
    graph,
    line,
    node,
    one_of,
    special,
)

if TYPE_CHECKING:
    from tenuto.testing.simulation_client import Client

# --- scripts -----------------------------------------------------------------------------------------------------


async def _signals(client: Client) -> None:
    await client.signal("go", 1, key="s1")
    await client.sleep(4)
    await client.signal("go", 2, key="s2")


async def _signals_late(client: Client) -> None:
    """Come about when the patience of those who wait ends."""
    for n in range(4):
        await client.sleep(client.dice() * 0.3)
        await client.signal("go", n, key=f"s{n}")


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


async def _note_and_fork(client: Client) -> None:
    await _note(client)
    await _fork(client)


# --- the kinds of run ---------------------------------------------------------------------------------------------


def failures() -> list[Scenario]:
    """Return steps that fail, and what their authors made of it."""
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


def people() -> list[Scenario]:
    """Return runs that wait for people, signals and cancels."""
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
        Scenario(name="late", document=line(
            node("a"), *(special(f"w{n}", "wait", signal="go", timeout_s=0.15) for n in range(4)), node("b")),
            script=_signals_late, expect=ends("completed", {"b": {"v": "b"}})),
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


def several() -> list[Scenario]:
    """Return runs that ask several people, or others when nobody answers in time."""
    return [
        Scenario(name="quorum", document=line(special("ap", "approval", approvers=["ada", "bob", "cyd"], quorum=3), node("y")),
                 expect=ends("completed", {"y": {"v": "y"}})),
        Scenario(name="divided", verdict="divided", expect=ends("completed", {"y": {"v": "y"}}), document=line(
            special("ap", "approval", approvers=["ada", "bob", "cyd"], quorum=2, reject_quorum=2), node("y"))),
        Scenario(name="escalates", verdict="wait", expect=ends("completed", {"y": {"v": "y"}}), document=line(
            special("ap", "approval", approvers=["ada"], timeout_s=0.5, on_timeout={
                "escalate": ["eve"], "timeout_s": 0.7, "on_timeout": "approve"}), node("y"))),
    ]


def durable() -> list[Scenario]:
    """Return timers, durable calls, budgets, sub-flows and replays."""
    apart = node("p", "plain", isolation="process")
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
        Scenario(name="apart", document=line(node("a"), apart, {**apart, "id": "q"}, node("d")),
                 expect=ends("completed", {"d": {"v": "d"}}, a=1, p=1, q=1, d=1)),
        Scenario(name="apart_cancelled", document=line(node("a"), apart, special("w", "wait", signal="never")),
                 script=_cancel_any_time, expect=ends("cancelled")),
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


def priced() -> list[Scenario]:
    """Return runs that spend under caps they share."""
    bought = graph([node("a"), node("b", "buys"), node("c", "buys")], edge("a", "b"), edge("a", "c"))
    return [
        Scenario(name="buys", document=bought, expect=ends("completed", a=1, b=1, c=1)),
        Scenario(name="buys_cancelled", document=line(node("a"), node("b", "buys")), script=_cancel_any_time,
                 expect=one_of(ends("cancelled"), ends("completed", a=1, b=1))),
    ]


CHILDREN = {
    "child": line(node("x"), node("y", "flaky", retry=RETRY), special("t", "wait", seconds=1)),
    "child_fails": line(node("x"), node("y", "broken")),
    "child_waits": line(node("x"), special("t", "wait", signal="never")),
}


def frozen() -> Scenario:
    """Return what is expected of a frozen replay whose origin lacks an outcome: it says so and fails."""
    return Scenario(name="frozen", document={}, expect=ends("failed", a=1, b=0))
