"""Agreement among coders, worked by hand or by the definitions, and of a student with human coders."""

import pytest
from sklearn.metrics import cohen_kappa_score

from edgedistill.agreement import human_agreement, inter_coder_agreement
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Label, Task

TASK = Task("nominal", (Label("a"), Label("b")), ("response",))
THREE_LABELS = Task("nominal", (Label("a"), Label("b"), Label("c")), ("response",))
ORDINAL = Task("ordinal", THREE_LABELS.labels, THREE_LABELS.inputs)


def coding(labels):
    """A label per row; a dot is a row that the coder left out."""
    return {f"r{row}": label for row, label in enumerate(labels) if label != "."}


ONE, OTHER = coding("aabbaabb" * 5), coding("aabbabbb" * 4 + "........")
STUDENT = coding("aabbaabb" * 5)


def test_rows_of_few_learners_widen_the_interval_between_coders():
    def interval(groups):
        (pair,) = inter_coder_agreement({"one": ONE, "other": OTHER}, TASK, groups=groups).pairs
        return pair.kappa.high - pair.kappa.low

    independent = interval(None)
    assert interval({row: f"learner {place % 4}" for place, row in enumerate(ONE)}) > 1.2 * independent
    assert interval(dict.fromkeys(ONE, "a learner")) == 2


def test_two_coders_are_compared_on_the_rows_that_both_coded():
    found = human_agreement({"one": ONE, "other": OTHER}, TASK)
    (pair,) = found.pairs
    shared = list(OTHER)
    assert (found.rows, pair.rows) == (32, 32)
    assert pair.agreement.kappa.value == pytest.approx(
        cohen_kappa_score([ONE[row] for row in shared], [OTHER[row] for row in shared])
    )
    assert found.beside_humans == ()


def test_the_student_is_compared_with_each_coder_against_the_other():
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


def test_whole_groups_are_resampled():
    groups = {row: str(int(row[1:]) // 8) for row in ONE}
    (pair,) = human_agreement({"one": ONE, "other": OTHER}, TASK, groups=groups).pairs
    assert pair.agreement.groups == 4


def test_one_coder_is_refused():
    with pytest.raises(DataError, match="needs at least two coders"):
        human_agreement({"one": ONE}, TASK)


def test_two_coders_have_cohens_kappa_on_the_rows_that_both_coded() -> None:
    found = inter_coder_agreement({"x": coding("aabb."), "y": coding("aab.b")}, THREE_LABELS)
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.rows) == ("x", "y", 3)
    assert pair.kappa is not None
    assert pair.kappa.value == pytest.approx(1.0)


def test_alpha_is_one_for_full_agreement_and_counts_rows_that_two_coded() -> None:
    found = inter_coder_agreement({"x": coding("ab.c"), "y": coding("abc."), "z": coding("a...")}, THREE_LABELS)
    assert (found.alpha, found.rows) == (pytest.approx(1.0), 2)
    assert [(pair.first, pair.second, pair.rows) for pair in found.pairs] == [
        ("x", "y", 2),
        ("x", "z", 1),
        ("y", "z", 1),
    ]


def test_alpha_follows_its_definition() -> None:
    # Krippendorff 2011: of 8 pairable values, 4 differ from their partner; by chance 2 n_a n_b / (n (n - 1)) would.
    found = inter_coder_agreement({"x": coding("abab"), "y": coding("baab")}, THREE_LABELS)
    observed, expected = 4 / 8, 2 * 4 * 4 / (8 * 7)
    assert found.alpha == pytest.approx(1 - observed / expected)


def test_an_ordinal_task_forgives_a_near_miss_more_than_a_far_one() -> None:
    near = inter_coder_agreement({"x": coding("aabbcc"), "y": coding("aabbcb")}, ORDINAL)
    far = inter_coder_agreement({"x": coding("aabbcc"), "y": coding("aabbca")}, ORDINAL)
    assert near.alpha is not None
    assert far.alpha is not None
    assert near.alpha > far.alpha


@pytest.mark.parametrize("labels", [("aa", "aa"), ("a.", ".a")])
def test_undefined_agreement_is_none(labels: tuple[str, str]) -> None:
    found = inter_coder_agreement({"x": coding(labels[0]), "y": coding(labels[1])}, THREE_LABELS)
    assert found.alpha is None
    assert found.pairs[0].kappa is None


@pytest.mark.parametrize(
    ("codings", "groups", "note"),
    [
        ({"one": "aabb", "other": "...."}, None, "other coded none of the rows"),
        ({"one": "aabb", "other": "aaaa"}, None, "other gave all 4 rows the label 'a'; agreement with this coder"),
        ({"one": "ab..", "other": "..ab"}, None, "no row has the codes of two coders"),
        ({"one": "abab", "other": "ab.."}, "xxyz", "all 2 rows with the codes of two coders belong to the group 'x'"),
        ({"one": "abab", "other": "abba"}, None, "no coder uses the label 'c', on which their agreement"),
    ],
)
def test_codes_that_show_little_have_a_note(codings, groups, note):
    by_row = groups and {f"r{row}": group for row, group in enumerate(groups)}
    found = human_agreement({name: coding(codes) for name, codes in codings.items()}, THREE_LABELS, groups=by_row)
    assert any(each.startswith(note) for each in found.notes)


def test_unused_labels_of_sets_are_those_that_no_set_has():
    sets = Task("multilabel", THREE_LABELS.labels, THREE_LABELS.inputs)
    found = human_agreement({"one": {"r": "a;b", "s": "none"}, "other": {"r": "b", "s": "a"}}, sets)
    assert found.notes == ("no coder uses the label 'c', on which their agreement is therefore unknown",)


def test_good_codes_have_no_note():
    assert human_agreement({"one": ONE, "other": OTHER}, TASK).notes == ()
