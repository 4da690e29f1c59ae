"""Turns ordinary typed functions into handlers: how they are called is read from their signature, once."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any, cast

import msgspec

from tenuto.domain.base.values import blob_digest
from tenuto.errors import InvalidGraph, InvalidInput, Problem
from tenuto.runtime.tools.catalog import Arguments, Bind, CallInfo
from tenuto.sdk.types import describe_types, reader_of, schema_of_type, takes_whole_input

_CONTEXT_NAMES = ("ctx", "context")
KEY_NAME = "idempotency_key"
"""The parameter of a tool that gets the key of the call."""
_POSITIONAL = inspect.Parameter.POSITIONAL_ONLY


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """One parameter that is filled from the input."""

    name: str
    annotation: Any
    read: Callable[[Any], Any]
    positional: bool
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """Return whether the input must have the field."""
        return self.default is inspect.Parameter.empty

    @property
    def shown_default(self) -> dict[str, Any]:
        """Return the default for a schema, when it is plain JSON."""
        plain = self.default is None or isinstance(self.default, str | int | float | bool)
        return {"default": self.default} if plain else {}


@dataclasses.dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes.

    Attributes:
        context: The first parameter, when it takes the context.
        wants_key: Whether a parameter takes the idempotency key.
        whole: Whether the only parameter takes the input as it is.
        rest: Whether the function takes further fields of the input by name.
    """

    slots: tuple[Slot, ...]
    context: str
    whole: bool
    rest: bool
    is_async: bool
    wants_key: bool = False


def read_signature(fn: Callable[..., Any], name: str, *, tool: bool = False) -> Signature:
    """Return how a function is to be called.

    Raises:
        InvalidGraph: It cannot be called with a JSON input; `problems` names every parameter at fault.
    """
    problems: list[Problem] = []
    call = fn if inspect.isroutine(fn) or inspect.isclass(fn) else getattr(fn, "__call__", fn)  # noqa: B004
    if inspect.isasyncgenfunction(call) or inspect.isgeneratorfunction(call):
        problems.append(_problem(name, "", "is a generator; a step returns one value"))
    hints = _hints(call, name, problems)
    slots: list[Slot] = []
    context, rest, wants_key = "", False, False
    for at, parameter in enumerate(inspect.signature(fn).parameters.values()):
        hint = hints.get(parameter.name, Any)
        if at == 0 and _is_context(parameter, hint):
            context = parameter.name
            if tool:
                message = f"is a context, which a tool does not get; a parameter {KEY_NAME!r} gets the call's key"
                problems.append(_problem(name, parameter.name, message))
        elif tool and parameter.name == KEY_NAME:
            wants_key = True
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            rest = True
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            problems.append(_problem(name, parameter.name, "takes any number of values; fields of an input have names"))
        else:
            slots.append(_slot(parameter, hint, name, problems))
    if problems:
        raise InvalidGraph(f"the function {name!r} cannot be a step or a tool", problems=tuple(problems))
    whole = len(slots) == 1 and not rest and takes_whole_input(slots[0].annotation)
    is_async = inspect.iscoroutinefunction(call)
    return Signature(tuple(slots), context, whole, rest, is_async, wants_key)


