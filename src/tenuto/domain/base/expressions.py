"""Conditions and transforms: CEL, compiled once, typed where it can be, never silently false.

The library behind is wrapped whole: it returns run-time errors as values (a truthy text for a missing key),
cuts texts at a NUL, and gives maps back in an order that changes from process to process. None of that gets
out of here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, cast

import msgspec
from cel_expr_python import cel
from cel_expr_python.ext import ext_math, ext_optional, ext_strings

from tenuto.domain.base import expression_faults as faults
from tenuto.domain.base.expression_loops import Loop, loop_of
from tenuto.domain.base.expression_text import Reads, reads_of, without_dollar
from tenuto.domain.base.expression_values import to_json, trim, wanted_of
from tenuto.errors import Invalid, Permanent

CONDITION_VARIABLES = ("input", "output", "nodes", "run", "item", "index", "iteration", "error", "ctx")
"""`ctx.x` is short for `nodes.x.output`."""

MAX_LENGTH = 8192
_CACHED = 4096
_STRING = cel.Type.STRING
_NO_JSON = ("BYTES", "TIMESTAMP", "DURATION", "TYPE", "optional_type", "UNKNOWN")
_encode = msgspec.json.Encoder().encode
_NUL = b"\\u0000"
_SHORT, _LONGEST = 256, 100_000
_MAX_OUTER_BYTES = 4096


class ExpressionError(Invalid):
    """An expression cannot be compiled; the text shows where and what is allowed."""

    code = "expression.invalid"


class ExpressionFailed(Permanent):
    """An expression has no value for the data it met; the text says why."""

    code = "expression.no_value"


class Expression:
    """A compiled expression: the same bindings always give the same value, and nothing else is touched.

    Attributes:
        text: As the author wrote it.
        reads: The variables it may read; of `nodes` only the nodes it names, as `nodes.<id>`, or `nodes`
            alone when it may read any.
        is_condition: Whether its value must be true or false.
    """

    __slots__ = ("_compiled", "_path", "_wanted", "is_condition", "reads", "text")

    def __init__(self, text: str, compiled: cel.Expression, reads: Reads, *, is_condition: bool) -> None:
        self.text = text
        self.is_condition = is_condition
        self.reads = _names(reads)
        self._compiled = compiled
        self._wanted = wanted_of(reads.paths)
        self._path = reads.paths[0] if reads.is_path else ()

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def evaluate(self, bindings: Mapping[str, Any]) -> Any:
        """Return the value for these bindings, as JSON: exact numbers, maps with sorted keys.

        Only what the expression reads is looked at, so large values beside it cost nothing.

        Args:
            bindings: Variables that have a value here; one that is absent fails only when it is needed.

        Raises:
            ExpressionFailed: A key is missing, types do not fit, a condition is not true or false, the value
                has no JSON form, or it took too many loop iterations.
        """
        data = self._data(bindings)
        if self._path:
            return self._checked(self._select(data))
        try:
            if _NUL in _encode(data):
                faults.refuse_nul(data)
            result = self._compiled.eval(data=data)
            plain: Any = result.plain_value()
        except (RuntimeError, TypeError, ValueError, RecursionError, OverflowError) as error:
            raise ExpressionFailed(faults.of_exception(error)) from error
        if plain is True or plain is False or plain is None:
            return self._checked(plain)
        if isinstance(plain, str) and result.type() != _STRING:
            raise ExpressionFailed(faults.of_value(plain, data, self._wanted))
        if self.is_condition:
            return self._checked(plain)
        try:
            return to_json(plain)
        except ValueError as error:
            raise ExpressionFailed(str(error)) from error

    def _data(self, bindings: Mapping[str, Any]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for name, inner in self._wanted.items():
            if name in bindings:
                value = bindings[name]
            elif name == "ctx":
                value = _context(bindings.get("nodes"))
            else:
                continue
            data[name] = trim(value, inner) if inner else value
        return data

    def _select(self, data: dict[str, Any]) -> Any:
        """Return the value of an expression that is a mere path, untouched by the library's conversions."""
        value: Any = data
        for depth, key in enumerate(self._path):
            if not isinstance(value, dict) or key not in value:
                raise ExpressionFailed(faults.missing(self._path, depth, value))
            value = cast("dict[str, Any]", value)[key]
        return value

    def _checked(self, value: Any) -> Any:
        if self.is_condition and value is not True and value is not False:
            raise ExpressionFailed(faults.not_bool(value))
        return value


