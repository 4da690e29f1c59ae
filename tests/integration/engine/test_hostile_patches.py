"""An agent that wants out: every way it tries to patch its run into something its author did not allow is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tenuto import App, Context
from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.domain.overlays.terms import Terms
from tenuto.errors import AlreadyDecided, Conflict, InvalidPatch
from tenuto.ports.model import ModelReply, ModelRequest, ToolCall
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.requests import StartRun
from tenuto.runtime.worker.options import WorkerOptions

LONG_S = 20
Ops = list[dict[str, Any]]
OPEN_TERMS = Terms(approval=())
"""Nothing waits for a person, so that what is refused is refused by the guards alone."""


def add(where: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": where, "value": value}


def swap(where: str, value: Any) -> dict[str, Any]:
    return {"op": "replace", "path": where, "value": value}


def drop(where: str) -> dict[str, Any]:
    return {"op": "remove", "path": where}


def node(name: str, kind: str = "function", **more: Any) -> dict[str, Any]:
    config = {"handler": "work"} if kind == "function" else {}
    return {"id": name, "kind": kind, "config": config, **more}


def agent(name: str, **config: Any) -> dict[str, Any]:
    return {"id": name, "kind": "agent", "config": {"pattern": "loop", "model": "m:x", "prompt": "x", **config}}


def edge(src: str, dst: str, **more: Any) -> dict[str, Any]:
    return {"from": src, "to": dst, **more}


def behind(new: dict[str, Any], src: str = "think") -> Ops:
    return [add("/nodes/-", new), add("/edges/-", edge(src, new["id"]))]


PAY = {"handler": "pay"}
COLD = ("helper", "sub", "each", "bill", "wire", "head", "last")
VICTIM: dict[str, Any] = {
    "name": "victim",
    "nodes": [
        node("intro"),
        agent("think", tools=["propose_patch"], limits={"rounds": 100, "history": 4, "bad_calls": 100}),
        {"id": "ask", "kind": "approval", "config": {"message": "Pay?", "timeout_s": 3600.0}},
        node("pay", config=PAY),
        node("book"),
        agent("helper", limits={"rounds": 3}, max_tokens=100, verify={"criteria": "is true"}),
        {"id": "sub", "kind": "subflow", "config": {"workflow": "child", "budget": {"tokens": 10, "per_tool": {"t": 1}}}},
        {"id": "each", "kind": "map", "config": {"over": "[1]", "concurrency": 2, "body": {"nodes": [node("item")]}}},
        node("bill", config={"handler": "bill"}, resources=["ledger"], on_unknown="ask", timeout_s=5.0, retry={"attempts": 2}),
        node("wire", config={"handler": "bill"}, resources=["ledger"], on_unknown="ask", irreversible=True),
        node("head"), node("tail"), node("last", output_schema={"type": "string"}),
    ],
    "edges": [
        edge("intro", "think"), edge("think", "ask"), edge("ask", "pay"), edge("ask", "book"), edge("think", "book"),
        *(edge("think", name, when="false") for name in COLD if name != "wire"), edge("ask", "wire"),
        edge("head", "tail"), edge("tail", "head", when="false", max_iterations=3),
    ],
}  # fmt: skip

MANY = {"nodes": [{"id": f"n{n}", "kind": "join"} for n in range(1000)]}
DOUBLED = [add("/nodes/last/config/args", ["x" * 1000]), *(
    {"op": "copy", "from": "/nodes/last/config/args", "path": "/nodes/last/config/args/-"} for _ in range(40)
)]  # fmt: skip

ATTACKS: dict[str, tuple[Any, str]] = {
    "remove the approval": (
        [drop("/nodes/ask"), drop("/nodes/wire"), *(drop(f"/edges/{at}") for at in ("think->ask", "ask->pay", "ask->book", "ask->wire")),
         add("/edges/-", edge("think", "pay"))], "patch.weakens_approval"),
    "a way past the approval": ([add("/edges/-", edge("think", "pay"))], "patch.weakens_approval"),
    "go on where it is rejected": ([add("/edges/-", edge("ask", "pay", on="rejected"))], "patch.weakens_approval"),
    "another node that pays": (behind(node("pay2", config=PAY)), "patch.weakens_approval"),
    "an innocent node that pays from now on": ([swap("/nodes/last/config/handler", "pay")], "patch.weakens_approval"),
    "a node that pays and says it is harmless": (behind(node("p", config=PAY, effect="pure")), "patch.weakens_approval"),
    "an item that pays": ([swap("/nodes/each/config/body/nodes/item/config/handler", "pay")], "patch.weakens_approval"),
    "a new map whose items pay": (
        behind(node("m", "map", config={"over": "[1]", "body": {"nodes": [node("i", config=PAY)]}})), "patch.weakens_approval"),
    "let the clock approve": (
        [swap("/nodes/ask/config/timeout_s", 0.001), add("/nodes/ask/config/on_timeout", "approve")], "patch.weakens_approval"),
    "do what cannot be undone unasked": ([drop("/edges/ask->wire"), add("/edges/-", edge("think", "wire"))],
                                         "graph.approval_missing"),
    "put the approval into a map over nothing": (
        [drop("/nodes/ask"), drop("/nodes/wire"), *(drop(f"/edges/{at}") for at in ("think->ask", "ask->pay", "ask->book", "ask->wire")),
         *behind(node("m", "map", config={"over": "[]", "body": {"nodes": [VICTIM["nodes"][2]]}})),
         add("/edges/-", edge("m", "pay"))], "patch.weakens_approval"),
    "a join that need not wait for the approval": ([swap("/nodes/book/join", "any")], "patch.weakens_approval"),
    "cut the approval off a join": ([drop("/edges/ask->book")], "patch.weakens_approval"),
    "never ask": ([add("/edges/think->ask/when", "false")], "patch.weakens_approval"),
    "never ask, round the corner": (
        [*behind(node("x")), drop("/edges/think->ask"), add("/edges/-", edge("x", "ask", when="false"))], "patch.weakens_approval"),
    "a switch before the question": (
        [*behind(node("x", route="first")), drop("/edges/think->ask"), add("/edges/-", edge("x", "last", when="true")),
         add("/edges/-", edge("x", "ask", on="default"))], "patch.weakens_approval"),
    "a rejection that goes nowhere": ([add("/nodes/-", node("no")), add("/edges/-", edge("ask", "no", on="rejected"))],
                                      "patch.weakens_approval"),
    "edit a finished node": ([swap("/nodes/intro/config/handler", "bill")], "patch.frozen"),
    "remove a finished node": ([drop("/nodes/intro"), drop("/edges/intro->think")], "patch.frozen"),
    "an edge out of the past": (behind(node("x"), "intro"), "patch.frozen"),
    "edit itself": ([swap("/nodes/think/config/limits/rounds", 1000)], "patch.frozen"),
    "never have begun": ([add("/edges/intro->think/when", "false")], "patch.frozen"),
    "raise the budget": ([add("/budget", {"tokens": 10**9})], "patch.path"),
    "raise the limits on patches": ([add("/patches", {"max_agents": 1000, "approval": []})], "patch.path"),
    "raise an agent's rounds": ([swap("/nodes/helper/config/limits/rounds", 1000)], "patch.weakens_limit"),
    "raise them by another name": (
        [drop("/nodes/helper/config/limits"), add("/nodes/helper/config/max_rounds", 1000)], "patch.weakens_limit"),
    "raise what was left to the default": ([add("/nodes/helper/config/corrections", 1000)], "patch.weakens_limit"),
    "lift a cap on tokens": ([drop("/nodes/helper/config/max_tokens")], "patch.weakens_limit"),
    "raise a sub-flow's budget": ([swap("/nodes/sub/config/budget/tokens", 10**9)], "patch.weakens_limit"),
    "lift a cap on a sub-flow's tool": ([drop("/nodes/sub/config/budget/per_tool")], "patch.weakens_limit"),
    "a sub-flow on nobody's account": ([add("/nodes/sub/config/detach", True)], "patch.weakens_budget"),
    "a new one on nobody's account": (
        behind(node("s", "subflow", config={"workflow": "child", "detach": True})), "patch.weakens_budget"),
    "try for ever": ([swap("/nodes/bill/retry/attempts", 1000)], "patch.weakens_limit"),
    "take for ever": ([drop("/nodes/bill/timeout_s")], "patch.weakens_limit"),
    "all items at once": ([swap("/nodes/each/config/concurrency", 0)], "patch.weakens_limit"),
    "a thousand operations": ([add("/nodes/-", node(f"x{n}")) for n in range(1000)], "patch.size"),
    "a thousand nodes": (behind(node("m", "map", config={"over": "[]", "body": MANY})), "patch.nodes"),
    "a huge value": (behind(node("x", description="x" * 70_000)), "patch.size"),
    "copies of copies": (DOUBLED, "patch.size"),
    "a cycle": ([*behind(node("x")), *behind(node("y"), "x"), add("/edges/-", edge("y", "x"))], "graph.cycle"),
    "a loop without end": (
        [*behind(node("x")), *behind(node("y"), "x"), add("/edges/-", edge("y", "x", max_iterations=10**9))], "patch.iterations"),
    "more passes": ([swap("/edges/tail->head/max_iterations", 1000)], "patch.weakens_limit"),
    "more passes over another edge": ([*behind(node("x"), "tail"), add("/edges/-", edge("x", "head", max_iterations=99))],
                                      "patch.weakens_limit"),
    "an orphan": ([add("/nodes/-", node("x"))], "patch.orphan"),
    "a second beginning": ([add("/nodes/-", node("x")), add("/edges/-", edge("x", "last"))], "patch.orphan"),
    "a path outside": ([swap("/metadata/owner", "me")], "patch.path"),
    "the whole list": ([swap("/nodes", [])], "patch.path"),
    "no pointer": ([swap("nodes/last", {})], "patch.path"),
    "an index with a nought": ([swap("/nodes/00/description", "x")], "patch.conflict"),
    "a node that is not there": ([swap("/nodes/nobody/config", {})], "patch.unknown_node"),
    "an edge that is not there": ([drop("/edges/pay->ask")], "patch.unknown_edge"),
    "a duplicate": (behind(node("last")), "graph.duplicate_id"),
    "a copy of the node that pays": ([{"op": "copy", "from": "/nodes/pay", "path": "/nodes/-"}], "graph.duplicate_id"),
    "a lock moved away": (
        [{"op": "move", "from": "/nodes/bill/resources/0", "path": "/nodes/last/description"}], "patch.weakens_lock"),
    "six agents": ([op for n in range(6) for op in behind(agent(f"a{n}"))], "patch.agents"),
    "itself again": (behind(node("s", "subflow", config={"workflow": "victim"})), "patch.spawn"),
    "a swarm of a thousand": (behind(agent("a", pattern="swarm", n=1000)), "patch.weakens_limit"),
    "an agent that never stops": (behind(agent("a", limits={"rounds": 10**6})), "patch.weakens_limit"),
    "a weaker effect": ([add("/nodes/bill/effect", "pure")], "patch.weakens_effect"),
    "a new node that plays its effect down": (behind(node("x", config={"handler": "bill"}, effect="pure")), "patch.weakens_effect"),
    "a request that plays its effect down": (
        behind(node("x", "http", config={"url": "https://example.com", "method": "POST"}, effect="pure")), "patch.weakens_effect"),
    "undoable after all": ([drop("/nodes/wire/irreversible")], "patch.weakens_effect"),
    "less caution": ([swap("/nodes/bill/on_unknown", "retry")], "patch.weakens_effect"),
    "no lock": ([swap("/nodes/bill/resources", [])], "patch.weakens_lock"),
    "the same work under another name, without the lock": (
        [drop("/nodes/bill"), drop("/edges/think->bill"), *behind(node("b", config={"handler": "bill"}, on_unknown="ask"))],
        "patch.weakens_lock"),
    "no judge": ([drop("/nodes/helper/config/verify")], "patch.weakens_verify"),
    "a milder judge": ([swap("/nodes/helper/config/verify/criteria", "is text")], "patch.weakens_verify"),
    "no check of the output": ([drop("/nodes/last/output_schema")], "patch.weakens_verify"),
    "an unknown handler": (behind(node("x", config={"handler": "os.system"})), "graph.unknown_handler"),
    "an unknown tool": (behind(agent("x", tools=["shell"])), "graph.unknown_tool"),
    "an unknown model": (behind({**agent("x"), "config": {"pattern": "loop", "model": "z:x", "prompt": "x"}}),
                         "graph.unknown_model"),
    "an unknown workflow": (behind(node("x", "subflow", config={"workflow": "nothing"})), "graph.unknown_workflow"),
    "an unknown kind": (behind(node("x", "shell")), "graph.unknown_kind"),
    "an unknown field": (behind(node("x", sudo=True)), "graph.unknown_field"),
    "a number for a node": ([add("/nodes/-", 7)], "graph.type"),
    "text for a number": ([swap("/nodes/bill/timeout_s", "long")], "graph.type"),
    "cache what acts": ([add("/nodes/bill/cache", "read_through")], "graph.cache"),
    "an edge into a map": ([add("/edges/-", edge("think", "item"))], "graph.crossing"),
    "an unknown operation": ([{"op": "execute", "path": "/nodes/-", "value": 1}], "patch.operation"),
    "a field too many": ([{**drop("/nodes/last"), "force": True}], "patch.operation"),
    "a test that fails": ([{"op": "test", "path": "/nodes/last/id", "value": "first"}, *behind(node("x"))], "patch.test"),
    "nothing": ([{"op": "test", "path": "/nodes/last/id", "value": "last"}], "patch.nothing"),
    "a key": (behind(node("x", "http", config={"url": "https://example.com", "headers": {"Authorization": "Bearer abc"}})),
              "patch.secret"),
    "a key in a text": (behind(agent("x", system="use sk-abcdefghijklmnopqrstuvwxyz0123456789")), "patch.secret"),
}  # fmt: skip


class World:
    """An app with a hostile agent in it, and what its handlers did."""

    def __init__(self, script: Any) -> None:
        self.app = App("t")
        self.ran: list[str] = []
        self.app.model("m:x", ScriptedModel(script))

        @self.app.step
        async def work(ctx: Context, value: Any) -> str:
            self.ran.append(ctx.node)
            return ctx.node

        @self.app.step(effect="effect")
        async def pay(ctx: Context, value: Any) -> str:
            self.ran.append(ctx.node)
            return "paid"

        @self.app.step(effect="effect")
        async def bill(ctx: Context, value: Any) -> str:
            self.ran.append(ctx.node)
            return "billed"

        self.app.workflow("child").step("work")


def propose(ops: Any, base: str = "") -> ModelReply:
    arguments: dict[str, Any] = {"operations": ops, "reason": "trust me"}
    if base:
        arguments["base_digest"] = base
    return ModelReply(content="", tool_calls=(ToolCall("c", "propose_patch", arguments),), stop="tools")


async def asked(engine: Engine, run: str) -> str:
    """Return the approval's ticket, once the run has asked."""
    async for event in engine.history.stream(run):
        if event.type == "ticket.opened" and event.data["kind"] == "approval":
            return event.data["ticket"]
    accepted = [patch.changed for patch in await engine.patches.list(run, status="applied")]
    raise AssertionError((accepted, (await engine.runs.get(run)).error))


