"""Agents: pipeline, supervisor and swarm. Every model request and tool call is journaled, so a crash repeats none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol, cast

import msgspec

from tenuto.domain.base.canonical import canonical_json
from tenuto.domain.base.nearest import nearest
from tenuto.domain.graph.plan import PlanNode
from tenuto.domain.graph.schema import validate
from tenuto.domain.runs.calls import refusal
from tenuto.domain.runs.events import Charge
from tenuto.domain.runs.state import RunState
from tenuto.errors import Permanent
from tenuto.ports.model import Message, Model, ModelReply, ModelRequest, ToolSpec
from tenuto.runtime.tools.call import Journaled, call_tool, find_tool
from tenuto.runtime.tools.catalog import Catalog, Tool

CORRECTIONS = 1
DEFAULT_MODEL = "offline:echo"


class Advised(Journaled, Protocol):
    """What an agent needs of its step's context.

    Attributes:
        guidance: What a person wrote when sending the step round again; empty otherwise.
    """

    guidance: str


class Step(Protocol):
    """What an agent needs of the step it is.

    Attributes:
        node: Its node, with the edges that leave it.
    """

    node: PlanNode

    @property
    def st(self) -> RunState:
        """Return the state of the run."""
        ...

    @property
    def catalog(self) -> Catalog:
        """Return what the worker can serve."""
        ...

    def model(self, name: str) -> Model:
        """Return the model of a name."""
        ...

    async def render(self, template: Any) -> Any:
        """Return a template of the node's config with its references filled in."""
        ...


class ChoiceRefused(Permanent):
    """The model chose a node that is not among the allowed ones."""

    code = "agent.choice_refused"


class AnswerInvalid(Permanent):
    """The model's structured answer does not fit its schema, also after being told."""

    code = "agent.answer_invalid"


async def run_agent(step: Step, ctx: Advised, config: dict[str, Any], value: Any) -> dict[str, Any]:
    """Run an agent node by its pattern.

    Returns:
        pipeline `{content, data?, tools}`, supervisor `{decision, content, tools}`, swarm `{branches, merged, tools}`.
    """
    agent = _Agent(step, ctx, config, value)
    await agent.prepare()
    return await PATTERNS[config["pattern"]](agent)


class _Agent:
    """One execution of an agent node."""

    def __init__(self, step: Step, ctx: Advised, config: dict[str, Any], value: Any) -> None:
        self.step = step
        self.ctx = ctx
        self.config = config
        self.value = value
        self.catalog = step.catalog
        self.name = config.get("model") or DEFAULT_MODEL
        self.prompt = ""
        self.args: Mapping[str, Any] = {}

    async def prepare(self) -> None:
        """Render the prompt, and let a spent tool cap halt the run before a model is asked."""
        prompt = self.config.get("prompt")
        if prompt is None:
            self.prompt = canonical_json(self.value).decode()
        else:
            rendered = await self.step.render(prompt)
            self.prompt = rendered if isinstance(rendered, str) else canonical_json(rendered).decode()
        self.args = await self.step.render(self.config.get("args", {}))
        for name in self.tool_names():
            ask = Charge(tool_calls=1, tool=name)
            refused = refusal_of(self.step, ask)
            if refused:
                await self.ctx.perform("tool", name, {}, _never, key=f"{name}:refused", effect="effect", hold=ask)

    def tool_names(self) -> list[str]:
        """Return the names of the node's tools, in order."""
        return [item if isinstance(item, str) else item["name"] for item in self.config.get("tools", [])]

    def request(self, *, choices: tuple[str, ...] = (), seed: int = 0, note: str = "") -> ModelRequest:
        """Return a request for this node's model."""
        messages = [Message("user", self.prompt)]
        if self.config.get("system"):
            messages.insert(0, Message("system", self.config["system"]))
        if self.ctx.guidance:
            messages.append(Message("user", f"A person advises: {self.ctx.guidance}"))
        if note:
            messages.append(Message("user", note))
        tools = tuple(_spec(find_tool(self.catalog, name)) for name in self.tool_names())
        return ModelRequest(
            model=self.name, messages=tuple(messages), tools=tools, choices=choices,
            schema=self.config.get("schema"), max_tokens=self.config.get("max_tokens", 1024), seed=seed,
        )

    async def ask(self, request: ModelRequest, key: str) -> ModelReply:
        """Make one journaled model request."""
        model: Model = self.step.model(self.name)
        tokens, cost = model.bound(request)

        async def make(idempotency_key: str) -> ModelReply:
            return await model.request(request, key=idempotency_key)

        answer = await self.ctx.perform(
            "model", self.name, msgspec.to_builtins(request), make, key=key, hold=Charge(tokens=tokens, cost_usd_micros=cost),
            used=_used, meta=_meta,
        )
        return msgspec.convert(answer, ModelReply)

    async def ask_valid(self, key: str, **kwargs: Any) -> ModelReply:
        """Ask until the structured answer fits, telling the model what was wrong, a bounded number of times."""
        schema = self.config.get("schema")
        reply = await self.ask(self.request(**kwargs), key)
        if schema is None:
            return reply
        for turn in range(CORRECTIONS + 1):
            problems = validate(schema, reply.data)
            if not problems:
                return reply
            told = "; ".join(str(problem) for problem in problems)
            if turn == CORRECTIONS:
                raise AnswerInvalid(f"the model's answer does not fit the schema: {told}", problems=tuple(problems))
            note = f"Your answer did not fit the schema: {told}. Answer again."
            reply = await self.ask(self.request(**kwargs, note=note), f"{key}:fix{turn + 1}")
        return reply

    async def use_tools(self, content: str) -> dict[str, Any]:
        """Call the node's tools in order and return their results by name."""
        results: dict[str, Any] = {}
        for name in self.tool_names():
            tool = find_tool(self.catalog, name)
            arguments = self.args.get(name) if isinstance(self.args, Mapping) else None
            if arguments is None:
                arguments = self._guess(tool, content)
            results[name] = await call_tool(self.ctx, self.catalog, name, arguments)
        return results

    def _guess(self, tool: Tool, content: str) -> dict[str, Any]:
        """Take a tool's arguments from the node's input by name; text parameters left over get the prompt."""
        value: object = self.value
        given = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        flat: dict[str, Any] = dict(given)
        for item in given.values():
            if isinstance(item, dict):
                flat = {**cast("dict[str, Any]", item), **flat}
        properties: dict[str, Any] = tool.schema.get("properties", {}) if tool.schema else {}
        required: list[str] = tool.schema.get("required", []) if tool.schema else []
        found = {name: flat[name] for name in properties if name in flat}
        for name in required:
            if name not in found and properties[name].get("type") == "string":
                found[name] = content or self.prompt
        return found


