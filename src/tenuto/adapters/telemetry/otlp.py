"""Spans and metrics by OTLP over HTTP, from a thread of their own: whoever gives them never waits."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from tenuto.ports.telemetry import Span

log = logging.getLogger("tenuto.telemetry")
BATCH = 512
EVERY_S = 1.0
CLOSE_S = 3.0
_MS = 1_000_000
_KINDS = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT, "server": SpanKind.SERVER}
_SCOPE = InstrumentationScope("tenuto")
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def resource_of(service: str) -> Resource:
    """Return who we are, with what `OTEL_RESOURCE_ATTRIBUTES` adds."""
    return Resource.create({"service.name": service})


class OtlpSpans:
    """A bounded queue of spans and the thread that sends them.

    Args:
        endpoint: Base URL of a collector; empty takes it from the `OTEL_EXPORTER_OTLP_…` variables.
        queue: Most spans that wait; more are dropped and counted.

    Attributes:
        dropped: Spans that did not fit.
    """

    def __init__(self, endpoint: str, service: str, *, queue: int = 10_000) -> None:
        self._exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None)
        self._resource = resource_of(service)
        self._spans: deque[Span] = deque()
        self._size = queue
        self._wake = threading.Event()
        self._closing = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="tenuto-spans", daemon=True)
        self._thread.start()

    def add(self, span: Span) -> None:
        """Queue a span; when the queue is full it is dropped."""
        if len(self._spans) >= self._size:
            self.dropped += 1
            return
        self._spans.append(span)
        if len(self._spans) == BATCH:
            self._wake.set()

    def close(self) -> None:
        """Send what is queued, for a moment at most, and stop."""
        self._closing = True
        self._wake.set()
        self._thread.join(CLOSE_S)
        self._exporter.shutdown()

    def _run(self) -> None:
        while True:
            self._wake.wait(EVERY_S)
            self._wake.clear()
            closing = self._closing
            while self._spans:
                part = [self._spans.popleft() for _ in range(min(BATCH, len(self._spans)))]
                try:
                    self._exporter.export([self._readable(span) for span in part])
                except Exception as error:  # noqa: BLE001 - the thread must outlive whatever an exporter raises
                    log.warning("%d spans could not be sent: %s", len(part), error)
            if closing:
                return

    def _readable(self, span: Span) -> ReadableSpan:
        trace = int(span.trace, 16)
        parent = SpanContext(trace, int(span.parent, 16), is_remote=True, trace_flags=_SAMPLED) if span.parent else None
        attributes: dict[str, Any] = {**span.attributes, "error.type": span.error} if span.error else span.attributes
        return ReadableSpan(
            name=span.name, context=SpanContext(trace, int(span.id, 16), is_remote=False, trace_flags=_SAMPLED),
            parent=parent, resource=self._resource, attributes=attributes, kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=span.began * _MS, end_time=max(span.began, span.ended) * _MS, instrumentation_scope=_SCOPE,
        )  # fmt: skip


Values = Callable[[], Sequence[tuple[str, str, str, dict[str, float], str]]]
"""Returns name, kind (`counter` or `gauge`), label's name, values by label, and help of every metric."""


class OtlpMetrics:
    """Sends what is counted, every minute or as `OTEL_METRIC_EXPORT_INTERVAL` says.

    Args:
        read: Called from a thread of its own.
    """

    def __init__(self, endpoint: str, service: str, read: Values) -> None:
        exporter = OTLPMetricExporter(endpoint=f"{endpoint.rstrip('/')}/v1/metrics" if endpoint else None)
        self._provider = MeterProvider([PeriodicExportingMetricReader(exporter)], resource=resource_of(service))
        self._read = read
        meter = self._provider.get_meter("tenuto")
        for name, kind, _, _, told in read():
            make = meter.create_observable_counter if kind == "counter" else meter.create_observable_gauge
            make(name, callbacks=[self._observer(name)], description=told)

    def _observer(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            for found, _, label, values, _ in self._read():
                if found == name:
                    for value, number in values.items():
                        yield Observation(number, {label: value} if label else {})

        return observe

    def close(self) -> None:
        """Send once more and stop."""
        self._provider.shutdown(timeout_millis=int(CLOSE_S * 1000))
