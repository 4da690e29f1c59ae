"""Values that a workflow's schemas mark with `x-sensitive: true`, kept out of what is shown of a run in passing.

What stands at a marked place is replaced whatever it is. Texts and numbers that stood at one are replaced wherever else
they turn up, in outputs that no schema describes, in messages of errors and in log lines; those of fewer than four
characters are not, because they turn up by chance.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from tenuto.domain.graph.plan import Plan, split_key
from tenuto.domain.graph.schema import MARK, is_marked, parts_of
from tenuto.domain.runs import events as ev

HIDDEN = "[redacted]"
SHORTEST = 4
DEEPEST = 64


class Marks:
    """The schemas of a plan in which something is marked.

    Attributes:
        input: Of the run's input; `None` where it has no mark.
        outputs: Of the outputs of nodes, by node.
        answers: Of what a person adds to a decision, by node; it is the `data` of that node's output.
    """

    __slots__ = ("answers", "input", "outputs")

    def __init__(self, plan: Plan) -> None:
        """Look through a plan's schemas."""
        declared = plan.definition.input_schema
        self.input = declared if is_marked(declared) else None
        self.outputs: dict[str, Any] = {}
        self.answers: dict[str, Any] = {}
        for name, found in plan.nodes.items():
            for schema in (found.node.config.get("schema"), found.node.output_schema):
                if is_marked(schema):
                    of_person = found.node.kind == "approval" and schema is not found.node.output_schema
                    (self.answers if of_person else self.outputs)[name] = schema

    def of_step(self, key: str) -> bool:
        """Return whether anything in the output of a step is marked."""
        node = split_key(key)[0]
        return node in self.outputs or node in self.answers

    def __bool__(self) -> bool:
        """Return whether anything is marked."""
        return self.input is not None or bool(self.outputs) or bool(self.answers)


@functools.lru_cache(maxsize=256)
def marks_of(plan: Plan) -> Marks:
    """Return what is marked in a plan; the schemas of a plan are looked through once, not at every event and line."""
    return Marks(plan)


class Hidden:
    """Hides the sensitive values of one run in whatever is shown of it."""

    def __init__(self, marks: Marks) -> None:
        """Know the places, and no values yet."""
        self.marks = marks
        self._texts: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def learn(self, schema: Any, value: Any) -> None:
        """Remember the values at the marked places of a value."""
        for leaf in _leaves(schema, value):
            said = leaf if isinstance(leaf, str) else str(leaf)
            if len(said) >= SHORTEST and said not in self._texts:
                # A text inside of JSON inside of a text has other characters escaped.
                self._texts |= {said, json.dumps(said)[1:-1], json.dumps(said, ensure_ascii=False)[1:-1]}
                self._pattern = None

    def text(self, said: str) -> str:
        """Return a text without the values that are known."""
        if not self._texts:
            return said
        if self._pattern is None:
            longest_first = sorted(self._texts, key=lambda text: (-len(text), text))
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))
        return self._pattern.sub(HIDDEN, said)

    def value(self, value: Any) -> Any:
        """Return a JSON value without the values that are known."""
        return self._mask(value)

    def described(self, schema: Any, value: Any) -> Any:
        """Return a JSON value without what its schema marks, which is known from now on."""
        self.learn(schema, value)
        return self._mask(hide(schema, value))

    def output(self, key: str, value: Any) -> Any:
        """Return the output of a step without what is marked in it, which is known from now on."""
        node = split_key(key)[0]
        found = self.described(self.marks.outputs.get(node), value)
        if node in self.marks.answers and isinstance(found, dict):
            answer = cast("dict[str, Any]", found)
            return {**answer, "data": self.described(self.marks.answers[node], answer.get("data"))}
        return found

    def event(self, event: ev.Event, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the public data of an event without anything sensitive."""
        found = dict(data)
        step = getattr(event, "step", "") or ""
        match event:
            case ev.RunCreated():
                found["input"] = self.described(self.marks.input, found["input"])
            case ev.StepCompleted() | ev.StepReused() | ev.StepFailed() | ev.StepCancelled():
                found["output"] = self.output(step, found["output"])
            case ev.RunCompleted() if isinstance(found["output"], dict):
                outputs = cast("dict[str, Any]", found["output"])
                found["output"] = {key: self.output(key, value) for key, value in outputs.items()}
            case ev.TicketDecided() | ev.TicketVoted():
                found["data"] = self.described(self.marks.answers.get(split_key(step)[0]), found["data"])
            case _:
                pass
        return {name: self._mask(value) for name, value in found.items()}

    def _mask(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            given = cast("dict[str, Any]", value)
            return {self.text(name): self._mask(item) for name, item in given.items()}
        if isinstance(value, list | tuple):
            return [self._mask(item) for item in cast("list[Any]", value)]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return HIDDEN if str(value) in self._texts else value
        return value


def known_in(marks: Marks, given: Any, outputs: Mapping[str, Any]) -> Hidden:
    """Return what hides a run's sensitive values: those in its input, and in the outputs of its steps, by key."""
    hidden = Hidden(marks)
    hidden.learn(marks.input, given)
    for key, value in outputs.items():
        hidden.output(key, value)
    return hidden


def hide(schema: Any, value: Any, root: Any = None, depth: int = 0) -> Any:
    """Return a JSON value with everything at a marked place replaced; of alternatives, every one counts."""
    if not isinstance(schema, dict):
        return value
    known = cast("dict[str, Any]", schema)
    root = known if root is None else root
    if known.get(MARK) is True or depth > DEEPEST:
        return HIDDEN
    for part, place in parts_of(known, root):
        if place is None:
            value = hide(part, value, root, depth + 1)
        elif isinstance(value, dict):
            given = cast("dict[str, Any]", value)
            value = {name: hide(part, item, root, depth + 1) if place(name) else item for name, item in given.items()}
        elif isinstance(value, list):
            items = cast("list[Any]", value)
            value = [hide(part, item, root, depth + 1) if place(at) else item for at, item in enumerate(items)]
    return value


def _leaves(schema: Any, value: Any) -> Iterator[Any]:
    """Yield the texts and numbers that hiding takes out of a value."""
    yield from _differing(value, hide(schema, value))


def _differing(before: Any, after: Any) -> Iterator[Any]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name, item in cast("dict[str, Any]", before).items():
            yield from _differing(item, cast("dict[str, Any]", after)[name])
    elif isinstance(before, list) and isinstance(after, list):
        for one, other in zip(cast("list[Any]", before), cast("list[Any]", after), strict=True):
            yield from _differing(one, other)
    elif after == HIDDEN and before != HIDDEN:
        yield from _scalars(before)


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in cast("dict[str, Any]", value).values():
            yield from _scalars(item)
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from _scalars(item)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield value
