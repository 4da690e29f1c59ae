"""What a person types, as values: JSON, files, `key=value` pairs, amounts and moments."""

from __future__ import annotations

import json
import sys

from tenuto.cli.errors import CliError
from tenuto.cli.values import is_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

YAML_TYPE = "application/yaml"
YAML_ENDINGS = (".yaml", ".yml")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Yaml(str):
    """YAML text that the server reads; the CLI never parses it."""

    __slots__ = ()


def read_text(path: str) -> str:
    """Return a file's text, or standard input's for `-`.

    Raises:
        CliError: It cannot be read.
    """
    try:
        if path == "-":
            return sys.stdin.read()
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except OSError as error:
        raise CliError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CliError(f"{path} is not UTF-8 text (byte {error.start}).") from error


def read_document(path: str) -> Any:
    """Return a file as a JSON value, or as `Yaml` text when its name or form says so."""
    text = read_text(path)
    if path.endswith(YAML_ENDINGS):
        return Yaml(text)
    if path == "-" and not text.lstrip().startswith(("{", "[", '"')):
        return Yaml(text)
    return parse_json(text, "standard input" if path == "-" else path)


def parse_json(text: str, what: str) -> Any:
    """Return a JSON value.

    Raises:
        CliError: It is not JSON; says where.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise CliError(
            f"{what} is not valid JSON: {error}.", hint='JSON strings take double quotes: {"a": "b"}'
        ) from None


def value_of(text: str, option: str) -> Any:
    """Return what `JSON`, `@file` or `-` stands for."""
    if text == "-" or text.startswith("@"):
        return read_document(text.removeprefix("@"))
    return parse_json(text, option)


def scalar(text: str) -> Any:
    """Return JSON where the text is JSON, else the text itself: `3`, `true`, `gpt`."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    """Return `key=value` texts as a mapping; the last of equal keys counts.

    Raises:
        CliError: One has no `=`.
    """
    read: dict[str, str] = {}
    for text in texts or []:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise CliError(f"{option} {text!r} is not KEY=VALUE.", hint=f"For example {option} team=search")
        read[key.strip()] = value
    return read


def nested(texts: list[str] | None, option: str) -> dict[str, Any]:
    """Return `a.b=value` texts as nested objects with JSON values.

    Raises:
        CliError: One has no `=`, or a key is both a value and an object.
    """
    result: dict[str, Any] = {}
    for path, text in pairs(texts, option).items():
        *parents, last = path.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
            if not is_object(place):
                raise CliError(f"{option} {path!r}: {parent!r} already has a value.")
        place[last] = scalar(text)
    return result


def budget(texts: list[str] | None) -> dict[str, Any]:
    """Return budget caps by the API's names; `usd=0.50` is also understood.

    Raises:
        CliError: A cap is unknown or not a number.
    """
    caps: dict[str, Any] = {}
    for key, text in pairs(texts, "--budget").items():
        try:
            number = float(text) if key in ("usd", "wall_clock_s") else int(text)
        except ValueError:
            number = -1
        if not 0 <= number < float("inf"):
            raise CliError(f"--budget {key}={text}: the cap is not a number of 0 or more.")
        if key == "usd":
            caps["cost_usd_micros"] = round(number * 1_000_000)
        elif key.startswith("per_tool."):
            caps.setdefault("per_tool", {})[key.removeprefix("per_tool.")] = number
        elif key in ("tokens", "tool_calls", "cost_usd_micros", "wall_clock_s"):
            caps[key] = number
        else:
            allowed = "tokens, tool_calls, per_tool.TOOL, cost_usd_micros, usd, wall_clock_s"
            raise CliError(f"--budget knows no cap {key!r}.", hint=f"Caps: {allowed}")
    return caps


def seconds(text: str, option: str) -> float:
    """Return a span such as `90s`, `10m`, `2h`, `30d`; a bare number is seconds.

    Raises:
        CliError: It is none of these.
    """
    number, unit = (text[:-1], _UNITS_S[text[-1]]) if text[-1:] in _UNITS_S else (text, 1)
    try:
        span = float(number) * unit
    except ValueError:
        span = -1.0
    if not 0 <= span < 1e10:
        raise CliError(f"{option} {text!r} is not a span of time.", hint="For example 90s, 10m, 2h, 30d")
    return span


def instant(text: str, option: str, *, sign: int) -> str:
    """Return a moment as ISO 8601 in UTC, from a date, a date and time, or a span from now.

    Args:
        sign: 1 when a span lies ahead (`--start-at 10m`), -1 when it lies behind (`--before 30d`).

    Raises:
        CliError: It is none of these.
    """
    from datetime import UTC, datetime, timedelta

    bare = text.removeprefix("+")
    if bare[-1:] in _UNITS_S and bare[:-1].replace(".", "", 1).isdigit():
        at = datetime.now(UTC) + sign * timedelta(seconds=seconds(bare, option))
        return at.isoformat(timespec="seconds")
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise CliError(
            f"{option} {text!r} is not a moment.",
            hint="Give 2030-01-31, 2030-01-31T08:00 or a span such as 30d",
        ) from None
    return at.astimezone(UTC).isoformat(timespec="seconds")


def encode(parts: dict[str, Any]) -> tuple[bytes, str]:
    """Return a request body and its content type; YAML as soon as one part is YAML text.

    JSON is YAML, so the other parts stand in the YAML document as they are.
    """
    if not any(isinstance(value, Yaml) for value in parts.values()):
        return json.dumps(parts).encode(), ""
    lines: list[str] = []
    for name, value in parts.items():
        if isinstance(value, Yaml):
            lines += [f"{name}:", *(f"  {line}" for line in yaml_lines(value))]
        else:
            lines.append(f"{name}: {json.dumps(value)}")
    return "\n".join([*lines, ""]).encode(), YAML_TYPE


def yaml_lines(text: str) -> list[str]:
    """Return a YAML document's lines without its markers, so that it can stand inside another.

    Raises:
        CliError: The text holds several documents.
    """
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("---")), None)
    if start is not None and all(line.startswith(("#", "%")) or not line.strip() for line in lines[:start]):
        lines = [lines[start][3:], *lines[start + 1 :]] if lines[start][3:].strip() else lines[start + 1 :]
    while lines and (lines[-1].startswith("...") or not lines[-1].strip()):
        lines.pop()
    if any(line.rstrip() == "---" for line in lines):
        raise CliError("The YAML holds several documents; give one.")
    return lines


def merge(target: dict[str, Any], extra: dict[str, Any]) -> None:
    """Put one nested object into another, key by key."""
    for key, value in extra.items():
        inner = target.get(key)
        if is_object(value) and is_object(inner):
            merge(inner, value)
        else:
            target[key] = value
