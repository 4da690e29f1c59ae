"""Operations of an OpenAPI document as tools: one tool an operation, its arguments the operation's parameters and body.

Requests go through the guarded HTTP client to the one host the operator named, redirects included.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote, urlsplit

import msgspec

from tenuto.domain.base.nearest import did_you_mean
from tenuto.domain.graph.model import Effect
from tenuto.errors import Invalid, InvalidSettings, Problem
from tenuto.ports.services import Service
from tenuto.ports.tools import Condition, ToolFailed, ToolRefused
from tenuto.runtime.tools.addresses import HostUnknown
from tenuto.runtime.tools.http import PORTS, HttpFailed, HttpPolicy, request, status_of
from tenuto.runtime.tools.schemas import understood
from tenuto.runtime.tools.tool import Arguments, Tool

METHODS = ("get", "head", "put", "post", "delete", "patch")
READS = frozenset({"get", "head"})
SHOWN = 300
_SCHEMAS = "#/components/schemas/"
_OWN_HEADERS = frozenset({"accept", "content-type", "authorization", "idempotency-key"})
_PLACES = frozenset({"path", "query", "header"})

Document = Mapping[str, Any]


class SpecInvalid(Invalid):
    """An OpenAPI document, or an operation of it, cannot be made a tool."""

    code = "tools.spec_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How an API's operations are called. Secrets are names of environment variables, read at each call.

    Attributes:
        base_url: Where the API is; its host may be any, since the operator named it.
        auth_env: Variable with the token or key.
        auth_header: Header it goes into; in `Authorization` it is sent as a bearer token.
        effects: Effect by operation, where the method does not tell.
    """

    base_url: str
    auth_env: str = ""
    auth_header: str = "Authorization"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    effects: Mapping[str, Effect] = field(default_factory=dict[str, Effect])
    unknown: str = ""
    timeout_s: float = 30.0
    max_bytes: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Api:
    """An API whose operations are tools; it is looked at without making any of its calls.

    Attributes:
        tools: Names of its tools.
    """

    name: str
    terms: Terms
    tools: tuple[str, ...]

    @property
    def service(self) -> Service:
        """Return what it is, whatever its health."""
        base = urlsplit(self.terms.base_url)
        return Service(kind="openapi", name=self.name, place=f"{base.scheme}://{base.netloc}", tools=self.tools)

    async def look(self) -> tuple[Condition, str]:
        """Return whether its host answers, and whether there is a key for it."""
        try:
            code = await status_of(self.terms.base_url, _policy(self.terms))
        except (HttpFailed, HostUnknown) as error:
            return "offline", error.message
        if code == 429 or (code >= 500 and code != 501):
            return "degraded", f"it answers with {code}"
        variable = self.terms.auth_env
        if variable and not os.environ.get(variable):
            return "degraded", f"it answers, but wants a key: set the environment variable {variable}"
        return "online", f"it answers; {len(self.tools)} operations"


def tools_of(name: str, document: Document, terms: Terms, wanted: Sequence[str] = ()) -> list[Tool]:
    """Return the tools of a document, named `NAME.operationId`.

    Args:
        wanted: Operation ids; all when empty.

    Raises:
        SpecInvalid: With every fault of the operations that are wanted.
    """
    reader = _Reader(document)
    found = {item.id: item for item in reader.operations()}
    problems = [
        Problem(
            f"operations/{item}", f"the document has no operation {item!r}{did_you_mean(item, found)}",
            code="openapi.unknown",
        )
        for item in wanted if item not in found
    ]
    chosen = [found[item] for item in wanted if item in found] if wanted else list(found.values())
    made: list[Tool] = []
    for item in chosen:
        if item.fault:
            if wanted:
                problems.append(Problem(item.place, item.fault, code="openapi.operation"))
            continue
        made.append(_tool(name, item, terms))
    if problems:
        raise SpecInvalid(f"the OpenAPI document {name!r} cannot be used", problems=tuple(problems))
    return made


def base_of(document: Document, base_url: str) -> str:
    """Return where an API is: as the operator says, else the first absolute address in its document.

    Raises:
        SpecInvalid: Nobody says, or what they say is no address.
    """
    servers = cast("list[Any]", document.get("servers") or [])
    first = str(cast("dict[str, Any]", servers[0]).get("url", "")) if servers and isinstance(servers[0], dict) else ""
    found = base_url or first
    parts = urlsplit(found)
    if parts.scheme not in PORTS or not parts.hostname or parts.username or parts.query:
        raise SpecInvalid(f"base_url {found!r} is no address; give one such as https://api.example.com/v1, without credentials")
    return found.rstrip("/")


