"""The scripted providers speak their protocols, keep their logs, and fail as told."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tenuto.testing.servers import Answer, AnthropicServer, ModelServer, OpenAiServer, Rates, ToolUse
from tenuto.testing.servers.script import Document


async def _post(server: ModelServer, key: str = "", **body: object) -> httpx.Response:
    path = "/chat/completions" if isinstance(server, OpenAiServer) else "/v1/messages"
    headers = {"idempotency-key": key, "authorization": "Bearer s", "x-api-key": "s"}
    said = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **body}
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(server.base_url + path, json=said, headers=headers)


@pytest.mark.parametrize("kind", [OpenAiServer, AnthropicServer])
async def test_answers_whole_and_streamed_are_billed_alike(kind: type[ModelServer]) -> None:
    answer = Answer(text="Paris", tools=(ToolUse("f", {"a": 1}),), input_tokens=100, cached_tokens=40, output_tokens=7)
    async with kind([answer], rates=Rates(input="3", output="15", cached="0.3")) as server:
        whole = await _post(server, "k1")
        streamed = await _post(server, "k2", stream=True)
    assert "Paris" in whole.text
    assert all(part in streamed.text for part in ('"Pari', '"s"', "event: message_stop" if kind is AnthropicServer else "[DONE]"))
    assert [(bill.key, bill.cost_usd_micros) for bill in server.bills] == [("k1", 60 * 3 + 12 + 105), ("k2", 297)]
    assert server.billed_usd_micros == 594


async def test_faults_come_in_order_and_a_whole_answer_is_kept_for_its_key() -> None:
    script = [Answer(status=429, retry_after="7", message="slow down"), Answer(text="abcdefgh", cut_after=1), "one", "two"]
    async with OpenAiServer(script) as server:
        busy = await _post(server, "k")
        assert (busy.status_code, busy.headers["retry-after"]) == (429, "7")
        with pytest.raises(httpx.RemoteProtocolError):
            await _post(server, "k", stream=True)
        assert [(await _post(server, key)).json()["choices"][0]["message"]["content"] for key in ("k", "k", "l")] == ["one", "one", "two"]
    assert [bill.n for bill in server.bills] == [2, 3, 4, 5]


async def test_a_held_answer_waits_and_a_wrong_secret_is_refused() -> None:
    async with OpenAiServer([Answer(text="late", hold=True)], secret="s") as server:
        asking = asyncio.ensure_future(_post(server))
        await server.until_asked(1)
        assert not asking.done()
        server.release()
        assert (await asking).status_code == 200
    async with OpenAiServer(secret="other") as server:
        assert (await _post(server)).status_code == 401
    assert not server.bills


async def test_answers_by_turn_do_not_depend_on_repeats() -> None:
    async with OpenAiServer(Document(by="turn", answers=("first", "second"))) as server:
        turn = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "first"}]
        for expected, messages in (("second", turn), ("first", turn[:1]), ("second", turn)):
            assert expected in (await _post(server, messages=messages)).text


async def test_a_provider_runs_as_a_process(tmp_path: Path) -> None:
    script, log = tmp_path / "script.json", tmp_path / "log.jsonl"
    script.write_text(json.dumps({"answers": [{"text": "hello", "input_tokens": 5, "output_tokens": 2}], "rates": {"input": "1"}}))
    command = [sys.executable, "-m", "tenuto.testing.servers", "anthropic", "--script", str(script), "--log", str(log)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip()
        answer = httpx.post(f"{url}/v1/messages", json={"model": "m", "messages": []}, headers={"idempotency-key": "k"}, trust_env=False)
        assert answer.json()["content"] == [{"type": "text", "text": "hello"}]
        assert [(line["event"], line["key"]) for line in map(json.loads, log.read_text().splitlines())] == [("asked", "k"), ("billed", "k")]
    finally:
        process.stdin.close()
        assert process.wait(10) == 0
        process.stdout.close()
