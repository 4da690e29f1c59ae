"""Functions as handlers and tools: how inputs become arguments, and how they are described."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest

from tenuto.errors import InvalidGraph, InvalidInput
from tenuto.runtime.tools.catalog import CallInfo
from tenuto.sdk.app import App

if TYPE_CHECKING:
    from tenuto.runtime.worker.context import Context


class Order(msgspec.Struct):
    """A struct."""

    id: int
    lines: list[str] = []


@dataclasses.dataclass
class Person:
    """A dataclass."""

    name: str


class Point(TypedDict):
    """A typed dictionary."""

    x: int


class Page(pydantic.BaseModel):
    """A pydantic model."""

    url: str
    score: float = 0


def bind(fn: Callable[..., Any], value: Any, ctx: Any = "CTX") -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments a step gets for an input."""
    app = App()
    app.step(fn)
    return app.catalog().handlers[fn.__name__].bind(ctx, value)


def test_parameters_are_filled_by_name_and_converted() -> None:
    """JSON becomes the annotated types; defaults stay; further fields do not matter."""

    def step(ctx: Context, key: UUID, n: int, order: Order, rest: Any, flag: bool = True) -> None: ...

    text = "12345678-1234-5678-1234-567812345678"
    value = {"key": text, "n": 1, "order": {"id": 2}, "rest": [1], "more": 1}
    assert bind(step, value) == (["CTX"], {"key": UUID(text), "n": 1, "order": Order(2), "rest": [1]})


@pytest.mark.parametrize(
    ("hint", "value", "read"),
    [
        (Order, {"id": 1}, Order(1)),
        (Person, {"name": "a"}, Person("a")),
        (Point, {"x": 1}, {"x": 1}),
        (dict, {"x": 1}, {"x": 1}),
        (dict[str, int], {"x": 1}, {"x": 1}),
        (Page, {"url": "u"}, Page(url="u")),
        (Annotated[Order, "note"], {"id": 1}, Order(1)),
    ],
)
def test_a_lone_parameter_of_an_object_type_takes_the_whole_input(hint: Any, value: Any, read: Any) -> None:
    """Structs, dataclasses, typed dictionaries, mappings and pydantic models stand for the input itself."""

    def step(it): ...

    step.__annotations__ = {"it": hint}
    assert bind(step, value) == ([], {"it": read})


def test_a_lone_parameter_takes_an_input_that_is_no_object() -> None:
    """An item of a map needs no field name; an object is taken by name, or whole when nothing says otherwise."""

    def scalar(n: int) -> None: ...
    def anything(value): ...

    assert bind(scalar, 3) == ([], {"n": 3})
    assert bind(scalar, {"n": 3}) == ([], {"n": 3})
    assert bind(anything, {"x": 3}) == ([], {"value": {"x": 3}})
    assert bind(anything, {"value": 3}) == ([], {"value": 3})


def test_functions_may_take_nothing_only_the_context_or_the_rest() -> None:
    """What is not asked for is not given."""

    def nothing() -> None: ...
    def only(ctx: Any) -> None: ...
    def rest(a: int, **more: Any) -> None: ...
    def positional(a: int, /, b: int) -> None: ...

    assert bind(nothing, {"x": 1}) == ([], {})
    assert bind(only, {"x": 1}) == (["CTX"], {})
    assert bind(rest, {"a": 1, "b": 2}) == ([], {"a": 1, "b": 2})
    assert bind(positional, {"a": 1, "b": 2}) == ([1], {"b": 2})


def test_an_input_that_does_not_fit_names_every_fault() -> None:
    """Missing fields and wrong types come together, and nothing is retried."""

    def step(a: int, b: str, c: Page) -> None: ...

    with pytest.raises(InvalidInput) as caught:
        bind(step, {"a": "x", "c": {"url": 1}})
    assert {problem.place for problem in caught.value.problems} == {"/a", "/b", "/c"}
    assert not caught.value.retryable
    with pytest.raises(InvalidInput, match="not an object"):
        bind(step, 3)


def test_handlers_carry_what_they_declare() -> None:
    """Context, asynchrony, version and import path are read from the function."""
    app = App()

    @app.step(retry=3, timeout_s=2, effect="pure", on_unknown="ask", isolation="process")
    async def work(context: Any, n: int = 2) -> int:
        """Do work.

        More about it.
        """
        return n

    handler = app.catalog().handlers["work"]
    assert (handler.wants_ctx, handler.is_async, handler.effect, handler.deterministic) == (True, True, "pure", True)
    assert handler.retry is not None and handler.retry.attempts == 3
    assert handler.description == "Do work."
    assert handler.version.startswith("sha256:")
    assert handler.target == ""
    assert handler.schema == {"type": "object", "properties": {"n": {"type": "integer", "default": 2}}}


