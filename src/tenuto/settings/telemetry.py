"""What is measured, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from tenuto.settings.keys import between, key


def _endpoint(value: str) -> str:
    if not value:
        return ""
    parts = urlsplit(value)
    return "" if parts.scheme in ("http", "https") and parts.netloc else "must read http://host:4318 or https://host"


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """Spans and metrics; nothing leaves the process while no collector is named, here or by `OTEL_…` variables."""

    otlp_endpoint: str = key(
        "", "base URL of an OTLP/HTTP collector; empty takes OTEL_EXPORTER_OTLP_ENDPOINT, and is off without it", _endpoint
    )
    sample_ratio: float = key(1.0, "share of traces that are exported, where the caller did not decide", between(0, 1))
    queue: int = key(10_000, "spans that may wait to be sent; more are dropped and counted", between(1, 1_000_000))
    service: str = key("tenuto", "service.name of what is sent; OTEL_SERVICE_NAME has the last word")
    metrics: bool = key(True, "count what runs do, for GET /metrics and the collector")
