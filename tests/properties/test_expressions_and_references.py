"""Laws of expressions and templates: values pass exactly, templates without references stay themselves."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tenuto.domain.base.canonical import canonical_json
from tenuto.domain.base.expression_text import tokens
from tenuto.domain.base.expressions import ExpressionError, compile_value
from tenuto.domain.base.references import ReferenceSyntaxError, parse_template

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_values_pass_through_an_expression_exactly(value: Any) -> None:
    """Into the library and out again: no integer becomes a float, no text changes."""
    [found] = compile_value("[output]").evaluate({"output": value})
    assert canonical_json(found) == canonical_json(value)


@given(st.text())
def test_any_text_compiles_or_is_refused_clearly(text: str) -> None:
    """No other error escapes, and the pieces of the text are where they say."""
    try:
        compile_value(text)
    except ExpressionError as error:
        assert str(error)
    assert all(text[token.at :].startswith(token.text) for token in tokens(text))


@given(json_values)
def test_a_template_without_dollars_is_itself(value: Any) -> None:
    """Constants are the author's own object, not a copy."""
    if b"$" not in msgspec.json.encode(value):
        template = parse_template(value)
        assert template.render(lambda _: 0) is value
        assert template.references == ()


@given(texts, json_values)
def test_any_key_can_be_referred_to(key: str, value: Any) -> None:
    """A quoted key reaches whatever the object holds, with its type."""
    template = parse_template("${input[" + msgspec.json.encode(key).decode() + "]}")
    assert template.render(lambda _: {key: value}) is value


@given(st.text("${}ab.[]\"' 0", max_size=12))
def test_any_text_is_a_template_or_refused_clearly(text: str) -> None:
    """No other error escapes, and escaping makes any text literal."""
    try:
        parse_template(text)
    except ReferenceSyntaxError as error:
        assert error.details["column"] >= 1
    if "$$" not in text:
        assert parse_template("x" + text.replace("${", "$${")).render(lambda _: 0) == "x" + text
