"""LangGraph on our stores: its own conformance suite, a graph that dies and goes on, and what is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import operator
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from tenuto.bridges.langgraph import TenutoSaver
from tenuto.bridges.langgraph_rows import TypeRefused
from tenuto.errors import InvalidSettings


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store of each kind."""
    if request.param == "memory":
        return "memory:"
    return f"sqlite:///{tmp_path}/graphs.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def saver(url: str) -> Iterator[TenutoSaver]:
    with TenutoSaver(url) as opened:
        yield opened


class State(TypedDict):
    words: Annotated[list[str], operator.add]


def _say(word: str) -> Any:
    return lambda state: {"words": [word]}


def _chain(*nodes: Any) -> StateGraph[Any]:
    graph = StateGraph(State)
    names = [START, *(f"n{at}" for at in range(len(nodes))), END]
    for name, node in zip(names[1:-1], nodes, strict=True):
        graph.add_node(name, node)
    for source, target in zip(names, names[1:], strict=False):
        graph.add_edge(source, target)
    return graph


def _thread(name: str = "t", **more: str) -> Any:
    return {"configurable": {"thread_id": name, **more}}


async def test_langgraphs_own_suite(url: str) -> None:
    """Every capability is there, and every test of it passes."""

    @checkpointer_test(name=f"tenuto-{url.split(':')[0]}")
    async def saver() -> AsyncGenerator[TenutoSaver]:
        async with TenutoSaver(url) as opened:
            yield opened

    report = await validate(saver)
    failures = [failure for result in report.results.values() for failure in result.failures or []]
    assert failures == []
    assert len(report.results) == 8
    assert all(result.detected and result.passed and result.tests_passed for result in report.results.values())


def test_a_graph_with_threads_from_plain_code(saver: TenutoSaver) -> None:
    """`invoke` remembers a thread, lists its history newest first, and forgets it when told to."""
    graph = _chain(_say("a"), _say("b")).compile(checkpointer=saver)
    assert graph.invoke({"words": ["x"]}, _thread())["words"] == ["x", "a", "b"]
    assert graph.invoke({"words": ["y"]}, _thread())["words"] == ["x", "a", "b", "y", "a", "b"]
    history = list(graph.get_state_history(_thread()))
    assert [len(state.values["words"]) for state in history] == [6, 5, 4, 3, 3, 2, 1, 0]
    again = graph.invoke(None, history[1].config)
    assert again["words"] == ["x", "a", "b", "y", "a", "b"]
    saver.delete_thread("t")
    assert graph.get_state(_thread()).values == {}


async def test_an_interrupt_outlives_the_saver(url: str) -> None:
    """A graph that waits for a person goes on in another process, from any event loop."""
    if url == "memory:":
        pytest.skip("memory ends with its saver")

    def ask(state: State) -> dict[str, list[str]]:
        return {"words": [interrupt("which?")]}

    async with TenutoSaver(url) as first:
        graph = _chain(_say("a"), ask).compile(checkpointer=first)
        waiting = await graph.ainvoke({"words": []}, _thread())
        assert [item.value for item in waiting["__interrupt__"]] == ["which?"]
    async with TenutoSaver(url) as later:
        graph = _chain(_say("never"), ask).compile(checkpointer=later)
        assert (await graph.ainvoke(Command(resume="this"), _thread()))["words"] == ["a", "this"]


def test_one_saver_serves_many_loops_and_threads(saver: TenutoSaver) -> None:
    """A saver made at import may be used by whichever loop comes, also at once."""
    graph = _chain(_say("a")).compile(checkpointer=saver)

    async def run(name: str) -> list[str]:
        states = await asyncio.gather(*[graph.ainvoke({"words": [name]}, _thread(f"{name}{n}")) for n in range(5)])
        return [state["words"][-1] for state in states]

    assert asyncio.run(run("x")) == asyncio.run(run("y")) == ["a"] * 5
    assert len(list(saver.list(None, limit=7))) == 7


def test_branches_of_a_thread_share_no_version(saver: TenutoSaver) -> None:
    """Two ways on from one checkpoint write the same channel; each finds its own value."""
    graph = _chain(_say("a")).compile(checkpointer=saver)
    graph.invoke({"words": ["x"]}, _thread())
    base = graph.get_state(_thread()).config
    left = graph.update_state(base, {"words": ["left"]})
    right = graph.update_state(base, {"words": ["right"]})
    assert graph.get_state(left).values["words"] == ["x", "a", "left"]
    assert graph.get_state(right).values["words"] == ["x", "a", "right"]