def test_a_tool_is_described_by_its_signature_and_docstring() -> None:
    """Types, defaults and the descriptions under `Args:` make the schema; unknown arguments are refused."""
    app = App()

    @app.tool(effect="idempotent")
    def search(q: str, page: Page, order: Order | None = None, *, k: int = 3, idempotency_key: str) -> list[str]:
        """Find pages.

        Args:
            q: What to
                look for.
            k (int): How many.

        Returns:
            Pages: many.
        """
        return [q] * k

    tool = app.catalog().tools["search"]
    assert (tool.description, tool.effect, tool.on_unknown) == ("Find pages.", "idempotent", "retry")
    assert tool.schema is not None
    assert tool.schema["required"] == ["q", "page"]
    assert tool.schema["additionalProperties"] is False
    assert tool.schema["properties"]["q"] == {"type": "string", "description": "What to look for."}
    assert tool.schema["properties"]["k"] == {"type": "integer", "default": 3, "description": "How many."}
    assert "idempotency_key" not in tool.schema["properties"]
    assert "Order" in tool.schema["$defs"]
    args = {"q": "a", "page": {"url": "u"}}
    assert tool.bind(args, CallInfo(key="KEY")) == ([], {"q": "a", "page": Page(url="u"), "idempotency_key": "KEY"})
    with pytest.raises(InvalidInput) as caught:
        tool.bind({**args, "kk": 1}, CallInfo(key="KEY"))
    assert [problem.place for problem in caught.value.problems] == ["/kk"]


def test_an_undeclared_tool_has_an_effect_and_a_person_is_asked() -> None:
    """The careful reading is the default; a struct parameter is a field like any other."""
    app = App()

    @app.tool
    def send(order: Order) -> None: ...

    tool = app.catalog().tools["send"]
    assert (tool.effect, tool.on_unknown) == ("effect", "ask")
    assert tool.bind({"order": {"id": 1}}, "") == ([], {"order": Order(1)})


def test_bad_signatures_are_refused_with_every_problem() -> None:
    """Types without a JSON form, unnamed values and names that do not exist are found at registration."""
    app = App()

    class Custom:
        pass

    def step(*values: int, a, b: complex) -> None: ...
    def unresolved(a: Any) -> None: ...

    step.__annotations__["a"] = Custom
    unresolved.__annotations__["a"] = "Nope"
    with pytest.raises(InvalidGraph) as caught:
        app.step(step)
    assert [problem.place for problem in caught.value.problems] == ["step(values)", "step(a)", "step(b)"]
    with pytest.raises(InvalidGraph, match="Nope"):
        app.step(unresolved)

    def generator(n: int) -> Any:
        yield n

    with pytest.raises(InvalidGraph, match="generator"):
        app.step(generator)

    def tool(ctx: Any, a: int) -> None: ...

    with pytest.raises(InvalidGraph, match="idempotency_key"):
        app.tool(tool)


def test_names_are_unique_and_lambdas_need_one() -> None:
    """The same function may be registered again; another one of that name may not."""
    app = App()

    def step() -> None: ...

    app.step(step)
    app.step(step)
    with pytest.raises(InvalidGraph, match="already has a step"):
        app.step(name="step")(lambda: None)
    with pytest.raises(InvalidGraph, match="no name"):
        app.step(lambda: None)
    app.status_hook("h")(step)
    with pytest.raises(InvalidGraph, match="status hook"):
        app.status_hook("h")(step)


def test_predicates_take_variables_by_name_or_all_at_once() -> None:
    """Both forms answer from a condition's variables; anything else is refused."""
    app = App()
    app.predicate(name="by_name")(lambda output, input: output > input)
    app.predicate(name="all")(lambda values: values["output"] > 1)
    found = app.catalog().predicates
    assert found["by_name"]({"output": 2, "input": 1, "nodes": {}, "run": {}}) is True
    assert found["all"]({"output": 1}) is False

    async def slow(output: int) -> bool:
        return True

    with pytest.raises(InvalidGraph, match="asynchronous"):
        app.predicate(slow)
    with pytest.raises(InvalidGraph, match="no variable"):
        app.predicate(name="bad")(lambda output, what: True)
    with pytest.raises(InvalidGraph, match="already has a predicate"):
        app.predicate(name="all")(slow)
