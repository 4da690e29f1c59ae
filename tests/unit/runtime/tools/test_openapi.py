"""Operations of an OpenAPI document as tools: what they take, what is sent, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tenuto import App
from tenuto.domain.graph.schema import validate
from tenuto.errors import InvalidSettings
from tenuto.ports.tools import ToolFailed, ToolRefused
from tenuto.runtime.tools.addresses import AddressRefused
from tenuto.runtime.tools.call import invoke
from tenuto.runtime.tools.http import HttpFailed, HttpRefused
from tenuto.runtime.tools.openapi import SpecInvalid
from tenuto.runtime.tools.tool import CallInfo, Tool
from tests.unit.runtime.tools.test_http import Server, reply, serving

PET = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "tag": {"type": "string", "nullable": True},
       "parent": {"$ref": "#/components/schemas/Pet"}}}  # fmt: skip
SPEC: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Pets", "version": "1"},
    "paths": {
        "/pets/{id}": {
            "parameters": [{"$ref": "#/components/parameters/Id"}],
            "get": {"operationId": "getPet", "summary": "Read a pet", "parameters": [
                {"name": "fields", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                {"name": "X-Trace", "in": "header", "schema": {"type": "integer"}},
            ]},
            "delete": {"operationId": "removePet"},
        },
        "/pets": {
            "post": {"operationId": "addPet", "requestBody": {"required": True, "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}}}},
            "put": {"operationId": "upload", "requestBody": {"content": {"image/png": {}}}},
        },
    },
    "components": {
        "parameters": {"Id": {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}, "description": "Which."}},
        "schemas": {"Pet": PET},
    },
}  # fmt: skip


def tools(server: Server | None = None, **options: Any) -> dict[str, Tool]:
    app = App("t")
    base = f"http://127.0.0.1:{server.port}/v1" if server else "https://pets.example/v1"
    app.openapi("pets", SPEC, **{"base_url": base, **options})
    return dict(app.catalog().tools)


def test_each_operation_is_a_tool_with_its_schema_and_effect():
    found = tools()
    assert set(found) == {"pets.getPet", "pets.removePet", "pets.addPet"}
    assert {name: (tool.effect, tool.on_unknown) for name, tool in found.items()} == {
        "pets.getPet": ("idempotent", "retry"), "pets.removePet": ("effect", "ask"), "pets.addPet": ("effect", "ask"),
    }
    read, add = found["pets.getPet"], found["pets.addPet"]
    assert read.description == "Read a pet"
    assert read.schema is not None
    assert read.schema["required"] == ["id"]
    assert read.schema["properties"]["id"]["description"] == "Which."
    assert add.schema is not None
    assert not validate(add.schema, {"body": {"name": "Rex", "tag": None, "parent": {"name": "Max"}}})
    assert validate(add.schema, {"body": {"name": "Rex", "parent": {}}})
    assert validate(add.schema, {})


async def test_parameters_and_body_go_where_they_belong(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PETS_TOKEN", "canary")
    async with serving(lambda *_: reply(200, b'{"ok": true}', "application/json")) as server:
        found = tools(server, auth_env="PETS_TOKEN")
        answer = await invoke(found["pets.getPet"], {"id": "a/b?c", "fields": ["x", "y"], "X-Trace": 7}, CallInfo(key="k1"))
        assert answer == {"ok": True}
        await invoke(found["pets.addPet"], {"body": {"name": "Rex"}}, CallInfo(key="k2"))
    (method, path, heads, _), (sent, where, key_heads, body) = server.asked
    assert (method, path) == ("GET", "/v1/pets/a%2Fb%3Fc?fields=x&fields=y")
    assert (heads["x-trace"], heads["authorization"]) == ("7", "Bearer canary")
    assert "idempotency-key" not in heads
    assert (sent, where, key_heads["idempotency-key"], json.loads(body)) == ("POST", "/v1/pets", "k2", {"name": "Rex"})


@pytest.mark.parametrize("value", ["", ".", ".."])
async def test_a_path_cannot_be_left(value: str):
    with pytest.raises(ToolRefused, match="cannot be a part of its path"):
        await invoke(tools()["pets.getPet"], {"id": value}, CallInfo(key="k"))


@pytest.mark.parametrize(("status", "error"), [(404, ToolRefused), (422, ToolRefused), (429, ToolFailed), (503, ToolFailed)])
async def test_an_error_is_told_with_the_apis_own_words(status: int, error: Any):
    async with serving(lambda *_: reply(status, b"no such pet")) as server:
        with pytest.raises(error, match=f"answered {status}: no such pet"):
            await invoke(tools(server)["pets.getPet"], {"id": "1"}, CallInfo(key="k"))


async def test_a_redirect_to_another_host_is_refused_and_no_key_leaks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PETS_TOKEN", "canary")
    async with serving(lambda *_: reply(200)) as other, serving(
        lambda *_: reply(307, location=f"http://localhost:{other.port}/steal")
    ) as server:
        with pytest.raises(HttpRefused, match="may only call"):
            await invoke(tools(server, auth_env="PETS_TOKEN", auth_header="X-Key")["pets.getPet"], {"id": "1"}, CallInfo(key="k"))
        assert other.asked == []
    async with serving(lambda *_: reply(200)) as other, serving(
        lambda *_: reply(307, location=f"http://127.0.0.1:{other.port}/steal")
    ) as server:
        with pytest.raises(AddressRefused, match="loopback"):
            await invoke(tools(server)["pets.getPet"], {"id": "1"}, CallInfo(key="k"))
        assert other.asked == []


async def test_an_answer_that_drips_for_ever_is_given_up():
    def drip(*_: Any) -> bytes:
        return b"HTTP/1.1 200 X\r\ncontent-type: text/plain\r\ncontent-length: 100\r\n\r\nx"

    async with serving(drip, hold=True) as server:
        with pytest.raises(HttpFailed, match="no whole answer within"):
            await invoke(tools(server, timeout_s=0.2)["pets.getPet"], {"id": "1"}, CallInfo(key="k"))


async def test_a_missing_token_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PETS_TOKEN", raising=False)
    with pytest.raises(InvalidSettings, match="PETS_TOKEN is not set"):
        await invoke(tools(auth_env="PETS_TOKEN")["pets.getPet"], {"id": "1"}, CallInfo(key="k"))


def test_documents_that_cannot_be_used_are_refused(tmp_path: Any):
    with pytest.raises(SpecInvalid, match="did you mean 'getPet'"):
        tools(operations=["getPets"])
    with pytest.raises(SpecInvalid, match="only JSON can be sent"):
        tools(operations=["upload"])
    with pytest.raises(SpecInvalid, match="is no address"):
        App("t").openapi("pets", SPEC)
    with pytest.raises(SpecInvalid, match="no OpenAPI 3 document"):
        App("t").openapi("pets", {"swagger": "2.0"}, base_url="https://x.example")
    with pytest.raises(SpecInvalid, match="cannot be read"):
        App("t").openapi("pets", tmp_path / "none.yaml", base_url="https://x.example")
    (tmp_path / "pets.json").write_text(json.dumps(SPEC))
    assert App("t").openapi("pets", tmp_path / "pets.json", base_url="https://x.example", operations=["addPet"]) == ["pets.addPet"]
