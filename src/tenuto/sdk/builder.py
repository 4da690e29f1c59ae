"""Builds a workflow in Python: the same canonical definition that JSON and YAML files give.

A builder only writes down what is asked of it; `build` reads and checks the whole, so every fault is reported at
once. Methods return the builder, so calls can be chained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, cast

import msgspec

from tenuto.domain.graph.kinds import KINDS, PATTERNS
from tenuto.domain.graph.model import Definition, EdgeOn, Effect, OnError, Retry
from tenuto.domain.graph.validate import load_definition
from tenuto.sdk.registry import Registry
from tenuto.sdk.types import schema_of_type

if TYPE_CHECKING:
    from typing import Self

Function = Callable[..., Any]


class CommonOptions(TypedDict, total=False):
    """What every node may be given; see `Node` for the meaning."""

    after: str | Iterable[str]
    input: Any
    retry: Retry | int | dict[str, Any]
    heartbeat_s: float
    on_error: str | OnError | dict[str, Any]
    join: Literal["all", "any"] | int | dict[str, int]
    cancel_losers: bool
    route: Literal["all", "first"]
    effect: Effect
    on_unknown: str
    isolation: Literal["inline", "process"]
    deterministic: bool
    irreversible: bool
    cache: str | dict[str, Any]
    resources: list[Any]
    output_schema: dict[str, Any] | type
    description: str


class NodeOptions(CommonOptions, total=False):
    """What nodes that do work may be given; `timeout_s` limits one attempt."""

    timeout_s: float


class AgentOptions(NodeOptions, total=False):
    """What an agent may be given besides the options of every node; see the reference of definitions.

    Attributes:
        agents: Agents inside the node, by name; others ask them as tools, or hand over to them.
        handoffs: Those of them that the conversation may be handed to.
        limits: Where its work ends by itself: `rounds`, `tool_calls`, `bad_calls`, `depth`, `children`, ….
        corrections: Times a model is told what was wrong with its structured answer.
        model_retries: Times a request is made again after a failure that passes.
        verify: Criteria that a model judges the output by before it counts.
        knowledge: Whether findings are extracted from the output, and shown from earlier steps.
        context: Results of the steps before that stand in the prompt.
        routing: What a model is chosen by where none is named.
        judge: Who merges a swarm's branches, for `reduce` and `best`.
        options: Settings of the provider, passed on as they are.
    """

    agents: Mapping[str, Mapping[str, Any]]
    handoffs: Iterable[str]
    limits: Mapping[str, int]
    corrections: int
    model_retries: int
    verify: Mapping[str, Any]
    knowledge: Mapping[str, Any]
    context: str | Mapping[str, int]
    routing: Mapping[str, str]
    judge: Mapping[str, str]
    options: Mapping[str, Any]


_AGENT_OPTIONS = frozenset((AgentOptions.__required_keys__ | AgentOptions.__optional_keys__)
                           - NodeOptions.__required_keys__ - NodeOptions.__optional_keys__)
_NODE_OPTIONS = frozenset(NodeOptions.__required_keys__ | NodeOptions.__optional_keys__)


class Graph:
    """The nodes and edges of one level: a workflow, or the body of a map."""

    def __init__(self, registry: Registry) -> None:
        """Start empty; functions get their names from the app the graph belongs to."""
        self._registry = registry
        self._nodes: list[dict[str, Any]] = []
        self._edges: list[dict[str, Any]] = []
        self._last = ""

    def node(self, id: str, what: Function | str, **config: Any) -> Self:
        """Add a node of any kind.

        Args:
            what: A kind such as `"http"`, or the function or handler's name that does the work.
            config: Fields of the node and of its kind's config, by name; `after` names nodes to draw edges from.
        """
        options: dict[str, Any] = {key: value for key, value in config.items() if key in _NODE_OPTIONS}
        settings = {key: value for key, value in config.items() if key not in _NODE_OPTIONS}
        kind = "function"
        if callable(what):
            settings["handler"] = self._registry.step_name(what)
        elif what in KINDS or what in PATTERNS:
            kind = what
        else:
            settings["handler"] = what
        return self._add(id, kind, options, **settings)

    def step(self, fn: Function | str, *, id: str = "", **options: Unpack[NodeOptions]) -> Self:
        """Add a function; its id is the function's name unless another is given."""
        name = fn if isinstance(fn, str) else self._registry.step_name(fn)
        return self._add(id or name.replace(".", "_"), "function", options, handler=name)

    def tool(
        self, tool: Function | str, *, id: str = "", args: Any = msgspec.UNSET, **options: Unpack[NodeOptions]
    ) -> Self:
        """Add one call of a registered tool."""
        name = tool if isinstance(tool, str) else self._registry.tool_name(tool)
        return self._add(id or name.replace(".", "_"), "function", options, tool=name, args=args)

    def agent(
        self, id: str, pattern: Literal["pipeline", "loop", "supervisor", "swarm"] = "pipeline", *,
        model: str | None = None, prompt: Any = None, system: str | None = None,
        tools: Iterable[Function | str | Mapping[str, str]] = (), n: int | None = None, merge: str | None = None,
        choices: Iterable[str] = (), max_rounds: int | None = None, max_tokens: int | None = None,
        schema: dict[str, Any] | type | None = None, **options: Unpack[AgentOptions],
    ) -> Self:
        """Add an agent.

        Args:
            tools: Tools it may call, and `{"agent": NAME}` for agents inside the node.
            n: Passes of a swarm.
            choices: Next nodes a supervisor may choose from; all of them when empty.
            schema: What its answer must fit: a JSON Schema or a type.
        """
        names = [self._registry.tool_name(tool) if callable(tool) else tool for tool in tools]
        shape = schema_of_type(schema) if isinstance(schema, type) else schema
        given = cast("dict[str, Any]", options)
        more = {name: value for name, value in given.items() if name in _AGENT_OPTIONS}
        rest = cast("NodeOptions", {name: value for name, value in given.items() if name not in _AGENT_OPTIONS})
        return self._add(
            id, "agent", rest, **more, pattern=pattern, model=model, prompt=prompt, system=system, tools=names or None, n=n,
            merge=merge, choices=list(choices) or None, max_rounds=max_rounds, max_tokens=max_tokens, schema=shape,
        )

    def http(
        self, id: str, url: str, *, method: str = "GET", headers: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None, body: Any = None, allow: Iterable[str] = (), expect_status: Any = None,
        **options: Unpack[NodeOptions],
    ) -> Self:
        """Add a request; URL, headers, query and body may hold references."""
        return self._add(
            id, "http", options, url=url, method=method, headers=headers and dict(headers), query=query and dict(query),
            body=body, allow=list(allow) or None, expect_status=expect_status,
        )

    def requests(
        self, id: str, requests: Iterable[Mapping[str, Any]], *, result: str = "", **options: Unpack[NodeOptions]
    ) -> Self:
        """Add a node that makes several requests, those that wait for nothing of each other at the same time.

        Args:
            requests: Each with an `id` and the fields of a node of kind `http`, and `after`, the ids of those it waits
                for; what it reads as `${requests.ID.body}` it waits for anyhow.
            result: The request whose answer is the node's output; the answers of all by id when empty.
        """
        return self._add(id, "http", options, requests=[dict(one) for one in requests], result=result or None)

    def transform(
        self, id: str, value: str | None = None, *, template: Any = None, **options: Unpack[NodeOptions]
    ) -> Self:
        """Add a computation: `value` is a CEL expression, `template` any JSON with references."""
        return self._add(id, "transform", options, value=value, template=template)

    def filter(self, id: str, over: Any, when: str, **options: Unpack[NodeOptions]) -> Self:
        """Add a node that keeps the items for which a CEL condition over `item` and `index` holds."""
        return self._add(id, "filter", options, over=over, when=when)

    def aggregate(
        self, id: str, over: Any, op: str, *, field: str | None = None, initial: Any = None,
        **options: Unpack[NodeOptions],
    ) -> Self:
        """Add a node that makes one value of a list."""
        return self._add(id, "aggregate", options, over=over, op=op, field=field, initial=initial)

    def approval(
        self, id: str, message: str = "", *, approvers: Iterable[str] = (), timeout_s: float | None = None,
        on_timeout: Literal["approve", "reject"] | dict[str, Any] | None = None, quorum: int | None = None,
        reject_quorum: int | None = None, not_requester: bool | None = None, schema: dict[str, Any] | None = None,
        **options: Unpack[CommonOptions],
    ) -> Self:
        """Add a question to people; `timeout_s` limits the wait for the answer.

        Args:
            approvers: Those who may answer, groups as `group:NAME`; empty is everybody.
            on_timeout: `approve`, `reject`, or `{"escalate": [NAMES]}` to ask others then.
            quorum: How many of them have to approve.
            reject_quorum: How many have to reject; 1 when not given.
            not_requester: Whoever started the run may not answer.
            schema: JSON Schema of the data that comes with an approval.
        """
        terms: dict[str, Any] = {
            "timeout_s": timeout_s, "quorum": quorum, "reject_quorum": reject_quorum, "not_requester": not_requester,
            "schema": schema,
        }
        return self._add(
            id, "approval", options, message=message or None, approvers=list(approvers) or None,
            on_timeout=on_timeout, **{name: value for name, value in terms.items() if value is not None},
        )

    def wait_signal(
        self, signal: str, *, id: str = "", timeout_s: float | None = None, **options: Unpack[CommonOptions]
    ) -> Self:
        """Add a wait for a signal; `timeout_s` limits it."""
        limit = {} if timeout_s is None else {"timeout_s": timeout_s}
        return self._add(id or signal.replace(".", "_"), "wait", options, signal=signal, **limit)

    def sleep(
        self, id: str, seconds: float | str | None = None, *, until: str | int | None = None,
        **options: Unpack[NodeOptions],
    ) -> Self:
        """Add a timer that survives restarts: for some seconds, or until a moment (RFC 3339 or ms since 1970)."""
        return self._add(id, "wait", options, seconds=seconds, until=until)

    def map(
        self, id: str, over: Any, body: Function | Graph | str | Mapping[str, Any], *, concurrency: int | None = None,
        on_failure: Literal["fail_fast", "collect"] | dict[str, int] | None = None, **options: Unpack[NodeOptions],
    ) -> Self:
        """Add a node that runs a body once for each item of a list, in order of the list.

        Args:
            body: A function, a handler's name, a graph made by `App.body`, or a definition of nodes and edges.
            concurrency: Items at the same time; no limit when not given.
            on_failure: `{"tolerate": n}` lets n items fail.
        """
        inner: Any = body
        if isinstance(body, Graph):
            inner = body.to_json()
        elif callable(body) or isinstance(body, str):
            handler = body if isinstance(body, str) else self._registry.step_name(body)
            inner = {"kind": "function", "config": {"handler": handler}}
        return self._add(id, "map", options, over=over, body=inner, concurrency=concurrency, on_failure=on_failure)

    def switch(self, id: str, **options: Unpack[NodeOptions]) -> Self:
        """Add a branch: of its edges in order, only the first whose condition holds is taken."""
        options.setdefault("route", "first")
        return self._add(id, "switch", options)

    def join(
        self, id: str, need: Literal["all", "any"] | int = "all", **options: Unpack[NodeOptions]
    ) -> Self:
        """Add a node that waits for all, any, or a number of the edges that lead to it."""
        options.setdefault("join", need)
        return self._add(id, "join", options)

    def subflow(
        self, id: str, workflow: str | Workflow, *, tag: str | None = None, version: str | None = None,
        detach: bool = False, budget: Mapping[str, Any] | None = None, **options: Unpack[NodeOptions],
    ) -> Self:
        """Add a run of another workflow, whose output is the node's."""
        name = workflow.name if isinstance(workflow, Workflow) else workflow
        return self._add(
            id, "subflow", options, workflow=name, tag=tag, version=version, detach=detach or None,
            budget=budget and dict(budget),
        )

    def edge(
        self, source: str, target: str, *, when: str | Function = "", on: EdgeOn = "success",
        max_iterations: int | None = None,
    ) -> Self:
        """Draw an edge.

        Args:
            when: A CEL condition, `py:NAME`, or a predicate function.
            max_iterations: Makes it the back edge of a loop with so many passes at most.
        """
        text = when if isinstance(when, str) else f"py:{self._registry.predicate_name(when)}"
        entry: dict[str, Any] = {"from": source, "to": target}
        if text:
            entry["when"] = text
        if on != "success":
            entry["on"] = on
        if max_iterations is not None:
            entry["max_iterations"] = max_iterations
        self._edges.append(entry)
        return self

    def then(
        self, what: Function | str, *, id: str = "", when: str | Function = "", on: EdgeOn = "success",
        **options: Unpack[NodeOptions],
    ) -> Self:
        """Draw an edge from the node added last to the next one and go on from there.

        Args:
            what: The id of a node that exists, or the function or handler's name of a new one.
        """
        before = self._last
        if isinstance(what, str) and not id and any(node["id"] == what for node in self._nodes):
            target = self._last = what
        else:
            self.step(what, id=id, **options)
            target = self._last
        return self.edge(before, target, when=when, on=on) if before else self

    def to_json(self) -> dict[str, Any]:
        """Return nodes and edges as written so far."""
        nodes = [{key: _plain(value) for key, value in node.items()} for node in self._nodes]
        return {"nodes": nodes, "edges": [dict(edge) for edge in self._edges]}

    def _add(self, id: str, kind: str, options: Any, /, **config: Any) -> Self:
        after = options.pop("after", ())
        settings = {key: value for key, value in config.items() if value is not None and value is not msgspec.UNSET}
        entry: dict[str, Any] = {"id": id, "kind": kind, **options}
        if isinstance(entry.get("output_schema"), type):
            entry["output_schema"] = schema_of_type(entry["output_schema"])
        if settings:
            entry["config"] = {key: _plain(value) for key, value in settings.items()}
        self._nodes.append(entry)
        for source in [after] if isinstance(after, str) else after:
            self.edge(source, id)
        self._last = id
        return self


