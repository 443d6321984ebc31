"""How far a graph keeps the fp32 labels, on the given rows and on new rows."""

import numpy as np
import pytest

from edgedistill_export.verify.fidelity import expected_flip_rate, measure_agreement_loss, measure_fidelity
from edgedistill_serve.task.label_decoding import LabelDecoder

from ..tiny import GRADING, MOVES, PRAISE

ONE = LabelDecoder(PRAISE)
EACH = LabelDecoder(MOVES, 1.0, (0.5, 0.5, 0.5))


def _pair(noise: float, rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    fp32 = rng.normal(size=(rows, 3)).astype(np.float32)
    return fp32, fp32 + noise * rng.normal(size=(rows, 3)).astype(np.float32)


def test_equal_logits_have_no_flip_to_expect():
    fp32, _ = _pair(0.1)
    assert expected_flip_rate(fp32, fp32, ONE) == 0.0


def test_the_expected_rate_of_few_rows_is_near_the_rate_of_many():
    fp32, changed = _pair(0.05, rows=20_000)
    rate = float((fp32.argmax(axis=1) != changed.argmax(axis=1)).mean())
    parts = [(fp32[start : start + 60], changed[start : start + 60]) for start in range(0, 1200, 60)]
    few = [expected_flip_rate(*part, ONE) for part in parts]
    coarse = [measure_fidelity(*part, ONE).flip_rate for part in parts]
    assert np.mean(few) == pytest.approx(rate, rel=0.25)
    assert np.std(few) < np.std(coarse)


def test_a_shift_of_all_logits_flips_nothing():
    fp32, _ = _pair(0.1)
    assert measure_fidelity(fp32, fp32 + 3, ONE).expected_flip_rate == 0.0


def test_the_worst_group_is_reported_and_small_groups_are_left_out():
    fp32 = np.tile(np.array([[2.0, 1.0]], dtype=np.float32), (25, 1))
    changed = fp32.copy()
    changed[:3] = changed[:3, ::-1]
    changed[20:] = changed[20:, ::-1]
    found = measure_fidelity(fp32, changed, ONE, ["a"] * 10 + ["b"] * 10 + ["few"] * 5)
    assert found.flips == 8
    assert found.worst_group_flip_rate == pytest.approx(0.3)


def test_agreement_lost_is_counted_against_the_human_codes():
    fp32 = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]] * 5
    changed = fp32.copy()
    changed[0] = changed[0, ::-1]
    found = measure_agreement_loss(fp32, changed, ONE, [PRAISE.names[place] for place in (0, 1, 2, 0, 1, 2)])
    assert found.kappa_lost == pytest.approx(0.25)
    assert found.worst_recall_change == pytest.approx(-0.5)


def test_kappa_of_an_ordinal_task_counts_how_far_labels_are_apart_though_one_is_never_given():
    fp32 = np.eye(3, dtype=np.float32)[[0, 0, 2, 2]] * 5
    changed = np.eye(3, dtype=np.float32)[[0, 2, 2, 2]] * 5
    codes = [GRADING.names[place] for place in (0, 0, 2, 1)]
    found = measure_agreement_loss(fp32, changed, LabelDecoder(GRADING), codes)
    truth, before, after = np.array([0, 0, 2, 1]), np.array([0, 0, 2, 2]), np.array([0, 2, 2, 2])

    def kappa(given):
        expected = np.mean([(one - other) ** 2 for one in truth for other in given])
        return 1 - ((truth - given) ** 2).mean() / expected

    assert found.kappa_lost == pytest.approx(kappa(before) - kappa(after))


def test_agreement_lost_of_a_multilabel_task_is_the_mean_over_labels():
    codes = ["praises", "none", "praises;asks", "asks"]
    fp32 = np.array([[5, -5, -5], [-5, -5, -5], [5, 5, -5], [-5, 5, -5]], dtype=np.float32)
    changed = fp32.copy()
    changed[0, 0] = -5  # κ of praises falls from 1 to 0.5, that of asks stays, that of tells is undefined
    found = measure_agreement_loss(fp32, changed, EACH, codes)
    assert found.kappa_lost == pytest.approx(0.25)
    assert found.worst_recall_change == pytest.approx(-0.5)


def test_calibration_of_a_multilabel_task_is_that_of_every_label_s_probability():
    codes = ["praises;asks;tells", "praises;asks;tells", "praises;asks;tells", "none"]
    logits = np.full((4, 3), np.log(3), dtype=np.float32)
    assert measure_agreement_loss(logits, logits, EACH, codes).calibration_error == pytest.approx(0.0, abs=1e-6)
    assert measure_agreement_loss(logits, logits, EACH, ["none"] * 4).calibration_error == pytest.approx(0.75)
    assert measure_agreement_loss(logits, logits, EACH, ["none"] * 4).worst_recall_change == 0.0


def test_flips_of_a_multilabel_task_are_expected_near_its_thresholds():
    fp32, changed = _pair(0.05, rows=20_000)
    rate = float(((fp32 >= 0) != (changed >= 0)).any(axis=1).mean())
    few = [
        expected_flip_rate(fp32[start : start + 60], changed[start : start + 60], EACH) for start in range(0, 1200, 60)
    ]
    assert np.mean(few) == pytest.approx(rate, rel=0.25)
