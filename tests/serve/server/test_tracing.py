"""Traces with OpenTelemetry: the spans of a request, and the collector that gets them."""

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import httpx
import pytest

from edgedistill_serve import Scorer, TracingUnavailable
from edgedistill_serve.server.app import create_app
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.middleware.api_keys import KeyAccess, create_key
from edgedistill_serve.server.middleware.tracing import close_provider, open_provider
from edgedistill_serve.server.service import Service

from ... import processes
from ...local_server import serving

SECRET = "zebraphone"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
OURS = ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL")


@pytest.fixture
def no_variables(monkeypatch):
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def exporter():
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter, no_variables):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def ask(provider, exporter, bundle):
    """Send requests, and return the answers and the finished spans."""
    service = Service(Limits(), threads=1)
    service.open([Scorer(bundle, threads=1)])

    def ask(*requests, access=None):
        async def send():
            transport = httpx.ASGITransport(create_app(service, access=access, tracer_provider=provider))
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return [await client.request(method, path, **given) for method, path, given in requests]

        exporter.clear()
        return asyncio.run(send()), exporter.get_finished_spans()

    yield ask
    service.close()


def test_a_scored_request_has_a_span_with_its_model_and_the_spans_of_its_stages(ask, bundle):
    responses = ["great job", "why", "so smart"]
    _, spans = ask(("POST", "/v1/score", {"json": {"responses": responses}}))
    *stages, request = spans
    assert (request.name, request.kind.name, request.parent) == ("POST /v1/score", "SERVER", None)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/score",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "edgedistill.model": "praise",
        "edgedistill.version": bundle.manifest.version,
        "edgedistill.rows": 3,
    }
    assert [stage.name for stage in stages] == ["queue", "tokenize", "model"]
    assert all(stage.parent.span_id == request.context.span_id for stage in stages)
    edges = [request.start_time, *(stage.end_time for stage in stages)]
    assert edges == sorted(edges)
    assert all(stage.start_time <= stage.end_time for stage in stages)


def test_the_header_traceparent_makes_the_span_a_part_of_the_callers_trace(ask):
    _, (span,) = ask(("GET", "/v1/models", {"headers": TRACEPARENT}))
    assert f"{span.context.trace_id:032x}" == TRACE
    assert (f"{span.parent.span_id:016x}", span.parent.is_remote) == (PARENT, True)


@pytest.mark.parametrize("sent", ["", "nonsense", f"00-{32 * '0'}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01", "\xff"])
def test_an_invalid_traceparent_starts_a_new_trace(ask, sent):
    _, (span,) = ask(("GET", "/v1/models", {"headers": {"traceparent": sent.encode("latin-1")}}))
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" != TRACE


def test_a_caller_that_does_not_record_its_trace_is_not_recorded_here(ask):
    (answer,), spans = ask(("GET", "/v1/models", {"headers": {"traceparent": f"00-{TRACE}-{PARENT}-00"}}))
    assert (answer.status_code, spans) == (200, ())


def test_probes_have_no_spans(ask):
    paths = ("/livez", "/readyz", "/health", "/metrics", "/v2/health/live")
    _, spans = ask(*(("GET", path, {}) for path in paths))
    assert spans == ()


def test_spans_have_no_text_no_path_no_query_and_no_id_of_the_client(ask):
    headers = {"X-Request-ID": SECRET, "tracestate": f"a={SECRET}", "baggage": f"a={SECRET}", **TRACEPARENT}
    _, spans = ask(
        ("POST", f"/v1/score?{SECRET}", {"json": {"response": SECRET}, "headers": headers}),
        ("POST", "/v1/score", {"json": {"response": f"{SECRET} poisonous"}}),
        ("GET", f"/{SECRET}", {"headers": headers}),
        ("GET", f"/v2/models/{SECRET}", {}),
        (SECRET.upper(), "/v1/score", {}),
    )
    names = [span.name for span in spans if span.kind.name == "SERVER"]
    assert names == ["POST /v1/score", "POST /v1/score", "GET", "GET /v2/models/{model}", "(other) /v1/score"]
    assert SECRET not in "".join(span.to_json() for span in spans).lower()


def test_a_failed_response_and_a_refused_key_are_told_apart(ask):
    _, (span,) = ask(("POST", "/v1/score", {"json": {"response": "poisonous"}}))[0:2]
    assert (span.status.status_code.name, span.attributes["error.type"]) == ("ERROR", "500")
    access = KeyAccess((create_key("a").entry,))
    _, (span,) = ask(("POST", "/v1/score", {"json": {"response": "x"}}), access=access)
    assert (span.status.status_code.name, span.attributes["http.response.status_code"]) == ("UNSET", 401)


