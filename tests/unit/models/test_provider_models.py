"""Real requests to providers on loopback: answers, bills, and what each fault becomes."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal
from email.utils import formatdate
from time import time
from typing import Any

import pytest

from tenuto.adapters.models.provider import ProviderModels
from tenuto.domain.routing import Routing
from tenuto.errors import StepError
from tenuto.ports.model import (
    Message,
    ModelBusy,
    ModelCut,
    ModelKeyMissing,
    ModelRefused,
    ModelReply,
    ModelRequest,
    ModelUnknown,
    ModelUnreachable,
    PromptTooLong,
    ToolSpec,
)  # fmt: skip
from tenuto.ports.providers import Price, Provider, Providers
from tenuto.testing.servers import Answer, AnthropicServer, ModelServer, OpenAiServer, Rates, ToolUse
from tenuto.testing.servers.http import Exchange, HttpServer
from tenuto.testing.servers.model_server import Asked

CANARY = "sk-canary-3f9c2a"
RATES = Rates(input="3", output="15.1", cached="0.3", cache_write="3.75")
PRICE = Price(
    input_usd=Decimal(3), output_usd=Decimal("15.1"), cached_usd=Decimal("0.3"), cache_write_usd=Decimal("3.75")
)
TOOL = ToolSpec("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
BOTH = pytest.mark.parametrize("kind", ["openai", "anthropic"])
HI = (Message("system", "be brief"), Message("user", "hi"))
SERVERS: dict[str, type[ModelServer]] = {"openai": OpenAiServer, "anthropic": AnthropicServer}


def serve(kind: str, *script: Answer | str) -> ModelServer:
    return SERVERS[kind](list(script) or None, rates=RATES, secret=CANARY)


def models(server: ModelServer, *urls: str, **options: Any) -> ProviderModels:
    kind = "anthropic" if isinstance(server, AnthropicServer) else "openai-compatible"
    provider = Provider(name="p", kind=kind, base_urls=(*urls, server.base_url), key_env="P_KEY", **options)
    return ProviderModels(Providers(providers={"p": provider}, prices={"p:m": PRICE}), environ={"P_KEY": CANARY})


def asking(*messages: Message, **more: Any) -> ModelRequest:
    return ModelRequest(model="p:m", messages=messages or HI, **more)


async def fails(found: ProviderModels, error: type[StepError], **more: Any) -> StepError:
    on_delta = more.pop("on_delta", None)
    with pytest.raises(error) as caught:
        await found.request(asking(**more), key="k", on_delta=on_delta)
    assert CANARY not in f"{caught.value!r} {caught.value} {caught.value.details}"
    return caught.value


@BOTH
async def test_an_answer_its_tokens_and_its_exact_cost(kind: str) -> None:
    answer = Answer(text="Paris", input_tokens=101, cached_tokens=40, cache_write_tokens=0, output_tokens=7)
    async with serve(kind, answer) as server:
        found = models(server)
        reply = await found.request(asking(), key="run/step/1")
        await found.close()
    assert (reply.content, reply.stop, reply.provider, reply.model) == ("Paris", "end", "p", "m")
    assert (reply.input_tokens, reply.cached_tokens, reply.output_tokens) == (101, 40, 7)
    assert reply.cost_usd_micros == server.billed_usd_micros == 301  # 183 + 12 + 105.7, rounded up once
    assert [asked.key for asked in server.asked] == ["run/step/1"]


@BOTH
async def test_text_is_handed_out_as_it_comes_and_the_answer_is_whole(kind: str) -> None:
    async with serve(kind, Answer(text="Paris it is", output_tokens=4, input_tokens=9)) as server:
        found, pieces = models(server), list[str]()
        reply = await found.request(asking(), key="k", on_delta=pieces.append)
        await found.close()
    assert "".join(pieces) == reply.content == "Paris it is"
    assert len(pieces) >= 2
    assert (reply.input_tokens, reply.output_tokens) == (9, 4)


@BOTH
async def test_a_tool_loop_goes_there_and_back(kind: str) -> None:
    script = (
        Answer(tools=(ToolUse("add", {"a": 1}, id="c1"), ToolUse("add", '{"a": tru', id="c2"))),
        Answer(text="done"),
    )
    async with serve(kind, *script) as server:
        found = models(server)
        first = await found.request(asking(tools=(TOOL,)), key="1", on_delta=lambda _: None)
        turn = (
            Message("assistant", first.content, first.tool_calls, details=first.details),
            Message("tool", "2", call_id="c1", name="add"),
            Message("tool", "the arguments are no JSON", call_id="c2", name="add", failed=True),
        )
        last = await found.request(asking(*HI, *turn, tools=(TOOL,)), key="2")
        await found.close()
    assert first.stop == "tools"
    assert [(call.id, call.arguments, call.malformed) for call in first.tool_calls] == [("c1", {"a": 1}, ""), ("c2", {}, '{"a": tru')]
    assert last.content == "done"
    said = str(server.asked[1].body["messages"])
    assert all(part in said for part in ("c1", "c2", "the arguments are no JSON", "tru"))


@BOTH
async def test_tools_have_their_names_though_providers_take_only_plain_ones(kind: str) -> None:
    """A server's tools are `server.tool`; what goes out fits every provider, is the same each time, and comes back."""
    names = ("files.read", "files_read", "files/read", "final_answer", "x" * 80, "x" * 81, "größe")
    offered = tuple(ToolSpec(name, "", TOOL.schema) for name in names)
    uses: list[str] = []

    def answer(asked: Asked) -> Answer:
        uses[:] = [(tool.get("function") or tool)["name"] for tool in asked.body["tools"]][: len(names)]
        return Answer(tools=tuple(ToolUse(name, {"a": 1}, id=f"c{at}") for at, name in enumerate(uses)))

    async with SERVERS[kind](answer, rates=RATES, secret=CANARY) as server:
        found = models(server)
        first = await found.request(asking(tools=offered), key="1")
        sent = list(uses)
        results = [Message("tool", "1", call_id=call.id, name=call.name) for call in first.tool_calls]
        turn = (Message("assistant", "", first.tool_calls, details=first.details), *results)
        again = await found.request(asking(*HI, *turn, tools=offered), key="2")
        await found.close()
    assert tuple(call.name for call in first.tool_calls) == tuple(call.name for call in again.tool_calls) == names
    assert len(set(sent)) == len(names)
    assert sent == uses
    assert sent[1] == "files_read"
    said = str(server.asked[1].body["messages"])
    assert all(f"'{name}'" in said for name in sent)
    assert "files.read" not in said