class _Loop(Expression):
    """A transform that is one loop: the same value as any other expression, in linear time for long lists."""

    __slots__ = ("_body", "_guard", "_name", "_source")

    def __init__(self, whole: Expression, loop: Loop, variables: tuple[str, ...]) -> None:
        self.text, self.is_condition, self.reads = whole.text, False, whole.reads
        self._compiled, self._wanted, self._path = whole._compiled, whole._wanted, ()
        inner = (*variables, loop.name)
        self._name = loop.name
        self._source = _compile(loop.source, variables, False)
        self._guard = _compile(loop.guard, inner, True) if loop.guard else None
        self._body = _compile(loop.body, inner, False) if loop.body else None

    def evaluate(self, bindings: Mapping[str, Any]) -> Any:
        """Return what the library would return, were it not for its limits."""
        elements = self._elements(bindings)
        if elements is None:
            return super().evaluate(bindings)
        scope, found = dict(bindings), list[Any]()
        for index, element in enumerate(elements):
            scope[self._name] = element
            try:
                if self._guard is None or self._guard.evaluate(scope):
                    found.append(element if self._body is None else self._body.evaluate(scope))
            except ExpressionFailed as failed:
                raise ExpressionFailed(f"element {index}: {failed.message}") from failed
        return found

    def _elements(self, bindings: Mapping[str, Any]) -> list[Any] | None:
        """Return the list to loop over here, or `None` when the library does it as well or better."""
        try:
            elements = self._source.evaluate(bindings)
        except ExpressionFailed:
            return None
        if not isinstance(elements, list) or not _SHORT < len(cast("list[Any]", elements)) <= _LONGEST:
            return None
        for part in (self._guard, self._body):
            if part is not None and len(_encode(part._data(bindings))) > _MAX_OUTER_BYTES:
                return None  # converting the outer values for every element would cost more than it saves
        return cast("list[Any]", elements)


def compile_condition(text: str, *, variables: Collection[str] = CONDITION_VARIABLES) -> Expression:
    """Return an expression whose value is true or false.

    Raises:
        ExpressionError: It does not parse, names something undeclared, mixes types, or is of another type.
    """
    return _compile(text, tuple(variables), True)


def compile_value(text: str, *, variables: Collection[str] = CONDITION_VARIABLES) -> Expression:
    """Return an expression whose value is any JSON.

    Raises:
        ExpressionError: It does not parse, names something undeclared, mixes types, or its type is not JSON.
    """
    return _compile(text, tuple(variables), False)


@lru_cache(maxsize=_CACHED)
def _compile(text: str, variables: tuple[str, ...], is_condition: bool) -> Expression:
    what = "condition" if is_condition else "expression"
    if not text.strip():
        raise ExpressionError(f"the {what} is empty; write one, such as output.score > 5")
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the {what} has {len(text):,} characters; {MAX_LENGTH:,} are allowed")
    try:
        source = without_dollar(text)
        compiled = _environment(variables).compile(source)
    except (ValueError, RuntimeError) as error:
        raise ExpressionError(faults.of_compiler(error, text, variables)) from error
    kind = compiled.return_type().name()
    if is_condition and kind not in ("BOOL", "DYN"):
        raise ExpressionError(
            f"the condition is of type {kind.lower()}; it must be true or false, so compare it with something"
        )
    if kind.startswith(_NO_JSON):
        way = "end it with .orValue(...)" if kind.startswith("optional") else "convert it, as in string(...)"
        raise ExpressionError(f"the expression is of type {kind.lower()}, which JSON does not have; {way}")
    whole = Expression(text, compiled, reads_of(source, variables), is_condition=is_condition)
    loop = None if is_condition else loop_of(source)
    if loop is None or loop.name in variables:
        return whole
    try:
        return _Loop(whole, loop, variables)
    except ExpressionError:  # a part has a type that JSON lacks: fine inside, not between the parts
        return whole


@lru_cache(maxsize=64)
def _environment(variables: tuple[str, ...]) -> cel.Env:
    """Return the compiler; nothing in it depends on time, chance or the outside."""
    dyn = cel.Type.DYN
    keys = cel.Overload("keys_map", return_type=cel.Type.LIST, parameters=[dyn], impl=_keys)
    extensions = [
        ext_strings.ExtStrings(),
        ext_math.ExtMath(),
        ext_optional.ExtOptional(),
        cel.CelExtension("tenuto", [cel.FunctionDecl("keys", [keys])]),
    ]
    return cel.NewEnv(variables=dict.fromkeys(variables, dyn), extensions=extensions)


def _keys(value: Any) -> list[str]:
    """Return a map's keys in order: the library's own order changes from process to process."""
    if not isinstance(value, dict):
        raise ValueError(f"keys() takes an object, not {type(value).__name__}")
    return sorted(cast("dict[str, Any]", value))


def _names(reads: Reads) -> frozenset[str]:
    found: set[str] = set()
    for path in reads.paths:
        if path[0] not in ("nodes", "ctx"):
            found.add(path[0])
        elif len(path) == 1:
            found.add("nodes")
        else:
            found.add(f"nodes.{path[1]}")
    if "nodes" in found:
        found = {name for name in found if not name.startswith("nodes.")}
    return frozenset(found)


def _context(nodes: Any) -> dict[str, Any]:
    if not isinstance(nodes, dict):
        return {}
    members = cast("dict[str, Any]", nodes).items()
    return {name: node["output"] for name, node in members if isinstance(node, dict) and "output" in node}


__all__ = [
    "CONDITION_VARIABLES",
    "Expression",
    "ExpressionError",
    "ExpressionFailed",
    "compile_condition",
    "compile_value",
]