def test_the_log_line_has_the_trace(ask, caplog):
    caplog.set_level("INFO", "edgedistill_serve")
    ask(("GET", "/v1/models", {"headers": TRACEPARENT}))
    assert next(record.fields["trace_id"] for record in caplog.records if record.event == "request") == TRACE


def test_without_a_provider_opentelemetry_is_not_imported(bundle):
    code = (
        "import sys, edgedistill_serve.server.process; from edgedistill_serve.server.app import create_app;"
        "from edgedistill_serve.server.limits import Limits; from edgedistill_serve.server.service import Service;"
        "service = Service(Limits(), threads=1); app = create_app(service);"
        "assert 'Tracing' not in [each.cls.__name__ for each in app.user_middleware];"
        "service.close(); print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("given", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_the_variables_turn_traces_off(no_variables, monkeypatch, given):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert open_provider(lambda *_: None) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"OTEL_EXPORTER_OTLP_ENDPOINT: --otel needs the address of a collector\. Set it, for example, to http:"),
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, "the exporter 'jaeger' is not supported. Set it to otlp, console or none"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "the protocol 'grpc' is not supported. Set it to http/protobuf"),
    ],
)
def test_variables_that_name_no_collector_are_one_clear_error(no_variables, monkeypatch, given, message):
    pytest.importorskip("opentelemetry.sdk")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TracingUnavailable, match=message):
        open_provider(lambda *_: None)


def test_without_opentelemetry_the_error_names_the_install_command(bundle, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['opentelemetry'] = None")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [processes.PROGRAMS / "edgedistill-serve", "serve", str(bundle.folder), "--port", "0", "--otel"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    message = 'error: --otel requires OpenTelemetry. Install it: pip install "edgedistill-serve[otel]".\n'
    assert (ended.returncode, ended.stderr) == (2, message)


@contextmanager
def collector(status: int):
    """A collector of traces over HTTP, which answers with a status."""
    received = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):  # the interface
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with serving(Receiver) as address:
        yield address, received


def wait_for(condition) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def variables(address: str) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return {**others, "OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_BSP_SCHEDULE_DELAY": "50"}


def test_a_server_sends_its_spans_to_the_collector_and_the_last_ones_at_its_end(start, bundle):
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with collector(200) as (address, received):
        with start(str(bundle.folder), "--otel", "--json", env=variables(address)) as server:
            answer = server.client.post("/v1/score", json={"response": SECRET}, headers=TRACEPARENT)
            assert answer.status_code == 200
            wait_for(lambda: received)
            server.client.get("/v1/models")
            line = [json.loads(line) for line in server.log.read_text().splitlines()][-2]
            assert (line["route"], line["trace_id"]) == ("/v1/score", TRACE)
        assert {path for path, _ in received} == {"/v1/traces"}
        sent = [ExportTraceServiceRequest.FromString(content) for _, content in received]
        spans = [
            span for each in sent for part in each.resource_spans for scope in part.scope_spans for span in scope.spans
        ]
        names = {span.name for span in spans}
        assert {"POST /v1/score", "queue", "tokenize", "model", "GET /v1/models"} == names
        assert TRACE in {span.trace_id.hex() for span in spans}
        resource = {pair.key: pair.value.string_value for pair in sent[0].resource_spans[0].resource.attributes}
        assert resource["service.name"] == "edgedistill-serve"
        assert SECRET.encode() not in b"".join(content for _, content in received)


def test_a_collector_that_refuses_spans_is_shown_and_requests_are_answered(start, bundle):
    pytest.importorskip("opentelemetry.sdk")
    with collector(400) as (address, received), start(str(bundle.folder), "--otel", env=variables(address)) as server:
        assert server.client.post("/v1/score", json={"response": "x"}).status_code == 200
        wait_for(lambda: server.client.get("/readyz").json().get("faults"))
        assert server.client.get("/readyz").json()["faults"] == {
            "export of traces": "the collector did not accept the spans"
        }
        assert received


def test_the_end_does_not_wait_for_a_collector_that_hangs():
    class Hanging:
        def shutdown(self):
            time.sleep(600)

    started = time.monotonic()
    close_provider(Hanging(), 0.01)
    assert time.monotonic() - started < 60
