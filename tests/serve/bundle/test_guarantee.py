"""The promise in a bundle: in words, and refused where the bundle contradicts it."""

import json
import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_serve.bundle.guarantee import GuaranteedPart, describe_guarantee, least_p_value
from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.manifest import NEVER_ACCEPTED, ReviewRule, compute_version
from edgedistill_serve.errors import BundleError
from edgedistill_serve.scoring.scorer import Scorer
from edgedistill_serve.server.protocols.v1_messages import Model

from ...promises import PROMISE
from ...promises import promise as changed


@pytest.mark.parametrize(
    ("promise", "said"),
    [
        (None, "No share of wrong codes among the accepted responses is promised."),
        (PROMISE, "at most 5 % differ from the human code, with 95 % confidence."),
        (
            PROMISE,
            "250 validation rows with the scores of int8 and of fp32: it accepts 130 of them, of which 1 is wrong",
        ),
        (PROMISE, "It says nothing about a single label, a single group of learners, another codebook"),
        (changed(unit="learners", units=61), "What counts as independent: learners (61)."),
        (changed(compared=4), "allows for 4 students compared on the same rows"),
        (
            changed(scope="validated questions", questions=1),
            "to their 1 question; a response to any other question",
        ),
        (changed(scope="new questions", questions=70), "for new questions like the 70 questions"),
        (changed(labels={"person": GuaranteedPart(60, 0, 0.05)}), "differ from the human code, for each label, with"),
        (changed(group_column="class"), "in each group of 'class'"),
    ],
)
def test_the_words_say_what_is_promised_on_what_evidence_and_what_is_not(promise, said):
    assert said in describe_guarantee(promise)


def test_a_graph_that_was_not_tested_promises_nothing():
    text = describe_guarantee(changed(graphs=("int8",)), "fp32")
    assert text.startswith("Nothing is promised here: this processor uses the fp32 graph")
    assert describe_guarantee(PROMISE, "fp32") == describe_guarantee(PROMISE)


@pytest.mark.parametrize(
    ("promise", "fault"),
    [
        (changed(bound=0.06), "guarantee.bound"),
        (changed(bound=float("nan")), "guarantee.bound"),
        (changed(wrong=131), "guarantee.accepted"),
        (changed(accepted=251), "guarantee.accepted"),
        (changed(share=1.0), "guarantee.share"),
        (changed(labels={"x": GuaranteedPart(60, 0, 0.05)}), "guarantee.labels"),
        (changed(scope="validated questions"), "guarantee.scope"),
        (changed(graphs=("fp32",)), "guarantee.graphs"),
        (changed(confidence=0.995), "1 wrong of 130 accepted rows do not show a share of at most 0.05 with 0.995"),
        (changed(share=0.03, bound=0.03), "guarantee.accepted"),
        (changed(wrong=3), "guarantee.accepted"),
        (changed(compared=4000), "guarantee.accepted"),
        (changed(compared=0), "guarantee.compared"),
        (changed(units=-1), "guarantee.units"),
        (changed(rows=10**15, accepted=10**15, wrong=10**13), "guarantee.rows"),
        (changed(labels={"person": GuaranteedPart(60, 0, 0.05)}), "the rule accepts 'process', for which nothing"),
        (changed(group_column="class", groups={"a": GuaranteedPart(58, 0, 0.05)}), "guarantee.groups.a.accepted"),
        (changed(group_column="class", groups={"a": GuaranteedPart(59, 0, 0.06)}), "guarantee.groups.a.bound"),
    ],
)
def test_a_promise_that_the_bundle_contradicts_is_refused(make_bundle, tmp_path, promise, fault):
    with pytest.raises(BundleError, match=fault):
        make_bundle(tmp_path / "bundle", guarantee=promise)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 900), st.integers(0, 900), st.floats(0.001, 0.5))
def test_the_numbers_of_a_promise_are_checked_by_the_binomial_that_chose_the_rule(one, other, share):
    wrong, rows = sorted((one, other))
    found = least_p_value(GuaranteedPart(rows, wrong, 0.0), share)
    if wrong < share * rows:
        terms = (
            math.comb(rows, errors) * share**errors * (1 - share) ** (rows - errors) for errors in range(wrong + 1)
        )
        assert found == pytest.approx(math.fsum(terms), rel=1e-6, abs=1e-200)
    else:
        assert found == 1.0


def changed_by_hand(bundle, change):
    file = bundle.folder / "bundle.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["review"]["thresholds"].update(process=0.1),
        lambda manifest: manifest["review"].update(truncated=False),
        lambda manifest: manifest.update(temperature=0.5),
    ],
    ids=["threshold", "truncated", "temperature"],
)
def test_a_rule_that_was_changed_by_hand_keeps_no_promise(make_bundle, tmp_path, change):
    bundle = make_bundle(tmp_path / "bundle", guarantee=PROMISE)
    changed_by_hand(bundle, change)
    with pytest.raises(BundleError, match="was changed after its promise about accepted responses was shown"):
        Bundle.load(bundle.folder)
    changed_by_hand(bundle, lambda manifest: manifest.pop("guarantee"))
    assert Bundle.load(bundle.folder).manifest.guarantee is None


def test_the_promise_is_in_the_description_of_the_model(make_bundle, tmp_path):
    bundle = make_bundle(tmp_path / "bundle", guarantee=PROMISE)
    model = Model.from_scorer(Scorer(bundle))
    assert model.guarantee == PROMISE
    assert model.promise == describe_guarantee(PROMISE)


def test_a_promise_does_not_change_the_version_of_the_scores(make_bundle, tmp_path):
    manifest = make_bundle(tmp_path / "bundle", guarantee=PROMISE).manifest
    assert compute_version(manifest) == compute_version(msgspec.structs.replace(manifest, guarantee=None))


def test_a_label_that_is_never_accepted_goes_to_a_person_at_any_probability(make_bundle, tmp_path):
    names = Bundle.load(make_bundle(tmp_path / "one").folder).manifest.task.names
    review = ReviewRule(thresholds=dict.fromkeys(names, NEVER_ACCEPTED))
    scorer = Scorer(make_bundle(tmp_path / "bundle", review=review))
    assert {score.reason for score in scorer.score([{"response": "you did well"}, {"response": "well done"}])} == {
        "below threshold"
    }
