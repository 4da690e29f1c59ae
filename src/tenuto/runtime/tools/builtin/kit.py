"""What the built-in tools work with, and how one is declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenuto.domain.graph.model import Effect
from tenuto.errors import Permanent
from tenuto.ports.knowledge import Knowledge
from tenuto.ports.model import Model
from tenuto.ports.objects import Objects
from tenuto.runtime.artifacts import Shelf
from tenuto.runtime.tools.catalog import Arguments, CallInfo, Tool
from tenuto.runtime.tools.http import HttpPolicy
from tenuto.runtime.tools.mail import MailServer as MailServer
from tenuto.runtime.tools.tool import Later
from tenuto.runtime.tools.workspace import Workspaces

VERSION = "builtin:1"


class ToolNotSetUp(Permanent):
    """The tool is there, but a setting it needs is missing or switches it off."""

    code = "tool.not_set_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket that may be written to.

    Attributes:
        name: Of the bucket, as its server has it.
        prefixes: Directories that may be written to; empty allows all.
        max_bytes: Longest object.
    """

    name: str
    objects: Objects
    prefixes: tuple[str, ...] = ()
    max_bytes: int = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageServer:
    """A server that speaks ComfyUI's protocol."""

    url: str
    checkpoint: str
    poll_s: float = 1.0
    timeout_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonLimits:
    """What one program of the tool `python` may take."""

    timeout_s: float = 10.0
    memory_mb: int = 256
    output_bytes: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What the tools are given by whoever wires them up.

    Attributes:
        slack: Name of a destination -> environment variable that holds the address of its webhook.
        buckets: Name of a destination -> the bucket.
        shelf: The artifacts of the installation; whoever starts the tools puts them here.
        local_llm: Model of the tool of that name; empty switches it off.
        model: Returns the model of a `provider:model` name.
    """

    workspaces: Workspaces = field(default_factory=lambda: Workspaces(root=Path(".tenuto/workspaces")))
    http: HttpPolicy = field(default_factory=HttpPolicy)
    knowledge: Knowledge | None = None
    mail: MailServer | None = None
    slack: Mapping[str, str] = field(default_factory=dict[str, str])
    buckets: Mapping[str, Bucket] = field(default_factory=dict[str, Bucket])
    shelf: Shelf | None = None
    local_llm: str = ""
    model: Callable[[str], Model] | None = None
    images: ImageServer | None = None
    python: PythonLimits | None = None


Declared = Callable[[Kit], Tool]


def declare(
    fn: Callable[..., Any], name: str, description: str, properties: Mapping[str, Any], *, required: tuple[str, ...] = (),
    effect: Effect = "idempotent", on_unknown: str = "retry", is_async: bool = True, timeout_s: float | None = None,
    status: Callable[..., Any] | None = None, bound: Callable[..., Any] | None = None,
    later: Callable[[Kit], Later] | None = None,
) -> Declared:
    """Return a tool that waits for its kit.

    Args:
        fn: Takes kit, call and the arguments by name; runs on a thread unless it `is_async`.
        properties: JSON Schema of each argument.
        status: Takes the same and says what became of a call whose outcome was lost; see `Tool`.
        bound: Takes the same and says what the call may use at most; see `Tool`.
        later: Says how the result is waited for where `fn` only begins a job; see `Tool`.
    """
    schema: dict[str, Any] = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    if required:
        schema["required"] = list(required)

    def made(kit: Kit) -> Tool:
        def bind(arguments: Any, info: CallInfo) -> Arguments:
            return [kit, info], dict(arguments)

        return Tool(
            name=name, fn=fn, bind=bind, schema=schema, description=description, effect=effect, on_unknown=on_unknown,
            is_async=is_async, version=VERSION, timeout_s=timeout_s, status=status, bound=bound,
            later=later(kit) if later is not None else None,
        )

    return made


def text(description: str, **more: Any) -> dict[str, Any]:
    """Return the schema of a text."""
    return {"type": "string", "description": description, **more}


def whole(description: str, low: int, high: int, **more: Any) -> dict[str, Any]:
    """Return the schema of a whole number in a range, ends included."""
    return {"type": "integer", "description": description, "minimum": low, "maximum": high, **more}
