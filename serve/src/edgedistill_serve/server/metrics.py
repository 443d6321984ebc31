"""What `/metrics` tells: counts and times, in Prometheus's text form; no text, no ids, no keys."""

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
    """A figure that is read whenever somebody asks.

    Attributes:
        name: Without ``edgedistill_``.
        said: What it is.
        read: Gives its values, each with the values of its labels.
        labels: Their names.
    """

    name: str
    said: str
    read: Callable[[], Iterable[tuple[tuple[str, ...], float]]]
    labels: tuple[str, ...] = ()


def single_gauge(name: str, said: str, read: Callable[[], float]) -> CallbackGauge:
    """Return a gauge of one value."""
    return CallbackGauge(name, said, lambda: [((), read())])


disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types


class Metrics:
    """Counts what a server does; every server has its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._labelled: dict[Any, Any] = {}
        here: dict[str, Any] = {"registry": self.registry, "namespace": "edgedistill"}
        self._requests = Counter("requests", "Requests, by path and status.", ["path", "status"], **here)
        self._request_seconds = Histogram(
            "request_seconds", "Seconds from a request's head to the end of its answer.", ["path"],
            buckets=_SECONDS, **here,
        )  # fmt: skip
        self._stage_seconds = Histogram(
            "stage_seconds", "Seconds of a response in the queue, and of work in tokenizer and model.", ["stage"],
            buckets=_SECONDS, **here,
        )  # fmt: skip
        self._batch_rows = Histogram("batch_rows", "Responses in one piece of work.", buckets=_ROWS, **here)
        self._batch_tokens = Histogram("batch_tokens", "Tokens in one piece of work.", buckets=_TOKENS, **here)
        self._tokens = Counter("tokens", "Tokens that were scored.", **here)
        self._padded = Counter("padded_tokens", "Tokens that the model computed, padding counted.", **here)
        self._efficiency = Histogram(
            "padding_efficiency", "Share of the tokens computed in one piece of work that was no padding.",
            buckets=_SHARES, **here,
        )  # fmt: skip
        self._recalled = Counter("recalled", "Responses whose score was known from an equal one.", ["model"], **here)
        self._scores = Counter(
            "scores", "Scores, by label and decision; of a multilabel task, each label that holds counts, or none.",
            ["model", "label", "decision"], **here,
        )  # fmt: skip
        self._decisions = Counter("decisions", "Responses that have a score.", ["model", "decision"], **here)
        self._failed = Counter("failed_scores", "Responses that could not be scored.", ["model"], **here)
        self._confidence = Histogram(
            "confidence", "Probability of a score, as an answer tells it.", ["model"], buckets=_CONFIDENCE, **here
        )

    def watch(self, gauges: Sequence[CallbackGauge]) -> None:
        """Read these figures whenever somebody asks."""
        self.registry.register(_Gauges(gauges))

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request; see `RequestLog`."""
        self._of(self._requests, path, str(status)).inc()
        self._of(self._request_seconds, path).observe(seconds)

    def count_work(self, work: CompletedWork) -> None:
        """Count a piece of work; called by the threads that score."""
        for queue_seconds in work.queue_seconds:
            self._of(self._stage_seconds, "queue").observe(queue_seconds)
        if work.cached:
            self._of(self._recalled, work.model).inc(work.rows)
        else:
            self._of(self._stage_seconds, "tokenize").observe(work.tokenize_seconds)
            self._of(self._stage_seconds, "model").observe(work.model_seconds)
            self._batch_rows.observe(work.rows)
            self._batch_tokens.observe(work.tokens)
            self._tokens.inc(work.tokens)
            self._padded.inc(work.padded_tokens)
            if work.padded_tokens:
                self._efficiency.observe(work.tokens / work.padded_tokens)
        if work.failed:
            self._of(self._failed, work.model).inc(work.failed)
        for score in work.scores:
            for label in score.labels or (NO_LABEL,):
                self._of(self._scores, work.model, label, score.decision).inc()
            self._of(self._decisions, work.model, score.decision).inc()
            self._of(self._confidence, work.model).observe(score.probability)

    def _of(self, metric: MetricT, *labels: str) -> MetricT:
        """Return a metric with these labels, as ``metric.labels(*labels)`` in a quarter of its time."""
        key = (metric, labels)
        found: MetricT | None = self._labelled.get(key)
        if found is None:
            found = self._labelled[key] = metric.labels(*labels)
        return found

    def text(self) -> bytes:
        """Return everything in Prometheus's text form."""
        return generate_latest(self.registry)


class _Gauges(Collector):
    def __init__(self, gauges: Sequence[CallbackGauge]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        for gauge in self._gauges:
            family = GaugeMetricFamily(f"edgedistill_{gauge.name}", gauge.said, labels=gauge.labels)
            for labels, value in gauge.read():
                family.add_metric(labels, value)
            yield family

    def describe(self) -> Iterable[Metric]:
        return []
