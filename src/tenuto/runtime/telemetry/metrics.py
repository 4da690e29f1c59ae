"""The metrics of one process, by the names under which monitoring systems know them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from tenuto.runtime.telemetry.counts import Counts, Histogram


class Metric(msgspec.Struct, kw_only=True):
    """One metric.

    Attributes:
        values: Label's value (empty when there is no label) to number.
    """

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"]
    label: str = ""
    values: dict[str, float] = {}
    histogram: Histogram | None = None


def metrics_of(
    counts: Counts, *, statuses: dict[str, int], takeovers: int, owned: int, dropped: int
) -> list[Metric]:
    """Return all metrics.

    Args:
        statuses: How many runs of the namespace have each status now, from the store.
        takeovers: Runs this process took from workers whose leases had ended.
        owned: Runs in its hands.
        dropped: Spans that did not fit into the queue.
    """
    calls = {f"{kind or 'any'}:{outcome}": float(n) for (kind, outcome), n in counts.calls.items()}
    return [
        Metric(name="tenuto_runs", help="Runs by status now", kind="gauge", label="status", values=_floats(statuses)),
        Metric(name="tenuto_runs_events", help="Runs created and ended by this process", kind="counter", label="event",
               values=_floats(counts.runs)),
        Metric(name="tenuto_runs_owned", help="Runs in the hands of this process", kind="gauge", values={"": owned}),
        Metric(name="tenuto_steps", help="Tries of steps by outcome", kind="counter", label="outcome",
               values=_floats(counts.steps)),
        Metric(name="tenuto_step_seconds", help="Time of tries that succeeded", kind="histogram", histogram=counts.step_time),
        Metric(name="tenuto_queue_wait_seconds", help="From ready to begun", kind="histogram", histogram=counts.queue_wait),
        Metric(name="tenuto_calls", help="Calls inside steps, kind:outcome", kind="counter", label="call", values=calls),
        Metric(name="tenuto_cache_steps", help="Steps by what the cache had to do with them", kind="counter", label="how",
               values=_floats(counts.cache)),
        Metric(name="tenuto_cache_saved_seconds", help="Time of work that kept results saved", kind="counter",
               values={"": counts.saved_s}),
        Metric(name="tenuto_tokens", help="Tokens of models", kind="counter", label="direction", values=_floats(counts.tokens)),
        Metric(name="tenuto_cost_usd_micros", help="Cost in millionths of a US dollar", kind="counter",
               values={"": counts.cost_usd_micros}),
        Metric(name="tenuto_lease_takeovers", help="Runs taken from workers whose lease had ended", kind="counter",
               values={"": takeovers}),
        Metric(name="tenuto_commit_records", help="Runs that share a transaction", kind="histogram", histogram=counts.groups),
        Metric(name="tenuto_commit_seconds", help="Time of a transaction", kind="histogram", histogram=counts.group_time),
        Metric(name="tenuto_spans_dropped", help="Spans that did not fit into the queue", kind="counter", values={"": dropped}),
    ]  # fmt: skip


def flat(metrics: Iterable[Metric]) -> list[Metric]:
    """Return metrics with histograms as two counters, for exporters that are asked instead of told."""
    found: list[Metric] = []
    for metric in metrics:
        if metric.histogram is None:
            found.append(metric)
            continue
        for end, value in (("count", float(metric.histogram.count)), ("sum", metric.histogram.total)):
            found.append(Metric(name=f"{metric.name}_{end}", help=metric.help, kind="counter", values={"": value}))
    return found


def _floats(counted: dict[str, int]) -> dict[str, float]:
    return {name: float(count) for name, count in counted.items()}


ReadMetrics = Callable[[], list[Metric]]
