"""The verdict in a bundle reaches every score, and reads as not validated where there is none."""

import json

import msgspec
import pytest

from edgedistill_serve import Bundle, BundleError, Scorer
from edgedistill_serve.bundle.manifest import compute_version
from edgedistill_serve.bundle.migrations import parse_manifest
from edgedistill_serve.bundle.verdict import NOT_VALIDATED, BundleVerdict, describe_verdict
from edgedistill_serve.server.protocols.v1_messages import Model

from ..conftest import LABELS
from .test_migrations import VERSION_1

VALIDATED = BundleVerdict("validated for some labels", "For some labels: person.", "κ is .8.", ("person",))


def test_a_bundle_without_a_verdict_is_not_validated(make_bundle, tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    (score,) = Scorer(bundle).score(["you did well"])
    assert (score.decision, score.verdict) == ("accept", "not validated")
    assert Model.from_scorer(Scorer(bundle)).verdict == NOT_VALIDATED
    assert parse_manifest((VERSION_1 / "bundle.json").read_bytes()).known_verdict.status == "not validated"
    assert describe_verdict(None).startswith("Not validated: ")


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (BundleVerdict("inconclusive", "Inconclusive: few rows.", "κ is .7."), "Inconclusive: few rows. κ is .7."),
        (BundleVerdict("validated", "Yes: like these.", "", ("a",)), "Validated. Yes: like these."),
        (VALIDATED, "Validated for some labels. For some labels: person. Covered: person. κ is .8."),
    ],
)
def test_a_description_names_the_status_once(verdict, text):
    assert describe_verdict(verdict) == text


def test_a_score_is_validated_if_the_verdict_covers_its_label(make_bundle, tmp_path):
    scorer = Scorer(make_bundle(tmp_path / "bundle", verdict=VALIDATED))
    (score,) = scorer.score(["you did well"])
    assert score.verdict == ("validated" if score.label == "person" else "not validated")
    others = BundleVerdict("validated for some labels", "For some labels.", labels=tuple({*LABELS} - {score.label}))
    (score,) = Scorer(make_bundle(tmp_path / "other", verdict=others)).score(["you did well"])
    assert score.verdict == "not validated"


@pytest.mark.parametrize(
    ("labels", "found"), [(("a",), "validated"), (("a", "b"), "not validated"), ((), "not validated")]
)
def test_a_set_of_labels_is_covered_if_each_of_them_is_and_an_empty_set_if_all_are(labels, found):
    verdict = BundleVerdict("validated", "Yes.", labels=("a",))
    assert verdict.of_score(labels, ("a", "b")) == found
    assert BundleVerdict("validated", "Yes.", labels=("a", "b")).of_score((), ("a", "b")) == "validated"
    assert BundleVerdict("inconclusive", "Open.").of_score(("a",), ("a",)) == "not validated"


@pytest.mark.parametrize(
    ("verdict", "fault"),
    [
        (BundleVerdict("validated", "Yes.", labels=("nobody",)), "a name is not a label of the task"),
        (BundleVerdict("validated", "Yes."), "a verdict that is validated needs labels"),
        (BundleVerdict("inconclusive", "Open.", labels=("person",)), "a verdict that is inconclusive covers no labels"),
        (BundleVerdict("inconclusive", " "), "the sentence is empty"),
        (BundleVerdict("inconclusive", "Open \x1b[2J."), "a control character"),
    ],
)
def test_a_verdict_that_cannot_be_is_refused(make_bundle, tmp_path, verdict, fault):
    with pytest.raises(BundleError, match=fault):
        make_bundle(tmp_path / "bundle", verdict=verdict)


def test_a_rule_that_was_changed_by_hand_keeps_no_verdict(make_bundle, tmp_path):
    folder = make_bundle(tmp_path / "bundle", verdict=VALIDATED).folder
    document = json.loads((folder / "bundle.json").read_text("utf-8"))
    document["temperature"] = 2.0
    (folder / "bundle.json").write_text(json.dumps(document), "utf-8")
    with pytest.raises(BundleError, match=r"was changed after it was validated.*remove the key verdict"):
        Bundle.load(folder)
    del document["verdict"]
    (folder / "bundle.json").write_text(json.dumps(document), "utf-8")
    assert Bundle.load(folder).manifest.known_verdict == NOT_VALIDATED


def test_a_verdict_does_not_change_the_version_of_the_scores(make_bundle, tmp_path):
    manifest = make_bundle(tmp_path / "bundle", verdict=VALIDATED).manifest
    assert (
        compute_version(manifest)
        == compute_version(msgspec.structs.replace(manifest, verdict=None))
        == manifest.version
    )
