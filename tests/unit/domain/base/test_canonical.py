"""Canonical JSON, pointers and near matches."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest

from tenuto.domain.base.canonical import canonical_json, digest
from tenuto.domain.base.nearest import did_you_mean, nearest
from tenuto.domain.base.pointers import pointer
from tenuto.errors import Unserialisable

SPELLINGS = [
    ({"b": 1, "a": [True, False, None]}, '{"a":[true,false,null],"b":1}'),
    (
        {"\ufb33": 6, "😀": 5, "ö": 4, "€": 3, "1": 2, "\r": 1},
        '{"\\r":1,"1":2,"ö":4,"€":3,"😀":5,"\ufb33":6}',
    ),
    ([{"😀": 1, "\uffff": 2}], '[{"😀":1,"\uffff":2}]'),
    ('\x00\x1f\b\t\n\f\r"\\/\x7f\u2028', '"\\u0000\\u001f\\b\\t\\n\\f\\r\\"\\\\/\x7f\u2028"'),
    ([2**63, 2**70, -(2**70), 0], "[9223372036854775808,1180591620717411303424,-1180591620717411303424,0]"),
    ([1.0, 0.1, 1e-7, 5e-324, 1.7976931348623157e308], "[1.0,0.1,1e-7,5e-324,1.7976931348623157e308]"),
]


@pytest.mark.parametrize(("value", "text"), SPELLINGS)
def test_spelling(value: Any, text: str) -> None:
    """Sorted by UTF-16 units, no spaces, shortest escapes, numbers exact."""
    assert canonical_json(value).decode() == text


def test_a_struct_has_the_digest_of_its_fields() -> None:
    """Values and their struct forms agree, also where the order is not the encoder's."""

    class Point(msgspec.Struct):
        y: int
        x: dict[str, int]

    astral = {"\uffff": 1, "😀": 2}
    assert canonical_json(Point(1, astral)) == canonical_json({"x": astral, "y": 1})


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (float("nan"), "nan at the top"),
        ({"a": [None, {"b/c": float("inf")}]}, "inf at /a/1/b~1c"),
        ({"a": [1, {"b": "\ud800"}]}, "at /a/1/b has half of a surrogate pair"),
        ({"a": [object()]}, "type object at /a/0"),
        ([{1: 2}], "object at /0 has a key that is not text"),
    ],
)
def test_what_has_no_json_form_is_refused_with_its_place(value: Any, place: str) -> None:
    """Nothing is rounded, dropped or replaced."""
    with pytest.raises(Unserialisable, match=place):
        canonical_json(value)


def test_a_value_inside_itself_is_refused() -> None:
    """A cycle ends in an error."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(Unserialisable, match="contains itself"):
        canonical_json(loop)


def test_digest_is_the_sha256_of_the_canonical_form() -> None:
    """The well-known digest of an empty object, whatever its type of mapping."""
    assert digest({}) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(1) != digest(1.0)
    assert canonical_json(datetime.date(2020, 1, 2)) == b'"2020-01-02"'


def test_pointer_escapes_what_it_must() -> None:
    """RFC 6901."""
    assert pointer(()) == ""
    assert pointer(("a/b", "~", 0, "")) == "/a~1b/~0/0/"


@pytest.mark.parametrize(
    ("word", "found"),
    [("outptu", "output"), ("OUTPUT", "output"), ("Inputs", "Input"), ("zzz", None), ("", None)],
)
def test_nearest(word: str, found: str | None) -> None:
    """The likely meaning, or nothing rather than a wild guess."""
    assert nearest(word, ("output", "Input", "nodes")) == found


def test_did_you_mean() -> None:
    """A ready question for an error message, empty when there is nothing to ask."""
    assert did_you_mean("nods", ["nodes"]) == "; did you mean 'nodes'?"
    assert did_you_mean("x", ["nodes"]) == ""
