"""Keys of kept results: the same for the same work however it is spelt, another one for anything that matters."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from tenuto.domain.base.values import pack
from tenuto.domain.graph.compile import compile_definition
from tenuto.domain.graph.model import Definition
from tenuto.domain.graph.plan import Plan
from tenuto.domain.graph.validate import load_definition
from tenuto.domain.runs.memo import key_of
from tenuto.domain.runs.state import RunState, Step
from tenuto.runtime.worker.values import RunEnv, Values

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12,
)


def definition(**fields: Any) -> Definition:
    node = {"id": "a", "kind": "function", "config": {"handler": "h"}, "effect": "pure", **fields}
    return load_definition({"name": "w", "nodes": [node]})


def key(given_: Any, code: str = "1", name: str = "a", guidance: str = "", run: str = "r", **fields: Any) -> str:
    plan: Plan = compile_definition(definition(**{**fields, "id": name}))
    out, blob = pack(given_)
    values = Values()
    state = RunState(id=run, workflow="w" + run, input=Raw(blob) if blob else out, t=len(run))
    state.steps[name] = Step(status="running", attempt=1, guidance=guidance)
    env = RunEnv(values, {}, lambda *_: False, lambda: None)  # type: ignore[arg-type,return-value]
    return key_of(state, plan, env, name, {"handler": code})


def shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: shuffled(member) for name, member in reversed(list(value.items()))}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(JSON)
@settings(max_examples=60, deadline=None)
def test_the_order_of_fields_does_not_matter(value: Any):
    assert key(value) == key(shuffled(value)) == key(msgspec.json.decode(msgspec.json.encode(value)))


@given(JSON, JSON)
@settings(max_examples=60, deadline=None)
def test_another_input_has_another_key(one: Any, other: Any):
    same = msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")
    assert (key(one) == key(other)) == same


def test_what_cannot_change_the_result_is_not_in_the_key():
    same = [
        key({"n": 1}), key({"n": 1}, name="b"), key({"n": 1}, run="another"), key({"n": 1}, description="x"),
        key({"n": 1}, timeout_s=3), key({"n": 1}, retry={"attempts": 3}), key({"n": 1}, cache="read_through"),
        key({"n": 1}, effect="idempotent", deterministic=True), key({"n": 1}, config={"handler": "h", "name": "called"}),
        key({"n": 1}, input="${input}"), key({"n": 1}, on_error="skip"),
    ]
    assert len(set(same)) == 1


def test_everything_else_is():
    given_ = {"n": 1, "items": [1, 2]}
    keys = [
        key(given_), key(given_, code="2"), key(given_, config={"handler": "g"}), key(given_, guidance="try harder"),
        key(given_, output_schema={"type": "object"}), key(given_, input={"n": "${input.n}"}), key({"n": 1.0, "items": [1, 2]}),
        key(given_, kind="transform", config={"value": "1"}), key(given_, kind="transform", config={"value": "2"}),
        key(given_, kind="transform", config={"template": "${input.n}"}),
        key(given_, kind="filter", config={"over": "${input.items}", "when": "item > 1"}),
        key(given_, kind="filter", config={"over": "${input.items}", "when": "item > 2"}),
        key(given_, kind="transform", config={"value": "run.id"}), key(given_, run="s", kind="transform", config={"value": "run.id"}),
    ]
    assert len(set(keys)) == len(keys)
