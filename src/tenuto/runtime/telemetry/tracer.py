"""Spans of runs, tries, model requests and tool calls, made of committed records only.

A record is heard once, by the worker that wrote it, so a span is exported once, whoever began what it tells of.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from tenuto.domain.graph.plan import split_key
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.state import RunState
from tenuto.domain.runs.trace import Trace, is_sampled, span_of, trace_of
from tenuto.ports.telemetry import Span, Spans

BEGUN = 10_000
ENDS: dict[type[ev.Event], str] = {
    ev.RunCompleted: "completed", ev.RunFailed: "failed", ev.RunCancelled: "cancelled",
    ev.RunExceeded: "budget_exceeded",
}  # fmt: skip
_KINDS = {"model": "chat", "tool": "execute_tool", "mcp": "execute_tool"}

Attributes = dict[str, str | int | float | bool]


class Tracer:
    """Makes spans of what it hears. Only traces that are sampled cost anything.

    Args:
        ratio: Share of the traces that nobody decided on before.
        remote: Whether the tool of a name is an MCP server's, however a call of it ended.
    """

    def __init__(self, spans: Spans, ratio: float, remote: Callable[[str], bool] = lambda _: False) -> None:
        self.spans = spans
        self.ratio = ratio
        self.remote = remote
        self._begun: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._left_out: set[str] = set()

    def traceparent(self, st: RunState, step: str, n: int, call: str) -> str:
        """Return the header under which whoever is called goes on with the trace."""
        trace = trace_of(st.id, st.traceparent)
        return f"00-{trace.id}-{span_of(st.id, step, n, call)}-{int(is_sampled(trace, self.ratio)):02x}"

    def hear(self, st: RunState, body: ev.Body) -> None:
        """Export the spans a record ends."""
        if st.id in self._left_out:  # most runs, so that their records must cost next to nothing
            return
        trace = trace_of(st.id, st.traceparent)
        if not is_sampled(trace, self.ratio):
            if len(self._left_out) >= BEGUN:
                self._left_out.clear()
            self._left_out.add(st.id)
            return
        for event in body.ev:
            make = _MAKERS.get(type(event))
            if make is not None:
                make(self, st, trace, event, body.t)

    # --- tries ------------------------------------------------------------------------------------------------

    def _try_began(self, st: RunState, trace: Trace, event: ev.AttemptStarted, t: int) -> None:
        self._begun[st.id, event.step] = t
        if len(self._begun) > BEGUN:
            self._begun.popitem(last=False)

    def _try_ended(self, st: RunState, trace: Trace, event: Any, t: int) -> None:
        step, n = event.step, getattr(event, "n", 0) or _attempt(st, event.step)
        known = self._begun.pop((st.id, step), None)
        attributes = _ids(st, step, n)
        attributes["tenuto.worker"] = getattr(event, "worker", "") or st.worker
        began = t if known is None else known
        failure = getattr(event, "failure", None)
        error = failure.code if failure is not None else ""
        if isinstance(event, ev.StepCompleted):
            began = t - event.took_ms
            attributes["tenuto.queued_ms"] = event.queued_ms
        elif isinstance(event, ev.AttemptLost):
            error = "attempt.lost"
        elif isinstance(event, ev.AttemptInterrupted):
            error = error or "attempt.interrupted"
        elif isinstance(event, ev.StepCancelled):
            if not n:
                return
            error = "step.cancelled"
        if isinstance(event, ev.AttemptFailed):
            attributes["tenuto.retry_at"] = event.retry_at
        self.spans.add(Span(
            name=f"step {_node(step)}", trace=trace.id, id=span_of(st.id, step, n), parent=span_of(st.id),
            began=began, ended=t, attributes=attributes, error=error,
        ))  # fmt: skip

    # --- calls ------------------------------------------------------------------------------------------------

    def _call_ended(self, st: RunState, trace: Trace, event: ev.CallCompleted, t: int) -> None:
        self._call(st, trace, event, event.kind, event.name, t, t - event.took_ms, event.meta)

    def _call_broke(self, st: RunState, trace: Trace, event: Any, t: int) -> None:
        began = self._begun.get((st.id, f"{event.step}\0{event.call}"), t)
        if isinstance(event, ev.CallFailed):
            self._call(st, trace, event, event.kind, event.name, t, began, event.meta, event.failure.code)
            return
        step = st.steps.get(event.step)
        call = step.calls.get(event.call) if step is not None else None
        kind, name = (call.kind, call.name) if call is not None else ("call", "")
        self._call(st, trace, event, kind, name, t, began, {}, "call.unknown")

    def _call_began(self, st: RunState, trace: Trace, event: ev.CallIntended, t: int) -> None:
        self._begun[st.id, f"{event.step}\0{event.call}"] = t
        if len(self._begun) > BEGUN:
            self._begun.popitem(last=False)

    def _call(
        self, st: RunState, trace: Trace, event: Any, kind: str, name: str, t: int, began: int, meta: dict[str, Any],
        error: str = "",
    ) -> None:  # fmt: skip
        self._begun.pop((st.id, f"{event.step}\0{event.call}"), None)
        n = _attempt(st, event.step)
        attributes = _ids(st, event.step, n)
        attributes["tenuto.call"] = event.call
        operation = _KINDS.get(kind)
        shown = name or event.call
        if operation is not None:
            attributes["gen_ai.operation.name"] = operation
        if kind == "model":
            shown = str(meta.get("model") or shown)
            attributes["gen_ai.request.model"] = name or shown
            _put(attributes, meta, _MODEL)
        elif operation is not None:
            attributes["gen_ai.tool.name"] = shown
            attributes["gen_ai.tool.type"] = "function"
            attributes["tenuto.mcp"] = bool(meta.get("mcp")) or self.remote(name)
        used = getattr(event, "used", None)
        if used is not None and used.cost_usd_micros:
            attributes["tenuto.cost_usd_micros"] = used.cost_usd_micros
        self.spans.add(Span(
            name=f"{operation or 'call'} {shown}", kind="client" if operation else "internal", trace=trace.id,
            id=span_of(st.id, event.step, n, event.call), parent=span_of(st.id, event.step, n),
            began=began, ended=t, attributes=attributes, error=error,
        ))  # fmt: skip

    # --- the run ----------------------------------------------------------------------------------------------

    def _run_ended(self, st: RunState, trace: Trace, event: Any, t: int) -> None:
        spent = st.ledger.spent
        attributes: Attributes = {
            "tenuto.run": st.id, "tenuto.namespace": st.ns, "tenuto.workflow": st.workflow,
            "tenuto.version": st.digest, "tenuto.status": ENDS[type(event)], "tenuto.steps": len(st.steps),
            "tenuto.cost_usd_micros": spent.cost_usd_micros, "tenuto.tokens": spent.tokens,
            "tenuto.queued_ms": max(0, st.started_at - st.created_at),
        }  # fmt: skip
        failure = getattr(event, "failure", None)
        error = failure.code if failure is not None else "budget.limit" if isinstance(event, ev.RunExceeded) else ""
        self.spans.add(Span(
            name=f"run {st.workflow}", kind="server" if trace.parent else "internal", trace=trace.id, id=span_of(st.id),
            parent=trace.parent, began=st.created_at, ended=t, attributes=attributes, error=error,
        ))  # fmt: skip


_MODEL = {
    "provider": "gen_ai.provider.name", "model": "gen_ai.response.model", "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens", "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}  # fmt: skip

_MAKERS: dict[type[ev.Event], Callable[[Tracer, RunState, Trace, Any, int], None]] = {
    ev.AttemptStarted: Tracer._try_began,
    ev.StepCompleted: Tracer._try_ended,
    ev.AttemptFailed: Tracer._try_ended,
    ev.AttemptLost: Tracer._try_ended,
    ev.AttemptInterrupted: Tracer._try_ended,
    ev.StepFailed: Tracer._try_ended,
    ev.StepDeadLettered: Tracer._try_ended,
    ev.StepCancelled: Tracer._try_ended,
    ev.CallIntended: Tracer._call_began,
    ev.CallCompleted: Tracer._call_ended,
    ev.CallFailed: Tracer._call_broke,
    ev.CallUnknown: Tracer._call_broke,
    **dict.fromkeys(ENDS, Tracer._run_ended),
}


def _ids(st: RunState, step: str, n: int) -> Attributes:
    return {
        "tenuto.run": st.id, "tenuto.workflow": st.workflow, "tenuto.step": step, "tenuto.node": _node(step),
        "tenuto.attempt": n,
    }  # fmt: skip


def _attempt(st: RunState, step: str) -> int:
    """Return the number of a step's newest try; a step that has left the state has none."""
    known = st.steps.get(step)
    return known.attempt if known is not None else 0


def _node(step: str) -> str:
    """Return the node of a step: what stands before its scope."""
    return split_key(step)[0]


def _put(attributes: Attributes, meta: dict[str, Any], names: dict[str, str]) -> None:
    for name, attribute in names.items():
        value = meta.get(name)
        if value or value == 0:
            attributes[attribute] = value
