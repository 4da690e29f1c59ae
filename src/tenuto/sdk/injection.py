"""Gives tool classes what their constructors ask for, by type; a provider can be replaced before anything is made."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

from tenuto.errors import InvalidGraph, Problem


class Providers:
    """What makes a dependency, by type; each is made once, when it is first needed."""

    def __init__(self) -> None:
        """Know no type yet."""
        self._factories: dict[Any, Callable[..., Any]] = {}
        self._made: dict[Any, Any] = {}

    def provide(self, kind: type[Any], factory: Callable[..., Any]) -> None:
        """Make a type with a factory, whose own parameters are provided in turn; an earlier one is replaced."""
        self._factories[kind] = factory
        self._made.clear()

    def get(self, kind: Any) -> Any:
        """Return the one instance of a type.

        Raises:
            InvalidGraph: Nothing provides it.
        """
        if kind not in self._made:
            if kind not in self._factories:
                raise _missing(kind, "a tool")
            self._made[kind] = self._call(self._factories[kind])
        return self._made[kind]

    def instance(self, tools: type[Any]) -> Any:
        """Return the one instance of a class of tools."""
        if tools not in self._made:
            self._made[tools] = self._call(tools)
        return self._made[tools]

    def check(self, tools: type[Any]) -> None:
        """Refuse a class that needs what nothing provides, or that needs itself in the end.

        Raises:
            InvalidGraph: Names the first such type.
        """
        self._check(tools, ())

    def _check(self, factory: Callable[..., Any], path: tuple[Any, ...]) -> None:
        for kind in _needs(factory).values():
            if kind not in self._factories:
                raise _missing(kind, _name(factory))
            if kind in path:
                raise InvalidGraph(f"what is provided for {_name(kind)} needs {_name(kind)} itself")
            self._check(self._factories[kind], (*path, kind))

    def _call(self, factory: Callable[..., Any]) -> Any:
        return factory(**{name: self.get(kind) for name, kind in _needs(factory).items()})


def methods_of(tools: type[Any], providers: Providers) -> dict[str, Callable[..., Any]]:
    """Return the public methods of a class as functions that make the instance when they are first called."""
    found: dict[str, Callable[..., Any]] = {}
    for name, method in inspect.getmembers(tools, inspect.isfunction):
        if not name.startswith("_"):
            found[name] = _function(tools, name, method, providers)
    return found


def _function(tools: type[Any], name: str, method: Callable[..., Any], providers: Providers) -> Callable[..., Any]:
    @functools.wraps(method)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        return await getattr(providers.instance(tools), name)(*args, **kwargs)

    @functools.wraps(method)
    def call_plain(*args: Any, **kwargs: Any) -> Any:
        return getattr(providers.instance(tools), name)(*args, **kwargs)

    call: Any = call_async if inspect.iscoroutinefunction(method) else call_plain
    signature = inspect.signature(method)
    call.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
    return call


def _needs(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return the parameters a factory must be given, with their types."""
    target = getattr(factory, "__init__", factory) if inspect.isclass(factory) else factory
    try:
        parameters, hints = inspect.signature(factory).parameters, typing.get_type_hints(target)
    except (TypeError, ValueError):
        return {}
    return {
        name: hints.get(name, Any)
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _missing(kind: Any, who: str) -> InvalidGraph:
    problem = Problem(
        place=who, message=f"needs a {_name(kind)}, and nothing provides one",
        hint=f"say app.provide({_name(kind)}, …)", code="app.provider",
    )
    return InvalidGraph(f"{who} cannot be made", problems=(problem,))