def test_a_value_that_stays_is_stored_once(tmp_path: Path) -> None:
    """Bytes grow with what changes, not with the number of checkpoints times the state."""
    path = tmp_path / "graphs.db"

    class Wide(TypedDict):
        big: str
        n: int

    graph = StateGraph(Wide)
    graph.add_node("count", lambda state: {"n": state["n"] + 1})
    graph.add_edge(START, "count")
    graph.add_conditional_edges("count", lambda state: END if state["n"] == 20 else "count")
    with TenutoSaver(f"sqlite:///{path}") as saver:
        graph.compile(checkpointer=saver).invoke({"big": "x" * 100_000, "n": 0}, _thread())
        assert len(list(saver.list(_thread()))) == 22
    with sqlite3.connect(path) as db:
        stored = dict(db.execute("select channel, sum(length(body)) from checkpoint_value group by channel").fetchall())
    db.close()
    # LangGraph keeps a graph's input as a channel of its own, so the text is there once as that and once as the state's.
    assert {name: size // 100_000 for name, size in stored.items() if size > 1000} == {"__start__": 1, "big": 1}


def test_pruning_keeps_what_a_delta_channel_is_rebuilt_from(saver: TenutoSaver) -> None:
    """`keep_latest` leaves the ancestors down to the last snapshot, so the state is the same as before."""

    class Deltas(TypedDict):
        words: Annotated[list[str], DeltaChannel(lambda state, batches: [*state, *(w for b in batches for w in b)], snapshot_frequency=4)]

    graph = StateGraph(Deltas)
    graph.add_node("say", lambda state: {"words": [f"w{len(state['words'])}"]})
    graph.add_edge(START, "say")
    graph.add_conditional_edges("say", lambda state: END if len(state["words"]) >= 11 else "say")
    compiled = graph.compile(checkpointer=saver)
    before = compiled.invoke({"words": ["x"]}, _thread())["words"]
    stored = len(list(saver.list(_thread())))
    saver.prune(["t"])
    assert compiled.get_state(_thread()).values["words"] == before and len(before) == 11
    assert 1 < len(list(saver.list(_thread()))) < stored
    copy = saver.list(_thread())
    saver.copy_thread("t", "u")
    assert compiled.get_state(_thread("u")).values["words"] == before
    assert len(list(copy)) == len(list(saver.list(_thread("u"))))
    saver.prune(["t"], strategy="delete")
    assert list(saver.list(_thread())) == []
    with pytest.raises(InvalidSettings, match=r"'newest' is no strategy.*keep_latest or delete"):
        saver.prune(["t"], strategy="newest")


def test_lists_go_on_beyond_a_page(saver: TenutoSaver) -> None:
    """More than a page matches, and a filter that matches late finds it; `before` and limits hold."""
    config = _thread(checkpoint_ns="")
    for n in range(110):
        config = saver.put(config, empty_checkpoint(), {"source": "input" if n % 2 else "loop", "step": n}, {})
    assert [found.metadata["step"] for found in saver.list(_thread())] == list(reversed(range(110)))
    (first,) = saver.list(_thread(), filter={"step": 0}, limit=5)
    assert len(list(saver.list(_thread(), filter={"source": "input"}, limit=53))) == 53
    assert list(saver.list(_thread(), before=first.config)) == []
    assert list(saver.list(_thread(), limit=0)) == []


def test_namespaces_see_nothing_of_each_other(tmp_path: Path) -> None:
    """The same thread in two namespaces is two threads."""
    url = f"sqlite:///{tmp_path}/graphs.db"
    with TenutoSaver(url, ns="a") as one, TenutoSaver(url, ns="b") as other:
        _chain(_say("a")).compile(checkpointer=one).invoke({"words": []}, _thread())
        assert other.get_tuple(_thread()) is None and list(other.list(None)) == []
        other.delete_thread("t")
        assert one.get_tuple(_thread()) is not None


@dataclasses.dataclass
class Parcel:
    weight: int


class Opaque:
    """Nothing can serialise this."""


def test_types_are_named_or_refused_when_saved(tmp_path: Path) -> None:
    """A class nobody named is refused before anything is stored; a named one comes back as itself; pickle never."""
    url = f"sqlite:///{tmp_path}/graphs.db"

    class Holder(TypedDict):
        parcel: Any

    def graph(saver: TenutoSaver, made: Any) -> Any:
        found = StateGraph(Holder)
        found.add_node("make", lambda state: {"parcel": made})
        found.add_edge(START, "make")
        return found.compile(checkpointer=saver)

    with TenutoSaver(url) as strict:
        with pytest.raises(TypeRefused, match=r"type .*\.Parcel: .*TenutoSaver\(url, types=\[Parcel\]\)"):
            graph(strict, Parcel(3)).invoke({"parcel": None}, _thread())
        with pytest.raises(TypeError, match="Opaque"):
            graph(strict, Opaque()).invoke({"parcel": None}, _thread("o"))
        left = strict.get_tuple(_thread())
        assert left is not None and "parcel" not in (left.checkpoint["channel_values"].get("parcel") or {})
    with TenutoSaver(url, types=[Parcel]) as named:
        graph(named, Parcel(3)).invoke({"parcel": None}, _thread("n"))
        assert graph(named, None).get_state(_thread("n")).values["parcel"] == Parcel(3)
    with TenutoSaver(url) as strict, pytest.raises(TypeRefused, match=r"\.Parcel"):
        strict.get_tuple(_thread("n"))
    with pytest.raises(InvalidSettings, match="falls back to pickle"):
        TenutoSaver(url, serde=JsonPlusSerializer(pickle_fallback=True))


def test_mistakes_are_told_at_once() -> None:
    """A URL that names no store fails where the saver is made; a closed saver says that it is closed."""
    with pytest.raises(InvalidSettings, match="names no store"):
        TenutoSaver("mysql://nowhere")
    saver = TenutoSaver("memory:")
    saver.put(_thread(checkpoint_ns=""), empty_checkpoint(), {}, {})
    saver.close()
    saver.close()
    with pytest.raises(InvalidSettings, match="closed"):
        saver.get_tuple(_thread())


DIES = """
import operator, os, signal, sys
from typing import Annotated, TypedDict
from langgraph.graph import END, START, StateGraph
from tenuto.bridges.langgraph import TenutoSaver

class State(TypedDict):
    words: Annotated[list[str], operator.add]

def node(name):
    def work(state):
        with open(sys.argv[2], "a") as ledger:
            ledger.write(name + "\\n")
        if name == sys.argv[3]:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"words": [name]}
    return work

graph = StateGraph(State)
names = ["a", "b", "c"]
for name in names:
    graph.add_node(name, node(name))
for source, target in zip([START, *names], [*names, END]):
    graph.add_edge(source, target)
with TenutoSaver(sys.argv[1]) as saver:
    app = graph.compile(checkpointer=saver)
    config = {"configurable": {"thread_id": "t"}}
    start = None if saver.get_tuple(config) else {"words": []}
    print(app.invoke(start, config, durability="sync")["words"])
"""


def test_a_killed_graph_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL in the middle: what had finished is not repeated, what was under way runs again."""
    ledger, script = tmp_path / "ledger", tmp_path / "graph.py"
    script.write_text(DIES)

    def run(dies_in: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), f"sqlite:///{tmp_path}/g.db", str(ledger), dies_in]
        env = {**os.environ, "PYTHONWARNINGS": "ignore"}
        return subprocess.run(command, capture_output=True, text=True, env=env)

    assert run("b").returncode == -signal.SIGKILL
    finished = run("nowhere")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "['a', 'b', 'c']"
    assert ledger.read_text().split() == ["a", "b", "b", "c"]


async def test_an_encrypted_database_takes_no_checkpoint_in_the_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its keys the saver is refused; with them nothing it saves is in the file."""
    monkeypatch.setenv("OUR_KEY", "rE1D/TtYQuam//p6Yw/JEu3yxEyBu1k0f23tca1DD0E=")
    url = f"sqlite:///{tmp_path}/t.db"
    config: Any = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
    state = empty_checkpoint()
    state["channel_values"] = {"said": "canary-stork-99"}
    state["channel_versions"] = {"said": "1"}
    with TenutoSaver(url, master_keys=("env:OUR_KEY",)) as saver:
        saver.put(config, state, {"source": "input", "step": 1, "parents": {}}, {"said": "1"})
        found = saver.get_tuple(config)
        assert found is not None and found.checkpoint["channel_values"] == {"said": "canary-stork-99"}
    assert b"canary-stork-99" not in b"".join(path.read_bytes() for path in tmp_path.glob("t.db*"))
    with TenutoSaver(url) as saver, pytest.raises(InvalidSettings, match="encrypted"):
        saver.get_tuple(config)