async def test_every_hostile_patch_is_refused_and_kept_and_the_run_goes_on() -> None:
    """More than forty ways out: each ends with its own reason, none changes the graph, the work is done as it was planned."""
    attacks = [*ATTACKS.items(), ("a graph that is gone", (behind(node("x")), "patch.stale"))]
    left = iter(attacks)

    def script(request: ModelRequest) -> ModelReply:
        attack = next(left, None)
        if attack is None:
            return ModelReply(content="I give up")
        return propose(attack[1][0], "sha256:" + "0" * 64 if attack[1][1] == "patch.stale" else "")

    world = World(script)
    async with world.app.engine("memory:", options=WorkerOptions(terms=OPEN_TERMS)) as engine:
        run = (await engine.runs.submit(StartRun(definition=VICTIM))).id
        ticket = await asked(engine, run)
        kept = await engine.patches.list(run)
        codes = {name: {finding.code for finding in patch.findings} for (name, _), patch in zip(attacks, kept, strict=True)}
        missed = {name: codes[name] for name, (_, code) in attacks if code not in codes[name]}
        assert not missed
        assert {patch.status for patch in kept} == {"invalid"}
        assert all(finding.message for patch in kept for finding in patch.findings)
        assert (await engine.patches.graph(run)).number == "1.0"
        assert "pay" not in world.ran
        await engine.tickets.decide(ticket, "approve", by="grace")
        view = await engine.runs.result(run, timeout_s=LONG_S)
        assert view.status == "completed", view.error
        assert view.version == view.graph
        assert sorted(world.ran) == ["book", "intro", "pay", "wire"]
        assert (await engine.audit.verify(run)).ok
        told = json.dumps([event.data for event in (await engine.history.events(run, limit=1000)).items if "patch" in event.type])
        assert "sk-abcdef" not in told
        assert "x" * 70_000 not in told


