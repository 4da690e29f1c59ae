"""`transform` (also `execute_pipeline`): fetch, pick, filter, sort and cut data; `http_get` and `http_request`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from tenuto.domain.base.expressions import ExpressionError, ExpressionFailed, compile_condition
from tenuto.errors import Permanent
from tenuto.runtime.tools.builtin.kit import Kit, declare, text
from tenuto.runtime.tools.catalog import CallInfo
from tenuto.runtime.tools.http import request

MAX_STEPS = 20


class TransformFailed(Permanent):
    """A step of a pipeline does not fit its data or is not written as it should be."""

    code = "transform.failed"


async def run_steps(kit: Kit, info: CallInfo, steps: list[dict[str, Any]], input: Any = None) -> dict[str, Any]:
    """Return what the steps make of the input; nothing else is kept or changed.

    Raises:
        TransformFailed: Names the step, and what does not fit.
    """
    data = input
    for at, step in enumerate(steps):
        op = str(step["op"])
        try:
            data = await _OPS[op](kit, info, step, data)
        except (_Unfit, ExpressionError, ExpressionFailed) as exc:
            raise TransformFailed(f"step {at} ({op}): {exc}") from exc
    return {"result": data, "count": len(cast("list[Any]", data)) if isinstance(data, list) else None}


class _Unfit(Exception):
    """What does not fit, for the message."""


async def _http(kit: Kit, info: CallInfo, step: dict[str, Any], data: Any) -> Any:
    if str(step.get("method", "GET")).upper() != "GET":
        raise _Unfit("a pipeline only reads, so 'method' is GET; use the tool http_request for others")
    answer = await request("GET", {"url": _of(step, "url", str), "headers": step.get("headers")}, kit.http, info.key)
    return answer["body"]


async def _path(kit: Kit, info: CallInfo, step: dict[str, Any], data: Any) -> Any:
    found = _at(data, _of(step, "path", str))
    if found is _NOTHING:
        raise _Unfit(f"the data has no {step['path']!r}")
    return found


async def _select(kit: Kit, info: CallInfo, step: dict[str, Any], data: Any) -> Any:
    fields = step.get("fields")
    if isinstance(fields, list) and fields:
        wanted = {str(name): str(name) for name in cast("list[Any]", fields)}
    elif isinstance(fields, dict) and fields:
        wanted = {str(name): str(path) for name, path in cast("dict[Any, Any]", fields).items()}
    else:
        raise _Unfit("'fields' is a list of fields, or an object from new names to fields")
    picked = [{name: _or_none(_at(row, path)) for name, path in wanted.items()} for row in _rows(data)]
    return picked if isinstance(data, list) else picked[0]


async def _filter(kit: Kit, info: CallInfo, step: dict[str, Any], data: Any) -> Any:
    condition = compile_condition(_of(step, "when", str), variables=("item", "index", "input"))
    rows = _rows(data)
    return [row for at, row in enumerate(rows) if condition.evaluate({"item": row, "index": at, "input": rows})]


async def _sort(kit: Kit, info: CallInfo, step: dict[str, Any], data: Any) -> Any:
    return _sorted(_rows(data), str(step.get("by", "")), bool(step.get("descending", False)))


async def _top(kit: Kit, info: CallInfo, step: dict[str, Any], data: Any) -> Any:
    count = _of(step, "k", int)
    if count < 0:
        raise _Unfit("'k' is not negative")
    rows = _rows(data)
    if "by" in step:
        rows = _sorted(rows, str(step["by"]), bool(step.get("descending", True)))
    return rows[:count]


def _sorted(rows: list[Any], by: str, descending: bool) -> list[Any]:
    """Return rows in order of a field, those without it last, whatever the direction; equal ones keep theirs."""
    keyed = [(_at(row, by) if by else row, row) for row in rows]
    present = [pair for pair in keyed if pair[0] is not _NOTHING and pair[0] is not None]
    kinds = {"number" if isinstance(value, int | float) else type(value).__name__ for value, _ in present}
    if len(kinds) > 1 or kinds & {"dict", "list"}:
        raise _Unfit(f"{by or 'the rows'!r} holds {', '.join(sorted(kinds))}, which have no order")
    present.sort(key=lambda pair: pair[0], reverse=descending)
    return [row for _, row in present] + [row for value, row in keyed if value is _NOTHING or value is None]


_NOTHING: Any = object()


def _or_none(value: Any) -> Any:
    return None if value is _NOTHING else value


def _at(row: Any, path: str) -> Any:
    """Return what a dotted path leads to; numbers count the items of lists."""
    found = row
    for part in path.split("."):
        if isinstance(found, dict):
            found = cast("dict[str, Any]", found).get(part, _NOTHING)
        elif isinstance(found, list) and part.isdigit() and int(part) < len(cast("list[Any]", found)):
            found = cast("list[Any]", found)[int(part)]
        else:
            return _NOTHING
    return found


def _rows(data: Any) -> list[Any]:
    if isinstance(data, list):
        return cast("list[Any]", data)
    if isinstance(data, dict):
        return [data]
    raise _Unfit(f"the data is {type(data).__name__}, not a list of rows; pick one with a step 'path' before")


def _of(step: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    value = step.get(name)
    if not isinstance(value, kind) or isinstance(value, bool) or value == "":
        raise _Unfit(f"{name!r} is missing or no {'text' if kind is str else 'whole number'}")
    return value


_OPS: dict[str, Callable[[Kit, CallInfo, dict[str, Any], Any], Awaitable[Any]]] = {
    "http": _http, "http_request": _http, "path": _path, "select": _select, "table_select": _select,
    "filter": _filter, "table_filter": _filter, "sort": _sort, "table_sort": _sort, "top_k": _top,
}


async def _request(
    kit: Kit, info: CallInfo, url: str, method: str = "GET", headers: dict[str, str] | None = None, body: Any = None,
    query: dict[str, Any] | None = None,
) -> dict[str, Any]:
    config = {"url": url, "headers": headers, "body": body, "query": query}
    return await request(method, config, kit.http, info.key)


_STEPS = {
    "type": "array", "minItems": 1, "maxItems": MAX_STEPS,
    "description": (
        "Steps, each on what the one before made: {op: http, url}, {op: path, path: 'a.b'}, {op: select, fields}, "
        "{op: filter, when: 'item.price > 3.0'}, {op: sort, by, descending}, {op: top_k, k, by}."
    ),
    "items": {"type": "object", "required": ["op"], "properties": {"op": {"enum": list(_OPS)}}},
}  # fmt: skip
_ANY: dict[str, Any] = {"description": "The data to begin with."}
_URL = text("A public http or https address.")
_MAP: dict[str, Any] = {"type": "object"}

TOOLS = (
    *(
        declare(run_steps, name, "Fetch, pick, filter, sort and cut data by steps; returns the result and keeps nothing.",
                {"steps": _STEPS, "input": _ANY}, required=("steps",))
        for name in ("transform", "execute_pipeline")
    ),
    declare(
        _request, "http_get", "Fetch a public address.", {"url": _URL, "headers": _MAP, "query": _MAP}, required=("url",)
    ),
    declare(
        _request, "http_request", "Make a request to a public address, which may change something there.",
        {
            "url": _URL, "method": {"enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]}, "headers": _MAP,
            "query": _MAP, "body": {"description": "A text, or data that is sent as JSON."},
        },
        required=("url", "method"), effect="effect", on_unknown="ask",
    ),
)  # fmt: skip
