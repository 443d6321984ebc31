"""How far a graph keeps fp32's labels is told for the rows at hand and for rows to come."""

import numpy as np
import pytest

from edgedistill_export.fidelity import agreement, expected_flip_rate, fidelity

from .tiny import PRAISE


def _pair(noise: float, rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    fp32 = rng.normal(size=(rows, 3)).astype(np.float32)
    return fp32, fp32 + noise * rng.normal(size=(rows, 3)).astype(np.float32)


def test_equal_logits_have_no_flip_to_expect():
    fp32, _ = _pair(0.1)
    assert expected_flip_rate(fp32, fp32) == 0.0


def test_the_expected_rate_of_few_rows_is_near_the_rate_of_many():
    fp32, changed = _pair(0.05, rows=20_000)
    rate = float((fp32.argmax(axis=1) != changed.argmax(axis=1)).mean())
    few = [expected_flip_rate(fp32[start : start + 60], changed[start : start + 60]) for start in range(0, 1200, 60)]
    coarse = [
        fidelity(fp32[start : start + 60], changed[start : start + 60], 1.0).flip_rate for start in range(0, 1200, 60)
    ]
    assert np.mean(few) == pytest.approx(rate, rel=0.25)
    assert np.std(few) < np.std(coarse)


def test_a_shift_of_all_logits_flips_nothing():
    fp32, _ = _pair(0.1)
    assert fidelity(fp32, fp32 + 3, 1.0).expected_flip_rate == 0.0


def test_the_worst_group_is_told_and_small_groups_are_left_out():
    fp32 = np.tile(np.array([[2.0, 1.0]], dtype=np.float32), (25, 1))
    changed = fp32.copy()
    changed[:3] = changed[:3, ::-1]
    changed[20:] = changed[20:, ::-1]
    found = fidelity(fp32, changed, 1.0, ["a"] * 10 + ["b"] * 10 + ["few"] * 5)
    assert found.flips == 8
    assert found.worst_group_flip_rate == pytest.approx(0.3)


def test_agreement_lost_is_counted_against_the_human_codes():
    fp32 = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]] * 5
    changed = fp32.copy()
    changed[0] = changed[0, ::-1]
    found = agreement(fp32, changed, 1.0, [PRAISE.names[place] for place in (0, 1, 2, 0, 1, 2)], PRAISE)
    assert found.kappa_lost == pytest.approx(0.25)
    assert found.worst_recall_change == pytest.approx(-0.5)
