"""Spans and metrics of real runs, as a collector gets them over OTLP/HTTP and Prometheus by scraping."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from tenuto import App, Permanent
from tenuto.domain.runs.trace import is_sampled, span_of, trace_of, traceparent_of
from tenuto.runtime.services.requests import StartRun
from tenuto.runtime.telemetry.options import TelemetryOptions
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.wiring import running
from tests.integration.mcp.server import Ledger, serving

CANARY = "canary-7f3a"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """A collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.metrics: dict[str, float] = {}
        self.raw: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.take(self.path, body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def take(self, path: str, body: bytes) -> None:
        self.raw.append(body)
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
                for scope in resource.scope_spans:
                    self.spans.extend(scope.spans)
        elif path == "/v1/metrics":
            for found in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in found.scope_metrics:
                    for metric in scope.metrics:
                        for point in [*metric.sum.data_points, *metric.gauge.data_points]:
                            label = ",".join(a.value.string_value for a in point.attributes)
                            self.metrics[f"{metric.name}{{{label}}}"] = point.as_double or point.as_int
        else:
            raise AssertionError(path)

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def attributes(span: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def app(heard: list[str]) -> App:
    made = App("t")

    @made.tool
    async def look(what: str) -> str:
        from tenuto.runtime.tools.tracing import traceparent

        heard.append(traceparent.get())
        return f"{what} {CANARY}"

    @made.step
    async def fail(text: str) -> None:
        raise Permanent(f"cannot {text}")

    flow = made.workflow("good")
    flow.tool(look, id="work", args={"what": "${input.text}"})
    flow.agent("think", prompt="say ${input.text}", after="work")
    made.workflow("bad").step(fail, id="fail", input={"text": "${input.text}"})
    made.workflow("outer").subflow("inner", workflow="bad", input={"text": "${input.text}"})
    return made


def measured(heard: list[str], collector: Collector, **options: Any) -> Any:
    telemetry = TelemetryOptions(export=True, endpoint=collector.url, service="mine", counts=True, **options)
    return running("memory:", app(heard).catalog(), telemetry=telemetry, options=WorkerOptions(idle_s=0.05))


async def test_a_run_becomes_a_tree_of_spans(collector: Collector) -> None:
    """Run, try, tool and model spans hang together under the caller's, and hold no payload."""
    heard: list[str] = []
    async with measured(heard, collector) as runtime:
        engine = runtime.engine
        run = (await engine.runs.submit(StartRun(workflow="good", input={"text": CANARY}, traceparent=CALLER))).id
        view = await engine.runs.result(run, timeout_s=20)
        assert view.status == "completed"
        text, kind = await engine.metrics()
        assert kind.startswith("text/plain")
    spans = {span.name: span for span in collector.spans}
    assert {span.trace_id.hex() for span in spans.values()} == {CALLER.split("-")[1]}
    root = spans["run good"]
    assert root.parent_span_id.hex() == CALLER.split("-")[2]
    assert root.span_id.hex() == span_of(run)
    assert attributes(root)["tenuto.status"] == "completed"
    for step in ("step work", "step think"):
        assert spans[step].parent_span_id == root.span_id
        assert attributes(spans[step])["tenuto.attempt"] == 1
        assert root.start_time_unix_nano <= spans[step].end_time_unix_nano <= root.end_time_unix_nano
    tool = spans["execute_tool look"]
    assert tool.parent_span_id == spans["step work"].span_id
    assert attributes(tool)["gen_ai.operation.name"] == "execute_tool"
    assert attributes(tool)["gen_ai.tool.name"] == "look"
    model = next(span for span in collector.spans if span.name.startswith("chat "))
    said = attributes(model)
    assert said["gen_ai.operation.name"] == "chat" and said["gen_ai.request.model"]
    assert said["gen_ai.usage.input_tokens"] > 0 and said["gen_ai.usage.output_tokens"] > 0
    assert heard == [f"00-{CALLER.split('-')[1]}-{tool.span_id.hex()}-01"], "the tool goes on with the trace"
    assert collector.services == {"mine"}
    assert not any(CANARY.encode() in body for body in collector.raw)
    counted = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode()) for sample in family.samples
    }  # fmt: skip
    assert counted["tenuto_runs", "completed"] == 1
    assert counted["tenuto_steps_total", "completed"] == 2
    assert counted["tenuto_step_seconds_count",] == 2
    assert counted["tenuto_tokens_total", "input"] == said["gen_ai.usage.input_tokens"]
    assert counted["tenuto_lease_takeovers_total",] == 0
    assert counted["tenuto_commit_records_count",] > 0
    assert collector.metrics["tenuto_steps{completed}"] == 2, "the collector was sent the same"