async def test_what_a_provider_signed_goes_back_to_it() -> None:
    async with serve("anthropic", Answer(text="42", thinking="let me see"), "again") as server:
        found = models(server)
        reply = await found.request(asking(), key="1")
        back = Message("assistant", reply.content, details=reply.details)
        await found.request(asking(*HI, back, Message("user", "sure?")), key="2")
        await found.close()
    thought = server.asked[1].body["messages"][1]["content"][0]
    assert (thought["type"], thought["thinking"], thought["signature"]) == ("thinking", "let me see", "signed-1")


@pytest.mark.parametrize(
    ("kind", "answer"), [
        ("openai", Answer(text='{"choice": "b", "data": [1]}')),
        ("anthropic", Answer(tools=(ToolUse("final_answer", {"choice": "b", "data": [1]}),))),
    ],
)  # fmt: skip
async def test_a_choice_and_data_come_by_the_providers_own_way(kind: str, answer: Answer) -> None:
    schema = {"type": "array", "items": {"type": "integer"}}
    async with serve(kind, answer) as server:
        found = models(server)
        reply = await found.request(asking(choices=("a", "b"), schema=schema), key="k")
        await found.close()
    assert (reply.choice, reply.data, reply.tool_calls, reply.stop) == ("b", [1], (), "end")
    assert "'enum': ['a', 'b']" in str(server.asked[0].body)


async def test_options_pass_and_touch_neither_key_nor_retries() -> None:
    options = {"temperature": 0.5, "min_p": 0.1, "extra_headers": {"Authorization": "x"}, "max_retries": 9}
    async with serve("openai", "ok") as server:
        found = models(server)
        await found.request(asking(options=options, max_tokens=77, seed=3), key="k")
        await found.close()
    body = server.asked[0].body
    assert (body["temperature"], body["min_p"], body["seed"]) == (0.5, 0.1, 3)
    assert 77 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert server.asked[0].key == "k"


@BOTH
async def test_options_change_neither_who_is_asked_nor_how_much_it_may_cost(kind: str) -> None:
    """What was reserved is for this model, one answer and so many tokens; the body says nothing else."""
    more = {"model": "dear", "n": 9, "max_completion_tokens": 10**6, "messages": [], "tools": [{"name": "x"}]}
    async with serve(kind, "ok") as server:
        found = models(server)
        await found.request(asking(options={**more, "extra_body": more, "min_p": 0.1}, max_tokens=77), key="k")
        await found.close()
    body = server.asked[0].body
    assert (body["model"], body["min_p"], len(str(body["messages"])) > 10) == ("m", 0.1, True)
    assert "n" not in body and "tools" not in body
    assert {body.get("max_tokens", 77), body.get("max_completion_tokens", 77)} == {77}


