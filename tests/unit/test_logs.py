"""Log lines: text or JSON, with ids, and no line forges another."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from tenuto.logs import configure, request_id_var
from tenuto.settings import Settings


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def _lines(form: str, level: str = "info") -> io.StringIO:
    out = io.StringIO()
    configure(Settings(log_format=form, log_level=level), out)
    return out


def test_json_lines_carry_ids_and_fields() -> None:
    """Every line is one JSON object with the ids of request, run and step."""
    out = _lines("json")
    token = request_id_var.set("req-1")
    logging.getLogger("tenuto.x").info("did %s", "it", extra={"run": "r1", "step": "s", "fields": {"took_ms": 3}})
    request_id_var.reset(token)
    line = json.loads(out.getvalue())
    assert {key: line[key] for key in ("level", "message", "request_id", "run", "step", "took_ms")} == {
        "level": "info", "message": "did it", "request_id": "req-1", "run": "r1", "step": "s", "took_ms": 3,
    }  # fmt: skip


def test_text_lines_stay_one_line() -> None:
    """A line break in a value does not start another line; a trace follows below."""
    out = _lines("text")
    logging.getLogger("tenuto.x").info("first\nsecond", extra={"run": "r1"})
    assert out.getvalue().count("\n") == 1
    assert "run=r1" in out.getvalue()
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("tenuto.x").exception("broke")
    assert "ValueError: why" in out.getvalue()


def test_the_level_is_kept() -> None:
    """What is less severe is not written."""
    out = _lines("text", "warning")
    logging.getLogger("tenuto.x").info("quiet")
    logging.getLogger("tenuto.x").warning("loud")
    assert "loud" in out.getvalue()
    assert "quiet" not in out.getvalue()
