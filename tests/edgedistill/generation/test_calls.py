"""The requests of a generation, and the human rows in them."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.data.types import TrainRows
from edgedistill.errors import ProjectFileError
from edgedistill.generation import plan_requests, select_seed_rows

from .writings import CODEBOOK, LESSON, QUESTIONS, coded, held_out, section, train, validation

ASKED = train(
    *(coded(f"{name}{n}", f"{name} text {n}", name, f"question {n % 3}") for name in CODEBOOK.names for n in range(9))
)


@given(per_label=st.integers(1, 200), size=st.integers(1, 20))
def test_every_label_gets_the_configured_number_of_samples_in_requests_within_the_limit(per_label, size):
    calls = plan_requests(ASKED, QUESTIONS, section(per_label=per_label, samples_per_call=size, temperature=[0.3, 1.0]))
    asked = Counter()
    for call in calls:
        asked[call.label, call.temperature] += call.size
        assert 1 <= call.size <= size
    assert asked == {(label, t): per_label for label in CODEBOOK.names for t in (0.3, 1.0)}


@given(per_label=st.integers(1, 100))
def test_samples_are_spread_evenly_over_the_questions(per_label):
    calls = plan_requests(ASKED, QUESTIONS, section(per_label=per_label))
    for label in QUESTIONS.names:
        spread = Counter({f"question {n}": 0 for n in range(3)})
        for call in calls:
            spread[call.context["question"]] += call.size if call.label == label else 0
        assert max(spread.values()) - min(spread.values()) <= 1


def test_requests_with_the_same_label_and_question_are_numbered():
    calls = plan_requests(LESSON, CODEBOOK, section(per_label=5))
    assert [(call.label, call.number, call.size) for call in calls] == [
        *(("process", n, size) for n, size in enumerate((2, 2, 1))),
        *(("outcome", n, size) for n, size in enumerate((2, 2, 1))),
    ]


def test_examples_have_the_label_and_those_on_the_question_come_first():
    for call in plan_requests(ASKED, QUESTIONS, section(per_label=30, examples_per_prompt=4)):
        assert {example.label for example in call.examples} == {call.label}
        same = [example.response.inputs["question"] == call.context["question"] for example in call.examples]
        assert same == [True, True, True, False]


def test_requests_show_different_examples_whatever_the_order_of_the_file():
    calls = plan_requests(LESSON, CODEBOOK, section(per_label=20))
    shown = [[example.response.id for example in call.examples] for call in calls]
    assert len({tuple(ids) for ids in shown[:10]}) > 2
    backwards = plan_requests(TrainRows(LESSON.rows[::-1]), CODEBOOK, section(per_label=20))
    assert [[example.response.id for example in call.examples] for call in backwards] == shown


def test_a_train_row_that_repeats_a_held_out_row_is_never_shown():
    rows = train(*LESSON, coded("leak", "Well  DONE you", "process"), coded("leak2", "so good", "process"))
    seeds = select_seed_rows(rows, validation("well done you"), held_out("So good"))
    assert seeds == LESSON


def test_more_examples_than_train_rows_of_a_label_are_refused():
    few = train(*LESSON.rows[:5], LESSON.rows[5])
    with pytest.raises(ProjectFileError, match=r"2 examples of the label 'outcome' are required, but only 1 human"):
        plan_requests(few, CODEBOOK, section())


def test_no_seed_rows_at_all_are_refused():
    with pytest.raises(ProjectFileError, match="every human train row repeats a validation or test row"):
        plan_requests(train(), CODEBOOK, section(examples_per_prompt=0))


def test_personas_alternate_and_lengths_are_those_of_train_rows():
    rows = train(*(coded(f"x{n}", "word " * n, label) for label in CODEBOOK.names for n in (3, 8, 13)))
    calls = plan_requests(rows, CODEBOOK, section(per_label=12, variation="both", personas=["one", "two"]))
    of_process = [call for call in calls if call.label == "process"]
    assert [call.persona for call in of_process] == ["one", "two"] * 3
    assert {call.words for call in calls} <= {3, 8, 13}
    assert len({call.words for call in calls}) > 1


@pytest.mark.parametrize(("variation", "varied"), [("none", (0, 0)), ("persona", (1, 0)), ("length", (0, 1))])
def test_only_the_configured_properties_vary(variation, varied):
    for call in plan_requests(LESSON, CODEBOOK, section(variation=variation)):
        assert (bool(call.persona), call.words is not None) == varied