@pytest.mark.parametrize("ops", [{"op": "add"}, "remove everything", 7, None], ids=["object", "text", "number", "nothing"])
async def test_what_is_no_list_of_operations_is_kept_too(ops: Any) -> None:
    """A handler's own code may hand in anything; it is told what a patch is."""
    app, told = App("t"), list[Any]()

    @app.step
    async def plan(ctx: Context, value: Any) -> None:
        told.append(await ctx.propose_patch(ops, reason="?"))

    app.workflow("w").step("plan")
    async with app.engine("memory:") as engine:
        view = await engine.runs.result((await engine.runs.start("w", None)).id, timeout_s=LONG_S)
        assert view.status == "completed", view.error
        (patch,) = await engine.patches.list(view.id)
        assert [finding.code for finding in patch.findings] == ["patch.type"]
        assert told[0]["status"] == "invalid"


async def test_what_a_person_was_asked_about_stays_as_it_was_shown() -> None:
    """Once the question is put, neither what is to be done nor what leads to it can be exchanged; what follows it can."""
    world = World(["done"])
    async with world.app.engine("memory:", options=WorkerOptions(terms=OPEN_TERMS)) as engine:
        run = (await engine.runs.submit(StartRun(definition=VICTIM))).id
        ticket = await asked(engine, run)
        for ops in (
            [add("/nodes/pay/input", {"amount": 10**6})],
            [drop("/nodes/pay"), drop("/edges/ask->pay")],
            [*behind(node("x"), "ask"), add("/edges/-", edge("x", "pay")), drop("/edges/ask->pay")],
        ):
            base = (await engine.patches.graph(run)).digest
            with pytest.raises(InvalidPatch) as caught:
                await engine.patches.propose(run, ops, base=base)
            assert "patch.shown" in {problem.code for problem in caught.value.problems}
        base = (await engine.patches.graph(run)).digest
        assert (await engine.patches.propose(run, behind(node("after"), "pay"), base=base)).status == "applied"
        await engine.tickets.decide(ticket, "approve", by="grace")
        view = await engine.runs.result(run, timeout_s=LONG_S)
        assert view.status == "completed", view.error
        assert "after" in world.ran


