"""A temperature: the one that made the student too sure is found, and few rows do not make it certain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from edgedistill.agreement import probability_metrics
from edgedistill.decisions import fit_temperature

from .scoring import TASK, drawn, locked, scores_of


@pytest.mark.parametrize("sharpened", [0.5, 1.0, 2.5])
def test_the_temperature_undoes_what_made_the_student_too_sure(sharpened):
    assert fit_temperature(drawn(4000, sharpened=sharpened)).temperature == pytest.approx(sharpened, rel=0.08)


def test_calibration_chosen_on_validation_rows_helps_on_test_rows():
    found = fit_temperature(drawn(120, sharpened=2.5, seed=1))
    test = locked(2000, sharpened=2.5, seed=2)
    before, after = (
        probability_metrics(test.codes, test.probabilities(temperature), TASK, resamples=10)
        for temperature in (1.0, found.temperature)
    )
    assert after.log_loss.value < before.log_loss.value
    assert after.ece.value < before.ece.value / 2


def test_no_temperature_near_by_makes_the_smoothed_codes_likelier():
    scores = drawn(80, sharpened=2.0)
    found = fit_temperature(scores).temperature
    doubt = 1 / 82
    targets = np.where(np.array([[code == name for name in TASK.names] for code in scores.codes]), 1 - doubt, doubt / 2)

    def loss(temperature):
        return -(targets * log_softmax(scores.logits / temperature, axis=1)).sum(axis=1).mean()

    assert loss(found) <= min(loss(found * 1.02), loss(found / 1.02))


def test_rows_without_a_mistake_do_not_ask_for_certainty():
    scores = scores_of([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]] * 9, "ab" * 9)
    found = fit_temperature(scores)
    surest = scores.probabilities(found.temperature).max()
    assert surest == pytest.approx(1 - 1 / 20, abs=0.001)


def test_labels_stay_as_they_are():
    scores = drawn(60)
    assert (scores.probabilities(3.7).argmax(axis=1) == scores.probabilities(1.0).argmax(axis=1)).all()


@pytest.mark.parametrize(("rows", "warned"), [(49, True), (50, False)])
def test_few_rows_come_with_a_warning(rows, warned):
    notes = fit_temperature(drawn(rows)).notes
    assert any(f"comes from {rows} validation rows" in note for note in notes) == warned


def test_a_student_that_knows_nothing_is_told_of():
    rng = np.random.default_rng(0)
    scores = scores_of(rng.normal(size=(300, 3)) * 9, [TASK.names[code] for code in rng.integers(3, size=300)])
    assert any("hardly tell right labels from wrong ones" in note for note in fit_temperature(scores).notes)


@settings(max_examples=30)
@given(st.integers(1, 30), st.integers(0, 999))
def test_any_rows_have_a_temperature_within_its_bounds(rows, seed):
    found = fit_temperature(drawn(rows, seed=seed))
    assert 0.05 <= found.temperature <= 20
    assert (found.method, found.rows) == ("temperature scaling", rows)
