"""The runs of the chaos: what each is given, what the driver does to it, and what it must come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

Check = Callable[["Planned", Any], str]


@dataclass(slots=True)
class Planned:
    """A run of the chaos.

    Attributes:
        acts: What the driver does: `(seconds after the start, act)`, in order.
        status: The status it must end with.
        expected: Its output, or a check of it that returns what is wrong.
        run: Its id, once it is accepted.
        sent: Keys of messages to it that were accepted.
        seen: Final statuses a caller was shown.
    """

    name: str
    number: int
    input: dict[str, Any]
    acts: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    status: str = "completed"
    expected: Any = None
    run: str = ""
    sent: list[str] = field(default_factory=list[str])
    seen: list[str] = field(default_factory=list[str])
    redriven: int = 0

    def verdict(self, status: str, output: Any) -> str:
        """Return what is wrong with an outcome, nothing when it is right."""
        if status != self.status:
            return f"ended as {status}, not {self.status}"
        if callable(self.expected):
            return str(self.expected(self, output))
        if self.status == "completed" and output != self.expected:
            return f"came to {output!r}, not {self.expected!r}"
        return ""


def _chain(r: Random, p: Planned) -> None:
    p.expected = {"s4": p.input["n"] + 5}
    if r.random() < 0.2:
        p.acts = [(0.2, "pause"), (r.uniform(1, 6), "resume")]


def _fork(r: Random, p: Planned) -> None:
    p.expected = {"last": p.input["n"] + 3}


def _quorum(r: Random, p: Planned) -> None:
    p.expected = {"last": p.input["n"] + 1}


def _loop(r: Random, p: Planned) -> None:
    p.input["n"] = r.randint(2, 6)
    p.expected = {"last": max(2, p.input["n"]) + 1}


def _handled(r: Random, p: Planned) -> None:
    p.expected = {"mend": p.input["n"] + 1}


def _spread(r: Random, p: Planned) -> None:
    p.input["items"] = [r.randrange(40) for _ in range(r.randint(3, 12))]
    p.expected = {"last": p.input["n"] + 1}


def _apart(r: Random, p: Planned) -> None:
    p.input["items"] = [r.randrange(40) for _ in range(3)]
    p.expected = {"m": [value * value for value in p.input["items"]]}


def _outer(r: Random, p: Planned) -> None:
    p.expected = {"last": p.input["n"] + 4}


def _calls(r: Random, p: Planned) -> None:
    def check(_p: Planned, output: Any) -> str:
        made = output["calls"]
        order = [made["first"], made["charge"], made["second"], *made["parts"]]
        return "" if len(set(order)) == 6 else f"calls share results: {made}"

    p.expected = check


def _signals(r: Random, p: Planned) -> None:
    p.acts = sorted((r.choice((0.0, r.uniform(1, 8))), act) for act in ("signal:go:1", "signal:after:9"))
    p.acts = sorted([*p.acts, (max(at for at, act in p.acts if "go" in act) + r.uniform(0, 4), "signal:go:2")])

    def check(_p: Planned, output: Any) -> str:
        ended = output.get("after", {})
        return "" if ended.get("payload") == 9 else f"the signal after is {ended!r}"

    p.expected = check


def _timers(r: Random, p: Planned) -> None:
    p.input["seconds"] = round(r.uniform(2, 18), 1)
    p.expected = {"b": p.input["n"] + 2}


def _approve(r: Random, p: Planned) -> None:
    p.expected = {"yes": p.input["n"] + 1} if p.number % 2 else {"no": "refused"}


def _consent(r: Random, p: Planned) -> None:
    p.expected = {"consent": "approve" if p.number % 2 else "reject"}


def _endless(r: Random, p: Planned) -> None:
    p.acts = [(r.uniform(0.1, 12), "cancel")]
    p.status = "cancelled"


def _pay(r: Random, p: Planned) -> None:
    p.input["order"] = f"o{p.number}"

    def check(planned: Planned, output: Any) -> str:
        right = {"p3": {"receipt": f"{planned.run}/p3/pay_hook"}}
        return "" if output == right else f"came to {output!r}, not {right!r}"

    p.expected = check


def _ship(r: Random, p: Planned) -> None:
    p.input["order"] = f"o{p.number}"

    def check(planned: Planned, output: Any) -> str:
        receipt = output["ship"].get("receipt")
        return "" if receipt == f"{planned.run}/ship" else f"came to {output!r}"

    p.expected = check


def _capped(r: Random, p: Planned) -> None:
    p.status = "budget_exceeded"


def _poison(r: Random, p: Planned) -> None:
    p.expected = {p.name: "cured"}


SHAPES: dict[str, tuple[int, Callable[[Random, Planned], None]]] = {
    "chain": (14, _chain), "fork": (9, _fork), "quorum": (8, _quorum), "loop": (8, _loop), "handled": (4, _handled),
    "spread": (8, _spread), "apart": (4, _apart), "outer": (8, _outer), "calls": (10, _calls),
    "signals": (8, _signals), "timers": (10, _timers), "approve": (6, _approve), "consent": (4, _consent),
    "endless": (6, _endless), "pay": (10, _pay), "ship": (6, _ship), "capped": (4, _capped),
}
DEADLY: dict[str, int] = {"poison": 200, "venom": 400}
"""One of so many runs kills whatever process executes it."""


def plan_runs(count: int, seed: int) -> list[Planned]:
    """Return the runs of a chaos of this size, the same for the same seed: every shape, then by weight."""
    random = Random(seed)
    names = list(SHAPES)
    weights = [SHAPES[name][0] for name in names]
    chosen = [*names, *random.choices(names, weights, k=max(0, count - len(names)))][:count]
    deadly = [name for name, each in DEADLY.items() for _ in range(max(count // each, 1 if name == "poison" else 0))]
    chosen[len(chosen) - len(deadly):] = deadly
    random.shuffle(chosen)
    return [plan_run(name, number, random) for number, name in enumerate(chosen)]


def plan_run(name: str, number: int, random: Random) -> Planned:
    """Return one run of a shape."""
    planned = Planned(name, number, {"n": random.randrange(100)})
    (_poison if name in DEADLY else SHAPES[name][1])(random, planned)
    return planned
