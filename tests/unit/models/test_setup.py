"""What a process says of its models when it starts: keys that are missing, providers that do not exist."""

from __future__ import annotations

import logging

import pytest

from tenuto import App
from tenuto.errors import InvalidGraph
from tenuto.ports.providers import Provider, Providers
from tenuto.wiring import running


def _app(model: str) -> App:
    app = App("asking")
    app.workflow("w").agent("a", model=model, prompt="p")
    return app


async def test_a_missing_key_is_named_at_the_start_which_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    wanting = Provider(name="far", base_urls=("http://127.0.0.1:9/v1",), key_env="TENUTO_TEST_NO_SUCH_KEY")
    with caplog.at_level(logging.WARNING, "tenuto"):
        async with running("memory:", _app("far:m").catalog(), providers=Providers(providers={"far": wanting})):
            pass
    said = [record.getMessage() for record in caplog.records if "far:m" in record.getMessage()]
    assert len(said) == 1
    assert "TENUTO_TEST_NO_SUCH_KEY" in said[0]


@pytest.mark.parametrize(("model", "hint"), [("opnai:gpt-5", "'openai'"), ("openai:", "openai:MODEL")])
async def test_a_provider_that_does_not_exist_is_a_fault_of_the_graph(model: str, hint: str) -> None:
    with pytest.raises(InvalidGraph, match="/nodes/0/config/model") as caught:
        async with running("memory:", _app(model).catalog()):
            pass
    assert hint in str(caught.value)


async def test_models_of_the_app_and_offline_ones_need_no_provider(caplog: pytest.LogCaptureFixture) -> None:
    app = _app("m:x")
    app.model("m:x", object())
    app.workflow("v").agent("a", model="offline:echo", prompt="p")
    with caplog.at_level(logging.WARNING, "tenuto"):
        async with running("memory:", app.catalog()):
            pass
    assert "cannot be asked" not in caplog.text