class Elsewhere(HttpServer):
    """Sends everybody to another host."""

    target = ""

    async def exchange(self, exchange: Exchange) -> None:
        await exchange.answer(307, b"", {"location": self.target + exchange.path})


@BOTH
async def test_a_provider_cannot_send_the_key_and_the_prompt_elsewhere(kind: str) -> None:
    async with serve(kind, "stolen") as other, Elsewhere() as door:
        door.target = other.base_url
        setup = Provider(
            name="p", kind="anthropic" if kind == "anthropic" else "openai-compatible",
            base_urls=(f"http://localhost:{door.port}",), key_env="P_KEY",
        )  # fmt: skip
        found = ProviderModels(Providers(providers={"p": setup}, prices={"p:m": PRICE}), environ={"P_KEY": CANARY})
        error = await fails(found, ModelRefused)
        await found.close()
    assert "status 307" in str(error)
    assert other.asked == []


@BOTH
async def test_a_busy_provider_says_when_to_come_back_and_is_asked_once(kind: str) -> None:
    later = formatdate(time() + 600, usegmt=True)
    script = (Answer(status=429, retry_after="7", message=f"slow down {CANARY}"), Answer(status=503, retry_after=later), Answer(status=500))
    async with serve(kind, *script) as server:
        found = models(server)
        waits = [(await fails(found, ModelBusy)).details.get("retry_after_s") for _ in script]
        await found.close()
    assert waits[0] == 7
    assert 590 < waits[1] <= 600
    assert waits[2] is None
    assert len(server.asked) == 3
    assert not server.bills


@BOTH
async def test_a_refusal_keeps_the_providers_words_without_the_key(kind: str) -> None:
    async with serve(kind, Answer(status=400, message="no such parameter"), Answer(status=401, message=f"bad key {CANARY}")) as server:
        found = models(server)
        assert "no such parameter" in str(await fails(found, ModelRefused))
        assert "P_KEY" in str(await fails(found, ModelRefused))
        await found.close()


@BOTH
async def test_a_prompt_the_provider_finds_too_long(kind: str) -> None:
    answer = (
        Answer(status=400, message="This model's maximum context length is 10 tokens", error="context_length_exceeded")
        if kind == "openai" else Answer(status=400, message="prompt is too long: 300000 tokens > 200000 maximum")
    )  # fmt: skip
    async with serve(kind, answer) as server:
        found = models(server)
        await fails(found, PromptTooLong)
        await found.close()


async def test_a_prompt_larger_than_a_known_window_is_not_sent() -> None:
    async with serve("openai") as server:
        found = models(server, window=100)
        with pytest.raises(PromptTooLong, match="100"):
            found.bound(asking(Message("user", "x" * 5000)))
        assert found.bound(asking(Message("user", "x" * 300), max_tokens=20))[0] == 120
    assert not server.asked


@BOTH
@pytest.mark.parametrize("cut_after", [0, 1])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_breaks_off_is_unknown(kind: str, cut_after: int, stream: bool) -> None:
    async with serve(kind, Answer(text="abcdefgh", cut_after=cut_after)) as server:
        found = models(server)
        error = await fails(found, ModelCut, on_delta=(lambda _: None) if stream else None)
        await found.close()
    assert error.details["unknown"] is True
    assert (len(server.asked), len(server.bills)) == (1, 1)


async def test_a_silent_provider_is_given_up_and_unknown() -> None:
    async with serve("openai", Answer(text="x", hold=True)) as server:
        found = models(server, timeout_s=0.2)
        assert (await fails(found, ModelCut)).details["unknown"] is True
        await found.close()


@BOTH
async def test_nobody_at_the_address_is_definite(kind: str) -> None:
    async with serve(kind) as server:
        found = models(server)
    error = await fails(found, ModelUnreachable)
    assert "unknown" not in error.details
    assert "providers.p.base_urls" in str(error)
    await found.close()


async def test_the_first_host_that_can_be_reached_serves() -> None:
    async with serve("openai") as gone:
        dead = gone.base_url
    async with serve("openai", "one", "two") as server:
        found = models(server, dead)
        replies = [await found.request(asking(), key=key) for key in "ab"]
        await found.close()
    assert [reply.content for reply in replies] == ["one", "two"]