# --- the breaker -------------------------------------------------------------------------------------------------

ORPHAN = [add("/nodes/-", node("x"))]
FEW = WorkerOptions(terms=Terms(max_proposals=3))


def flood(times: int) -> tuple[App, list[Any]]:
    app, told = App("t"), list[Any]()

    @app.step
    async def plan(ctx: Context, value: Any) -> int:
        for _ in range(times):
            try:
                told.append((await ctx.propose_patch(ORPHAN, reason="again"))["problems"][0]["code"])
            except Exception as exc:
                told.append(getattr(exc, "reason", type(exc).__name__))
        return len(told)

    @app.step
    async def work(ctx: Context, value: Any) -> str:
        return ctx.node

    app.workflow("w").step("plan").step("work", id="last", after="plan")
    return app, told


async def tripped(engine: Engine, run: str) -> str:
    async for event in engine.history.stream(run):
        if event.type == "ticket.opened" and event.data["kind"] == "breaker":
            return event.data["ticket"]
    raise AssertionError("the breaker never tripped")


@pytest.mark.parametrize("way", ["ticket", "command", "cancel", "fail"])
async def test_a_run_that_proposes_without_end_is_paused_until_a_person_says_so(way: str) -> None:
    """One proposal too many is kept and trips the breaker; those after it are not even kept; a person ends it or goes on."""
    app, told = flood(6)
    async with app.engine("memory:", options=FEW) as engine:
        run = (await engine.runs.start("w", None)).id
        ticket = await tripped(engine, run)
        view = await engine.runs.get(run)
        assert view.status == "paused"
        opened = await engine.tickets.get(ticket)
        assert opened.choices == ["resume", "fail", "cancel"]
        assert opened.data == {"what": "proposals", "count": 4, "limit": 3}
        with pytest.raises(Conflict) as caught:
            await engine.patches.propose(run, ORPHAN, base=view.graph)
        assert caught.value.reason == "patch.proposals"
        assert ticket in (await engine.runs.why(run)).summary
        if way == "command":
            await engine.runs.resume(run)
        else:
            await engine.tickets.decide(ticket, "resume" if way == "ticket" else way, by="grace")
        view = await engine.runs.result(run, timeout_s=LONG_S)
        assert view.status == {"cancel": "cancelled", "fail": "failed"}.get(way, "completed"), view.error
        assert way != "fail" or (view.error is not None and view.error.code == "limit.proposals")
        assert len(await engine.patches.list(run)) == 4
        assert told == ["patch.orphan"] * 3 + ["patch.proposals"] * 3
        assert (await engine.tickets.get(ticket)).state == ("closed" if way == "command" else "decided")
        assert (await engine.audit.verify(run)).ok
        with pytest.raises((AlreadyDecided, Conflict)):
            await engine.tickets.decide(ticket, "cancel" if way == "ticket" else "resume")
