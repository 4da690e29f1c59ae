"""From settings to the plain values a runtime is started with: the same for `tenuto serve` and for an engine in a program."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from tenuto.domain.budgets.escrow import Cap
from tenuto.ports.providers import Providers
from tenuto.runtime.optimizer.options import Optimizing
from tenuto.runtime.services.caps import provider_limits
from tenuto.runtime.telemetry.options import TelemetryOptions
from tenuto.runtime.tools.servers import McpServer
from tenuto.sdk.toolbox import artifacts_of, kit_of
from tenuto.settings import Settings
from tenuto.settings.models import providers_of, routing_of
from tenuto.settings.money import Caps, declared
from tenuto.settings.optimizers import Optimizers
from tenuto.wiring import CachePlace, WorkerOptions


def configured(settings: Settings, ns: str = "default") -> dict[str, Any]:
    """Return what `start_runtime` takes beside a URL and a catalog, under these settings.

    Args:
        ns: The namespace whose runs the caps of the settings are for.

    Raises:
        InvalidSettings: Settings that are fine one by one contradict each other.
    """
    return {
        "options": worker_options(settings), "http_allow": settings.http_allow, "kit": kit_of(settings),
        "retention_days": settings.retention_days, "usage_days": settings.usage_days, "mcp": mcp_servers(settings),
        "caps": [*money(ns, settings.caps, settings.project_caps), *provider_limits(providers(settings))],
        "providers": providers(settings), "master_keys": settings.encryption.references(),
        "telemetry": telemetry_options(settings), "artifacts": artifacts_of(settings),
        "cache": cache_place(settings),
        "groups": {name: group.members for name, group in settings.groups.items()},
        "optimizing": optimizing(settings.optimizers),
        "check_s": settings.services.check_s, "check_timeout_s": settings.services.timeout_s,
    }  # fmt: skip


def worker_options(settings: Settings) -> WorkerOptions:
    """Return how workers work under these settings."""
    return WorkerOptions(
        lease_ms=int(settings.lease_s * 1000), concurrency=settings.concurrency, max_runs=settings.max_runs,
        grace_s=settings.stop_grace_s, routing=routing_of(settings.tiers, settings.routes),
        terms=settings.patches.terms(), most=settings.limits.most(), cache=settings.cache.options(),
    )


def cache_place(settings: Settings) -> CachePlace | None:
    """Return where results of steps are kept under these settings; `None` is the store."""
    cache = settings.cache
    if not cache.url:
        return None
    password = f"env:{cache.password_env}" if cache.password_env else f"file:{cache.password_file}" if cache.password_file else ""
    return CachePlace(cache.url, username=cache.username, password=password, timeout_s=cache.timeout_s)


def optimizing(asked: Optimizers) -> Optimizing:
    """Return how optimizers are asked under these settings."""
    return Optimizing(
        enabled=asked.enabled, chosen=asked.builtin, bounds=asked.bounds(), window=asked.window, min_runs=asked.min_runs,
        every_s=asked.every_s, auto="propose" if asked.auto == "propose" else "off",
        live="propose" if asked.live == "propose" else "off", max_failures=asked.max_failures,
        given=asked.told(), max_bytes=asked.max_bytes,
    )


def money(ns: str, caps: Caps, projects: Mapping[str, Caps]) -> list[Cap]:
    """Return what the runs of a namespace and of its projects may spend together.

    Raises:
        InvalidSettings: A cap is no amount, or a share no percentage.
    """
    return [
        Cap(ns=ns, scope=scope, period=period, limit=limit, warn_percent=percent)
        for scope, period, limit, percent in declared(caps, projects)
    ]


def providers(settings: Settings) -> Providers:
    """Return the providers of models under these settings."""
    return providers_of(settings.providers, settings.prices, settings.fallback_price)


def mcp_servers(settings: Settings) -> tuple[McpServer, ...]:
    """Return the servers of tools that the settings name.

    Raises:
        ServerInvalid: One of them contradicts itself.
    """
    return tuple(
        McpServer(name=name, **{item.name: getattr(mcp, item.name) for item in fields(mcp)})
        for name, mcp in settings.mcp.items()
    )


def telemetry_options(settings: Settings) -> TelemetryOptions:
    """Return what is measured under these settings, and whether it is sent anywhere."""
    asked = settings.telemetry
    variables = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    named = asked.otlp_endpoint or any(os.environ.get(name) for name in variables)
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return TelemetryOptions(
        export=bool(named) and not disabled, endpoint=asked.otlp_endpoint, ratio=asked.sample_ratio, queue=asked.queue,
        service=os.environ.get("OTEL_SERVICE_NAME") or asked.service, counts=asked.metrics,
    )
