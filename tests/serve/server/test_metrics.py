"""Metrics, timings, and the state of the models."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgedistill_serve.server.metrics import (
    ServerMetrics,
    Snapshot,
    counts_since_start,
    format_snapshot,
    single_gauge,
    sum_snapshots,
)


@pytest.fixture(scope="module")
def bundle(with_reference):
    return with_reference


@pytest.fixture(scope="module")
def server(start, bundle):
    with start(str(bundle.folder)) as server:
        server.client.post("/v1/score", json={"responses": ["great job", "so smart", " ", "poisonous"]})
        server.client.post("/v1/score", json={"response": "great job"})
        server.client.get("/v1/zebraphone?zebraphone", headers={"X-Request-ID": "zebraphone"})
        yield server


@pytest.fixture(scope="module")
def text(server):
    return server.client.get("/metrics").text


@pytest.fixture(scope="module")
def samples(text):
    families = text_string_to_metric_families(text)
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}


def test_requests_are_counted_by_path_and_status(samples):
    assert samples["edgedistill_requests_total", "/v1/score", "200"] == 2
    assert samples["edgedistill_requests_total", "(no such path)", "404"] == 1


def test_scores_are_counted_by_label_and_decision(samples):
    scores = {key: value for key, value in samples.items() if key[0] == "edgedistill_scores_total"}
    assert sum(scores.values()) == 4
    assert sum(value for key, value in scores.items() if "review" in key) == 1
    assert samples["edgedistill_failed_scores_total", "praise"] == 1


def test_a_cached_score_is_counted_separately(samples):
    assert samples["edgedistill_recalled_total", "praise"] == 1


def test_every_stage_has_a_histogram_of_seconds(samples):
    for stage in ("queue", "tokenize", "model"):
        assert samples["edgedistill_stage_seconds_count", stage] >= 3
    assert samples["edgedistill_request_seconds_count", "/v1/score"] == 2


def test_batches_are_measured_in_rows_tokens_and_padding(samples):
    assert samples["edgedistill_batch_rows_count",] >= 3
    assert samples["edgedistill_batch_tokens_sum",] == samples["edgedistill_tokens_total",] > 0
    assert samples["edgedistill_padded_tokens_total",] >= samples["edgedistill_tokens_total",]
    assert samples["edgedistill_padding_efficiency_count",] >= 3


def test_confidence_queue_connections_and_models_are_reported(samples, bundle):
    assert samples["edgedistill_confidence_count", "praise"] == 4
    assert samples["edgedistill_queue_waiting",] == 0
    assert samples["edgedistill_queue_limit",] == 4000
    assert samples["edgedistill_body_bytes",] == 0
    assert samples["edgedistill_ready",] == 1
    assert samples["edgedistill_connections",] >= 1
    assert samples["edgedistill_model_swaps", *sorted(["praise", bundle.manifest.version])] == 0
    assert samples["process_resident_memory_bytes",] > 0


def test_reviews_and_lengths_are_reported_beside_those_of_the_validation_rows(samples, bundle):
    assert samples["edgedistill_reviews_total", "blank", "praise"] == 1
    assert samples["edgedistill_response_tokens_count", "praise"] == 4
    of = ("praise", bundle.manifest.version)
    assert samples["edgedistill_reference_share", *sorted(["outcome", *of])] == 0.25
    assert samples["edgedistill_reference_share", *sorted(["(review)", *of])] == 0.2
    assert samples["edgedistill_reference_mean", *sorted(["novelty", *of])] == 1.5


def test_the_metrics_contain_no_text_and_no_id(text):
    assert "zebraphone" not in text
    assert "great" not in text
    assert "poisonous" not in text


def test_an_answer_has_its_timings(server):
    header = server.client.post("/v1/score", json={"response": "a text that is new"}).headers["Server-Timing"]
    stages = dict(re.findall(r"(\w+);dur=([\d.]+)", header))
    assert list(stages) == ["queue", "tokenize", "model", "total"]
    assert 0 < float(stages["model"]) <= float(stages["total"])


def test_readyz_lists_every_model(server, bundle):
    message = server.client.get("/readyz").json()
    model = {"model": "praise", "version": bundle.manifest.version, "swaps": 0, "failures": 0, "fault": None}
    assert message == {"status": "ready", "models": [model]}


def parsed(snapshot: Snapshot) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(format_snapshot(snapshot).decode())
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}


def counted(requests: dict[str, int], *, ready: float, waiting: float) -> Snapshot:
    metrics = ServerMetrics()
    for path, number in requests.items():
        for _ in range(number):
            metrics.count_request(path, 200, 0.003)
    metrics.add_gauges(
        [single_gauge("ready", "R.", lambda: ready), single_gauge("queue_waiting", "W.", lambda: waiting)]
    )
    return metrics.snapshot()


def test_a_snapshot_is_the_text_of_the_metrics():
    metrics = ServerMetrics()
    metrics.count_request("/v1/score", 200, 0.003)
    found = {key: value for key, value in parsed(metrics.snapshot()).items() if "process" not in key[0]}
    families = text_string_to_metric_families(metrics.text().decode())
    samples = {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}
    assert found == {key: value for key, value in samples.items() if "process" not in key[0]}


def test_counts_and_quantities_of_processes_are_summed_and_states_are_not():
    one = counted({"/v1/score": 3, "/predict": 1}, ready=1, waiting=2)
    two = counted({"/v1/score": 4}, ready=0, waiting=5)
    found = parsed(sum_snapshots([one, two]))
    assert found["edgedistill_requests_total", "/v1/score", "200"] == 7
    assert found["edgedistill_requests_total", "/predict", "200"] == 1
    assert found["edgedistill_request_seconds_bucket", "+Inf", "/v1/score"] == 7
    assert found["edgedistill_request_seconds_bucket", "/v1/score", "0.0025"] == 0
    assert found["edgedistill_queue_waiting",] == 7
    assert found["edgedistill_ready",] == 1


def test_the_counts_of_a_process_that_has_ended_stay_and_its_quantities_go():
    ended = counts_since_start(counted({"/v1/score": 3}, ready=1, waiting=2))
    found = parsed(sum_snapshots([counted({"/v1/score": 4}, ready=1, waiting=5), ended]))
    assert found["edgedistill_requests_total", "/v1/score", "200"] == 7
    assert found["edgedistill_queue_waiting",] == 5