async def test_no_more_requests_at_a_time_than_allowed() -> None:
    async with serve("openai", Answer(text="x", hold=True)) as server:
        found = models(server, concurrency=2)
        many = [asyncio.ensure_future(found.request(asking(), key=str(n))) for n in range(5)]
        await server.until_asked(2)
        server.release()
        await asyncio.gather(*many)
        await found.close()
    assert (len(server.asked), server.most_at_once) == (5, 2)
    assert found.slots(asking()) == ("p", 2)


async def test_a_missing_key_names_the_variable_and_nobody_is_asked() -> None:
    found = ProviderModels(environ={})
    request = ModelRequest(model="openai:gpt-5", messages=HI)
    with pytest.raises(ModelKeyMissing, match="OPENAI_API_KEY"):
        found.bound(request)
    with pytest.raises(ModelKeyMissing, match=r"providers\.openai\.key_env"):
        await found.request(request, key="k")
    assert list(found.faults(["openai:gpt-5", "ollama:llama3.2", "offline:echo", "olama:x"])) == ["openai:gpt-5", "olama:x"]


def test_an_unknown_provider_gets_the_nearest_name() -> None:
    with pytest.raises(ModelUnknown, match="'anthropic'"):
        ProviderModels().of("antropic:claude")
    with pytest.raises(ModelUnknown, match="provider:model"):
        ProviderModels().of("gpt-5")


async def test_the_offline_model_needs_nothing() -> None:
    found = ProviderModels(environ={})
    reply = await found.request(ModelRequest(model="offline:echo", messages=HI), key="k")
    assert (reply.provider, reply.cost_usd_micros) == ("offline", 0)


def bound_of(name: str, setup: Providers | None = None) -> tuple[int, int]:
    found = ProviderModels(setup, environ={"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"})
    return found.bound(ModelRequest(model=name, messages=(Message("user", "x" * 1000),), max_tokens=100))


@BOTH
async def test_a_bound_holds_whatever_is_billed(kind: str) -> None:
    written = 900 if kind == "anthropic" else 0  # the other protocol has no such thing
    async with serve(kind, Answer(text="y" * 400, output_tokens=100, cache_write_tokens=written, input_tokens=1000)) as server:
        found = models(server)
        request = asking(Message("user", "x" * 4000), max_tokens=100)
        tokens, cost = found.bound(request)
        reply = await found.request(request, key="k")
        await found.close()
    assert reply.input_tokens + reply.output_tokens <= tokens
    assert server.billed_usd_micros == reply.cost_usd_micros <= cost


@pytest.mark.parametrize(
    ("task_type", "complexity", "input_usd", "output_usd"),
    [
        ("research", "simple", "0", "0"), ("research", "medium", "1", "5"), ("research", "complex", "3", "15"),
        ("code", "complex", "3", "15"), ("planning", "medium", "3", "15"), ("anything", "medium", "1", "5"),
    ],
)  # fmt: skip
def test_what_a_task_costs_as_shipped(task_type: str, complexity: str, input_usd: str, output_usd: str) -> None:
    """Simple ones are done locally and cost nothing; medium, complex and planning ones cost what is documented."""
    routing = Routing()
    name = routing.models(routing.tier(task_type, complexity))[0]
    own = Price(input_usd=Decimal(input_usd), output_usd=Decimal(output_usd), cache_write_usd=Decimal(input_usd) * Decimal("1.25"))
    assert bound_of(name) == bound_of(name, Providers(prices={name: own}))
    assert (bound_of(name)[1] == 0) == (input_usd == "0")


def test_local_models_are_free_and_unknown_ones_never(caplog: pytest.LogCaptureFixture) -> None:
    assert bound_of("ollama:whatever")[1] == 0
    with caplog.at_level(logging.WARNING, "tenuto"):
        tokens, cost = bound_of("openai:never-heard-of")
    assert cost == (tokens - 100) * 15 + 100 * 75
    assert [record.getMessage().count('[prices."openai:never-heard-of"]') for record in caplog.records] == [1]


@BOTH
async def test_the_key_is_seen_nowhere(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with serve(kind, Answer(text="ok"), Answer(status=400, message=CANARY)) as server:
            found = models(server)
            reply: ModelReply = await found.request(asking(), key="first")
            await fails(found, ModelRefused)
            await found.close()
    assert server.asked[0].secret
    seen = f"{reply!r} {found!r} {found.of('p:m')!r} {vars(found)['_models']!r} {caplog.text}"
    assert CANARY not in seen
