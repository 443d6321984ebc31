"""How far one form of the student agrees with the next is measured row by row."""

import numpy as np
import pytest

from edgedistill_export import ExportFailed
from edgedistill_export.plan import ExportPlan
from edgedistill_export.verify.parity import (
    CONVERSION_TOLERANCE,
    Logits,
    check_conversion,
    measure_step,
    probabilities,
    probability_differences,
)
from edgedistill_serve import DataError
from edgedistill_serve.task.label_decoding import LabelDecoder

from ..tiny import MOVES, PRAISE

NAMES = ("PyTorch", "ONNX fp32")
ONE = LabelDecoder(PRAISE)
EACH = LabelDecoder(MOVES, 1.0, (0.5, 0.5, 0.9))


def _logits(*rows: tuple[float, ...]) -> Logits:
    return np.array(rows, dtype=np.float32)


def test_a_row_whose_best_label_changes_is_a_flip():
    before = _logits((2, 0, 0), (0, 2, 0), (0, 0, 2), (2, 1, 0))
    after = _logits((2, 0, 0), (0, 2, 0), (0, 2, 0), (2, 1.5, 0))
    measured = measure_step(NAMES, before, after, ONE)
    assert (measured.rows, measured.flips, measured.flip_rate) == (4, 1, 0.25)
    assert (measured.before, measured.after) == NAMES


def test_equal_logits_differ_in_nothing():
    same = _logits((2, 0, 1), (0, 2, 1))
    measured = measure_step(NAMES, same, same, ONE)
    assert (measured.flips, measured.max_probability_difference) == (0, 0.0)


def test_the_largest_difference_is_of_probabilities_not_of_logits():
    # softmax of (0, 0) and of (ln 3, 0) are 0.5 and 0.75
    measured = measure_step(NAMES, _logits((0, 0)), _logits((np.log(3), 0)), ONE)
    assert measured.max_probability_difference == pytest.approx(0.25)


def test_the_temperature_divides_the_logits():
    assert probabilities(_logits((2 * np.log(3), 0)), LabelDecoder(PRAISE, 2.0))[0] == pytest.approx([0.75, 0.25])


def test_each_row_has_its_own_difference():
    before, after = _logits((0, 0), (0, 0)), _logits((0, 0), (np.log(3), 0))
    assert probability_differences(before, after, ONE) == pytest.approx([0.0, 0.25])


@pytest.mark.parametrize("odd", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 1])
def test_a_number_that_is_not_finite_is_a_failed_conversion(odd, row):
    after = _logits((2, 0, 0), (0, 2, 0))
    after[row] = odd
    with np.errstate(invalid="ignore"), pytest.raises(ExportFailed, match="does not agree with PyTorch"):
        check_conversion(measure_step(NAMES, _logits((2, 0, 0), (0, 2, 0)), after, ONE))


def test_a_tie_that_falls_the_other_way_is_no_failed_conversion():
    tie = CONVERSION_TOLERANCE / 10
    measured = measure_step(NAMES, _logits((tie, 0)), _logits((0, tie)), ONE)
    assert measured.flips == 1
    check_conversion(measured)


def test_a_difference_beyond_the_tolerance_fails_the_export():
    measured = measure_step(NAMES, _logits((1, 0), (2, 0)), _logits((1, 0), (2.01, 0)), ONE)
    with pytest.raises(ExportFailed, match=r"ONNX fp32 does not agree with PyTorch.* 0 of 2") as failure:
        check_conversion(measured)
    assert failure.value.exit_code == 5


def test_a_row_of_a_multilabel_task_of_which_any_label_changes_is_one_flip():
    before = _logits((1, 1, 1), (1, -1, 0), (-1, -1, -1))
    after = _logits((-1, -1, 1), (1, -1, 1), (-1, -1, 2))
    # A third label of 1 or 2 lies below its threshold of 0.9.
    assert measure_step(NAMES, before, after, EACH).flips == 1


def test_the_largest_difference_of_a_multilabel_task_is_of_single_probabilities():
    # the sigmoids of 0 and of ln 3 are 0.5 and 0.75
    measured = measure_step(NAMES, _logits((0, 0, 0)), _logits((0, np.log(3), 0)), EACH)
    assert measured.max_probability_difference == pytest.approx(0.25)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("is_before", [True, False])
@pytest.mark.parametrize("decoder", [ONE, EACH])
def test_a_conversion_with_a_logit_that_is_not_finite_fails(value, is_before, decoder):
    good = _logits((2, 0, 1), (0, 2, 1))
    bad = _logits((2, 0, 1), (0, value, 1))
    pair = (bad, good) if is_before else (good, bad)
    with np.errstate(invalid="ignore"), pytest.raises(ExportFailed, match="does not agree"):
        check_conversion(measure_step(NAMES, *pair, decoder))


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 2.0])
def test_a_plan_with_an_absurd_flip_rate_is_refused(value):
    with pytest.raises(DataError, match="max_flip_rate"):
        ExportPlan("praise", PRAISE, 128, "int8", value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 1e-308])
def test_a_plan_with_an_absurd_temperature_is_refused(value):
    with pytest.raises(DataError, match="temperature"):
        ExportPlan("praise", PRAISE, 128, "int8", 0.01, temperature=value)


@pytest.mark.parametrize("name", ["my model", "praise/2", ""])
def test_a_plan_with_a_name_that_the_server_refuses_is_refused(name):
    with pytest.raises(DataError, match="at most 100 of A to Z"):
        ExportPlan(name, PRAISE, 128, "int8", 0.01)
