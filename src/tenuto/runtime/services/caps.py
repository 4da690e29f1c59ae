"""Caps that programs and settings declare when they start: money, and calls under way to each provider."""

from __future__ import annotations

from collections.abc import Sequence

from tenuto.domain.budgets.escrow import EVERYWHERE, NOW, Cap
from tenuto.ports.providers import Providers
from tenuto.ports.store import Store


async def declare(
    store: Store, ns: str, caps: Sequence[Cap] | None, providers: Providers | None, *, limited: bool
) -> None:
    """Let hold what is said of caps, and limits of providers where nothing else is said of them.

    Args:
        caps: `None` leaves all caps as they are.
        providers: `None` is those shipped.
        limited: Whether this process asks providers at all.
    """
    if caps is not None:
        await declare_caps(store, ns, caps)
    if limited and not any(cap.ns == EVERYWHERE for cap in caps or ()):
        await declare_limits(store, providers)


async def declare_caps(store: Store, ns: str, caps: Sequence[Cap]) -> None:
    """Let the caps of settings be those given, in every namespace they name; what a person set by hand stays."""
    declared = {(cap.ns, cap.scope, cap.period) for cap in caps}
    for space in sorted({ns, *(cap.ns for cap in caps)}):
        for cap in await store.caps(space):
            if cap.source == "settings" and (cap.ns, cap.scope, cap.period) not in declared:
                await store.drop_cap(cap.ns, cap.scope, cap.period, source="settings")
    for cap in caps:
        await store.put_cap(cap)


def provider_limits(providers: Providers) -> list[Cap]:
    """Return how many calls may be under way to each provider, over all workers."""
    return [
        Cap(ns=EVERYWHERE, scope=f"provider:{name}", period=NOW, limit=provider.concurrency)
        for name, provider in providers.providers.items()
    ]


async def declare_limits(store: Store, providers: Providers | None) -> None:
    """Let limits on calls to providers hold over all workers; those shipped take nobody else's place."""
    known = {cap.scope for cap in await store.caps(EVERYWHERE)} if providers is None else frozenset[str]()
    for cap in provider_limits(providers or Providers()):
        if cap.scope not in known:
            await store.put_cap(cap)
