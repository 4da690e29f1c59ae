"""Which models an agent asks: the one it names, or those that its task's type and complexity call for, in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tenuto.domain.base.nearest import did_you_mean
from tenuto.domain.graph.agents import Routing
from tenuto.domain.routing import Routing as Tiers
from tenuto.errors import Permanent
from tenuto.runtime.agents.step import Durable

AUTO, TIER = "auto", "tier:"
DEFAULT = "offline:echo"
BY_MODEL, BY_TIER = "model", "tier"
"""Labels of a run that override what its agents are routed to."""


class TierMissing(Permanent):
    """The settings have no tier of this name."""

    code = "model.tier_unknown"


async def models_of(ctx: Durable, tiers: Tiers, labels: Mapping[str, str], config: dict[str, Any]) -> tuple[str, ...]:
    """Return the models a node asks, the first choice first; a choice that was made for it is recorded with its reason.

    Raises:
        TierMissing: It asks for a tier that does not exist.
    """
    name: str = config.get("model") or ""
    if name and name != AUTO and not name.startswith(TIER):
        return (name,)
    if not name and not config.get("routing"):
        return (DEFAULT,)
    key = "route"
    chosen: Any = None if ctx.begun(key) else _choose(tiers, labels, config, name)
    chosen = await ctx.note(key, chosen, kind="route", name=chosen["models"][0] if chosen else "")
    return tuple(chosen["models"])


def _choose(tiers: Tiers, labels: Mapping[str, str], config: dict[str, Any], name: str) -> dict[str, Any]:
    rule = msgspec.convert(config.get("routing") or {}, Routing)
    if labels.get(BY_MODEL):
        return {"models": [labels[BY_MODEL]], "tier": "", "reason": f"the run's label {BY_MODEL!r} says so"}
    if labels.get(BY_TIER):
        tier, reason = labels[BY_TIER], f"the run's label {BY_TIER!r} says so"
    elif name.startswith(TIER):
        tier, reason = name.removeprefix(TIER), "the node names the tier"
    elif rule.tier:
        tier, reason = rule.tier, "the node's routing names the tier"
    else:
        tier = tiers.tier(rule.task_type, rule.complexity)
        reason = f"the table of routes for {rule.task_type or 'other'} tasks that are {rule.complexity}"
    if tier not in tiers.tiers:
        raise TierMissing(f"there is no tier {tier!r}{did_you_mean(tier, tiers.tiers)}; tiers are {', '.join(tiers.tiers)}")
    return {"models": list(tiers.models(tier, dearer=True)), "tier": tier, "reason": reason}
