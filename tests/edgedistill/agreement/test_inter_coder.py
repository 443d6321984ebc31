"""Human coders among themselves, and a student beside them."""

import json

import pytest
from sklearn.metrics import cohen_kappa_score

from edgedistill.agreement import human_agreement
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Label, Task

TASK = Task("nominal", (Label("a"), Label("b")), ("response",))


def coding(labels):
    """A label per row; a dot is a row that the coder left out."""
    return {f"r{row}": label for row, label in enumerate(labels) if label != "."}


ONE, OTHER = coding("aabbaabb" * 5), coding("aabbabbb" * 4 + "........")
STUDENT = coding("aabbaabb" * 5)


def test_two_coders_are_compared_on_the_rows_that_both_coded():
    found = human_agreement({"one": ONE, "other": OTHER}, TASK)
    (pair,) = found.pairs
    shared = list(OTHER)
    assert (found.rows, pair.rows) == (32, 32)
    assert pair.agreement.kappa.value == pytest.approx(
        cohen_kappa_score([ONE[row] for row in shared], [OTHER[row] for row in shared])
    )
    assert found.beside_humans == ()


def test_a_student_stands_beside_each_coder_against_the_other_one():
    found = human_agreement({"one": ONE, "other": OTHER}, TASK, student=STUDENT)
    assert [(each.reference, each.human) for each in found.beside_humans] == [("one", "other"), ("other", "one")]
    with_one, with_other = (each.comparison.differences["kappa"] for each in found.beside_humans)
    assert with_one.value > 0
    assert with_other.value == pytest.approx(0)


def test_three_coders_make_three_pairs():
    found = human_agreement({"x": ONE, "y": OTHER, "z": STUDENT}, TASK)
    assert [(pair.first, pair.second) for pair in found.pairs] == [("x", "y"), ("x", "z"), ("y", "z")]


def test_coders_who_share_no_row_have_no_agreement():
    found = human_agreement({"one": coding("ab.."), "other": coding("..ab")}, TASK, student=coding("abab"))
    assert (found.rows, found.alpha, found.pairs[0].agreement, found.beside_humans) == (0, None, None, ())


def test_groups_are_drawn_as_wholes():
    groups = {row: str(int(row[1:]) // 8) for row in ONE}
    (pair,) = human_agreement({"one": ONE, "other": OTHER}, TASK, groups=groups).pairs
    assert pair.agreement.groups == 4


def test_one_coder_has_no_ceiling():
    with pytest.raises(DataError, match="needs at least two coders"):
        human_agreement({"one": ONE}, TASK)


def test_a_ceiling_survives_json():
    told = human_agreement({"one": ONE, "other": OTHER}, TASK, student=STUDENT).as_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["beside_humans"][0]["second"] == "student"
