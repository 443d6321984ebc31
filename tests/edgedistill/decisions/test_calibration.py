"""Temperature scaling recovers the temperature of an overconfident student, also from few rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from edgedistill.agreement import probability_metrics
from edgedistill.decisions import fit_temperature

from .scoring import TASK, drawn, locked, scores_of


@pytest.mark.parametrize("sharpened", [0.5, 1.0, 2.5])
def test_the_fitted_temperature_undoes_overconfidence(sharpened):
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


def test_no_temperature_nearby_has_a_higher_likelihood():
    scores = drawn(80, sharpened=2.0)
    found = fit_temperature(scores).temperature
    smoothing = 1 / 82
    targets = np.where(
        np.array([[code == name for name in TASK.names] for code in scores.codes]), 1 - smoothing, smoothing / 2
    )

    def loss(temperature):
        return -(targets * log_softmax(scores.logits / temperature, axis=1)).sum(axis=1).mean()

    assert loss(found) <= min(loss(found * 1.02), loss(found / 1.02))


def test_rows_without_an_error_do_not_give_a_temperature_of_zero():
    scores = scores_of([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]] * 9, "ab" * 9)
    found = fit_temperature(scores)
    highest = scores.probabilities(found.temperature).max()
    assert highest == pytest.approx(1 - 1 / 20, abs=0.001)


def test_calibration_changes_no_label():
    scores = drawn(60)
    assert (scores.probabilities(3.7).argmax(axis=1) == scores.probabilities(1.0).argmax(axis=1)).all()


@pytest.mark.parametrize(("rows", "warned"), [(49, True), (50, False)])
def test_few_rows_come_with_a_warning(rows, warned):
    notes = fit_temperature(drawn(rows)).notes
    assert any(f"fitted on only {rows} validation rows" in note for note in notes) == warned


def test_a_student_without_signal_gets_a_note():
    rng = np.random.default_rng(0)
    scores = scores_of(rng.normal(size=(300, 3)) * 9, [TASK.names[code] for code in rng.integers(3, size=300)])
    assert any("hardly separate correct from incorrect labels" in note for note in fit_temperature(scores).notes)


@settings(max_examples=30)
@given(st.integers(1, 30), st.integers(0, 999))
def test_any_rows_have_a_temperature_within_its_bounds(rows, seed):
    found = fit_temperature(drawn(rows, seed=seed))
    assert 0.05 <= found.temperature <= 20
    assert (found.method, found.rows) == ("temperature scaling", rows)
