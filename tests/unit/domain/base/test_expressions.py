"""Expressions: what CEL means here, and that nothing is ever silently false."""

from __future__ import annotations

from typing import Any

import pytest

from tenuto.domain.base.expressions import (
    Expression,
    ExpressionError,
    ExpressionFailed,
    compile_condition,
    compile_value,
)

BINDINGS: dict[str, Any] = {
    "input": {"topic": "cats", "tags": ["a", "b"], "limit": 3},
    "output": {
        "score": 7,
        "ratio": 0.5,
        "ok": True,
        "none": None,
        "text": "Grüße 😀",
        "big": 2**63 - 1,
        "items": [{"n": 1, "k": "x"}, {"n": 2, "k": "y"}, {"n": 3, "k": "x"}],
        "map": {"b": 1, "a": 2},
        "odd key": 1,
        "dashed-key": 2,
        "$": "$.score",
    },
    "nodes": {"parse": {"output": {"total": 12}}, "fetch-all": {"output": [1, 2]}, "none": {"output": None}},
    "run": {"id": "r1", "labels": {"team": "x"}},
    "iteration": 2,
}

VALUES = [
    ("true", True),
    ("output.score", 7),
    ("output.score > 5", True),
    ("output.score > 5 && output.ok", True),
    ("output.score < 5 || input.topic == 'cats'", True),
    ("!output.ok", False),
    ("output.none == null", True),
    ("output.none", None),
    ("output.score + 1", 8),
    ("output.score % 4", 3),
    ("output.score / 2", 3),
    ("output.ratio * 2.0", 1.0),
    ("output.score > 6.5", True),
    ("output.ratio < 1", True),
    ("output.score == 7.0", True),
    ("output.big", 2**63 - 1),
    ("output.big - 1", 2**63 - 2),
    ("-9223372036854775808", -(2**63)),
    ("double(output.score)", 7.0),
    ("int(2.9)", 2),
    ("string(output.score) + '!'", "7!"),
    ("output.text", "Grüße 😀"),
    ("output.text.size()", 7),
    ("output.text == 'Grüße \\U0001F600'", True),
    ("output.text.startsWith('Gr')", True),
    ("input.topic.matches('^c.t')", True),
    ("'a,b'.split(',')", ["a", "b"]),
    ("input.tags.join('-')", "a-b"),
    ("input.topic in ['cats', 'dogs']", True),
    ("'topic' in input", True),
    ("has(output.nope)", False),
    ("has(output.score) && output.score > 1", True),
    ("has(nodes.skipped)", False),
    ("false && output.nope", False),
    ("output.nope || true", True),
    ("output.items.size()", 3),
    ("output.items[1].k", "y"),
    ("output.items.exists(i, i.n == 3)", True),
    ("output.items.all(i, i.n > 0)", True),
    ("output.items.exists_one(i, i.k == 'y')", True),
    ("output.items.filter(i, i.k == 'x').map(i, i.n)", [1, 3]),
    ("output.items.map(i, i.k == 'x', i.n * 10)", [10, 30]),
    ("output['odd key']", 1),
    ("output.`dashed-key`", 2),
    ("output.score > 5 ? 'high' : 'low'", "high"),
    ("{'z': output.score, 'a': [output.none, {'k': 1.5}]}", {"a": [None, {"k": 1.5}], "z": 7}),
    ("output.?nope.orValue(4)", 4),
    ("math.greatest(output.score, 9)", 9),
    ("keys(output.map)", ["a", "b"]),
    ("nodes.parse.output.total == 12", True),
    ("nodes['fetch-all'].output[0]", 1),
    ("ctx.parse.total", 12),
    ("ctx['fetch-all'].size()", 2),
    ("ctx.none", None),
    ("has(ctx.parse)", True),
    ("has(ctx.skipped)", False),
    ("$.score > 5", True),
    ("$['odd key']", 1),
    ("$['$']", "$.score"),
    ("'$.score'", "$.score"),
    ("// $.nope\n$.score", 7),
    ("run.labels.team", "x"),
    ("iteration < 3", True),
    ("input.tags.map(input, input + '!')", ["a!", "b!"]),
]


@pytest.mark.parametrize(("text", "value"), VALUES, ids=[text for text, _ in VALUES])
def test_values(text: str, value: Any) -> None:
    """Each expression has exactly this value, of exactly this type."""
    found = compile_value(text).evaluate(BINDINGS)
    assert found == value
    assert type(found) is type(value)