async def _pipeline(agent: _Agent) -> dict[str, Any]:
    out: dict[str, Any] = {"content": "", "tools": {}}
    if agent.config.get("model") or agent.config.get("prompt") is not None or not agent.tool_names():
        reply = await agent.ask_valid("model")
        out["content"] = reply.content
        if agent.config.get("schema") is not None:
            out["data"] = reply.data
    out["tools"] = await agent.use_tools(out["content"])
    return out


async def _supervisor(agent: _Agent) -> dict[str, Any]:
    choices = tuple(agent.config.get("choices") or _successors(agent.step))
    reply = await agent.ask_valid("model", choices=choices)
    decision = reply.choice or reply.content.strip()
    if choices and decision not in choices:
        hint = nearest(decision, choices)
        raise ChoiceRefused(
            f"the model chose {decision[:80]!r}; allowed are {', '.join(choices)}"
            + (f" (nearest: {hint!r})" if hint else "")
        )
    return {"decision": decision, "content": reply.content, "tools": await agent.use_tools(reply.content)}


async def _swarm(agent: _Agent) -> dict[str, Any]:
    n = int(agent.config.get("n", 3))
    replies = await asyncio.gather(*[agent.ask_valid(f"model[{i}]", seed=i) for i in range(n)])
    branches = [reply.content for reply in replies]
    tools = await agent.use_tools(branches[0] if branches else "")
    return {"branches": branches, "merged": _merge(agent.config.get("merge", "collect"), branches), "tools": tools}


def _merge(how: str, branches: list[str]) -> Any:
    if how == "vote":
        return max(branches, key=lambda item: (branches.count(item), -branches.index(item)))
    if how == "first":
        return branches[0] if branches else ""
    return branches


def _successors(step: Step) -> list[str]:
    return list(dict.fromkeys(edge.dst for edge in step.node.out if edge.on in ("success", "default")))


def refusal_of(step: Step, ask: Charge) -> bool:
    """Return whether a cap is already used up for an ask."""
    refused = refusal(step.st, ask)
    return refused is not None and refused.final


async def _never(_key: str) -> Any:
    raise AssertionError("a refused call was made")


def _spec(tool: Tool) -> ToolSpec:
    return ToolSpec(tool.name, tool.description, tool.schema or {})


def _used(reply: ModelReply) -> Charge:
    return Charge(tokens=reply.input_tokens + reply.output_tokens, cost_usd_micros=reply.cost_usd_micros)


def _meta(reply: ModelReply) -> dict[str, Any]:
    return {
        "provider": reply.provider, "model": reply.model, "input_tokens": reply.input_tokens,
        "output_tokens": reply.output_tokens, "cost_usd_micros": reply.cost_usd_micros,
    }


PATTERNS = {"pipeline": _pipeline, "supervisor": _supervisor, "swarm": _swarm}
