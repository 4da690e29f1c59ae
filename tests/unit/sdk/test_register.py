"""Workflows that exist already are registered from whatever they exist as."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tenuto import App
from tenuto.errors import InvalidGraph

DATA: dict[str, Any] = {"name": "w", "nodes": [{"id": "a", "kind": "transform", "config": {"value": "1"}}], "edges": []}
YAML = "name: w\nnodes:\n  - {id: a, kind: transform, config: {value: '1'}}\n"


@pytest.mark.parametrize("form", ["data", "json", "yaml", "bytes", "path", "path as text"])
def test_every_form_gives_the_same_definition(form: str, tmp_path: Path) -> None:
    """Data, text and files of both kinds."""
    path = tmp_path / "w.yaml"
    path.write_text(YAML)
    given: Any = {
        "data": DATA, "json": json.dumps(DATA), "yaml": YAML, "bytes": YAML.encode(), "path": path, "path as text": str(path),
    }[form]
    app = App()
    assert app.register(given) == App().register(DATA)
    assert [definition.name for definition in app.catalog().workflows] == ["w"]


@pytest.mark.parametrize("given", ["nowhere.yaml", Path("nowhere.json"), "a: [", "plain words", b"\xff\xfe"])
def test_what_is_none_is_refused_with_the_reason(given: Any) -> None:
    """A missing file is named; text that is no definition is a problem like any other."""
    with pytest.raises(InvalidGraph) as caught:
        App().register(given)
    assert caught.value.problems
    if "nowhere" in str(given):
        assert "nowhere" in str(caught.value)
