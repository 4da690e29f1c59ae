"""Laws of canonical JSON: it reads back, it is one, it is sorted."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tenuto.domain.base.canonical import canonical_json, digest

texts = st.text(st.characters(exclude_categories=("Cs",)))
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any, order: random.Random) -> Any:
    if isinstance(value, dict):
        members = list(value.items())
        order.shuffle(members)
        return {key: shuffled(member, order) for key, member in members}
    return [shuffled(member, order) for member in value] if isinstance(value, list) else value


def typed(value: Any) -> Any:
    """The value with types beside numbers, since 1 == 1.0 == True."""
    if isinstance(value, dict):
        return {key: typed(member) for key, member in value.items()}
    if isinstance(value, list):
        return [typed(member) for member in value]
    return (type(value).__name__, repr(value))


@given(json_values)
def test_reads_back_as_the_same_value(value: Any) -> None:
    """Nothing is lost: integers of any size, floats to the bit, texts with any character."""
    assert typed(json.loads(canonical_json(value))) == typed(value)


@given(json_values, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(value: Any, order: random.Random) -> None:
    """Equal values have one spelling and one digest."""
    assert canonical_json(shuffled(value, order)) == canonical_json(value)
    assert digest(shuffled(value, order)) == digest(value)


@given(st.dictionaries(texts, st.none()))
def test_keys_are_sorted_by_utf16_units(value: dict[str, None]) -> None:
    """As RFC 8785 asks, also beyond the basic plane."""
    keys = list(json.loads(canonical_json(value)))
    assert keys == sorted(value, key=lambda key: key.encode("utf-16-be"))


@given(json_values)
def test_is_its_own_canonical_form(value: Any) -> None:
    """Reading and spelling again changes nothing."""
    once = canonical_json(value)
    assert canonical_json(json.loads(once)) == once
