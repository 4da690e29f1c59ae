"""Collects what a program offers — steps, tools, predicates, models, workflows — as a web framework's app does.

An app only remembers; nothing runs and nothing is stored until an engine is given its catalog.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, overload

import yaml

from tenuto.domain.graph.model import Definition, Effect, Retry
from tenuto.domain.graph.validate import load_definition, require_valid
from tenuto.errors import InvalidGraph, Problem, RunEnded
from tenuto.ports.providers import Providers as ModelProviders
from tenuto.runtime.services import documents
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.tools.builtin.kit import Kit
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.tools.openapi import Api, SpecInvalid, Terms, base_of, tools_of
from tenuto.runtime.tools.servers import McpServer
from tenuto.sdk.builder import Graph, Workflow
from tenuto.sdk.injection import Providers, methods_of
from tenuto.sdk.registry import Registry, taken
from tenuto.sdk.running import engine_of
from tenuto.settings import Settings
from tenuto.settings.money import Caps
from tenuto.wiring import WorkerOptions

FILES = (".json", ".yaml", ".yml")
F = TypeVar("F", bound=Callable[..., Any])


class App:
    """The definitions of one program."""

    def __init__(self, name: str = "app") -> None:
        """Start without any definitions."""
        self.name = name
        self._registry = Registry()
        self._builders: dict[str, Workflow] = {}
        self._definitions: dict[str, Definition] = {}
        self._providers = Providers()
        self._classes: list[type[Any]] = []

    # --- functions ---------------------------------------------------------------------------------------------

    @overload
    def step(self, fn: F, /) -> F: ...
    @overload
    def step(
        self, *, name: str = "", effect: Effect = "idempotent", retry: Retry | int | None = None,
        timeout_s: float | None = None, heartbeat_s: float | None = None, on_unknown: str = "",
        deterministic: bool = False, irreversible: bool = False,
        isolation: Literal["inline", "process"] = "inline", cache: str | dict[str, Any] | None = None,
        version: str = "",
    ) -> Callable[[F], F]: ...
    def step(self, fn: F | None = None, *, name: str = "", **options: Any) -> F | Callable[[F], F]:
        """Let nodes use a function. Its parameters are filled from the node's input, by name.

        A first parameter `ctx` gets the context. A single parameter of a struct, dataclass, typed dictionary or
        `dict` type gets the whole input; so does any single parameter when the input is not an object.

        Args:
            name: How nodes call it; the function's own name when not given. A name that ends in `.*` serves every
                name with that prefix.
            options: Defaults for nodes that do not say otherwise; `retry` is a policy or a number of attempts. `version`
                stands for the code in keys of the cache; without it that is a digest of the function's source.

        Raises:
            InvalidGraph: The function cannot be called with a JSON input, or the name is taken.
        """

        def register(function: F) -> F:
            self._registry.add_step(function, name, **options)
            return function

        return register if fn is None else register(fn)

    @overload
    def tool(self, fn: F, /) -> F: ...
    @overload
    def tool(
        self, *, name: str = "", effect: Effect = "effect", unknown: str = "", retry: Retry | int | None = None,
        timeout_s: float | None = None, deterministic: bool = False, irreversible: bool = False,
        description: str = "",
    ) -> Callable[[F], F]: ...
    def tool(self, fn: F | None = None, *, name: str = "", **options: Any) -> F | Callable[[F], F]:
        """Let agents and nodes call a function as a tool; models see its signature and docstring as a schema.

        A parameter `idempotency_key` gets the key of the call, the same however often it is tried.

        Args:
            name: How agents call it; the function's own name when not given.
            options: `unknown` says what to do with a call whose outcome was lost: `retry` with the same key, `ask`
                a person, or the name of a status hook. Calls with an effect are asked about, others retried.

        Raises:
            InvalidGraph: The function cannot be described, or the name is taken.
        """

        def register(function: F) -> F:
            self._registry.add_tool(function, name, **options)
            return function

        return register if fn is None else register(fn)

    @overload
    def predicate(self, fn: F, /) -> F: ...
    @overload
    def predicate(self, *, name: str = "") -> Callable[[F], F]: ...
    def predicate(self, fn: F | None = None, *, name: str = "") -> F | Callable[[F], F]:
        """Let conditions ask a function, as `py:NAME`. It returns true or false, and the answer is recorded.

        It takes variables of conditions (`input`, `output`, `nodes`, `run`) by name, or all of them in one
        parameter of another name.

        Raises:
            InvalidGraph: It takes something else, or the name is taken.
        """

        def register(function: F) -> F:
            self._registry.add_predicate(function, name)
            return function

        return register if fn is None else register(fn)

    def status_hook(self, name: str) -> Callable[[F], F]:
        """Let a function say what became of a call with a lost outcome, given the call's idempotency key.

        It returns `retry`, `failed`, or `("succeeded", result)`.

        Raises:
            InvalidGraph: The name is taken.
        """

        def register(function: F) -> F:
            if name in self._registry.hooks:
                raise taken(name, "status hook")
            self._registry.hooks[name] = function
            return function

        return register

    def model(self, name: str, model: Any) -> None:
        """Let agents use a model object under a name, such as `scripted:triage`."""
        self._registry.models[name] = model

    def provide(self, kind: type[Any], factory: Callable[..., Any]) -> None:
        """Say what makes a type that tool classes ask for; the last word counts, so that a test can replace any.

        The factory's own parameters are provided in turn, and one instance serves all who ask.
        """
        self._providers.provide(kind, factory)

    def tools(
        self, tools: type[Any], *, prefix: str = "", effect: Effect = "effect", unknown: str = "",
        effects: Mapping[str, Effect] | None = None,
    ) -> list[str]:
        """Let agents and nodes call the public methods of a class; returns the tools' names.

        Its constructor's parameters are provided by type, when a method is first called.

        Args:
            prefix: First part of the names, before a dot; none when empty.
            effects: Effect by method, where it is not `effect`.

        Raises:
            InvalidGraph: A method cannot be described, or a name is taken.
        """
        names: list[str] = []
        for name, method in methods_of(tools, self._providers).items():
            own: Effect = (effects or {}).get(name, effect)
            title = f"{prefix}.{name}" if prefix else name
            names.append(self._registry.add_tool(method, title, effect=own, unknown=unknown))
        self._classes.append(tools)
        return names

    # --- servers of tools ---------------------------------------------------------------------------------------

    def mcp(
        self, name: str, command: Sequence[str] | None = None, *, url: str = "",
        env_from: Mapping[str, str] | Sequence[str] = (), bearer_env: str = "",
        headers_from: Mapping[str, str] | None = None, tools: Sequence[str] = (), prefix: str = "",
        effect: Effect = "effect", unknown: str = "", read_only: Sequence[str] = (), **options: Any,
    ) -> None:
        """Let agents and nodes call the tools of an MCP server, as `NAME.TOOL`.

        The server is reached when a worker starts and whenever it is back; nothing is started here. Without a
        command and a URL the settings say where it is (`[mcp.NAME]`).

        Args:
            command: Program and arguments of a server that talks over stdio.
            url: Address of a server that talks over streamable HTTP; the operator's word, so any host may be named.
            env_from: Variables the server's process gets from this one: names, or its name -> the name here.
            bearer_env: Variable with the token that is sent.
            headers_from: Header -> variable with its value.
            tools: The tools that may be used; all when empty.
            prefix: First part of the tools' names here, instead of the server's name.
            effect: What a repeated call does, presumed to be an effect.
            unknown: What to do with a call whose outcome was lost: `retry`, `ask`, or the name of a status hook.
            read_only: Tools known to change nothing, which are retried like reads.
            options: `cwd`, `trust_hints`, `timeout_s`, `connect_s`, `check_s`, `max_bytes`.

        Raises:
            ServerInvalid: The declaration contradicts itself.
            InvalidGraph: The name is taken.
        """
        variables = env_from if isinstance(env_from, Mapping) else {item: item for item in env_from}
        self._registry.add_server(McpServer(
            name=name, command=tuple(command or ()), url=url, env_from=variables, bearer_env=bearer_env,
            headers_from=headers_from or {}, tools=tuple(tools), prefix=prefix, effect=effect, unknown=unknown,
            read_only=tuple(read_only), **options,
        ))

    def openapi(
        self, name: str, spec: Mapping[str, Any] | str | PathLike[str], *, base_url: str = "",
        operations: Sequence[str] = (), auth_env: str = "", **options: Any,
    ) -> list[str]:
        """Let agents and nodes call the operations of an API, as `NAME.operationId`; returns the tools' names.

        Reads are retried like reads; all else is an effect, sent with an `Idempotency-Key`. The API's own host may be
        any; a redirect to another is refused.

        Args:
            spec: An OpenAPI 3 document, or the path of one in JSON or YAML.
            base_url: Where the API is; the document's first server when empty.
            operations: Ids of the operations that may be called; all when empty.
            auth_env: Variable with the token or key that is sent.
            options: `auth_header` (default `Authorization`, as a bearer token), `headers`, `effects` by operation,
                `unknown`, `timeout_s`, `max_bytes`.

        Raises:
            SpecInvalid: The document cannot be read, or has no such operation.
            InvalidGraph: A name is taken.
        """
        document = spec if isinstance(spec, Mapping) else read_spec(Path(spec))
        terms = Terms(base_url=base_of(document, base_url), auth_env=auth_env, **options)
        made = tools_of(name, document, terms, operations)
        for tool in made:
            self._registry.take_tool(tool)
        names = [tool.name for tool in made]
        self._registry.add_api(Api(name, terms, tuple(names)))
        return names

    # --- workflows ---------------------------------------------------------------------------------------------

    def workflow(self, name: str, *, description: str = "") -> Workflow:
        """Start a workflow; it belongs to the app from now on and is checked when the catalog is made.

        Raises:
            InvalidGraph: The app has a workflow of that name.
        """
        self._check_free(name)
        builder = self._builders[name] = Workflow(name, self._registry, description)
        return builder

    def body(self) -> Graph:
        """Start a graph for the body of a map."""
        return Graph(self._registry)

    def register(
        self, definition: Definition | Mapping[str, Any] | str | bytes | PathLike[str], *, name: str | None = None
    ) -> Definition:
        """Add a workflow that exists as a definition, as data, as JSON or YAML text, or as a file of either.

        Args:
            definition: A text of one line that ends in `.json`, `.yaml` or `.yml` is the path of a file.

        Raises:
            InvalidGraph: With every problem, also when there is no such file.
        """
        names = self._registry
        if isinstance(definition, str | bytes | PathLike):
            definition = documents.text(_content(definition))
        if isinstance(definition, Definition):
            complete = require_valid(names.complete(definition), names.known())
        else:
            complete = load_definition(definition, names.known(), name=name, complete=names.complete)
        self._check_free(complete.name)
        self._definitions[complete.name] = complete
        return complete

    def catalog(self) -> Catalog:
        """Return everything the app offers, as it is now.

        Raises:
            InvalidGraph: A workflow is not valid; the problems of all workflows are there, places led by its name.
                Or nothing provides what a class of tools asks for.
        """
        for tools in self._classes:
            self._providers.check(tools)
        built: list[Definition] = []
        problems: list[Problem] = []
        for name, builder in self._builders.items():
            try:
                built.append(builder.build())
            except InvalidGraph as error:
                problems += [
                    Problem(place=f"{name}:{p.place}", message=p.message, hint=p.hint, code=p.code)
                    for p in error.problems
                ]
        if problems:
            raise InvalidGraph(f"the app {self.name!r} has workflows that are not valid", problems=tuple(problems))
        return self._registry.catalog((*built, *self._definitions.values()))

    # --- running -----------------------------------------------------------------------------------------------

    def engine(
        self, url: str | None = None, *, worker: bool = True, options: WorkerOptions | None = None, ns: str = "default",
        kit: Kit | None = None, providers: ModelProviders | None = None, caps: Caps | None = None,
        project_caps: Mapping[str, Caps] | None = None, settings: Settings | None = None,
    ) -> AbstractAsyncContextManager[Engine]:
        """Return an engine on a store for as long as an `async with` block lasts.

        Args:
            url: `sqlite:///path.db`, `postgresql://user@host/db` or `memory:`; `None` is `.tenuto/tenuto.db`.
            worker: Whether this process also does the work; `False` leaves it to `tenuto worker` processes.
            kit: What the built-in tools work with; `None` is files below `.tenuto` and public addresses.
            providers: Of models, with their prices; `None` is those that need no more than a key in the environment.
                Their limits of concurrent calls hold over all workers of the store.
            caps: What all runs of the namespace may spend together, as settings under `[caps]` would say.
            project_caps: The same of runs labelled `project=NAME`, by name. Where one of the two is given, caps of
                earlier settings that are not among them are removed; without either all caps stay as they are.
            settings: From `tenuto.settings.load()`: the engine works as `tenuto serve` does under them, store, tools,
                models, money, encryption and telemetry alike, except for what the other arguments say.

        Raises:
            InvalidGraph: A workflow of the app is not valid.
            InvalidSettings: A cap is no amount, or settings contradict each other; told when the block begins.
        """
        return engine_of(
            self.catalog(), url, worker=worker, options=options, ns=ns, kit=kit, providers=providers, caps=caps,
            project_caps=project_caps, settings=settings,
        )

    async def run(self, workflow: str | Definition, input: Any = None, *, url: str | None = None, **options: Any) -> Any:
        """Run a workflow to its end in this process and return its output, the outputs of its last nodes by id.

        Raises:
            RunEnded: The run did not complete; names the run and the reason.
        """
        async with self.engine(url) as engine:
            outcome = await engine.runs.execute(workflow, input, **options)
        if outcome.status != "completed":
            why = outcome.error.message if outcome.error is not None else "no reason was recorded"
            raise RunEnded(f"run {outcome.id} ended as {outcome.status}: {why}", run=outcome.id, status=outcome.status)
        return outcome.output

    def _check_free(self, name: str) -> None:
        if name in self._builders or name in self._definitions:
            raise taken(name, "workflow")


def read_spec(path: Path) -> Mapping[str, Any]:
    """Return the document in a file of JSON or YAML.

    Raises:
        SpecInvalid: It cannot be read.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise SpecInvalid(f"the OpenAPI document {str(path)!r} cannot be read: {exc}") from exc
    if not isinstance(found, dict):
        raise SpecInvalid(f"the OpenAPI document {str(path)!r} is no object")
    return cast("dict[str, Any]", found)


def _content(definition: str | bytes | PathLike[str]) -> str | bytes:
    """Return the text of a definition: itself, or what is in the file it names."""
    is_path = isinstance(definition, PathLike) or (
        isinstance(definition, str) and "\n" not in definition and definition.strip().endswith(FILES)
    )
    if not is_path:
        return cast("str | bytes", definition)
    path = Path(cast("str", definition))
    try:
        return path.read_bytes()
    except OSError as exc:
        problem = Problem(place=str(path), message=f"cannot be read: {exc.strerror}", code="graph.file")
        raise InvalidGraph(f"the workflow definition {str(path)!r} cannot be read", problems=(problem,)) from exc
