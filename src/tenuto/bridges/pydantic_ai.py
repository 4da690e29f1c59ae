"""A pydantic-ai agent as a step: each request to its model and each call of its tools is journaled.

The agent itself is not changed: a capability is added for the run, which wraps the model that serves each request and
the tools, functions' and MCP servers' alike. After a crash the agent runs from the top; whatever had an outcome is
answered from the journal, so no committed request is paid twice and no tool's effect made twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from tenuto.bridges import pydantic_ai_forms as forms
from tenuto.bridges.pydantic_ai_errors import failure_of
from tenuto.bridges.pydantic_ai_prices import DEFAULT_PRICE, Price, bound, facts, is_priced, serving, spent
from tenuto.domain.base.canonical import canonical_json
from tenuto.domain.graph.model import Effect, Retry
from tenuto.domain.runs.events import Charge
from tenuto.runtime.agents.asking import passes, patiently
from tenuto.runtime.worker.context import Context

try:
    from pydantic_ai import ModelMessage, ModelResponse
    from pydantic_ai.agent import AbstractAgent
    from pydantic_ai.capabilities import AbstractCapability
    from pydantic_ai.exceptions import FallbackExceptionGroup, ModelAPIError
    from pydantic_ai.models import CompletedStreamedResponse, Model, ModelRequestParameters, StreamedResponse
    from pydantic_ai.models.wrapper import WrapperModel
    from pydantic_ai.settings import ModelSettings
    from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, RunContext, ToolDenied
    from pydantic_ai.toolsets import AbstractToolset, ToolsetTool, WrapperToolset
    from pydantic_ai.usage import UsageLimits
except ImportError as error:
    raise ImportError("pydantic-ai is not installed; install the extra: pip install 'tenuto[pydantic-ai]'") from error

BUSY = Retry(attempts=6, backoff_s=1.0, multiplier=2.0, max_backoff_s=60.0)
"""How often, and after which waits, a request is made when the provider is busy or cannot be reached."""


def durable(
    agent: AbstractAgent[Any, Any], *, name: str = "", deps: Callable[[Context], Any] | None = None,
    effects: Mapping[str, Effect] | None = None, unknown: Mapping[str, str] | None = None,
    usage_limits: UsageLimits | None = None, max_tokens: int = 4096, price: Price = DEFAULT_PRICE, retry: Retry = BUSY,
) -> Callable[..., Awaitable[Any]]:  # fmt: skip
    """Return a step that runs an agent; give it to `app.step`. Its input is `{"prompt": …}`, or the prompt itself.

    What the agent does between its calls may run again after a crash, so instructions and tools' preparation must
    say the same for the same input. The output is what the agent returns, as JSON.

    Args:
        name: The step's name; the agent's own when not given.
        deps: Makes the agent's dependencies for one attempt. They are never stored, so they need no JSON form; they
            must follow from the step's input.
        effects: What a repeat of a tool's call does, by tool: `pure`, `idempotent` or `effect`. A tool may say it
            itself in its metadata, as `{"effect": "idempotent"}`; whoever says nothing has an effect.
        unknown: What to do with a call whose outcome was lost, by tool: `retry`, `ask` a person, or the name of a
            status hook. Calls with an effect are asked about, others retried; metadata may say it as `unknown`.
        usage_limits: The agent's own limits, counted over all attempts; the run's budget holds besides.
        max_tokens: Most tokens of an answer where neither the agent nor its model sets them.
        price: Dollars a million tokens in and out, for models whose price is not known.
        retry: How often a request is made, and after which waits, when its provider is busy, cannot be reached, or
            was cut off; what the provider asks to wait is waited.
    """

    async def run(ctx: Context, prompt: Any) -> Any:
        asked = prompt if isinstance(prompt, str) else canonical_json(prompt).decode()
        if ctx.guidance:
            asked = f"{asked}\n\nA person advises: {ctx.guidance}"
        journal = Journal(ctx, effects or {}, unknown or {}, max_tokens, price, retry)
        given = deps(ctx) if deps is not None else None
        result = await agent.run(asked, deps=given, usage_limits=usage_limits, capabilities=[Durable(journal)])
        return forms.plain(result.output)

    run.__name__ = name or agent.name or "agent"
    return run


@dataclass
class Journal:
    """The calls of one attempt of an agent."""

    ctx: Context
    effects: Mapping[str, Effect]
    unknown: Mapping[str, str]
    max_tokens: int
    price: Price
    retry: Retry
    requests: int = 0

    async def request(
        self, model: Model, messages: list[ModelMessage], settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> ModelResponse:  # fmt: skip
        """Make one request of the model, or return what it answered before."""
        self.requests += 1
        if self.requests == 1:
            self._warn(model)
        n, key, name = self.requests, f"model:{self.requests}", f"{model.system}:{model.model_name}"
        limited = cast("ModelSettings", {"max_tokens": self.max_tokens, **(settings or {})})
        asked = forms.question(messages)
        hold = bound(model, forms.size(messages, parameters), limited.get("max_tokens", self.max_tokens), self.price)

        async def make(_key: str) -> Any:
            try:
                return forms.response_to_json(await model.request(messages, limited, parameters))
            except (ModelAPIError, FallbackExceptionGroup) as exc:
                raise failure_of(exc) from exc

        async def once() -> Any:
            return await self.ctx.perform(
                "model", name, asked, make, key=key, hold=hold,
                used=lambda value: spent(model, forms.response_from_json(value), self.price),
                meta=lambda value: facts(model, forms.response_from_json(value), self.price, n),
            )

        answer = await patiently(self.retry, self.ctx, key, name, once, passes, self.retry.attempts - 1)
        return forms.response_from_json(answer)

    def _warn(self, model: Model) -> None:
        for each in serving(model):
            if not is_priced(each):
                dollars_in, dollars_out = self.price
                self.ctx.log(
                    f"the price of {each.system}:{each.model_name} is not known: its tokens are counted at "
                    f"{dollars_in} dollars a million in and {dollars_out} out; set `price=` of `durable`"
                )

    async def call(
        self, tool: ToolsetTool[Any], ctx: RunContext[Any], arguments: dict[str, Any],
        make: Callable[[], Awaitable[Any]],
    ) -> Any:  # fmt: skip
        """Make one call of a tool, or return what it gave before."""
        definition = tool.tool_def
        said = definition.metadata or {}
        name = definition.name
        effect = self.effects.get(name) or said.get("effect") or "effect"
        on_unknown = self.unknown.get(name) or said.get("unknown") or ("ask" if effect == "effect" else "retry")
        key = f"tool:{ctx.run_step}:{name}:{ctx.tool_call_id}" + (":approved" if ctx.tool_call_approved else "")
        charge = Charge(tool_calls=1, tool=name)

        async def perform(_key: str) -> Any:
            return await forms.outcome(make())

        answer = await self.ctx.perform(
            "tool", name, forms.plain(arguments), perform, key=key, effect=effect, on_unknown=on_unknown, hold=charge,
            used=lambda _: charge, meta=lambda _: {"tool": name},
        )
        return forms.restored(answer)

    async def approve(self, requests: DeferredToolRequests) -> DeferredToolResults:
        """Ask a person about every call that needs it, all at once; nobody in time is a refusal."""

        async def ask(call: Any) -> bool | ToolDenied:
            arguments = call.args_as_dict()
            decision = await self.ctx.approve(
                f"May the agent call {call.tool_name}?", key=f"approve:{call.tool_name}:{call.tool_call_id}",
                data={"tool": call.tool_name, "arguments": forms.plain(arguments)},
            )
            return True if decision["approved"] else ToolDenied(decision.get("reason") or "a person refused the call")

        answers = await asyncio.gather(*[ask(call) for call in requests.approvals])
        ids = [call.tool_call_id for call in requests.approvals]
        return requests.build_results(approvals=dict(zip(ids, answers, strict=True)))


@dataclass
class Durable(AbstractCapability[Any]):
    """What is added to an agent for one run."""

    journal: Journal

    def get_wrapper_model(self, model: Model) -> Model:
        """Journal the requests of whichever model serves them."""
        return DurableModel(model, self.journal)

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """Journal the calls of all tools."""
        return DurableToolset(toolset, self.journal)

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[Any], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """Let a person decide about calls that need an approval; calls made elsewhere are left to others."""
        return await self.journal.approve(requests) if requests.approvals else None


class DurableModel(WrapperModel):
    """A model whose requests are journaled; a stream shows the whole answer once it is recorded."""

    def __init__(self, wrapped: Model, journal: Journal) -> None:
        super().__init__(wrapped)
        self._journal = journal

    async def request(
        self, messages: list[ModelMessage], model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:  # fmt: skip
        """Make the request once and for all."""
        return await self._journal.request(self.wrapped, messages, model_settings, model_request_parameters)

    @asynccontextmanager
    async def request_stream(
        self, messages: list[ModelMessage], model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters, run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:  # fmt: skip
        """Make the request whole, and let the stream tell what it answered."""
        response = await self._journal.request(self.wrapped, messages, model_settings, model_request_parameters)
        yield CompletedStreamedResponse(
            response, model_request_parameters=model_request_parameters, replay_events=True
        )


@dataclass
class DurableToolset(WrapperToolset[Any]):
    """Tools whose calls are journaled."""

    journal: Journal

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        """Make the call once and for all."""
        return await self.journal.call(
            tool, ctx, tool_args, lambda: self.wrapped.call_tool(name, tool_args, ctx, tool)
        )
