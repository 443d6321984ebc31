"""A multilabel model over every protocol of a real server: the same labels and probabilities as in Python."""

import math

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgedistill_serve import Score, Scorer
from edgedistill_serve.client import Client
from edgedistill_serve.server.protocols.tei import PredictRequest, build_predictions

from ..conftest import GOLDEN_TEXTS, THRESHOLDS


@pytest.fixture(scope="module")
def server(start, moves_bundle):
    with start(str(moves_bundle.folder)) as server:
        yield server


@pytest.fixture(scope="module")
def expected(moves_bundle):
    return Scorer(moves_bundle).score(GOLDEN_TEXTS)


def test_v1_gives_the_labels_that_hold_as_one_text(server, expected):
    found = server.client.post("/v1/score", json={"responses": GOLDEN_TEXTS}).json()["scores"]
    assert found == [msgspec.to_builtins(score) for score in expected]
    assert {"none", "outcome;person"} <= {score["label"] for score in found}


def test_bulk_gives_the_same(server, expected):
    lines = "".join(f'"{text}"\n' for text in GOLDEN_TEXTS)
    answer = server.client.post("/v1/score/bulk", content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert [msgspec.json.decode(line) for line in answer.text.splitlines()] == list(map(msgspec.to_builtins, expected))


def test_the_models_have_kind_and_thresholds(server):
    (model,) = server.client.get("/v1/models").json()["models"]
    assert (model["kind"], model["thresholds"]) == ("multilabel", THRESHOLDS)


def test_the_client_gives_labels_as_a_tuple(server, expected):
    with Client(server.url) as client:
        assert [result.score.labels for result in client.score_many(GOLDEN_TEXTS)] == [one.labels for one in expected]
        (model,) = client.models()
        assert model.thresholds == THRESHOLDS


def test_predict_has_the_probability_of_every_label(server, expected):
    found = server.client.post("/predict", json={"inputs": GOLDEN_TEXTS[0]}).json()
    assert {row["label"]: row["score"] for row in found} == expected[0].probabilities
    assert [row["score"] for row in found] == sorted(expected[0].probabilities.values(), reverse=True)


def test_raw_scores_are_the_logits_themselves(server, expected, moves_bundle):
    found = server.client.post("/predict", json={"inputs": GOLDEN_TEXTS[0], "raw_scores": True}).json()
    temperature = moves_bundle.manifest.temperature
    sigmoids = {row["label"]: 1 / (1 + math.exp(-row["score"] / temperature)) for row in found}
    assert sigmoids == pytest.approx(expected[0].probabilities)


@pytest.mark.parametrize(("share", "logit"), [(1.0, 4 * 36.7), (0.0, -4 * 744.4), (0.5, 0.0)])
def test_raw_scores_of_a_probability_that_was_rounded_to_an_end_are_finite(moves_bundle, share, logit):
    score = Score("none", 1.0, dict.fromkeys(THRESHOLDS, share), "accept", None, truncated=False, tokens=1)
    asked = PredictRequest("x", raw_scores=True)
    found = [each.score for each in build_predictions(score, asked, Scorer(moves_bundle))]
    assert found == pytest.approx([logit] * 3, abs=0.5)


def test_infer_gives_a_probability_for_each_label(server, expected):
    given = {"name": "response", "shape": [2], "datatype": "BYTES", "data": GOLDEN_TEXTS[:2]}
    label, probabilities, *_ = server.client.post("/v2/models/moves/infer", json={"inputs": [given]}).json()["outputs"]
    assert label["data"] == [score.label for score in expected[:2]]
    assert probabilities["shape"] == [2, 3]
    assert probabilities["data"] == [share for score in expected[:2] for share in score.probabilities.values()]


def test_a_word_is_explained_by_what_it_does_to_each_label(server, moves_bundle):
    whole, part = Scorer(moves_bundle).score(["great job", "job"])
    word = server.client.post("/v1/explain", json={"response": "great job"}).json()["words"][0]
    assert word["label"] == part.label
    assert word["changes"] == {name: share - part.probabilities[name] for name, share in whole.probabilities.items()}


def test_metrics_count_each_assigned_label_and_each_response_once(start, moves_bundle, expected):
    with start(str(moves_bundle.folder)) as server:
        server.client.post("/v1/score", json={"responses": GOLDEN_TEXTS})
        families = text_string_to_metric_families(server.client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    labels = {each.labels["label"]: each.value for each in samples if each.name == "edgedistill_scores_total"}
    held = [label for score in expected for label in score.labels or ("none",)]
    assert labels == {label: held.count(label) for label in held}
    assert sum(each.value for each in samples if each.name == "edgedistill_decisions_total") == len(GOLDEN_TEXTS)