async def test_failures_name_their_kind_and_children_stay_in_the_trace(collector: Collector) -> None:
    """`error.type` is the failure's code; a sub-flow's run hangs below the step that started it."""
    async with measured([], collector) as runtime:
        run = (await runtime.engine.runs.start("outer", {"text": CANARY})).id
        await runtime.engine.runs.get(run, wait_s=20)
    spans = {span.name: span for span in collector.spans}
    assert attributes(spans["step fail"])["error.type"] == "step.permanent"
    assert spans["run bad"].parent_span_id == spans["step inner"].span_id
    assert len({span.trace_id for span in collector.spans}) == 1
    assert not any(CANARY.encode() in body for body in collector.raw)


async def test_a_failed_or_lost_call_of_an_mcp_server_is_marked_as_one_that_succeeded(collector: Collector) -> None:
    """Its span has the tool's name and `tenuto.mcp`, whatever became of it; a tool of one's own is not marked."""
    ledger, made = Ledger(), App("t")

    @made.tool(effect="idempotent")
    async def own() -> None:
        raise Permanent("no")

    async with serving(ledger) as port:
        made.mcp("ours", url=f"http://127.0.0.1:{port}/mcp", timeout_s=0.3)
        made.workflow("fails").tool("ours.fail", id="f", args={"why": CANARY})
        made.workflow("hangs").tool("ours.hang", id="h", args={})
        made.workflow("own").tool(own, id="o", args={})
        telemetry = TelemetryOptions(export=True, endpoint=collector.url)
        async with running("memory:", made.catalog(), telemetry=telemetry) as runtime:
            engine = runtime.engine
            for name in ("fails", "own"):
                assert (await engine.runs.execute(name, {})).status == "failed"
            lost = await engine.runs.start("hangs", {})
            async for _ in engine.history.stream(lost.id):
                if (await engine.tickets.list(state="open")).items:
                    break
    spans = {span.name: attributes(span) for span in collector.spans if span.name.startswith("execute_tool")}
    assert {name: said["tenuto.mcp"] for name, said in spans.items()} == {
        "execute_tool ours.fail": True, "execute_tool ours.hang": True, "execute_tool own": False,
    }  # fmt: skip
    assert spans["execute_tool ours.fail"]["error.type"] == "tool.failed"
    assert spans["execute_tool ours.hang"]["error.type"] == "call.unknown"
    assert not any(CANARY.encode() in body for body in collector.raw)


async def test_only_the_share_asked_for_is_sent(collector: Collector) -> None:
    """At ratio 0 only what a caller sampled is exported; whole traces are, or nothing of them."""
    async with measured([], collector, ratio=0.0) as runtime:
        engine = runtime.engine
        await engine.runs.execute("bad", {"text": "x"})
        for context in (CALLER, CALLER[:-1] + "0", "nonsense"):
            run = (await engine.runs.submit(StartRun(workflow="bad", input={"text": "x"}, traceparent=context))).id
            await engine.runs.get(run, wait_s=20)
    assert {span.name for span in collector.spans} == {"run bad", "step fail"}
    assert len(collector.spans) == 2


async def test_a_collector_that_is_away_costs_spans_only() -> None:
    """Runs go on, the queue is bounded, and what did not fit is counted."""
    telemetry = TelemetryOptions(export=True, endpoint="http://127.0.0.1:9", counts=True, queue=4)
    async with running("memory:", app([]).catalog(), telemetry=telemetry) as runtime:
        for _ in range(5):
            assert (await runtime.engine.runs.execute("good", {"text": "x"})).status == "completed"
        text, _ = await runtime.engine.metrics()  # type: ignore[misc]
    (line,) = [line for line in text.decode().splitlines() if line.startswith("tenuto_spans_dropped_total ")]
    assert float(line.split()[1]) > 0


@pytest.mark.parametrize("text", ["", "x", "00-" + "0" * 32 + "-b7ad6b7169203331-01", CALLER + "-more", "ff" + CALLER[2:]])
def test_a_bad_context_is_left_out(text: str) -> None:
    assert traceparent_of(text) == ""


def test_ids_follow_from_the_run() -> None:
    """Whoever takes a run over works out the same ids, and the same decision whether to export."""
    first = trace_of("r", "")
    assert first == trace_of("r", "") != trace_of("s", "")
    assert span_of("r", "a", 1) != span_of("r", "a", 2) != span_of("r", "a", 1, "c")
    assert traceparent_of("01" + CALLER[2:] + "-later") == CALLER, "later versions may say more"
    share = sum(is_sampled(trace_of(str(n), ""), 0.25) for n in range(2000)) / 2000
    assert 0.2 < share < 0.3
