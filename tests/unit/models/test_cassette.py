"""A cassette: recorded from a real server, replayed without it, and no answer made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenuto.ports.model import Message, ModelRefused, ModelReply, ModelRequest
from tenuto.testing import CassetteModel, ScriptedModel

ASK = ModelRequest(model="p:m", messages=(Message("user", "capital of France?"),))
OTHER = ModelRequest(model="p:m", messages=(Message("user", "and of Spain?"),))


async def test_it_replays_what_it_recorded_and_refuses_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "france.json"
    real = ScriptedModel([ModelReply(content="Paris", input_tokens=5, output_tokens=1, details={"parts": [1]}), "Paris!"])
    recording = CassetteModel(path, real)
    first = await recording.request(ASK, key="1")
    bound = recording.bound(ASK)
    await recording.request(ASK, key="2")

    replaying, pieces = CassetteModel(path), list[str]()
    assert await replaying.request(ASK, key="x", on_delta=pieces.append) == first
    assert (await replaying.request(ASK, key="x")).content == "Paris!"
    assert (await replaying.request(ASK, key="x")).content == "Paris!"
    assert (pieces, replaying.bound(ASK)) == (["Paris"], bound)
    assert len(real.requests) == 2
    with pytest.raises(ModelRefused, match=r"Spain.*record it"):
        await replaying.request(OTHER, key="x")
    with pytest.raises(ModelRefused, match=r"france\.json"):
        replaying.bound(OTHER)


async def test_what_is_missing_is_recorded_and_the_rest_kept(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    await CassetteModel(path, ScriptedModel(["Paris"])).request(ASK, key="1")
    model = ScriptedModel(["Madrid"])
    again = CassetteModel(path, model)
    assert [(await again.request(one, key="2")).content for one in (ASK, OTHER)] == ["Paris", "Madrid"]
    assert model.requests == [OTHER]


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text('{"version": 0}')
    with pytest.raises(ValueError, match="record it anew"):
        CassetteModel(path)
