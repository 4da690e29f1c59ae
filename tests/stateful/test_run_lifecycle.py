"""Whatever clients, people and dying workers do to runs, in any order, each run is where a naive model says it is."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from msgspec import Raw

from tenuto.domain.graph.compile import compile_cached
from tenuto.domain.graph.digests import digest_of_definition
from tenuto.domain.graph.parse import parse_definition
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.check import check_row, check_run
from tenuto.domain.runs.events import RunCreated
from tenuto.domain.runs.history import restore
from tenuto.runtime.worker.deliver import creation
from tenuto.testing.loop import NODE, VirtualLoop, cancel_all
from tenuto.testing.simulation_cluster import SimCluster
from tenuto.testing.simulation_world import WORLD
from tenuto.testing.workloads import compiled
from tenuto.testing.workloads_kinds import edge, graph, node, special
from tenuto.testing.workloads_steps import catalog

SETTLE_S = 9.0


def lifecycle() -> str:
    """Make a workflow that waits for a signal, asks a person, may fail, and ends; return its digest."""
    document = graph(
        [node("a"), special("w", "wait", signal="go"), special("ap", "approval", message="Go on?"),
         node("b", "repairable"), node("c"), node("n")],
        edge("a", "w"), edge("w", "ap"), edge("ap", "b"), edge("ap", "n", on="rejected"), edge("b", "c"),
    )
    definition = catalog().complete(parse_definition({"name": "lifecycle", **document}))
    digest = digest_of_definition(definition)
    found = compiled()
    found.definitions[digest], found.digests["lifecycle"] = definition, digest
    found.plans[digest] = compile_cached(digest, definition)
    return digest


@dataclass
class Model:
    """Where a run must be once everything has settled."""

    place: str = "signal"
    signals: int = 0
    paused: bool = False
    repaired: bool = False
    ended: str = ""

    def settle(self) -> None:
        """Follow a run to where nothing moves it any more."""
        if self.ended:
            return
        if self.place == "signal" and self.signals:
            self.signals -= 1
            self.place = "approval"
        if self.paused:
            return
        if self.place == "work":
            self.ended = "completed" if self.repaired else "failed"
        elif self.place == "rejected":
            self.ended = "completed"

    @property
    def status(self) -> str:
        """Return the status clients see."""
        return self.ended or ("paused" if self.paused else "waiting")


class Lifecycle(RuleBasedStateMachine):
    """Clients, a person and fate act on runs by the store alone; three workers do the rest on virtual time."""

    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.digest = lifecycle()
        self.loop = VirtualLoop()
        self.cluster = SimCluster(self.loop, Random(1), [], workers=3)
        self.models: dict[str, Model] = {}
        self.keys: dict[str, list[str]] = {}
        self.count = 0
        self.context = copy_context()
        self.context.run(self._enter)
        self._run(self.cluster.start())

    def _enter(self) -> None:
        WORLD.set(self.cluster.world)
        NODE.set("")

    def _run(self, work: Any) -> Any:
        return self.context.run(self.loop.run_until_complete, work)

    def _send(self, run: str, message: Any, *, reopens: bool = False) -> str:
        self.count += 1
        key = f"k{self.count}"
        outcome = self._run(self.cluster.store.send(run, key, msg.encode_message(message), reopens=reopens))
        if outcome == "accepted":
            self.keys[run].append(key)
        self._settle()
        return outcome

    def _settle(self) -> None:
        self._run(asyncio.sleep(SETTLE_S))
        for model in self.models.values():
            model.settle()

    def _row(self, run: str) -> Any:
        return self.cluster.db.runs[run]

    # --- what may happen --------------------------------------------------------------------------------------

    @rule(target=runs)
    def start(self) -> str:
        self.count += 1
        run = f"018bcfe5-{self.count:04x}-7000-8000-000000000000"
        event = RunCreated(ns="default", workflow="lifecycle", digest=self.digest, input=Raw(b"null"))
        self._run(self.cluster.store.commit([creation(run, event, self.cluster.db.clock()).commit()]))
        self.models[run], self.keys[run] = Model(), []
        self._settle()
        return run

    @rule(run=runs)
    def signal(self, run: str) -> None:
        ended = self.models[run].ended
        if not ended:
            self.models[run].signals += 1
        outcome = self._send(run, msg.Signal(name="go", payload=Raw(b"1")))
        assert outcome == ("terminal" if ended else "accepted")

    @rule(run=runs, decision=st.sampled_from(["approve", "reject"]))
    def decide(self, run: str, decision: str) -> None:
        tickets = [t for t in self.cluster.db.tickets.values() if t.run_id == run and t.kind == "approval"]
        model = self.models[run]
        for ticket in tickets:
            answer = msgspec.json.encode({"decision": decision})
            message = msg.encode_message(msg.Decision(ticket=ticket.id, decision=decision, by="p"))
            was_open = ticket.state == "open"
            self._run(self.cluster.store.decide_ticket("default", ticket.id, answer, f"d/{ticket.id}", message))
            if was_open and not model.ended:
                model.place = "work" if decision == "approve" else "rejected"
        self._settle()

    @rule(run=runs)
    def pause(self, run: str) -> None:
        if not self.models[run].ended:
            self.models[run].paused = True
        self._send(run, msg.Pause())

    @rule(run=runs)
    def resume(self, run: str) -> None:
        model = self.models[run]
        if model.ended == "failed":
            model.ended = ""
        model.paused = False
        self._send(run, msg.Resume(), reopens=True)

    @rule(run=consumes(runs))
    def cancel(self, run: str) -> None:
        model = self.models[run]
        if not model.ended:
            model.ended = "cancelled"
        self._send(run, msg.Cancel())

    @rule(run=runs)
    def repair(self, run: str) -> None:
        self.models[run].repaired = True
        self.cluster.world.fixed.add(run)

    @rule(run=runs)
    def redrive(self, run: str) -> None:
        model = self.models[run]
        if model.ended == "failed":
            model.ended = ""
            self._send(run, msg.Redrive(step="b"), reopens=True)

    @rule(pick=st.integers(0, 2))
    def a_worker_dies(self, pick: int) -> None:
        names = sorted(self.cluster.processes)
        self.context.run(self.cluster.kill, names[pick % len(names)])
        self._settle()

    @rule(pick=st.integers(0, 2))
    def a_worker_stands_still(self, pick: int) -> None:
        names = sorted(self.cluster.processes)
        self.context.run(self.cluster.freeze, names[pick % len(names)], 5.0)
        self._settle()

    # --- what must hold ---------------------------------------------------------------------------------------

    @invariant()
    def every_run_is_where_the_model_says(self) -> None:
        for run, model in self.models.items():
            row = self._row(run)
            assert row.status == model.status, f"{run}: {row.status}, the model says {model.status}"
            assert row.state == ("done" if model.ended else "waiting")

    def teardown(self) -> None:
        db = self.cluster.db
        for run in self.models:
            records = db.records[run]
            wrong = check_run(run, records, compiled().plans.__getitem__, acknowledged=self.keys[run])
            state, _ = restore(run, None, records, compiled().plans.__getitem__)
            row = self._row(run)
            wrong += check_row(state, row.state, row.wake_at, len(db.inbox.get(run, ())))
            assert not wrong
        assert not self.cluster.wrong
        self.cluster.end()
        self.context.run(cancel_all, self.loop)
        self.loop.close()


Lifecycle.TestCase.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
TestLifecycle = Lifecycle.TestCase
