"""Templates: types kept, texts filled in, missing paths named."""

from __future__ import annotations

from typing import Any

import pytest

from tenuto.domain.base.references import (
    Reference,
    ReferenceMissing,
    ReferenceSyntaxError,
    parse_template,
)

VALUES: dict[str, Any] = {
    "input": {
        "topic": "cats",
        "a b": {"x": [1, {"y": None}]},
        "é": 1,
        "many": {f"k{n}": n for n in range(12)},
    },
    "item": 7,
    "index": 0,
    "iteration": 2,
    "run": {"id": "r1"},
}
OUTPUTS: dict[str, Any] = {"parse": {"total": 3, "items": [{"k": 1.5}], "output": "own"}, "p-q": "text"}


def lookup(reference: Reference) -> Any:
    return OUTPUTS[reference.node] if reference.node is not None else VALUES[reference.root]


def render(value: Any) -> Any:
    return parse_template(value).render(lookup)


RENDERED = [
    ("${nodes.parse.output.total}", 3),
    ("${nodes.parse.output}", OUTPUTS["parse"]),
    ("${nodes.parse.output.output}", "own"),
    ("${nodes.p-q.output}", "text"),
    ('${nodes["p-q"].output}', "text"),
    ("${input.topic}", "cats"),
    ("${item}", 7),
    ("${index}", 0),
    ("${iteration}", 2),
    ("${run.id}", "r1"),
    ("${ input.topic }", "cats"),
    ("${input.é}", 1),
    ("$nodes.parse", OUTPUTS["parse"]),
    ("$nodes.parse.total", 3),
    ("$nodes.parse.output.total", 3),
    ("${$nodes.parse.total}", 3),
    ("${ctx.parse.total}", 3),
    ("${nodes.parse.output.items[0].k}", 1.5),
    ("${nodes.parse.output.items.0.k}", 1.5),
    ('${input["a b"].x[1].y}', None),
    ("${input['a b'].x[0]}", 1),
    ('${input["a\\u0020b"].x[0]}', 1),
    ("about ${input.topic}, ${item}", "about cats, 7"),
    ("${item}${item}", "77"),
    ("items: ${nodes.parse.output.items}", 'items: [{"k":1.5}]'),
    ("${input['a b'].x}!", '[1,{"y":null}]!'),
    ("$${item}", "${item}"),
    ("$$${item}", "$7"),
    ("$$$${item}", "$${item}"),
    ("costs $5 or $$", "costs $5 or $$"),
    ("nodes.parse", "nodes.parse"),
    ("$nodesparse", "$nodesparse"),
    ({"a": ["${item}", {"b": "x${item}"}], "${item}": 1.0}, {"a": [7, {"b": "x7"}], "${item}": 1.0}),
    ({}, {}),
    (None, None),
    (1.5, 1.5),
]


@pytest.mark.parametrize(("template", "value"), RENDERED, ids=[str(template) for template, _ in RENDERED])
def test_rendering(template: Any, value: Any) -> None:
    """A template has exactly this value, of exactly this type."""
    found = render(template)
    assert found == value
    assert type(found) is type(value)


def test_a_whole_reference_gives_the_value_itself() -> None:
    """No copy is made, and constant parts are the author's own objects."""
    constant = {"deep": [1, 2, {"x": "y"}]}
    found = render({"all": "${nodes.parse.output}", "constant": constant})
    assert found["all"] is OUTPUTS["parse"]
    assert found["constant"] is constant


UNREADABLE = [
    ("${", "column 3: a reference is missing"),
    ("${}", "column 3: a reference is missing"),
    ("a ${input.topic", r"column 3: the reference has no closing \}"),
    ("${inptu.x}", r"column 3: 'inptu' is nothing to refer to; did you mean 'input'\?"),
    ("${zzz}", "there are input, nodes"),
    ("${nodes}", "a node's id is missing"),
    ("${nodes[0].output}", "a node's id is missing"),
    ("${nodes.parse.total}", r"after a node's id comes .output, as in \$\{nodes.parse.output\}"),
    ("$nodes.parse is here", r"column 13: inside text a reference needs braces"),
    ("${input.x y}", r"column 11: 'y' cannot stand in a reference"),
    ("${input..x}", "column 8: '.' cannot stand"),
    ("${input.x > 1}", "column 11: '>' cannot stand"),
    ("${input[-1]}", r"column 8: '\[' cannot stand"),
    ('${input["\\x"]}', "is no JSON text"),
]


@pytest.mark.parametrize(("template", "message"), UNREADABLE, ids=[template for template, _ in UNREADABLE])
def test_bad_syntax_is_refused_with_its_column(template: str, message: str) -> None:
    """The error has the place in the document, the column in the text and the way out."""
    with pytest.raises(ReferenceSyntaxError, match=message) as caught:
        parse_template({"a": [template]})
    assert str(caught.value).startswith("/a/0, column ")
    assert caught.value.details["place"] == "/a/0"


LACKING = [
    ("${input.nope.x}", r"\$\{input.nope.x\} does not exist: input has no key 'nope'; it has 'topic', 'a b'"),
    ("${input.many.x}", "it has 'k0', .*'k9', and 2 more$"),
    ("x ${input.topic.x}", "input.topic is a text, so it has no 'x'"),
    ('${input["a b"].x[7]}', r'input\["a b"\].x has no element 7; it is a list of 2'),
    ('${input["a b"].x.y}', "has no element 'y'"),
    ('${input["a b"].x[1].y.z}', r"x\[1\].y is null"),
    ("${nodes.parse.output.nope}", "nodes.parse.output has no key 'nope'; it has 'total'"),
    ("${nodes.nope.output.x}", "has no value here: there is no nodes.nope.output"),
    ("${error.message}", "has no value here: there is no error"),
    ("${input[0]}", "input has no key 0"),
]


@pytest.mark.parametrize(("template", "message"), LACKING, ids=[template for template, _ in LACKING])
def test_a_missing_path_names_what_is_there(template: str, message: str) -> None:
    """The failure tells the whole reference, how far it goes, and the keys available."""
    with pytest.raises(ReferenceMissing, match=message):
        render({"x": template})


def test_references_are_known_before_rendering() -> None:
    """Validation sees root, node, path and place of each, in document order."""
    template = parse_template({"a/b": ["x", "${nodes.p-q.output.k[0]} ${item}"], "c": "$nodes.parse.total"})
    assert [(r.text, r.root, r.node, r.path, r.place) for r in template.references] == [
        ("${nodes.p-q.output.k[0]}", "nodes", "p-q", ("k", 0), "/a~1b/1"),
        ("${item}", "item", None, (), "/a~1b/1"),
        ("$nodes.parse.total", "nodes", "parse", ("total",), "/c"),
    ]
    assert not template.is_constant
    assert parse_template({"a": "$${item}"}).is_constant


def test_only_the_given_roots_are_allowed() -> None:
    """A caller may narrow what can be referred to."""
    with pytest.raises(ReferenceSyntaxError, match="'item' is nothing to refer to"):
        parse_template("${item}", roots=("input",))
