"""Request bodies: JSON or YAML in, checked data out, every fault at once as a problem with its place.

Nothing is coerced: a number is not text and `1` is not true. YAML is read without tags, dates or repeated keys, and an
alias that multiplies the document is refused.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, TypeVar, cast

import msgspec
import yaml
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from tenuto.api.errors import Refused
from tenuto.domain.graph.reading import DEPTH_LIMIT, nearest, pointer
from tenuto.errors import Problem

YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
YAML_VALUES = 200_000
JSON_VALUES = 10_000_000
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
M = TypeVar("M", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML with the types of JSON: no dates, `on` and `yes` stay text, keys are unique."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = cast("object", self.construct_object(key, deep=True))  # pyright: ignore[reportUnknownMemberType]
            if isinstance(name, Hashable) and name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} appears twice", key.start_mark)
            if not isinstance(name, str):
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} is not text", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


_BOOL, _TIMESTAMP = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag not in (_TIMESTAMP, _BOOL)]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))  # pyright: ignore[reportUnknownMemberType]


async def read_data(request: Request) -> Any:
    """Return a request's body as plain JSON data; an empty body is an empty object.

    Raises:
        Refused: 400 when it cannot be read, 413 when it is too large for YAML, 415 for other media types.
    """
    raw = await request.body()
    if not raw:
        return {}
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "application/json" or (media.startswith("application/") and media.endswith("+json")):
        return _json(raw)
    if media in YAML_TYPES:
        return read_yaml(raw, limit=cast("int", request.app.state.settings.max_yaml_bytes))
    hint = "send 'Content-Type: application/json' or application/yaml"
    raise Refused(
        415, "request.media_type", f"a body of type {media or 'unknown'!r} is not understood here",
        problems=[Problem("Content-Type", "not understood", hint=hint, code="request.media_type")],
        headers={"Accept": f"application/json, {YAML_TYPES[0]}"},
    )  # fmt: skip


async def read_model(request: Request, model: type[M], *, synonyms: dict[str, str] | None = None) -> M:
    """Return a request's body as `model`, with older spellings of its fields accepted.

    Raises:
        Refused: As `read_data`, and 422 with every problem.
    """
    return check(model, renamed(await read_data(request), synonyms or {}))


def check(model: type[M], data: Any) -> M:
    """Return data as a model; nothing is coerced.

    Raises:
        Refused: 422 with every problem.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise refused(error.errors(include_url=False), model.model_fields) from None


def renamed(data: Any, synonyms: dict[str, str]) -> Any:
    """Return an object with synonyms replaced by the names they stand for.

    Raises:
        Refused: 422 when both were given.
    """
    if not isinstance(data, dict):
        return data
    given = cast("dict[str, Any]", data)
    for old, new in synonyms.items():
        if old not in given:
            continue
        if new in given:
            problem = Problem(f"/{old}", f"means the same as {new!r}; give one of them", code="request.twice")
            raise Refused(422, "request.invalid", "the request is not valid", problems=[problem])
        given = {new if key == old else key: value for key, value in given.items()}
    return given


def refused(faults: Iterable[Any], fields: Iterable[str] = (), *, root: str = "") -> Refused:
    """Return the refusal for what pydantic found; places are JSON pointers, or names of parameters."""
    problems = [_problem(fault, tuple(fields), root) for fault in faults]
    message = "the request is not valid" if len(problems) == 1 else f"the request has {len(problems)} problems"
    return Refused(422, "request.invalid", message, problems=problems)


def _problem(fault: dict[str, Any], fields: Sequence[str], root: str) -> Problem:
    # Pydantic names the alternatives of a union in upper case or as `function-…`; they are no part of the document.
    loc = [part for part in fault["loc"] if isinstance(part, int) or not re.search(r"\[|^(?:str|int|float|dict)$", part)]
    if fault["type"] == "extra_forbidden" and loc[-1:] != [fault["loc"][-1]]:
        loc.append(fault["loc"][-1])  # somebody's own key, however it reads
    place = pointer(root, *loc) if not root or root == "/" else ".".join(str(part) for part in loc)
    kind, message, hint = str(fault["type"]), str(fault["msg"]), ""
    if kind == "extra_forbidden":
        message = f"there is no field {loc[-1]!r} here"
        hint = nearest(str(loc[-1]), fields) or f"fields are {', '.join(fields)}"
    elif kind == "missing":
        message = "is required"
    elif kind == "value_error":
        message = message.removeprefix("Value error, ")
    return Problem(place or "/", message, hint=hint, code=f"request.{kind}")


def idempotency_key(request: Request) -> str | None:
    """Return the `Idempotency-Key`, or `None` when there is none.

    Raises:
        Refused: 400 when it is not 1 to 255 visible ASCII characters.
    """
    key = request.headers.get("idempotency-key")
    if key is None or _KEY.fullmatch(key):
        return key
    message = "must be 1 to 255 visible ASCII characters without spaces"
    problem = Problem("Idempotency-Key", message, hint="a UUID will do", code="request.key")
    raise Refused(400, "request.key", f"the Idempotency-Key {message}", problems=[problem])


def _json(raw: bytes) -> Any:
    try:
        return _bounded(msgspec.json.decode(raw), JSON_VALUES)
    except msgspec.DecodeError as error:
        raise _malformed(f"the body is not JSON: {error}") from None
    except (RecursionError, UnicodeDecodeError):
        raise _malformed("the body is not JSON that can be read") from None


def read_yaml(raw: bytes, *, limit: int) -> Any:
    """Return YAML as plain JSON data.

    Raises:
        Refused: 413 over `limit` bytes, 400 when it is not YAML or has no JSON form.
    """
    if len(raw) > limit:
        raise Refused(413, "request.too_large", f"a YAML body may have {limit:,} bytes", limit=limit)
    try:
        return _bounded(yaml.load(raw, Loader=_Loader), YAML_VALUES)
    except yaml.YAMLError as error:
        raise _malformed(f"the body is not YAML: {' '.join(str(error).split())}") from None
    except (RecursionError, ValueError):
        raise _malformed("the body is not YAML that can be read") from None


def _bounded(document: Any, left: int) -> Any:
    """Check that a document is neither too deep nor, through aliases, larger than it looks."""
    level: list[Any] = [document]
    for _ in range(DEPTH_LIMIT * 4):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(cast("dict[str, Any]", item).values())
            elif isinstance(item, list):
                below.extend(cast("list[Any]", item))
        left -= len(below)
        if left < 0:
            break
        if not below:
            return document
        level = below
    raise _malformed("the body is nested too deeply or holds too much")


def _malformed(message: str) -> Refused:
    return Refused(400, "request.malformed", message)
