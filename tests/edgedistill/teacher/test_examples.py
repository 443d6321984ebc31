from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgedistill.data.types import CodedResponse, Response, TrainRows
from edgedistill.errors import ProjectFileError
from edgedistill.student import backbone_folder
from edgedistill.student.frozen import embedder
from edgedistill.teacher import LabellingPlan, build_example_selector, select_balanced_examples
from edgedistill.teacher.labelling import use_same_examples
from edgedistill_serve.task.task import Kind, Label, Task

from .codings import CODEBOOK, section


def task(*labels: str, kind: Kind = "nominal") -> Task:
    return Task(kind=kind, labels=tuple(map(Label, labels)), inputs=("response",))


def rows(*labels: str, start: int = 0) -> tuple[CodedResponse, ...]:
    return tuple(
        CodedResponse(Response(f"id{number}", {"response": f"text {number}"}, "human.csv", number), label)
        for number, label in enumerate(labels, start)
    )


def test_examples_are_balanced_and_the_labels_alternate() -> None:
    chosen = select_balanced_examples(TrainRows(rows(*"aaaaabbbbbccccc")), task("a", "b", "c"), 7)
    assert [row.label for row in chosen] == ["a", "b", "c", "a", "b", "c", "a"]
    assert len({row.response.id for row in chosen}) == 7


def test_the_order_of_the_rows_does_not_matter() -> None:
    given = rows(*"aaaabbbb")
    assert select_balanced_examples(TrainRows(given), task("a", "b"), 4) == select_balanced_examples(
        TrainRows(given[::-1]), task("a", "b"), 4
    )


def test_more_rows_change_few_examples() -> None:
    few, many = rows(*"ab" * 50), rows(*"ab" * 55)
    before, after = (set(choose_examples_ids(given)) for given in (few, many))
    assert len(before - after) <= 2


def choose_examples_ids(given: tuple[CodedResponse, ...]) -> list[str]:
    return [row.response.id for row in select_balanced_examples(TrainRows(given), task("a", "b"), 8)]


def test_there_are_no_examples_by_default() -> None:
    assert select_balanced_examples(TrainRows(()), task("a", "b"), 0) == ()


def test_a_label_with_too_few_rows_is_named() -> None:
    with pytest.raises(ProjectFileError, match="2 train rows of the label 'b', but there are 1"):
        select_balanced_examples(TrainRows(rows(*"aaab")), task("a", "b"), 4)


def test_a_row_of_several_labels_is_an_example_once_and_rows_without_a_label_are_shown_too() -> None:
    given = TrainRows(rows(*["a;b"] * 6, *["none"] * 6))
    chosen = select_balanced_examples(given, task("a", "b", kind="multilabel"), 6)
    assert [row.label for row in chosen] == ["a;b", "a;b", "none", "a;b", "a;b", "none"]
    assert len({row.response.id for row in chosen}) == 6


def test_no_example_without_a_label_is_required_if_every_row_has_one() -> None:
    chosen = select_balanced_examples(TrainRows(rows(*["a"] * 3, *["b"] * 3)), task("a", "b", kind="multilabel"), 4)
    assert sorted(row.label for row in chosen) == ["a", "a", "b", "b"]


def response(text: str, ident: str = "new") -> Response:
    return Response(ident, {"response": text}, "responses.csv", 2)


def train(**texts: str) -> TrainRows:
    return TrainRows(tuple(CodedResponse(response(text, ident), "a") for ident, text in texts.items()))


def by_length(rows: Sequence[Mapping[str, str]]) -> npt.NDArray[np.float32]:
    """Replaces a backbone: texts of similar length get similar vectors."""
    angles = np.array([len(row["response"]) / 10 for row in rows])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def chosen(rows: TrainRows, text: str, **fields: object) -> list[str]:
    choose = build_example_selector(section("http://x.org", **fields), rows, task("a", "b"), by_length)
    return [row.response.id for row in choose([response(text)])[0]]


def test_fixed_examples_are_those_of_the_list_in_its_order() -> None:
    rows = train(one="x", two="xx", three="xxx")
    assert chosen(rows, "y", few_shot_choice="fixed", few_shot_ids=("three", "one")) == ["three", "one"]


def test_a_fixed_example_that_is_not_a_train_row_is_refused() -> None:
    with pytest.raises(ProjectFileError, match="no human-coded train row has the id 'four'"):
        chosen(train(one="x"), "y", few_shot_choice="fixed", few_shot_ids=("one", "four"))


def test_similar_examples_are_the_nearest_train_rows_the_most_similar_last() -> None:
    rows = train(far="x" * 20, near="x" * 4, nearest="x" * 6)
    assert chosen(rows, "y" * 7, few_shot_choice="similar", few_shot=2) == ["near", "nearest"]


def test_a_similar_example_is_never_the_response_itself() -> None:
    rows = train(new="other text", same="the text", one="x", two="xx", three="xxx")
    assert set(chosen(rows, "the text", few_shot_choice="similar", few_shot=2)) == {"two", "three"}


def test_more_similar_examples_than_other_train_rows_are_refused() -> None:
    with pytest.raises(ProjectFileError, match="2 similar examples require more than 2 train rows, but there are 2"):
        chosen(train(one="x", two="xx"), "y", few_shot_choice="similar", few_shot=2)


def test_an_example_with_the_response_s_own_text_is_not_shown_beside_it() -> None:
    examples = tuple(train(one="well done", two="try again"))
    plan = LabellingPlan([response("well done")], CODEBOOK, section("http://x.org"), use_same_examples(examples))
    assert [example.response.id for example in plan.codings[0].examples] == ["two"]


def test_minilm_finds_the_row_that_says_the_same_in_other_words() -> None:
    embed = embedder(backbone_folder("minilm", Path()), 64)
    rows = train(same="You kept on trying until it worked.", other="The answer is three quarters.", off="I like pizza.")
    choose = build_example_selector(
        section("http://x.org", few_shot_choice="similar", few_shot=1), rows, task("a"), embed
    )
    ((found,),) = choose([response("Jordan, you did not give up!")])
    assert found.response.id == "same"


def test_a_vector_does_not_depend_on_the_rows_beside_it() -> None:
    embed = embedder(backbone_folder("minilm", Path()), 64)
    texts = [{"response": text} for text in ("short", "a much longer text about fractions and effort", "short")]
    together = embed(texts)
    assert (together[0] == embed(texts[:1])[0]).all()
    assert np.linalg.norm(together, axis=1) == pytest.approx(1.0)
