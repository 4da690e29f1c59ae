"""The definition file, from the model and the table of kinds."""

from __future__ import annotations

import typing
from typing import Any

import msgspec

from scripts.docs_pages.markdown import code, opening, table
from tenuto.domain.graph import agents, model
from tenuto.domain.graph.kinds import AGGREGATES, CONFIG, REQUEST, ConfigRule

STRUCTS: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("Workflow", model.Definition),
    ("Node", model.Node),
    ("Edge", model.Edge),
    ("Retry", model.Retry),
    ("On error", model.OnError),
    ("Budget", model.Budget),
)
AGENTS: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("`limits`", agents.Limits),
    ("An agent in `agents`", agents.Helper),
    ("`routing`", agents.Routing),
    ("`verify`", agents.Verify),
    ("`knowledge`", agents.Knowledge),
    ("`context`", agents.Upstream),
    ("`judge`", agents.Judge),
)
PATTERNS = """
What the patterns do:

| pattern | does | output |
|---|---|---|
| `pipeline` | one model pass, when a model or prompt is set; when the model asks for no tools, the declared ones are then called in order, with `args` or what the input holds by name | `content`, `tools`, `data` |
| `loop` | the model decides: rounds of requests and tool calls until it answers; nothing is called for it | `content`, `tools`, `data` |
| `supervisor` | one decision among the next nodes, or `choices` | `decision`, `content`, `tools` |
| `swarm` | `n` conversations at once, merged: `collect` lists them, `vote` takes the commonest, `first` the first, `reduce` asks a model to make one of them, `best` lets a model pick | `branches`, `merged`, `tools`, `best` |

In every pattern a reply that asks for tools makes a round: its calls are made all at once, and their results go back in order.
The output then also says `rounds` and `calls`; with `partial: true` and a `reason` it was cut short by a limit.
"""
EXAMPLE = """
```yaml title="refund.yaml"
name: refund
input_schema:
  type: object
  properties: {order: {type: string}, amount: {type: number}}
  required: [order, amount]
nodes:
  - {id: size, kind: switch}
  - {id: ask, kind: approval, config: {message: "Refund ${input.amount}?"}}
  - id: pay
    kind: transform
    join: any
    config: {template: {order: "${input.order}", paid: "${input.amount}"}}
    retry: {attempts: 3}
edges:
  - {from: size, to: ask, when: "input.amount > 100"}
  - {from: size, to: pay, on: default}
  - {from: ask, to: pay}
budget: {wall_clock_s: 86400}
```
"""


def page() -> str:
    """Return the page."""
    text = opening(
        "Definition file",
        "tenuto/domain/graph",
        "JSON or YAML; the builder in Python makes the same.",
        "Unknown fields are refused with the nearest known one, and all faults are reported at once.",
        "`tenuto workflow validate FILE` checks a file, `publish` registers it, `run start FILE` runs it as it is.",
    )
    text += EXAMPLE
    for title, struct in STRUCTS:
        text += f"\n## {title}\n\n{summary(struct)}\n\n" + fields(struct)
    text += "\n## Kinds of nodes\n\nWhat stands in `config`; fields in bold are required, of fields joined by `/` exactly one is.\n\n"
    text += table(["kind", "config"], [(code(kind), _config(rule)) for kind, rule in CONFIG.items()])
    text += f"\nEach of the `requests` of an `http` node: {_config(ConfigRule(keys=REQUEST, required=('id', 'url')))}.\n"
    text += f"\n`op` of an aggregate: {', '.join(code(op) for op in AGGREGATES)}.\n"
    text += "\n## Agents\n" + PATTERNS
    for title, struct in AGENTS:
        text += f"\n### {title}\n\n{summary(struct)}\n\n" + fields(struct)
    return text


def summary(struct: type[msgspec.Struct]) -> str:
    """Return the first paragraph of a struct's docstring."""
    return " ".join((struct.__doc__ or "").partition("\n\n")[0].split())


def fields(struct: type[msgspec.Struct]) -> str:
    """Return a table of a struct's fields."""
    texts = attributes(struct.__doc__ or "")
    hints = typing.get_type_hints(struct)
    rows = [
        (
            code(field.encode_name),
            code(_type(hints[field.name])),
            _default(field),
            texts.get(field.name.rstrip("_"), ""),
        )
        for field in msgspec.structs.fields(struct)
    ]
    return table(["field", "type", "default", "meaning"], rows)


def attributes(doc: str) -> dict[str, str]:
    """Return what a docstring says under `Attributes:`, by name."""
    found: dict[str, str] = {}
    name = ""
    for line in doc.partition("Attributes:\n")[2].splitlines():
        indent = len(line) - len(line.lstrip())
        head, colon, rest = line.strip().partition(": ")
        if indent == 8 and colon:
            name = head
            found[name] = rest
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


def _default(field: Any) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return ""
    if field.default is msgspec.NODEFAULT:
        return "required"
    if field.default in (None, "", (), msgspec.UNSET):
        return ""
    return code(str(field.default).lower() if isinstance(field.default, bool) else str(field.default))


def _type(hint: Any) -> str:
    if hint is Any:
        return "any JSON"
    if isinstance(hint, type) and not typing.get_args(hint):
        names = {"str": "text", "bool": "true or false", "float": "number", "int": "integer", "NoneType": ""}
        return names.get(hint.__name__, hint.__name__)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(str(arg) for arg in args)
    if origin in (tuple, list):
        return f"list of {_type(args[0])}"
    if origin is dict:
        return "object"
    return " or ".join(word for word in (_type(arg) for arg in args) if word)


def _config(rule: ConfigRule) -> str:
    groups = {name: group for group in rule.one_of for name in group}
    shown: list[str] = []
    for name, kind in rule.keys.items():
        if name in groups:
            if groups[name][0] == name:
                shown.append("**" + " / ".join(code(other) for other in groups[name]) + "**")
            continue
        text = f"{code(name)} ({_type(kind)})"
        shown.append(f"**{text}**" if name in rule.required else text)
    return ", ".join(shown) or "none"