REFUSED = [
    ("", "is empty"),
    ("output.score >", r"line 1, column 15: mismatched input end of text"),
    ("outptu.score > 1", r"'outptu' is not declared; did you mean 'output'\?"),
    ("outptu.x && inptu.y", r"(?s)'output'\?.*line 1, column 18: .*'input'\?"),
    ("output.items.map(i, j)", "'j' is not declared; there are "),
    ('1 + "a"', r"line 1, column 3: \+ cannot take \(int, string\)\n \| 1 \+"),
    ("shout(output.text)", "'shout' is not declared"),
    ("nodes.fetch-all.output > 1", r'written nodes\["fetch-all"\]'),
    ("${output.score} > 1", "column 1: references with `\\$` belong in templates"),
    ("output.a == $nodes.b", "column 13: references"),
    ("1", "of type int; it must be true or false"),
    ("'yes'", "of type string"),
    ("[true]", "of type list<bool>"),
    ("(" * 40 + "true" + ")" * 40, "nested too deeply"),
    ("true || " * 2000 + "true", "8,192 are allowed"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text[:30] for text, _ in REFUSED])
def test_a_bad_condition_is_refused_when_compiled(text: str, message: str) -> None:
    """The error shows the place and what to do."""
    with pytest.raises(ExpressionError, match=message):
        compile_condition(text)


@pytest.mark.parametrize(
    "text", ["b'x'", "duration('1s')", "timestamp('2020-01-01T00:00:00Z')", "type(1)", "output.?x"]
)
def test_a_value_whose_type_is_not_json_is_refused_when_compiled(text: str) -> None:
    """Types JSON lacks need an explicit conversion."""
    with pytest.raises(ExpressionError, match="which JSON does not have"):
        compile_value(text)


FAILING = [
    ("output.nope", "output has no key 'nope'"),
    ("output.nope > 1", "output has no key 'nope'"),
    ("output.map.nope.deeper == 1", "output.map has no key 'nope'"),
    ("output.score.nope", "output.score is a number, so it has no key 'nope'"),
    ("output.items[9]", "index=9 size=3"),
    ("output.items.exists(i, i.nope == 1)", "no key 'nope'"),
    ("nodes.skipped.output", "node 'skipped' has no output here"),
    ("ctx.skipped > 1", "node 'skipped' has no output here"),
    ("item > 1", "'item' has no value here"),
    ("error", "'error' has no value here"),
    ("output.text > 1", r"> cannot take \(string, int\)"),
    ("output.ok + 1", r"\+ cannot take \(bool, int\)"),
    ("output.score ? 1 : 2", "the part before \\? is not true or false"),
    ("output.big + 1", "integer overflow"),
    ("output.score / 0", "divide by zero"),
    ("output.ratio / 0.0", "contains inf"),
    ("[0.0 / 0.0]", "contains nan"),
    ("{1: 2}", "key 1; JSON keys are text"),
    ("[b'x']", "contains a bytes value"),
    ("{'at': timestamp('2020-01-01T00:00:00Z')}", "contains a timestamp"),
    ("int('x')", "cannot convert string to int"),
    ("input.topic.matches('(')", "invalid regular expression"),
    ("keys(output.items)", "keys\\(\\) takes an object"),
]


@pytest.mark.parametrize(("text", "message"), FAILING, ids=[text for text, _ in FAILING])
def test_a_value_that_does_not_exist_is_a_failure(text: str, message: str) -> None:
    """The library's error values never pass for values."""
    with pytest.raises(ExpressionFailed, match=message):
        compile_value(text).evaluate(BINDINGS)


@pytest.mark.parametrize(
    "text",
    ["output.score", "output.none", "output.text", "output.items", "output.score + 0 == 7 ? 'a' : 'b'"],
)
def test_a_condition_of_another_type_is_a_failure(text: str) -> None:
    """Nothing is truthy: only true is true."""
    with pytest.raises((ExpressionFailed, ExpressionError), match="true or false"):
        compile_condition(text).evaluate(BINDINGS)


def test_endless_work_is_stopped() -> None:
    """Nested loops over a long list end with a clear failure."""
    text = "input.exists(a, input.exists(b, input.exists(c, a + b + c < 0)))"
    with pytest.raises(ExpressionFailed, match="10,000 loop iterations"):
        compile_condition(text).evaluate({"input": list(range(300))})


READS = [
    ("true", set()),
    ("output.score > input.limit", {"output", "input"}),
    ("nodes.parse.output.total > 1", {"nodes.parse"}),
    ("nodes['fetch-all'].output == ctx.parse", {"nodes.fetch-all", "nodes.parse"}),
    ("nodes.`fetch-all`.output == 1", {"nodes.fetch-all"}),
    ("has(nodes.parse) && iteration > 1", {"nodes.parse", "iteration"}),
    ("nodes[input.which].output == 1 && nodes.parse.output == 2", {"nodes", "input"}),
    ("nodes.exists(id, id == 'x')", {"nodes"}),
    ("$.score == 1", {"output"}),
    ("'nodes.parse and input' == run.id", {"run"}),
    ("[1].exists(item, item > index)", {"index"}),
    ("[1].exists(item, item > 0) && item == 1", {"item"}),
    ("output.items.map(output, output.input) == []", {"output"}),
    ("{'input': output.run} == {}", {"output"}),
    ("output.?item.hasValue()", {"output"}),
    (".output.x == 1 // input", {"output"}),
]


