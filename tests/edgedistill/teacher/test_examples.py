import pytest

from edgedistill.errors import ProjectFileError
from edgedistill.records.types import CodedResponse, Response, TrainRows
from edgedistill.teacher import choose_examples


def rows(*labels: str, start: int = 0) -> tuple[CodedResponse, ...]:
    return tuple(
        CodedResponse(Response(f"id{number}", {"response": f"text {number}"}, "human.csv", number), label)
        for number, label in enumerate(labels, start)
    )


def test_examples_are_balanced_and_the_labels_take_turns() -> None:
    chosen = choose_examples(TrainRows(rows(*"aaaaabbbbbccccc")), ("a", "b", "c"), 7)
    assert [row.label for row in chosen] == ["a", "b", "c", "a", "b", "c", "a"]
    assert len({row.response.id for row in chosen}) == 7


def test_the_order_of_the_rows_does_not_matter() -> None:
    given = rows(*"aaaabbbb")
    assert choose_examples(TrainRows(given), ("a", "b"), 4) == choose_examples(TrainRows(given[::-1]), ("a", "b"), 4)


def test_more_rows_change_few_examples() -> None:
    few, many = rows(*"ab" * 50), rows(*"ab" * 55)
    before, after = (set(choose_examples_ids(given)) for given in (few, many))
    assert len(before - after) <= 2


def choose_examples_ids(given: tuple[CodedResponse, ...]) -> list[str]:
    return [row.response.id for row in choose_examples(TrainRows(given), ("a", "b"), 8)]


def test_no_examples_are_wanted_by_default() -> None:
    assert choose_examples(TrainRows(()), ("a", "b"), 0) == ()


def test_a_label_with_too_few_rows_is_named() -> None:
    with pytest.raises(ProjectFileError, match="2 train rows of the label 'b', and there are 1"):
        choose_examples(TrainRows(rows(*"aaab")), ("a", "b"), 4)
