"""Metrics in the text form that Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE_LATEST", "exposition"]


class _Found(Collector):
    def __init__(self, metrics: Sequence[Any]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        for metric in self._metrics:
            if metric.histogram is not None:
                yield HistogramMetricFamily(
                    metric.name, metric.help, buckets=metric.histogram.cumulative(), sum_value=metric.histogram.total
                )
                continue
            family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            found = family(metric.name, metric.help, labels=[metric.label] if metric.label else [])
            for value, number in metric.values.items():
                found.add_metric([value] if metric.label else [], number)
            yield found


def exposition(metrics: Sequence[Any]) -> bytes:
    """Return metrics as text."""
    registry = CollectorRegistry()
    registry.register(_Found(metrics))
    return generate_latest(registry)