@dataclass(slots=True)
class _Operation:
    id: str
    method: str
    path: str
    place: str
    text: str = ""
    places: dict[str, str] = field(default_factory=dict[str, str])
    schema: dict[str, Any] = field(default_factory=dict[str, Any])
    has_body: bool = False
    fault: str = ""


class _Reader:
    """Reads operations, with references followed inside the document."""

    def __init__(self, document: Document) -> None:
        if not str(document.get("openapi", "")).startswith("3."):
            raise SpecInvalid("the document is no OpenAPI 3 document: its field 'openapi' does not begin with '3.'")
        self._document = document

    def operations(self) -> list[_Operation]:
        found: list[_Operation] = []
        for path, item in cast("dict[str, Any]", self._document.get("paths") or {}).items():
            entry = self._follow(item)
            for method in METHODS:
                if isinstance(entry.get(method), dict):
                    found.append(self._operation(path, method, entry))
        return found

    def _operation(self, path: str, method: str, entry: dict[str, Any]) -> _Operation:
        told = cast("dict[str, Any]", entry[method])
        made = re.sub(r"\W+", "_", f"{method}_{path}").strip("_")
        item = _Operation(str(told.get("operationId") or made), method, path, f"paths/{path}/{method}")
        item.text = str(told.get("summary") or told.get("description") or f"{method.upper()} {path}").strip()
        properties: dict[str, Any] = {}
        required: list[str] = []
        parameters: list[Any] = [*(entry.get("parameters") or []), *(told.get("parameters") or [])]
        for raw in parameters:
            self._parameter(item, self._follow(raw), properties, required)
        if told.get("requestBody"):
            body = self._follow(told["requestBody"])
            content = cast("dict[str, Any]", body.get("content") or {})
            kind = next((kind for kind in content if "json" in kind), None)
            if kind is None:
                item.fault = f"its body is {', '.join(content) or 'of no type'}; only JSON can be sent"
            elif "body" in properties:
                item.fault = "it has a parameter named 'body' beside its body"
            else:
                item.has_body = True
                properties["body"] = content[kind].get("schema") or {}
                if body.get("required"):
                    required.append("body")
        item.schema = self._schema(properties, list(dict.fromkeys(required)))
        return item

    def _parameter(
        self, item: _Operation, told: dict[str, Any], properties: dict[str, Any], required: list[str]
    ) -> None:
        name, place = str(told.get("name", "")), str(told.get("in", ""))
        if place == "header" and name.lower() in _OWN_HEADERS:
            return
        if place not in _PLACES:
            item.fault = item.fault or (f"its parameter {name!r} is in a {place}" if told.get("required") else "")
            return
        schema = dict(cast("dict[str, Any]", told.get("schema") or {}))
        if told.get("description"):
            schema.setdefault("description", told["description"])
        properties[name], item.places[name] = schema, place
        if told.get("required") or place == "path":
            required.append(name)

    def _schema(self, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
        definitions: dict[str, Any] = {}
        own = {name: self._local(schema, definitions) for name, schema in properties.items()}
        whole: dict[str, Any] = {"type": "object", "properties": own, "additionalProperties": False}
        if required:
            whole["required"] = required
        if definitions:
            whole["$defs"] = definitions
        return understood(whole)

    def _local(self, schema: Any, definitions: dict[str, Any]) -> Any:
        """Return a schema whose references lead into `definitions`, which gets what they lead to."""
        if isinstance(schema, list):
            return [self._local(item, definitions) for item in cast("list[Any]", schema)]
        if not isinstance(schema, dict):
            return schema
        told = cast("dict[str, Any]", schema)
        ref = told.get("$ref")
        if isinstance(ref, str):
            name = re.sub(r"\W", "_", ref.removeprefix(_SCHEMAS))
            if name not in definitions:
                definitions[name] = {}
                definitions[name] = self._local(self._resolve(ref), definitions)
            return {"$ref": f"#/$defs/{name}"}
        found = {key: self._local(value, definitions) for key, value in told.items() if key not in ("example", "nullable")}
        for name in ("Minimum", "Maximum"):  # a flag in 3.0, a number since 3.1
            if found.get(f"exclusive{name}") is True and name.lower() in found:
                found[f"exclusive{name}"] = found.pop(name.lower())
            elif isinstance(found.get(f"exclusive{name}"), bool):
                del found[f"exclusive{name}"]
        return {"anyOf": [found, {"type": "null"}]} if told.get("nullable") is True else found

    def _follow(self, value: Any) -> dict[str, Any]:
        """Return an object, or the one a reference leads to."""
        for _ in range(8):
            found = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
            if not isinstance(found.get("$ref"), str):
                return found
            value = self._resolve(found["$ref"])
        raise SpecInvalid("the document's references lead round in a circle")

    def _resolve(self, ref: str) -> Any:
        if not ref.startswith("#/"):
            raise SpecInvalid(f"the reference {ref!r} leads out of the document; bundle it into one document first")
        found: Any = self._document
        for part in ref[2:].split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or key not in found:
                raise SpecInvalid(f"the reference {ref!r} leads nowhere in the document")
            found = cast("Mapping[str, Any]", found)[key]
        return found


def _tool(name: str, item: _Operation, terms: Terms) -> Tool:
    effect = terms.effects.get(item.id) or ("idempotent" if item.method in READS else "effect")

    def bind(arguments: Any, info: Any) -> Arguments:
        return [dict(cast("dict[str, Any]", arguments or {})), info.key], {}

    return Tool(
        name=f"{name}.{item.id}", fn=_caller(f"{name}.{item.id}", item, terms), bind=bind, effect=effect, is_async=True,
        on_unknown=terms.unknown or ("ask" if effect == "effect" else "retry"), schema=item.schema,
        description=item.text, version=f"openapi:{name}",
    )


def _caller(shown: str, item: _Operation, terms: Terms) -> Callable[[dict[str, Any], str], Any]:
    host = str(urlsplit(terms.base_url).hostname)
    policy = _policy(terms)

    async def call(arguments: dict[str, Any], key: str) -> Any:
        config: dict[str, Any] = {
            "url": terms.base_url + _path(shown, item, arguments),
            "headers": _headers(item, terms, arguments, key),
            "query": {n: _query(arguments[n]) for n, place in item.places.items() if place == "query" and n in arguments},
            "body": arguments.get("body"), "expect_status": "any", "allow": [host],
        }
        answer = await request(item.method.upper(), config, policy, key)
        code, body = answer["status_code"], answer["body"]
        if code < 300:
            return None if body == "" else body
        told = body if isinstance(body, str) else msgspec.json.encode(body).decode()
        message = f"{shown} answered {code}: {told[:SHOWN]}"
        raise (ToolFailed if code == 429 or code >= 500 else ToolRefused)(message, status_code=code)

    return call


def _policy(terms: Terms) -> HttpPolicy:
    """Return what calls of the API may do: its own host may be any, since the operator named it."""
    base = urlsplit(terms.base_url)
    host = f"{base.hostname}:{base.port or PORTS[base.scheme]}"
    return HttpPolicy(
        allowed=frozenset({host}), max_bytes=terms.max_bytes, timeout_s=terms.timeout_s, longest_s=terms.timeout_s
    )


def _path(shown: str, item: _Operation, arguments: dict[str, Any]) -> str:
    path = item.path
    for name, place in item.places.items():
        if place == "path":
            text = _plain(arguments[name])
            if text in ("", ".", ".."):
                raise ToolRefused(f"{shown} was not called: {text!r} cannot be a part of its path ({name!r})")
            path = path.replace("{" + name + "}", quote(text, safe=""))
    return path


def _headers(item: _Operation, terms: Terms, arguments: dict[str, Any], key: str) -> dict[str, str]:
    found = {n: _plain(arguments[n]) for n, place in item.places.items() if place == "header" and n in arguments}
    found.update(terms.headers)
    if item.method not in READS:
        found["idempotency-key"] = key
    if terms.auth_env:
        secret = os.environ.get(terms.auth_env, "")
        if not secret:
            raise InvalidSettings(f"the environment variable {terms.auth_env} is not set; the API needs its value")
        found[terms.auth_header] = f"Bearer {secret}" if terms.auth_header.lower() == "authorization" else secret
    return found


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _query(value: Any) -> Any:
    return [_plain(item) for item in cast("list[Any]", value)] if isinstance(value, list) else _plain(value)
