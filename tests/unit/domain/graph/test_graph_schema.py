"""The JSON Schema subset: what it understands it applies, and it refuses what it does not understand."""

from __future__ import annotations

from typing import Any

import pytest

from tenuto.domain.graph.schema import check_schema, validate

TREE: dict[str, Any] = {
    "$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer"}, "kids": {
        "type": "array", "items": {"$ref": "#/$defs/node"}}}, "required": ["v"]}},
    "$ref": "#/$defs/node",
}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string"}, ["", "a"], [1, None, [], True]),
        ({"type": "integer"}, [1, 1.0, -3], [1.5, True, "1"]),
        ({"type": "number"}, [1, 1.5], [True, "1"]),
        ({"type": ["string", "null"]}, ["a", None], [1]),
        ({"enum": ["a", 1, None]}, ["a", 1, None], ["b", True, 2]),
        ({"const": {"a": [1]}}, [{"a": [1]}], [{"a": [2]}, {}]),
        ({"minimum": 1, "exclusiveMaximum": 3}, [1, 2.9], [0, 3]),
        ({"maximum": 1, "exclusiveMinimum": -1}, [1, 0], [2, -1]),
        ({"multipleOf": 0.1}, [0.3, 1], [0.35]),
        ({"minLength": 1, "maxLength": 2, "pattern": "^a"}, ["a", "ab", 5], ["", "abc", "b"]),
        ({"minItems": 1, "maxItems": 2, "uniqueItems": True}, [[1], [1, True]], [[], [1, 1], [1, 2, 3]]),
        ({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, [["a", 1], []], [[1], ["a", "b"]]),
        ({"minProperties": 1, "maxProperties": 1}, [{"a": 1}], [{}, {"a": 1, "b": 2}]),
        ({"required": ["a"], "properties": {"a": {"type": "integer"}}}, [{"a": 1, "b": 2}], [{}, {"a": "x"}]),
        ({"properties": {"a": True}, "additionalProperties": False}, [{"a": 1}, {}], [{"b": 1}]),
        ({"additionalProperties": {"type": "integer"}}, [{"b": 1}], [{"b": "x"}]),
        ({"patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False}, [{"x1": 1}],
         [{"x1": "a"}, {"y": 1}]),
        ({"anyOf": [{"type": "string"}, {"minimum": 3}]}, ["a", 3], [1]),
        ({"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]}, [2, 3], [6, 1]),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1, 2], [0, 3]),
        ({"not": {"type": "null"}}, [1], [None]),
        ({"properties": {"a": False}}, [{}], [{"a": 1}]),
        (TREE, [{"v": 1, "kids": [{"v": 2, "kids": []}]}], [{"v": 1, "kids": [{"kids": []}]}]),
    ],
)
def test_values_fit_or_do_not(schema: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    """Every keyword accepts and refuses as the standard says."""
    assert check_schema(schema) == ()
    assert [value for value in good if validate(schema, value)] == []
    assert [value for value in bad if not validate(schema, value)] == []


def test_every_problem_of_a_value_has_its_place() -> None:
    """Nothing stops at the first fault; places are JSON pointers; near misses are hinted at."""
    schema: dict[str, Any] = {
        "type": "object", "required": ["topic", "n"], "additionalProperties": False,
        "properties": {"topic": {"type": "string", "minLength": 3}, "n": {"type": "integer"},
                       "tags": {"type": "array", "items": {"enum": ["red", "green"]}}},
    }
    found = {problem.place: problem for problem in validate(schema, {"topic": "a", "tags": ["red", "gren"], "topc": 1})}
    assert set(found) == {"/topic", "/n", "/tags/1", "/topc"}
    assert found["/tags/1"].hint == "did you mean 'green'?"
    assert found["/topc"].hint == "did you mean 'topic'?"
    assert "'n' is required" in found["/n"].message


def test_a_failed_choice_explains_the_closest_alternative() -> None:
    """The alternative that got furthest is the one that is shown."""
    schema = {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"a": {"type": "integer"}}}]}
    (problem,) = validate(schema, {"a": "x"})
    assert "/a" in problem.message


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (3, ""),
        ({"type": "objct"}, "/type"),
        ({"typ": "object"}, "/typ"),
        ({"properties": []}, "/properties"),
        ({"properties": {"a": {"minLength": -1}}}, "/properties/a/minLength"),
        ({"items": 3}, "/items"),
        ({"anyOf": []}, "/anyOf"),
        ({"allOf": [{"maximum": "x"}]}, "/allOf/0/maximum"),
        ({"enum": "a"}, "/enum"),
        ({"required": "a"}, "/required"),
        ({"pattern": "("}, "/pattern"),
        ({"pattern": "(?=a)"}, "/pattern"),
        ({"pattern": 3}, "/pattern"),
        ({"patternProperties": {"(": {}}}, "/patternProperties/("),
        ({"multipleOf": 0}, "/multipleOf"),
        ({"$ref": "https://example.com/x"}, "/$ref"),
        ({"$ref": "#/$defs/x"}, "/$ref"),
        ({"unevaluatedProperties": False}, "/unevaluatedProperties"),
    ],
)
def test_bad_schemas_are_refused_with_their_place(schema: Any, place: str) -> None:
    """A keyword that would be ignored is as bad as a wrong one."""
    assert [problem.place for problem in check_schema(schema)] == [place]


def test_no_schema_can_keep_the_validator_busy() -> None:
    """A reference to itself ends, and patterns take linear time."""
    assert validate({"$ref": "#"}, 1)
    assert validate({"pattern": "^(a+)+$"}, "a" * 20_000 + "b")
