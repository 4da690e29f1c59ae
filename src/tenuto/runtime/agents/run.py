"""Agents: pipeline, loop, supervisor and swarm. Every request and tool call is journaled, so a crash repeats none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tenuto.domain.graph.agents import Upstream
from tenuto.domain.runs.events import Charge
from tenuto.runtime.agents import knowledge
from tenuto.runtime.agents.extras import shown
from tenuto.runtime.agents.loop import Loop, prompt_of
from tenuto.runtime.agents.patterns import PATTERNS, Work
from tenuto.runtime.agents.routing import models_of
from tenuto.runtime.agents.step import Durable, Step, refusal_of
from tenuto.runtime.agents.talk import text_of
from tenuto.runtime.agents.verify import verified
from tenuto.runtime.tools.builtin.patching import PROPOSE
from tenuto.runtime.tools.call import call_tool, find_tool
from tenuto.runtime.tools.tool import Tool


async def run_agent(step: Step, ctx: Durable, config: dict[str, Any], value: Any) -> dict[str, Any]:
    """Run an agent node by its pattern.

    Returns:
        pipeline and loop `{content, data?, tools}`, supervisor `{decision, content, tools}`,
        swarm `{branches, merged, tools}`; with what the loop, the verification and the knowledge add.
    """
    agent = _Agent(step, ctx, config, value, await models_of(ctx, step.routing, step.st.labels, config))
    await agent.prepare()
    pattern = config["pattern"]
    work = await (verified(agent, pattern) if config.get("verify") else PATTERNS[pattern](agent, ""))
    out = work.out
    if not work.own and pattern != "loop":
        out["tools"] = await agent.use_tools(work.content)
    rule = knowledge.rule_of(config)
    if rule is not None and rule.extract and not out.get("partial"):
        out |= await knowledge.extracted(agent.loop, rule, _words(work))
    return out


class _Agent:
    """One execution of an agent node."""

    def __init__(
        self, step: Step, ctx: Durable, config: dict[str, Any], value: Any, models: tuple[str, ...]
    ) -> None:
        self.step = step
        self.ctx = ctx
        self.config = config
        self.value = value
        self.loop = Loop(step, ctx, config, models)
        self.prompt = ""
        self.args: Mapping[str, Any] = {}

    @property
    def wants_model(self) -> bool:
        """Return whether the node asks a model at all: not, when all it names are tools."""
        asks = self.config.get("model") or self.config.get("routing") or self.config.get("prompt") is not None
        return bool(asks) or not self.loop.own.tools

    async def prepare(self) -> None:
        """Make the prompt, and let a spent tool cap halt the run before a model is asked."""
        prompt = self.config.get("prompt")
        self.prompt = prompt_of(self.value if prompt is None else await self.step.render(prompt))
        self.args = await self.step.render(self.config.get("args", {}))
        for name in self.loop.own.tools:
            ask = Charge(tool_calls=1, tool=name)
            if refusal_of(self.step, ask):
                await self.ctx.perform("tool", name, {}, _never, key=f"{name}:refused", effect="effect", hold=ask)
        if PROPOSE in self.loop.own.tools:
            graph = await self.ctx.graph(key="graph")
            self._add("The graph of this run, which you may change with propose_patch", text_of(graph))
        if self.config.get("context"):
            self._add("Results of the steps before", await self._forwarded())
        rule = knowledge.rule_of(self.config)
        if rule is not None and rule.inject:
            self._add("Known so far", await knowledge.injected(self.loop, rule))

    def _add(self, title: str, text: str) -> None:
        if text:
            self.prompt = f"{self.prompt}\n\n{title}:\n{text}"

    async def _forwarded(self) -> str:
        given: Any = self.config["context"]
        most = Upstream().upstream if given == "upstream" else Upstream(**given).upstream
        outputs = await self.step.predecessors()
        return "\n".join(f"- {name}: {shown(_summary(output), most)}" for name, output in outputs.items())

    async def use_tools(self, content: str) -> dict[str, Any]:
        """Call the node's tools in order and return their results by name."""
        results: dict[str, Any] = {}
        for name in self.loop.own.tools:
            tool = find_tool(self.step.catalog, name)
            arguments = self.args.get(name) if isinstance(self.args, Mapping) else None
            if arguments is None:
                arguments = self._guess(tool, content)
            results[name] = await call_tool(self.ctx, self.step.catalog, name, arguments)
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


def _summary(output: Any) -> str:
    """Return what a predecessor's output says: its words, where it is an agent's."""
    if isinstance(output, dict):
        fields = cast("dict[str, Any]", output)
        for name in ("content", "merged"):
            if isinstance(fields.get(name), str) and fields[name]:
                return fields[name]
    return text_of(output)


def _words(work: Work) -> str:
    merged: Any = work.out.get("merged")
    if isinstance(merged, list):
        return "\n\n".join(cast("list[str]", merged))
    return merged if isinstance(merged, str) else work.content


async def _never(_key: str) -> Any:
    raise AssertionError("a refused call was made")