@pytest.mark.parametrize(("text", "reads"), READS, ids=[text for text, _ in READS])
def test_reads(text: str, reads: set[str]) -> None:
    """An expression tells which values it needs, so that only those are fetched."""
    expression = compile_condition(text)
    assert expression.reads == reads
    assert expression.is_condition


def test_what_is_not_read_is_not_looked_at() -> None:
    """A value beside the ones read may be anything, however large."""
    output = {"score": 7, "other": object(), "nul": "a\0b"}
    assert compile_condition("output.score > 5 && has(output.nul) == true").reads == {"output"}
    assert compile_condition("output.score > 5").evaluate({"output": output, "input": object()}) is True


def test_a_mere_path_gives_the_value_itself() -> None:
    """What the library could not carry exactly passes through untouched when it is only selected."""
    output = {"x": {"nul": "a\0b", "huge": 2**70, "z": 1, "a": [1.0, -0.0]}}
    assert compile_value("output.x").evaluate({"output": output}) is output["x"]


@pytest.mark.parametrize(
    ("value", "message"),
    [("a\0b", "NUL"), ({"k\0": 1}, "NUL"), (["\0"], "NUL"), ("\ud800", "surrogate"), (2**70, "over 64 bits")],
)
def test_what_the_library_would_distort_is_a_failure(value: Any, message: str) -> None:
    """Texts the library cuts and integers it cannot hold are refused, not changed."""
    with pytest.raises(ExpressionFailed, match=message):
        compile_value("[output]").evaluate({"output": value})


def test_a_backslash_before_u0000_is_no_nul() -> None:
    """A text that only looks like the escape of a NUL is taken."""
    assert compile_value("[output]").evaluate({"output": "\\u0000"}) == ["\\u0000"]


def test_compiling_twice_gives_the_same_object() -> None:
    """Compiled expressions are shared."""
    first: Expression = compile_condition("output.score > 41")
    assert compile_condition("output.score > 41") is first
    assert compile_value("output.score > 41") is not first


def test_only_the_given_variables_are_declared() -> None:
    """A caller may allow fewer names."""
    assert compile_value("item.n", variables=("item",)).evaluate({"item": {"n": 1}}) == 1
    with pytest.raises(ExpressionError, match="there are item"):
        compile_value("output", variables=("item",))


LOOPS = [
    "input.map(x, x.n)",
    "input.map(x, x.n % 2 == 0, x.n * item.by)",
    "input.filter(x, x.n > 500).map(x, {'n': x.n, 'by': item.by})",
    "input.filter(x, x.n in [1, 2, 3] || x.n == item.by)",
    "input.map(x, timestamp('2020-01-01T00:00:00Z')).map(t, string(t))",
    "input.map(x, uint(x.n)).map(u, u + 1u)",
    "(input + input).map(x, x.n)",
    "-input.map(x, x.n)[3]",
    "[1] + input.map(x, x.n)",
    "input.map(x, x.n).size()",
    "input.map(x, [x.n].map(y, y + item.by))",
    "input.map(input, input.n)",
]


@pytest.mark.parametrize("text", LOOPS)
def test_a_loop_has_the_same_value_for_long_lists_as_for_short_ones(text: str) -> None:
    """What is looped over here rather than in the library gives what the library gives."""
    items = [{"n": n} for n in range(1200)]
    expression = compile_value(text)
    by_library = Expression.evaluate(expression, {"input": items, "item": {"by": 3}})
    assert expression.evaluate({"input": items, "item": {"by": 3}}) == by_library


def test_a_transform_takes_lists_of_many_thousands() -> None:
    """The results of a map over 10,000 items can be projected and filtered."""
    items = [{"n": n, "pad": "x" * 100} for n in range(12_000)]
    text = "nodes.work.output.filter(x, x.n % 2 == 1).map(x, x.n * 10)"
    found = compile_value(text).evaluate({"nodes": {"work": {"output": items}}})
    assert found == [n * 10 for n in range(1, 12_000, 2)]


def test_a_failing_element_is_named() -> None:
    """In a long list the place matters."""
    items: list[Any] = [{"n": 1}] * 300 + [{"m": 1}]
    with pytest.raises(ExpressionFailed, match="element 300: x has no key 'n'"):
        compile_value("input.map(x, x.n)").evaluate({"input": items})
