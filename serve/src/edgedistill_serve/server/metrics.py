"""Prometheus metrics of the server. They contain no texts, no ids and no keys."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edgedistill_serve.server.queue.work_item import CompletedWork
from edgedistill_serve.task.task import NO_LABEL

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MetricT = TypeVar("MetricT", Counter, Histogram)
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_SHARES = tuple(step / 10 for step in range(1, 11))
_CONFIDENCE = (*(step / 20 for step in range(4, 20)), 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class CallbackGauge:
    """A gauge whose values are read by a function at each scrape.

    Attributes:
        name: Name without the prefix ``edgedistill_``.
        description: Help text of the metric.
        read: Returns the values, each with its label values.
        labels: Label names.
    """

    name: str
    description: str
    read: Callable[[], Iterable[tuple[tuple[str, ...], float]]]
    labels: tuple[str, ...] = ()


def single_gauge(name: str, description: str, read: Callable[[], float]) -> CallbackGauge:
    """Return a gauge with one value and no labels."""
    return CallbackGauge(name, description, lambda: [((), read())])


disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped in prometheus_client


class ServerMetrics:
    """The metrics of one server, with a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._children: dict[Any, Any] = {}
        common: dict[str, Any] = {"registry": self.registry, "namespace": "edgedistill"}
        self._requests = Counter("requests", "Requests, by path and status.", ["path", "status"], **common)
        self._request_seconds = Histogram(
            "request_seconds", "Seconds from the head of a request to the end of its answer.", ["path"],
            buckets=_SECONDS, **common,
        )  # fmt: skip
        self._stage_seconds = Histogram(
            "stage_seconds", "Seconds of a response in the queue, and of a batch in tokenizer and model.", ["stage"],
            buckets=_SECONDS, **common,
        )  # fmt: skip
        self._batch_rows = Histogram("batch_rows", "Responses per batch.", buckets=_ROWS, **common)
        self._batch_tokens = Histogram("batch_tokens", "Tokens per batch.", buckets=_TOKENS, **common)
        self._tokens = Counter("tokens", "Scored tokens.", **common)
        self._padded = Counter("padded_tokens", "Tokens that the model computed, including padding.", **common)
        self._efficiency = Histogram(
            "padding_efficiency", "Share of the computed tokens of a batch that were not padding.",
            buckets=_SHARES, **common,
        )  # fmt: skip
        self._cached = Counter(
            "recalled", "Responses whose score came from the cache or from an equal response.", ["model"], **common
        )
        self._scores = Counter(
            "scores", "Scores, by label and decision. For a multilabel task, each assigned label counts, or none.",
            ["model", "label", "decision"], **common,
        )  # fmt: skip
        self._decisions = Counter("decisions", "Scored responses, by decision.", ["model", "decision"], **common)
        self._failed = Counter("failed_scores", "Responses that could not be scored.", ["model"], **common)
        self._confidence = Histogram(
            "confidence", "The field probability of the scores.", ["model"], buckets=_CONFIDENCE, **common
        )

    def add_gauges(self, gauges: Sequence[CallbackGauge]) -> None:
        """Add gauges that are read at each scrape."""
        self.registry.register(_Gauges(gauges))

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._child(self._requests, path, str(status)).inc()
        self._child(self._request_seconds, path).observe(seconds)

    def count_work(self, work: CompletedWork) -> None:
        """Count a completed work item. It is called by the scoring threads."""
        for seconds in work.queue_seconds:
            self._child(self._stage_seconds, "queue").observe(seconds)
        if work.cached:
            self._child(self._cached, work.model).inc(work.rows)
        else:
            self._child(self._stage_seconds, "tokenize").observe(work.tokenize_seconds)
            self._child(self._stage_seconds, "model").observe(work.model_seconds)
            self._batch_rows.observe(work.rows)
            self._batch_tokens.observe(work.tokens)
            self._tokens.inc(work.tokens)
            self._padded.inc(work.padded_tokens)
            if work.padded_tokens:
                self._efficiency.observe(work.tokens / work.padded_tokens)
        if work.failed:
            self._child(self._failed, work.model).inc(work.failed)
        for score in work.scores:
            for label in score.labels or (NO_LABEL,):
                self._child(self._scores, work.model, label, score.decision).inc()
            self._child(self._decisions, work.model, score.decision).inc()
            self._child(self._confidence, work.model).observe(score.probability)

    def _child(self, metric: MetricT, *labels: str) -> MetricT:
        """Return ``metric.labels(*labels)`` from a cache, which takes a quarter of the time."""
        key = (metric, labels)
        child: MetricT | None = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class _Gauges(Collector):
    def __init__(self, gauges: Sequence[CallbackGauge]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        for gauge in self._gauges:
            family = GaugeMetricFamily(f"edgedistill_{gauge.name}", gauge.description, labels=gauge.labels)
            for labels, value in gauge.read():
                family.add_metric(labels, value)
            yield family

    def describe(self) -> Iterable[Metric]:
        return []
