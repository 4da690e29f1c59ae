"""Values as the journal keeps them: nothing is changed without a word, and large ones go by digest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf, nan
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tenuto.domain.base.values import INLINE_LIMIT, TooLarge, blob_digest, digest_of, encode, pack, unpack


class Point(msgspec.Struct):
    x: Any


@dataclass
class Pair:
    a: Any


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (nan, "the top"), ({"a": [1, nan]}, "/a/1"), ({"a": {"b": -inf}}, "/a/b"), ([inf], "/0"), (Point(nan), "/x"),
        ({"p": Pair([nan])}, "/p/a/0"), ({1: "x"}, "the top"), ({"a": {2.5: 1}}, "/a"), ([{"ok": 1}, {-3: 1}], "/1"), (Point({1: 2}), "/x"),
    ],
)  # fmt: skip
def test_what_would_be_changed_is_refused_with_its_place(value: Any, place: str):
    with pytest.raises(ValueError, match=f"at {place}") as caught:
        pack(value)
    assert not isinstance(caught.value, TooLarge)


@pytest.mark.parametrize(
    "value",
    [None, {"a": None}, [None, 1.5], {"1": 2}, {"a": "null"}, "NaN", {"-1.5": [None]}, True, 0, "", [], {}],
)
def test_what_has_a_json_form_is_kept_as_it_is(value: Any):
    raw, blob = pack(value)
    assert blob is None
    assert unpack(raw) == value


def test_keys_and_values_that_are_written_as_text_are_kept():
    when, name = datetime(2026, 1, 1, tzinfo=UTC), UUID(int=1)
    assert unpack(encode({name: when, "n": None})) == {str(name): "2026-01-01T00:00:00Z", "n": None}


def test_a_large_value_goes_by_its_digest():
    value = "x" * INLINE_LIMIT
    raw, blob = pack(value)
    assert blob is not None
    assert digest_of(raw) == blob_digest(blob)
    assert unpack(blob) == value


def test_an_object_that_looks_like_a_reference_is_not_taken_for_one():
    value = {"$blob": "sha256:0", "size": 1}
    raw, blob = pack(value)
    assert blob is not None
    assert digest_of(raw) == blob_digest(blob)