def _hints(call: Any, name: str, problems: list[Problem]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(call, include_extras=True)
    except NameError as error:
        missing = error.name or str(error)
        if missing == "Context":
            return _hints_by_name(call)
        problems.append(_problem(name, "", f"has an annotation that cannot be resolved: {missing!r}"))
    except TypeError as error:
        problems.append(_problem(name, "", f"has an annotation that cannot be read: {error}"))
    return {}


def _hints_by_name(call: Any) -> dict[str, Any]:
    """Resolve the annotations of a module that imports `Context` for type checking only."""
    names = {"Context": Any}
    return typing.get_type_hints(call, localns=names, include_extras=True)


def _is_context(parameter: inspect.Parameter, hint: Any) -> bool:
    return parameter.name in _CONTEXT_NAMES or getattr(hint, "__name__", "") == "Context"


def _slot(parameter: inspect.Parameter, hint: Any, name: str, problems: list[Problem]) -> Slot:
    def anything(value: Any) -> Any:
        return value

    read = anything
    try:
        read = reader_of(hint)
    except TypeError as error:
        problems.append(_problem(name, parameter.name, f"has a type that cannot be read from JSON: {error}"))
    return Slot(parameter.name, hint, read, parameter.kind is _POSITIONAL, parameter.default)


def _problem(name: str, parameter: str, message: str) -> Problem:
    place = f"{name}({parameter})" if parameter else name
    return Problem(place=place, message=message, code="function.signature")


# --- calling ---------------------------------------------------------------------------------------------------


def bind_step(signature: Signature, name: str) -> Bind:
    """Return what makes a handler's arguments from a context and an input."""

    def bind(ctx: Any, value: Any) -> Arguments:
        positional, named = _fill(signature, value, name, strict=False)
        return ([ctx, *positional] if signature.context else positional), named

    return bind


def bind_tool(signature: Signature, name: str) -> Bind:
    """Return what makes a tool's arguments from the caller's and the call's key; unknown ones are refused."""

    def bind(arguments: Any, info: CallInfo) -> Arguments:
        positional, named = _fill(signature, arguments, name, strict=True)
        return positional, ({**named, KEY_NAME: info.key} if signature.wants_key else named)

    return bind


def _fill(signature: Signature, value: Any, name: str, *, strict: bool) -> Arguments:
    positional: list[Any] = []
    named: dict[str, Any] = {}
    problems: list[Problem] = []
    for slot, given in _distribute(signature, value, problems, strict=strict):
        try:
            read = slot.read(given)
        except (msgspec.ValidationError, ValueError, TypeError) as error:
            problems.append(Problem(place=f"/{slot.name}", message=str(error), code="input.type"))
            continue
        if slot.positional:
            positional.append(read)
        else:
            named[slot.name] = read
    if problems:
        raise InvalidInput(f"the input does not fit {name!r}", problems=tuple(problems))
    if signature.rest and isinstance(value, dict):
        known = {slot.name for slot in signature.slots}
        named.update({key: item for key, item in cast("dict[str, Any]", value).items() if key not in known})
    return positional, named


def _distribute(
    signature: Signature, value: Any, problems: list[Problem], *, strict: bool
) -> list[tuple[Slot, Any]]:
    """Return each parameter that gets a value, with the value; note the parameters that miss one."""
    slots = signature.slots
    if not slots:
        return []
    alone = slots[0] if len(slots) == 1 and not signature.rest else None
    fields = cast("dict[str, Any]", value) if isinstance(value, dict) else None
    if not strict and alone is not None and (signature.whole or fields is None):
        return [(alone, value)] if value is not None or alone.required else []
    if not strict and alone is not None and fields is not None and alone.name not in fields and alone.annotation is Any:
        return [(alone, value)]
    if fields is None:
        fields = {}
        if any(slot.required for slot in slots):
            problems.append(Problem(place="", message="the input is not an object", code="input.type"))
            return []
    found: list[tuple[Slot, Any]] = []
    for slot in slots:
        if slot.name in fields:
            found.append((slot, fields[slot.name]))
        elif slot.required:
            has = ", ".join(sorted(fields)) or "nothing"
            message = f"{slot.name!r} is missing; the input has {has}"
            problems.append(Problem(place=f"/{slot.name}", message=message, code="input.missing"))
    extra = set(fields) - {slot.name for slot in slots} if strict and not signature.rest else set[str]()
    problems.extend(
        Problem(place=f"/{key}", message=f"{key!r} is not a parameter", code="input.unknown") for key in sorted(extra)
    )
    return found


# --- describing ------------------------------------------------------------------------------------------------


def schema_of(fn: Callable[..., Any], signature: Signature, *, closed: bool) -> dict[str, Any] | None:
    """Return the JSON Schema of a function's input, with the descriptions of its docstring.

    Args:
        closed: Whether fields without a parameter are refused; then every parameter is a field of its own.

    Returns:
        `None` when the function does not look at its input.
    """
    if signature.whole and not closed:
        return schema_of_type(signature.slots[0].annotation)
    if not signature.slots and not closed:
        return None
    schemas, definitions = describe_types([slot.annotation for slot in signature.slots])
    texts = parameter_texts(inspect.getdoc(fn) or "")
    properties: dict[str, Any] = {}
    for slot, schema in zip(signature.slots, schemas, strict=True):
        properties[slot.name] = {**schema, **slot.shown_default}
        if text := texts.get(slot.name):
            properties[slot.name]["description"] = text
    found: dict[str, Any] = {"type": "object", "properties": properties}
    if required := [slot.name for slot in signature.slots if slot.required]:
        found["required"] = required
    if closed and not signature.rest:
        found["additionalProperties"] = False
    if definitions:
        found["$defs"] = definitions
    return found


def summary_of(fn: Callable[..., Any]) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join((inspect.getdoc(fn) or "").partition("\n\n")[0].split())


def parameter_texts(doc: str) -> dict[str, str]:
    """Return the descriptions under `Args:` of a Google docstring, by parameter."""
    lines = doc.splitlines()
    start = next((at for at, line in enumerate(lines) if line.strip() in ("Args:", "Arguments:")), None)
    if start is None:
        return {}
    found: dict[str, str] = {}
    base, name = -1, ""
    for line in lines[start + 1 :]:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if not text:
            continue
        if indent == 0:
            break
        base = indent if base < 0 else base
        head, colon, tail = text.partition(":")
        if indent == base and colon:
            name = head.partition(" ")[0]
            found[name] = tail.strip()
        elif name:
            found[name] = f"{found[name]} {text}".strip()
    return found


def version_of(fn: Callable[..., Any]) -> str:
    """Return the digest of a function's source, so that a change of its code is a change of its version."""
    try:
        text = inspect.getsource(fn)
    except (OSError, TypeError):
        text = target_of(fn) or repr(type(fn))
    return blob_digest(text.encode())


def target_of(fn: Callable[..., Any]) -> str:
    """Return where another process can import a function from, or nothing when it is local to something."""
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", "")
    return f"{module}:{name}" if module and name and "<" not in name else ""
