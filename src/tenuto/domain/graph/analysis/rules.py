"""Every finding there is: its id, how grave it is, what it means and what to do. The reference page is made from this."""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Rule(msgspec.Struct, frozen=True):
    """One kind of finding.

    Attributes:
        severity: `error` is something that cannot work or must not be published, `warning` something that goes wrong
            in some runs, `note` something worth knowing.
        meaning: Why it matters.
        fix: What to do.
    """

    severity: Severity
    meaning: str
    fix: str


class Finding(msgspec.Struct, frozen=True):
    """One thing that was found in a definition; `place` is a JSON pointer into it."""

    id: str
    severity: Severity
    place: str
    message: str
    fix: str


RULES: dict[str, Rule] = {
    "condition.constant": Rule(
        "warning", "A condition that reads nothing is the same in every run.",
        "leave the condition out, or let it read the run's input or an output",
    ),
    "reach.never_taken": Rule(
        "warning", "Every way to the node has a condition that is never true.",
        "correct the condition, or remove the node",
    ),
    "loop.no_exit": Rule(
        "note", "Nothing but its limit ends the loop, so every run makes all its passes.",
        "give the edge that closes the loop a 'when' if it may end earlier",
    ),
    "loop.unbounded": Rule(
        "warning", "The passes of loops inside loops multiply; beyond 100,000 a limit is no limit.",
        "lower 'max_iterations' of one of the loops",
    ),
    "race.shared_write": Rule(
        "warning", "Two nodes that may run at once write the same thing; which of them is last is chance.",
        "draw an edge between them, give them names of their own, or the same entry in 'resources'",
    ),
    "race.map_items": Rule(
        "warning", "The items of a map run at once, and each of them writes the same thing.",
        "put ${item} or ${index} into the name, or set the map's 'concurrency' to 1",
    ),
    "approval.after_effect": Rule(
        "warning", "A person is asked after the deed: nothing that acts on the world waits for the answer.",
        "put the approval before the node that acts",
    ),
    "approval.effect_before": Rule(
        "note", "Something acts on the world before the first approval, and no approval guards it.",
        "make sure that it may happen although the answer is no",
    ),
    "approval.approves_itself": Rule(
        "warning", "An approval that nobody answers counts as given, and something that acts follows.",
        "let it time out with 'reject', or ask more people",
    ),
    "cap.tool_calls": Rule(
        "error", "Every run that succeeds makes more tool calls than its cap allows.",
        "raise the cap, or remove tool calls",
    ),
    "cap.tokens": Rule(
        "warning", "A request reserves its 'max_tokens' before it is made; the cap does not hold one.",
        "raise the cap, or lower the agent's 'max_tokens'",
    ),
    "cap.wall_clock": Rule(
        "error", "The waits that every successful run makes are longer than the time it has.",
        "raise 'wall_clock_s', or shorten the waits",
    ),
    "cap.subflow": Rule(
        "warning", "A sub-flow is given more than its parent may spend, so it can never have it.",
        "lower the sub-flow's cap, or raise the run's",
    ),
    "cap.unused": Rule(
        "note", "A cap for a tool that no node may call limits nothing.",
        "correct the tool's name, or remove the cap",
    ),
    "cap.late_timeout": Rule(
        "warning", "The run's time is over before this time limit is.",
        "lower the time limit, or raise 'wall_clock_s'",
    ),
    "secret.literal": Rule(
        "error", "A definition is stored, shown and sent around: a key in it is a key that is known.",
        "revoke it, take it out, and let a handler or a tool read it from the worker's environment",
    ),
    "secret.suspected": Rule(
        "warning", "Text that looks random stands where a password or a key would.",
        "if it is one, revoke it, take it out, and let a handler or a tool read it from the worker's environment",
    ),
    "cache.on_effect": Rule(
        "warning", "A cached result leaves the work out, and the work is known to act on the world.",
        "leave 'cache' out, or correct the node's 'effect'",
    ),
    "lock.order": Rule(
        "warning", "Nodes that may run at once hold one resource while they wait for another, in a circle.",
        "let them take the resources in one order, or declare all of them on the outer node",
    ),
    "lock.nested": Rule(
        "error", "A node inside a map waits for what the map itself holds until the node is done.",
        "declare the resource on the map or on the node, not on both",
    ),
    "retry.constant_key": Rule(
        "warning", "The idempotency key is the same in every run, so the server acts for the first run only.",
        "leave the header out: one that is new for each step is sent by itself",
    ),
    "retry.unknown_effect": Rule(
        "note", "An effect whose outcome is lost is made again; only a server that knows the key makes it once.",
        "make sure the receiver honours the idempotency key, or set 'on_unknown' to 'ask' or to a status hook",
    ),
    "http.open_host": Rule(
        "warning", "Data decides which host is called, and any public host will do.",
        "write the host into the URL, or list the hosts in 'allow'",
    ),
    "http.slow": Rule(
        "note", "Without a time limit a slow answer holds the attempt for as long as the worker's settings allow.",
        "give the node 'timeout_s'",
    ),
    "agent.no_token_limit": Rule(
        "note", "Every round of tool calls is a request with all that was said before, and no cap adds them up.",
        "give the workflow a 'budget' with 'tokens' or 'cost_usd_micros'",
    ),
    "map.no_concurrency": Rule(
        "note", "As many items as a run brings are sent to models or other hosts at once.",
        "give the map 'concurrency'",
    ),
    "input.unused": Rule(
        "note", "No node reads the property.",
        "remove it from 'input_schema', or use it",
    ),
    "input.undeclared": Rule(
        "error", "The schema allows no such property, so the reference never has a value.",
        "declare the property, or correct the reference",
    ),
}
"""By id; an id keeps its meaning."""
