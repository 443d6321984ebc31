"""Coders compared with one another: worked by hand, or by the definitions."""

import pytest

from edgedistill.agreement import inter_coder_agreement
from edgedistill_serve.task.task import Label, Task

NOMINAL = Task("nominal", (Label("a"), Label("b"), Label("c")), ("response",))
ORDINAL = Task("ordinal", NOMINAL.labels, NOMINAL.inputs)


def coding(labels: str) -> dict[str, str]:
    """A label per row; a dot is a row that the coder left out."""
    return {f"r{row}": label for row, label in enumerate(labels) if label != "."}


def test_two_coders_have_cohens_kappa_on_the_rows_that_both_coded() -> None:
    found = inter_coder_agreement({"x": coding("aabb."), "y": coding("aab.b")}, NOMINAL)
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.rows) == ("x", "y", 3)
    assert pair.kappa is not None
    assert pair.kappa.value == pytest.approx(1.0)


def test_alpha_is_one_for_full_agreement_and_counts_rows_that_two_coded() -> None:
    found = inter_coder_agreement({"x": coding("ab.c"), "y": coding("abc."), "z": coding("a...")}, NOMINAL)
    assert (found.alpha, found.rows) == (pytest.approx(1.0), 2)
    assert [(pair.first, pair.second, pair.rows) for pair in found.pairs] == [
        ("x", "y", 2),
        ("x", "z", 1),
        ("y", "z", 1),
    ]


def test_alpha_follows_its_definition() -> None:
    # Krippendorff 2011: of 8 pairable values, 4 differ from their partner; by chance 2 n_a n_b / (n (n - 1)) would.
    found = inter_coder_agreement({"x": coding("abab"), "y": coding("baab")}, NOMINAL)
    observed, expected = 4 / 8, 2 * 4 * 4 / (8 * 7)
    assert found.alpha == pytest.approx(1 - observed / expected)


def test_an_ordinal_task_forgives_a_near_miss_more_than_a_far_one() -> None:
    near = inter_coder_agreement({"x": coding("aabbcc"), "y": coding("aabbcb")}, ORDINAL)
    far = inter_coder_agreement({"x": coding("aabbcc"), "y": coding("aabbca")}, ORDINAL)
    assert near.alpha is not None
    assert far.alpha is not None
    assert near.alpha > far.alpha


@pytest.mark.parametrize("labels", [("aa", "aa"), ("a.", ".a")])
def test_what_is_undefined_is_none(labels: tuple[str, str]) -> None:
    found = inter_coder_agreement({"x": coding(labels[0]), "y": coding(labels[1])}, NOMINAL)
    assert found.alpha is None
    assert found.pairs[0].kappa is None
