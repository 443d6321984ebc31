"""OpenTelemetry: a span for each request, sent to a collector.

Nothing here is used without `serve --otel`. Spans have the attributes of the HTTP semantic conventions without
addresses, paths and queries, and the model, its version and the number of responses; no texts and no ids.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from threading import Thread
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgedistill_serve.errors import TracingUnavailable
from edgedistill_serve.server.log_lines import LOG_FIELDS, add_log_fields
from edgedistill_serve.server.middleware.request_log import PROBES, logged_method
from edgedistill_serve.server.queue.work_item import TIMINGS, Timing
from edgedistill_serve.server.request.body_reader import find_header

Report = Callable[[str, BaseException | None], object]
"""As `Service.report`."""
_PART = "export of traces"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_INSTALL = 'Install it: pip install "edgedistill-serve[otel]".'
_SERVER_ERROR = 500


class Tracing:
    """ASGI middleware that records a span for each request, except those of health checks and of `/metrics`.

    A valid header ``traceparent`` (W3C) makes the span a part of the caller's trace. ``tracestate`` and ``baggage`` may
    contain any text, and are ignored. A scored request has the spans ``queue``, ``tokenize`` and ``model`` of its
    slowest response.

    Args:
        app: The application.
        provider: A tracer provider of OpenTelemetry.
    """

    def __init__(self, app: ASGIApp, provider: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._app = app
        self._trace = trace
        self._no_context = Context()
        self._propagator = TraceContextTextMapPropagator()
        self._tracer = provider.get_tracer("edgedistill-serve", version("edgedistill-serve"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        kind = self._trace.SpanKind.SERVER
        span = self._tracer.start_span(logged_method(scope), self._parent(scope), kind=kind)
        add_log_fields(scope, trace_id=f"{span.get_span_context().trace_id:032x}")
        scope[TIMINGS] = []
        try:
            await self._app(scope, receive, note_status)
        finally:
            if span.is_recording():
                self._describe(span, scope, status)
            span.end()

    def _parent(self, scope: Scope) -> Any:
        sent = find_header(scope, b"traceparent")
        if sent is None:
            return self._no_context
        return self._propagator.extract({"traceparent": sent.decode("latin-1")}, self._no_context)

    def _describe(self, span: Any, scope: Scope, status: int) -> None:
        method, route = logged_method(scope), getattr(scope.get("route"), "path", None)
        fields: Mapping[str, Any] = scope[LOG_FIELDS]
        span.update_name(f"{method} {route}" if route else method)
        attributes = {
            "http.request.method": "_OTHER" if method == "(other)" else method,
            "http.route": route,
            "http.response.status_code": status or None,
            "error.type": str(status) if status >= _SERVER_ERROR else None if status else "client closed",
            "url.scheme": scope["scheme"],
            "network.protocol.version": scope["http_version"],
            **{f"edgedistill.{name}": fields.get(name) for name in ("model", "version", "rows")},
        }
        span.set_attributes({name: value for name, value in attributes.items() if value is not None})
        if status >= _SERVER_ERROR:
            span.set_status(self._trace.StatusCode.ERROR)
        for started, timings in scope[TIMINGS]:
            if timings:
                self._add_stages(span, started, max(timings, key=_seconds))

    def _add_stages(self, span: Any, started: int, timing: Timing) -> None:
        context = self._trace.set_span_in_context(span, self._no_context)
        stages = (
            ("queue", timing.queue_seconds),
            ("tokenize", timing.tokenize_seconds),
            ("model", timing.model_seconds),
        )
        for name, seconds in stages:
            ended = started + int(1e9 * seconds)
            self._tracer.start_span(name, context, start_time=started).end(ended)
            started = ended


def open_provider(report: Report) -> Any | None:
    """Return a tracer provider that is configured by the variables ``OTEL_…`` of the environment.

    Args:
        report: Called after each export with its error, or None.

    Returns:
        The provider; None if ``OTEL_SDK_DISABLED`` or ``OTEL_TRACES_EXPORTER=none`` turns traces off.

    Raises:
        TracingUnavailable: OpenTelemetry is not installed, or the variables name no collector that can be used.
    """
    name = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if name == "none" or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = _new_exporter(name)
        provider = TracerProvider(resource=Resource.create(_own_attributes()), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(_ReportedExporter(exporter, report)))
    except ImportError:
        raise TracingUnavailable("--otel requires OpenTelemetry", hint=_INSTALL) from None
    except ValueError as error:
        raise TracingUnavailable(f"a variable OTEL_… has a value that cannot be used ({error})") from None
    return provider


def close_provider(provider: Any | None, seconds: float) -> None:
    """Send the last spans of a provider, if there is one, within a time limit."""
    if provider is None:
        return
    closing = Thread(target=provider.shutdown, daemon=True)
    closing.start()
    closing.join(seconds)


def _new_exporter(name: str) -> Any:
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    if name != "otlp":
        raise TracingUnavailable(
            f"the exporter {name!r} is not supported",
            where="OTEL_TRACES_EXPORTER",
            hint="Set it to otlp, console or none.",
        )
    protocol = next((value for each in _PROTOCOLS if (value := os.environ.get(each, "").strip())), _PROTOCOL)
    if protocol != _PROTOCOL:
        raise TracingUnavailable(
            f"the protocol {protocol!r} is not supported", where=_PROTOCOLS[1], hint=f"Set it to {_PROTOCOL}."
        )
    if not any(os.environ.get(each, "").strip() for each in _ENDPOINTS):
        raise TracingUnavailable(
            "--otel needs the address of a collector",
            where=_ENDPOINTS[1],
            hint="Set it, for example, to http://localhost:4318.",
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _own_attributes() -> dict[str, str]:
    # What is given here takes precedence over the environment.
    is_named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    names = {} if is_named else {"service.name": "edgedistill-serve"}
    return {**names, "service.version": version("edgedistill-serve")}


class _ReportedExporter:
    """Passes spans to an exporter, and reports whether it could send them."""

    def __init__(self, exporter: Any, report: Report) -> None:
        self._exporter = exporter
        self._report = report

    def export(self, spans: Sequence[Any]) -> Any:
        result = self._exporter.export(spans)
        is_sent = result.name == "SUCCESS"
        self._report(_PART, None if is_sent else TracingUnavailable("the collector did not accept the spans"))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return bool(self._exporter.force_flush(timeout_millis))


def _seconds(timing: Timing) -> float:
    return timing.queue_seconds + timing.tokenize_seconds + timing.model_seconds
