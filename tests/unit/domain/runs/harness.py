"""Runs a workflow on the bare core: no store, no clock, no tasks. Outcomes come from a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from tenuto.domain.base.values import blob_digest, digest_of, pack, unpack
from tenuto.domain.graph.compile import compile_definition
from tenuto.domain.graph.limits import SHIPPED
from tenuto.domain.graph.parse import parse_definition
from tenuto.domain.graph.plan import Plan, split_key
from tenuto.domain.overlays.terms import Surroundings, unchecked
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.data import render, step_input
from tenuto.domain.runs.decide import decide
from tenuto.domain.runs.events import Body, Failure, RunCreated
from tenuto.domain.runs.fold import fold_body
from tenuto.domain.runs.state import RunState, decode_state, encode_state


class CoreEnv:
    """Values at hand, in a dictionary."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.decoded: dict[str, Any] = {}
        self.predicates: Mapping[str, Callable[..., Any]] = {}
        self.reuse: Mapping[str, ev.Reused] = {}
        self.surroundings: Callable[[], Surroundings] = unchecked
        self.most = SHIPPED

    def remote(self, node: Any, step: Any) -> bool:
        return node.node.isolation == "process"

    def hold(self, digest: str, body: bytes) -> None:
        self.blobs[digest] = body

    def load(self, value: Raw) -> Any:
        digest = digest_of(value)
        if digest is None:
            return unpack(value)
        if digest not in self.decoded:
            self.decoded[digest] = unpack(self.blobs[digest])
        return self.decoded[digest]


class Failed(Exception):
    """Raised by a step function to fail its attempt."""

    def __init__(self, message: str = "no", **kwargs: Any) -> None:
        super().__init__(message)
        self.failure = Failure(code=kwargs.pop("code", "step.failed"), message=message, **kwargs)


class Core:
    """One run on the core. `steps` maps a node id to a function of the step's input."""

    def __init__(self, document: dict[str, Any], steps: Mapping[str, Callable[..., Any]] | None = None, *,
                 given: Any = None, budget: Any = None, fork: Any = None, fidelity: str = "full") -> None:
        self.plan: Plan = compile_definition(parse_definition({"name": "t", **document}))
        self.first = self.plan
        self.steps = steps or {}
        self.env = CoreEnv()
        self.now = 1_000
        self.records: list[Body] = []
        self.executed: list[str] = []
        self.wakes: list[tuple[str, str]] = []
        self.replies: list[tuple[Any, io.Reply]] = []
        self.inbox = 0
        self.st = RunState(id="run-1")
        value, body = pack(given)
        if body is not None:
            self.env.blobs[blob_digest(body)] = body
        created = RunCreated(
            ns="default", workflow="t", digest=self.plan.digest, input=value,
            budget=budget or self.plan.definition.budget, fork=fork, fidelity=fidelity,
        )
        self.write(Body(self.now, (created,)))
        fold_body(self.st, self.plan, self.records[0])
        self.st.seq = 1
        self.todo: list[io.Input] = [io.Begin(worker="w1", epoch=1)]
        self.started: list[str] = []

    def write(self, body: Body) -> None:
        self.records.append(msgspec.json.decode(msgspec.json.encode(body), type=Body))

    def step(self, *inputs: io.Input) -> io.Decision:
        out = decide(self.st, self.plan, inputs, self.now, self.env)
        self.plan = out.plan or self.plan
        if out.events or out.eaten:
            self.write(Body(self.st.t, tuple(out.events), tuple(out.keys)))
            self.st.seq += 1
        for digest, body in out.blobs:
            self.env.blobs[digest] = body
        self.started += out.start + [task.step for task in out.tasks]
        self.wakes += out.wake
        self.replies += out.replies
        return out

    def send(self, message: msg.Messages, key: str = "") -> io.Decision:
        self.inbox += 1
        return self.step(io.Arrived(n=self.inbox, key=key or f"k{self.inbox}", message=message))

    def run(self, *, limit: int = 100_000) -> Core:
        """Go on until nothing is started or due to be."""
        if self.todo:
            inputs, self.todo = self.todo, []
            self.step(*inputs)
        while self.started and limit:
            limit -= 1
            self.execute(self.started.pop(0))
        assert limit
        self.verify()
        return self

    def execute(self, key: str) -> None:
        step = self.st.steps[key]
        node = self.plan.nodes[split_key(key)[0]]
        self.executed.append(key)
        if node.node.kind == "map":
            items = render(self.st, self.plan, self.env, node.node.config["over"], key)
            out, blob = pack(items)
            self.step(io.MapItems(step=key, n=step.attempt, items=out, count=len(items), blob=blob))
            return
        function = self.steps.get(node.id, lambda value: {"did": node.id})
        try:
            value = function(step_input(self.st, self.plan, self.env, key))
        except Failed as exc:
            self.step(io.Errored(key, step.attempt, exc.failure))
            return
        out, blob = pack(value)
        self.step(io.Succeeded(key, step.attempt, out, blob))

    def tick(self, ms: int) -> Core:
        self.now += ms
        self.step(io.Tick())
        return self.run()

    def verify(self) -> None:
        """Folding the journal from the start yields this very state (I4)."""
        again, plan = RunState(id="run-1"), self.first
        for body in self.records:
            plan = fold_body(again, plan, body)
            again.seq += 1
        assert plan.digest == self.plan.digest == again.digest
        assert encode_state(again) == encode_state(self.st)
        body = encode_state(self.st)
        assert encode_state(decode_state(body)) == body

    @property
    def status(self) -> str:
        return self.st.status

    @property
    def output(self) -> Any:
        return None if self.st.output is None else self.env.load(self.st.output)

    def statuses(self) -> dict[str, str]:
        return {key: step.status for key, step in self.st.steps.items()}

    def events(self, kind: type[Any]) -> list[Any]:
        return [event for body in self.records for event in body.ev if isinstance(event, kind)]
