"""LangGraph with its Postgres or SQLite saver; `durability="sync"` stores a step before the next one starts.

On Postgres W1 uses eight saver objects over one pool, because one object serialises its calls by a lock.
"""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import itertools
import operator
from contextlib import AsyncExitStack
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt

from bench.measure import StepClock
from bench.peer import STATE, Peer, Stage, drive

AT_A_TIME = 32
SAVERS = {"pg": 8, "sqlite": 1}

CLOCK = StepClock()


class State(TypedDict, total=False):
    n: int
    who: str
    tags: list[str]
    note: str
    out: Annotated[list[int], operator.add]


async def step(state: State) -> dict[str, int]:
    CLOCK.tick()
    return {"n": state.get("n", 0) + 1}


async def branch(state: dict[str, int]) -> dict[str, list[int]]:
    return {"out": [state["i"]]}


async def wait(state: State) -> dict[str, Any]:
    return {"n": interrupt("go")}


def chain_graph(saver: Any) -> Any:
    graph = StateGraph(State)
    names = [START, "s0", "s1", "s2", END]
    for name in names[1:-1]:
        graph.add_node(name, step)
    for source, target in itertools.pairwise(names):
        graph.add_edge(source, target)
    return graph.compile(checkpointer=saver)


def loop_graph(saver: Any, passes: int) -> Any:
    graph = StateGraph(State)
    graph.add_node("s", step)
    graph.add_edge(START, "s")
    graph.add_conditional_edges("s", lambda state: "s" if state["n"] < passes else END, ["s", END])
    return graph.compile(checkpointer=saver)


def fan_graph(saver: Any, width: int) -> Any:
    graph = StateGraph(State)
    graph.add_node("b", branch)
    graph.add_node("join", lambda state: {"n": len(state["out"])})
    graph.add_conditional_edges(START, lambda _: [Send("b", {"i": i}) for i in range(width)], ["b"])
    graph.add_edge("b", "join")
    graph.add_edge("join", END)
    return graph.compile(checkpointer=saver)


def park_graph(saver: Any) -> Any:
    graph = StateGraph(State)
    graph.add_node("w", wait)
    graph.add_edge(START, "w")
    graph.add_edge("w", END)
    return graph.compile(checkpointer=saver)


class LangGraph(Peer):
    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._n_savers = SAVERS[stage.store] if stage.work in ("W1", "W5") else 1
        self.settings = {"at_a_time": AT_A_TIME, "durability": "sync", "savers": self._n_savers}
        self._stack = AsyncExitStack()
        self._savers: list[Any] = []
        self._threads = itertools.count()

    async def open(self) -> None:
        if self.stage.store == "pg":
            await self._open_postgres()
        else:
            from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

            saver = AsyncSqliteSaver.from_conn_string(str(self.stage.place))
            self._savers = [await self._stack.enter_async_context(saver)]
        await self._savers[0].setup()

    async def _open_postgres(self) -> None:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool

        size = max(4, self._n_savers)
        options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        pool: Any = AsyncConnectionPool(
            self.stage.url, min_size=size, max_size=size, open=False, kwargs=options
        )
        await self._stack.enter_async_context(pool)
        self._savers = [AsyncPostgresSaver(pool) for _ in range(self._n_savers)]

    async def close(self) -> None:
        await self._stack.aclose()

    async def _go(self, graph: Any, limit: int = 25) -> Any:
        config = {"configurable": {"thread_id": f"t{next(self._threads)}"}, "recursion_limit": limit}
        return await graph.ainvoke(STATE, config, durability="sync")

    async def chains(self, n: int) -> None:
        graphs = [chain_graph(saver) for saver in self._savers]
        await drive(n, AT_A_TIME, lambda i: self._go(graphs[i % len(graphs)]))

    async def chain(self, steps: int) -> StepClock:
        return await self._loop(steps, 0)

    async def grow(self, steps: int, sample_every: int) -> StepClock:
        return await self._loop(steps, sample_every)

    async def _loop(self, steps: int, sample_every: int) -> StepClock:
        global CLOCK
        CLOCK = self.clock(sample_every)
        state = await self._go(loop_graph(self._savers[0], steps), limit=steps + 100)
        assert state["n"] == steps
        CLOCK.sample()
        return CLOCK

    async def fan(self, width: int) -> None:
        assert (await self._go(fan_graph(self._savers[0], width)))["n"] == width

    async def park(self, n: int) -> None:
        graphs = [park_graph(saver) for saver in self._savers]
        await drive(n, AT_A_TIME, lambda i: self._go(graphs[i % len(graphs)]))


PEER = LangGraph
