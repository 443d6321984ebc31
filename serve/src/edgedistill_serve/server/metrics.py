"""Prometheus metrics of the server. They contain no texts, no ids and no keys."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import msgspec
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

from edgedistill_serve.bundle.response_counts import CUTS
from edgedistill_serve.scoring.score import Score
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
    """The metrics of one process, with a registry of its own.

    Attributes:
        registry: The registry.
        changes: A number that changes when something is counted.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.changes = 0
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
        self._reviews = Counter("reviews", "Reviewed responses, by reason.", ["model", "reason"], **common)
        self._novelty = Histogram(
            "novelty", "Novelty of the responses, if the bundle measures it.", ["model"],
            buckets=CUTS["novelty"], **common,
        )  # fmt: skip
        self._length = Histogram(
            "response_tokens", "Length of the responses in tokens.", ["model"], buckets=CUTS["tokens"], **common
        )

    def add_gauges(self, gauges: Sequence[CallbackGauge]) -> None:
        """Add gauges that are read at each scrape."""
        self.registry.register(gauges_collector(gauges))

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.changes += 1
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
            self._count_score(work.model, score)

    def _count_score(self, model: str, score: Score) -> None:
        for label in score.labels or (NO_LABEL,):
            self._child(self._scores, model, label, score.decision).inc()
        self._child(self._decisions, model, score.decision).inc()
        self._child(self._confidence, model).observe(score.probability)
        self._child(self._length, model).observe(score.tokens)
        if score.novelty is not None:
            self._child(self._novelty, model).observe(score.novelty)
        if score.reason is not None:
            self._child(self._reviews, model, score.reason).inc()

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

    def snapshot(self) -> "Snapshot":
        """Return all metrics as data, for `sum_snapshots`."""
        return take_snapshot(self.registry)


class Family(msgspec.Struct, frozen=True, array_like=True):
    """The samples of one metric.

    Attributes:
        name: Name of the metric.
        documentation: Its help text.
        kind: ``counter``, ``gauge`` or ``histogram``.
        samples: Name, label values by label names, and value of each sample.
    """

    name: str
    documentation: str
    kind: str
    samples: list[tuple[str, dict[str, str], float]]


Snapshot: TypeAlias = list[Family]
_COUNTS_SINCE_START = frozenset({"edgedistill_connections_refused", "edgedistill_failures", "edgedistill_journal_lost"})
"""Gauges that only grow, and are summed also over processes that have ended."""
_SAME_IN_ALL: Mapping[str, Callable[[float, float], float]] = {
    "edgedistill_ready": max,
    "edgedistill_model_swaps": max,
    "edgedistill_model_swap_failures": max,
    "edgedistill_model_fault": max,
    "edgedistill_fault": max,
    "edgedistill_reference_share": max,
    "edgedistill_reference_mean": max,
    "edgedistill_tls_certificate_expiry_seconds": min,
    "process_start_time_seconds": min,
}
"""Gauges that are no quantities of one process, and are not summed."""


def take_snapshot(registry: CollectorRegistry) -> Snapshot:
    """Return the metrics of a registry as data."""
    return [
        Family(
            family.name,
            family.documentation,
            family.type,
            [(sample.name, sample.labels, float(sample.value)) for sample in family.samples],
        )
        for family in registry.collect()
    ]


def sum_snapshots(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Sum the metrics of several processes: counters, histograms, and gauges that are quantities of one process."""
    families: dict[str, Family] = {}
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for family in itertools.chain.from_iterable(snapshots):
        families.setdefault(family.name, family)
        found = sums.setdefault(family.name, {})
        merge = _SAME_IN_ALL.get(family.name, _add)
        for name, labels, value in family.samples:
            key = name, tuple(labels.items())
            found[key] = merge(found[key], value) if key in found else value
    return [
        Family(
            name,
            family.documentation,
            family.kind,
            [(each, dict(key), value) for (each, key), value in sums[name].items()],
        )
        for name, family in families.items()
    ]


def _add(one: float, other: float) -> float:
    return one + other


def counts_since_start(snapshot: Snapshot) -> Snapshot:
    """Return the metrics of a process that stay in the sums after its end, so that no sum ever falls."""
    return [family for family in snapshot if family.kind != "gauge" or family.name in _COUNTS_SINCE_START]


def format_snapshot(snapshot: Snapshot) -> bytes:
    """Return metrics in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Stored(snapshot))
    return generate_latest(registry)


class _Stored(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        for family in self._snapshot:
            metric = Metric(family.name, family.documentation, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, labels, value)
            yield metric

    def describe(self) -> Iterable[Metric]:
        return []


def gauges_collector(gauges: Sequence[CallbackGauge]) -> Collector:
    """Return a collector of gauges, for a registry."""
    return _Gauges(gauges)


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
