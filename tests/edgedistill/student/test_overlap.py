"""The overlap baseline: nine numbers that compare a response with its reference answers."""

import numpy as np
import pytest

from edgedistill.data.types import CodedResponse, MixtureRow, Response, ValidationRows
from edgedistill.errors import RunError
from edgedistill.student.frozen import fit_frozen, write_frozen
from edgedistill.student.overlap import FEATURES, fit_overlap, overlap_features, predict_overlap
from edgedistill_serve.task.task import Label, Task, reference_answers

TASK = Task("nominal", (Label("correct"), Label("incorrect")), ("question", "reference_answer", "response"))
GAP = "There is a gap in the circuit.\nThe terminals are not connected."


def embed(rows):
    """A vector of letter counts of length 1, in place of the encoder's."""
    counts = np.array([[row["response"].lower().count(chr(97 + at)) for at in range(26)] for row in rows], dtype=float)
    return (counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def numbers(response, reference=GAP, question="Why is the bulb off?"):
    row = {"question": question, "reference_answer": reference, "response": response}
    (found,) = overlap_features([row], TASK, embed)
    return dict(zip(FEATURES, found.tolist(), strict=True))


def test_a_response_that_repeats_a_reference_has_everything_in_common_with_it():
    found = numbers("The terminals are not connected")
    assert [found[name] for name in FEATURES[:5]] == pytest.approx([1] * 5)
    assert found["cosine with the reference"] == pytest.approx(1)
    assert (found["negation on one side only"], found["length ratio"]) == (0, 0)


def test_every_reference_counts():
    first = numbers("The terminals are not connected", GAP.splitlines()[0])
    assert first["reference words in the response"] < 1
    assert numbers("There is a gap in the circuit")["reference words in the response"] == 1


@pytest.mark.parametrize(
    ("response", "negated"),
    [
        ("The terminals are connected", 1),
        ("The terminals aren't connected", 0),
        ("The terminals aren\u2019t connected", 0),
        ("It is not true that the terminals are not connected", 1),
    ],
)
def test_negation_on_one_side_only_is_seen(response, negated):
    assert numbers(response)["negation on one side only"] == negated


def test_words_of_the_question_are_no_evidence():
    found = numbers("the bulb is off", "the bulb is off because of a gap", "Why is the bulb off?")
    assert found["reference words in the response"] == pytest.approx(4 / 8)
    assert found["reference words beyond the question in the response"] == 0


def test_scripts_without_spaces_are_compared_by_character():
    found = numbers("太阳加热水", "水被太阳加热", "为什么水会蒸发")
    assert found["reference words in the response"] == pytest.approx(5 / 6)


@pytest.mark.parametrize("response", ["", "!?", "\u200b", "x" * 5000])
def test_odd_responses_have_finite_numbers(response):
    assert np.isfinite(list(numbers(response, reference="-").values())).all()


def test_references_are_the_lines_that_are_not_blank():
    assert reference_answers({"reference_answer": " a gap \n\n no contact\r\n"}) == ("a gap", "no contact")
    assert reference_answers({"reference_answer": ""}) == ("",)


WORDS = ("gap", "battery", "current", "switch", "open", "closed", "bulb", "wire")


def coded(questions, seed):
    """Responses that repeat their question's reference if they are correct; every question has another one."""
    draw = np.random.default_rng(seed)
    for question in questions:
        reference = " ".join(draw.choice(WORDS, 3, replace=False))
        for row in range(8):
            correct = row % 2 == 0
            given = reference.split() if correct else draw.choice(sorted(set(WORDS) - set(reference.split())), 3)
            inputs = {"question": f"Q{question}", "reference_answer": reference, "response": " ".join(given)}
            yield f"{question}-{row}", inputs, ("incorrect", "correct")[correct]


@pytest.fixture(scope="module")
def rows():
    mixture = [MixtureRow(row, inputs, label, "human", {label: 1.0}) for row, inputs, label in coded(range(6), 0)]
    unknown = [CodedResponse(Response(row, inputs, "h.csv", 2), label) for row, inputs, label in coded(range(6, 12), 1)]
    return mixture, ValidationRows(tuple(unknown))


def test_it_recognizes_correct_responses_to_questions_that_it_has_not_seen(bert, rows, tmp_path):
    mixture, unknown = rows
    head = fit_overlap(mixture, unknown, TASK, 24, bert)
    assert head.accuracy == 1
    write_frozen(head, TASK, 24, tmp_path / "overlap.safetensors")
    inputs = [row.response.inputs for row in unknown]
    assert predict_overlap(tmp_path / "overlap.safetensors", bert, TASK, inputs).labels == unknown.labels


def test_another_classifier_is_refused(bert, rows, tmp_path):
    mixture, unknown = rows
    write_frozen(fit_frozen(mixture, unknown, TASK, 24, bert)[0], TASK, 24, tmp_path / "overlap.safetensors")
    with pytest.raises(RunError, match="is not an overlap baseline"):
        predict_overlap(tmp_path / "overlap.safetensors", bert, TASK, [])
