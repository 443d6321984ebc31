"""Scores of a multilabel task: assigned labels, certainty, and reviews."""

import numpy as np
import pytest
from click.testing import CliRunner

from edgedistill_serve import Bundle, BundleError, Scorer
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.cli.main import app
from edgedistill_serve.grading.grade import grade
from edgedistill_serve.grading.table_reader import read_rows
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.score import build_score
from edgedistill_serve.task.label_decoding import certainty
from edgedistill_serve.task.task import Label, Task, split_labels

from ..conftest import GOLDEN_TEXTS, THRESHOLDS

TASK = Task("multilabel", (Label("asks"), Label("praises")), ("response",))


def judged(*shares, review=ReviewRule(), blank=False):  # noqa: B008  # frozen
    return build_score(
        np.array(shares), Encoded((), (), 1, truncated=False, blank=blank), TASK, review, thresholds=(0.4, 0.5)
    )


def test_a_score_names_every_assigned_label():
    score = judged(0.4, 0.9)
    assert (score.label, score.labels) == ("asks;praises", ("asks", "praises"))


def test_a_score_without_assigned_labels_is_none():
    score = judged(0.1, 0.2)
    assert (score.label, score.labels) == ("none", ())


def test_a_single_assigned_label_has_no_separator():
    assert judged(0.1, 0.9).labels == ("praises",)


def test_the_probability_is_the_smallest_certainty():
    assert judged(0.7, 0.9).probability == pytest.approx(0.75)
    assert judged(0.7, 0.55).probability == pytest.approx(0.55)


def test_a_certainty_below_the_rule_is_reviewed():
    rule = ReviewRule(least_certainty=0.75)
    unsure = judged(0.7, 0.6, review=rule)
    assert (unsure.decision, unsure.reason) == ("review", "below threshold")
    assert judged(0.75, 0.9, review=rule).decision == "accept"


def test_the_probabilities_of_a_multilabel_bundle_are_sigmoids_with_thresholds(moves_bundle):
    scores = Scorer(moves_bundle).score(GOLDEN_TEXTS)
    assert {len(score.labels) for score in scores} == {0, 1, 2, 3}
    for score, row in zip(scores, moves_bundle.golden.rows, strict=True):
        expected = 1 / (1 + np.exp(-np.array(row.logits) / 4.0))
        assert list(score.probabilities.values()) == pytest.approx(expected, abs=0.2)
        sure = {name: certainty(score.probabilities[name], least) for name, least in THRESHOLDS.items()}
        assert score.probability == min(sure.values())
        held = tuple(name for name, least in THRESHOLDS.items() if score.probabilities[name] >= least)
        assert score.labels == held == split_labels(score.label, moves_bundle.task)


def test_each_response_of_a_multilabel_bundle_scores_alone_as_among_others(moves_bundle):
    together = Scorer(moves_bundle).score(GOLDEN_TEXTS)
    assert together == [Scorer(moves_bundle).score([text])[0] for text in GOLDEN_TEXTS]


def test_scores_of_equal_labels_share_their_text():
    assert judged(0.7, 0.9).label is judged(0.8, 0.6).label


def test_a_temperature_brings_multilabel_probabilities_closer_to_a_half(make_bundle, tmp_path, moves_bundle):
    warm = make_bundle(tmp_path / "warm", kind="multilabel", thresholds=THRESHOLDS, temperature=8.0)
    for cold, score in zip(Scorer(moves_bundle).score(GOLDEN_TEXTS), Scorer(warm).score(GOLDEN_TEXTS), strict=True):
        for name, share in score.probabilities.items():
            assert abs(share - 0.5) < abs(cold.probabilities[name] - 0.5)


FAULTS = {
    "a label without a threshold": ({"process": 0.3, "outcome": 0.5}, {}, "thresholds: the label 'person'"),
    "a threshold of 0": ({**THRESHOLDS, "person": 0.0}, {}, "the threshold of 'person' is not between 0 and 1"),
    "a threshold of 1": ({**THRESHOLDS, "person": 1.0}, {}, "the threshold of 'person' is not between 0 and 1"),
    "a threshold that is no number": ({**THRESHOLDS, "person": float("nan")}, {}, "thresholds"),
    "a threshold of no label": ({**THRESHOLDS, "nobody": 0.5}, {}, "'nobody' is not a label of a multilabel task"),
    "review thresholds per label": (
        THRESHOLDS,
        {"thresholds": {"person": 0.5}},
        "uses review.least_certainty instead",
    ),
    "a rule above 1": (
        THRESHOLDS,
        {"least_certainty": 1.5},
        "review.least_certainty: the value is not between 0 and 1",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_multilabel_manifest_that_cannot_be_is_refused_with_its_key(make_bundle, tmp_path, fault):
    thresholds, review, message = FAULTS[fault]
    with pytest.raises(BundleError, match=message):
        make_bundle(tmp_path / "bundle", kind="multilabel", thresholds=thresholds, review=ReviewRule(**review))


def test_a_nominal_bundle_has_no_label_thresholds(make_bundle, tmp_path):
    with pytest.raises(BundleError, match="'person' is not a label of a multilabel task"):
        make_bundle(tmp_path / "bundle", thresholds={"person": 0.5})


def test_a_nominal_bundle_has_no_review_threshold_for_all_labels(make_bundle, tmp_path):
    with pytest.raises(BundleError, match=r"review\.least_certainty: a nominal task uses review.thresholds instead"):
        make_bundle(tmp_path / "bundle", review=ReviewRule(least_certainty=0.5))


@pytest.mark.parametrize("name", ["none", "process;outcome"])
def test_a_multilabel_bundle_with_an_ambiguous_label_is_refused(tampered, name):
    def rename(manifest):
        manifest["task"]["labels"][0]["name"] = name
        manifest["task"]["kind"] = "multilabel"

    with pytest.raises(BundleError, match=rf"a multilabel task cannot have a label '{name}'"):
        Bundle.load(tampered(rename))


def test_a_bundle_without_thresholds_is_read(tampered):
    def older(manifest):
        del manifest["thresholds"]
        del manifest["review"]["least_certainty"]

    assert Bundle.load(tampered(older)).manifest.thresholds == {}


def test_grading_writes_the_labels_that_hold_and_reads_back_as_them(moves_bundle, tmp_path):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("response\n" + "".join(f"{text}\n" for text in GOLDEN_TEXTS))
    grade(Scorer(moves_bundle), source, target)
    found = [row.values["label"] for row in read_rows(target)]
    assert found == [score.label for score in Scorer(moves_bundle).score(GOLDEN_TEXTS)]
    assert {len(split_labels(label, moves_bundle.task)) for label in found} == {0, 1, 2, 3}


def test_info_shows_the_thresholds(make_bundle, tmp_path):
    rule = ReviewRule(least_certainty=0.8)
    bundle = make_bundle(tmp_path / "bundle", kind="multilabel", thresholds=THRESHOLDS, review=rule)
    lines = CliRunner().invoke(app, ["info", str(bundle.folder)]).output.splitlines()
    reported = dict(line.split("  ", 1) for line in lines)
    assert reported["assigned from"].strip() == "process 0.6, outcome 0.68, person 0.91"
    assert reported["accepted from"].strip() == "0.8"
