"""What an engine is told about measuring."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TelemetryOptions:
    """Plain values from the settings.

    Attributes:
        export: Whether a collector is named anywhere.
        endpoint: Its base URL; empty leaves it to the `OTEL_…` variables.
        ratio: Share of traces exported.
        queue: Most spans that wait.
        counts: Whether what runs do is counted.
    """

    export: bool = False
    endpoint: str = ""
    ratio: float = 1.0
    queue: int = 10_000
    service: str = "tenuto"
    counts: bool = False
