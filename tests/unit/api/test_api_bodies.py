"""Request bodies: YAML is read as JSON would be, and every fault has its place."""

from __future__ import annotations

import pytest

from tenuto.api.bodies import check, read_yaml, renamed
from tenuto.api.errors import Refused
from tenuto.api.schemas import ReasonIn, ReplayIn, RunIn


def _refusal(text: str, limit: int = 100_000) -> Refused:
    with pytest.raises(Refused) as caught:
        read_yaml(text.encode(), limit=limit)
    return caught.value


def test_yaml_has_the_types_of_json() -> None:
    """Dates stay text, `on` and `no` are words, anchors may be used."""
    text = "on: 2024-01-01\ncountry: no\nyes: true\nbase: &b {a: 1}\ncopy: *b\n"
    expected = {"on": "2024-01-01", "country": "no", "yes": True, "base": {"a": 1}, "copy": {"a": 1}}
    assert read_yaml(text.encode(), limit=1000) == expected


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "a: !!python/object/apply:os.system [ls]", "a: [", "1: one", "a: b: c", "\x00", "? [a]\n: b"]
)
def test_yaml_without_a_json_form_is_refused(text: str) -> None:
    """Repeated and odd keys, tags and broken text are faults of the request."""
    assert _refusal(text).status == 400


def test_yaml_that_multiplies_is_refused() -> None:
    """A small document may not stand for a huge one."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert _refusal("\n".join(lines)).status == 400


def test_yaml_is_limited_in_size_and_depth() -> None:
    """Too large is 413, too deep is 400."""
    assert _refusal("a: " + "x" * 200, limit=100).status == 413
    assert _refusal("[" * 5000 + "]" * 5000).status == 400


def test_faults_have_places_and_hints() -> None:
    """All faults of a body come at once, by JSON pointer, with the nearest field."""
    with pytest.raises(Refused) as caught:
        check(RunIn, {"workflow": "x", "prority": "high", "labels": {"a": 1}, "budget": {"tokens": True}})
    found = {problem.place: problem for problem in caught.value.problems}
    assert set(found) == {"/prority", "/labels/a", "/budget/tokens"}
    assert "priority" in found["/prority"].hint
    assert caught.value.status == 422


def test_exactly_one_source_of_a_run() -> None:
    """None and two are refused."""
    for body in ({}, {"workflow": "x", "steps": []}):
        with pytest.raises(Refused, match="not valid"):
            check(RunIn, body)


def test_synonyms_are_accepted_but_not_beside_the_name() -> None:
    """`fromStep` is `from_step`; both at once contradict each other."""
    assert check(ReplayIn, renamed({"fromStep": 2}, {"fromStep": "from_step"})).from_step == 2
    with pytest.raises(Refused):
        renamed({"fromStep": 2, "from_step": 3}, {"fromStep": "from_step"})


def test_instants_need_an_offset() -> None:
    """RFC 3339 text and milliseconds are instants, a local time is none."""
    assert check(RunIn, {"workflow": "x", "start_at": "1970-01-01T00:00:01Z"}).start_at == 1000
    assert check(RunIn, {"workflow": "x", "start_at": 5}).start_at == 5
    for wrong in ("tomorrow", "2030-01-01T00:00:00", -1, True):
        with pytest.raises(Refused):
            check(RunIn, {"workflow": "x", "start_at": wrong})


@pytest.mark.parametrize("name", ["str", "a[b", "[", ""])
def test_a_field_nobody_knows_is_named_however_it_reads(name: str) -> None:
    """Names that look like a type of ours are somebody's own all the same: told, and no fault of the server."""
    with pytest.raises(Refused) as caught:
        check(ReasonIn, {name: {}})
    (problem,) = caught.value.problems
    assert repr(name) in problem.message
    assert problem.code == "request.extra_forbidden"