class Workflow(Graph):
    """A workflow while it is being written."""

    def __init__(self, name: str, registry: Registry, description: str = "") -> None:
        """Start a workflow of an app; `App.workflow` does this."""
        super().__init__(registry)
        self.name = name
        self._top: dict[str, Any] = {"description": description} if description else {}

    def budget(
        self, *, tokens: int | None = None, tool_calls: int | None = None, per_tool: Mapping[str, int] | None = None,
        cost_usd: float | None = None, wall_clock_s: float | None = None,
    ) -> Self:
        """Cap every run; what would pass a cap is refused before it happens."""
        caps: dict[str, Any] = {
            "tokens": tokens, "tool_calls": tool_calls, "per_tool": per_tool and dict(per_tool), "cost_usd": cost_usd,
            "wall_clock_s": wall_clock_s,
        }
        self._top["budget"] = {key: value for key, value in caps.items() if value is not None}
        return self

    def patches(
        self, *, authors: Sequence[str] | None = None, approval: Sequence[str] | None = None, max_agents: int | None = None,
        max_nodes: int | None = None, max_patches: int | None = None,
    ) -> Self:
        """Say what patches may do to the graph of a run; what is left out is as the settings say.

        Args:
            authors: Who may propose: `agent`, `person`, `optimizer`.
            approval: Which patches wait for a person: `agent`, `person`, `optimizer`, `effects`, `agents`, `large` or `all`.
        """
        rules: dict[str, Any] = {
            "authors": authors and list(authors), "approval": None if approval is None else list(approval),
            "max_agents": max_agents, "max_nodes": max_nodes, "max_patches": max_patches,
        }
        self._top["patches"] = {name: value for name, value in rules.items() if value is not None}
        return self

    def limits(self, *, steps: int | None = None, children: int | None = None, depth: int | None = None) -> Self:
        """Ask a person whether a run is to go on at lower limits than those of the settings.

        Args:
            steps: Steps that begin, passes of loops and items of maps included.
            children: Sub-flows that the run starts.
            depth: How many runs may stand below each other.
        """
        limits = {"steps": steps, "children": children, "depth": depth}
        self._top["limits"] = {name: value for name, value in limits.items() if value is not None}
        return self

    def retry(self, attempts: int, **policy: Any) -> Self:
        """Send a run that failed round again by itself, from where it stands; `policy` as in `Retry`."""
        self._top["retry"] = {"attempts": attempts, **policy}
        return self

    def input_schema(self, schema: dict[str, Any] | type) -> Self:
        """Refuse runs whose input does not fit a JSON Schema, or a type."""
        self._top["input_schema"] = schema if isinstance(schema, dict) else schema_of_type(schema)
        return self

    def metadata(self, **values: Any) -> Self:
        """Keep facts about the workflow with it; they are part of its version."""
        self._top["metadata"] = {**self._top.get("metadata", {}), **_plain(values)}
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the document as written so far."""
        return {"name": self.name, **self._top, **super().to_json()}

    def build(self) -> Definition:
        """Return the definition.

        Raises:
            InvalidGraph: With every problem.
        """
        return load_definition(self.to_json(), self._registry.known(), complete=self._registry.complete)


def _plain(value: Any) -> Any:
    """Return structs as JSON data; leave everything else for the reader to judge."""
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("list[Any]", value)]
    return value
