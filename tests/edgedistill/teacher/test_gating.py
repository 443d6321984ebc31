"""Uncoded rows count against the teacher, few rows are not enough, and undefined figures pass no gate."""

from dataclasses import replace
from itertools import cycle, islice

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.data.types import CodedResponse, Response, SetAside, TeacherLabel
from edgedistill.evaluation.types import GateTeacher
from edgedistill.project.teacher import GateSection, TeacherSection
from edgedistill.teacher.gating import check_gate, refusal, wrong_label
from edgedistill.teacher.labelling import Labelling
from edgedistill.teacher.spending import Usage
from edgedistill_serve.task.task import Label, Task

NOMINAL, ORDINAL, SETS = (
    Task(kind, (Label("a"), Label("b"), Label("c")), ("response",)) for kind in ("nominal", "ordinal", "multilabel")
)
CODES = {"nominal": "abc", "ordinal": "abc", "multilabel": ["a", "b;c", "none", "a;b;c"]}


def rows_of(count, task=NOMINAL, groups=None):
    codes = islice(cycle(CODES[task.kind]), count)
    return [
        CodedResponse(Response(str(n), {"response": f"text {n}"}, "human.csv", n, group=groups and groups[n]), code)
        for n, code in enumerate(codes)
    ]


def verdict_of(rows, labels, task=NOMINAL, *, coders=(), epsilon=0.15, **gate):
    """The gate's verdict on a teacher with these labels; None for a row that it did not code."""
    section = TeacherSection(base_url="http://localhost/v1", model="m", gate=GateSection(**gate))
    pairs = list(zip(rows, labels, strict=True))
    coded = tuple(
        TeacherLabel(row.response.id, label, 1.0, {label: 1.0}, (label,), "m") for row, label in pairs if label
    )
    aside = tuple(SetAside("", 0, row.response.id, "could not be read", "") for row, label in pairs if label is None)
    return check_gate(section, Labelling(coded, aside, Usage()), rows, task, coders=coders, epsilon=epsilon)


@pytest.mark.parametrize("task", [NOMINAL, ORDINAL, SETS], ids=lambda task: task.kind)
@pytest.mark.parametrize("metric", ["kappa", "accuracy", "macro_f1"])
@pytest.mark.parametrize("at_least", [0.0, 0.3, 0.6])
def test_a_teacher_that_codes_only_the_rows_it_is_sure_of_is_refused(task, metric, at_least):
    rows = rows_of(60, task)
    few = [row.label if n < 3 else None for n, row in enumerate(rows)]
    refused = verdict_of(rows, few, task, metric=metric, at_least=at_least)
    if at_least or metric == "kappa":
        assert not refused.passed
    assert refused.coded == 3
    assert getattr(refused.agreement, metric).value == 1
    assert getattr(refused.agreement_of_all, metric).value < 0.2
    everything = verdict_of(rows, [row.label for row in rows], task, metric=metric, at_least=at_least)
    assert everything.passed
    assert everything.agreement == everything.agreement_of_all


@settings(max_examples=10, deadline=None)
@given(st.data(), st.sampled_from([NOMINAL, ORDINAL, SETS]))
def test_leaving_a_row_out_never_helps(data, task):
    rows = rows_of(40, task)
    wrong = st.sampled_from(CODES[task.kind])
    labels = [row.label if data.draw(st.integers(0, 9)) else data.draw(wrong) for row in rows]
    left_out = data.draw(st.sets(st.integers(0, 39), min_size=1))
    fewer = [None if n in left_out else label for n, label in enumerate(labels)]
    for metric in ("accuracy", "macro_f1"):
        with_all, with_fewer = (verdict_of(rows, each, task, metric=metric) for each in (labels, fewer))
        if with_fewer.agreement_of_all:
            found, less = (getattr(each.agreement_of_all, metric) for each in (with_all, with_fewer))
            assert less.value <= found.value + 1e-9


@pytest.mark.parametrize(("rows", "least", "passed"), [(29, 30, False), (30, 30, True), (29, 29, True)])
def test_with_fewer_rows_than_required_no_teacher_passes(rows, least, passed):
    coded = rows_of(rows)
    verdict = verdict_of(coded, [row.label for row in coded], least_rows=least, at_least=0.3)
    assert verdict.passed is passed
    if not passed:
        assert refusal(verdict.as_dict()) == (
            f"the teacher's agreement is known on {rows} validation rows only; gate.least_rows requires {least}"
        )


def test_thirty_rows_are_required_unless_the_project_says_otherwise():
    assert GateSection().least_rows == 30


def test_rows_of_one_learner_pass_no_gate():
    rows = rows_of(60, groups=["x"] * 60)
    assert not verdict_of(rows, [row.label for row in rows], at_least=0.1).passed


METRICS = ["kappa", "accuracy", "macro_f1"]


def copied(row, times, disguise=lambda text, _: text):
    """A row and its copies, with ids of their own."""
    text = row.response.inputs["response"]
    return [
        replace(
            row, response=replace(row.response, id=f"{row.response.id}-{n}", inputs={"response": disguise(text, n)})
        )
        for n in range(times)
    ]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("different", [1, 2, 3, 6, 29])
@pytest.mark.parametrize(
    "disguise", [lambda text, _: text, lambda text, n: text.upper() + "\u200b" * n], ids=["equal", "disguised"]
)
@pytest.mark.parametrize("grouped", [False, True])
def test_copies_of_a_few_rows_are_not_enough_rows(different, metric, disguise, grouped):
    rows = [row for each in rows_of(different) for row in copied(each, 30, disguise)]
    if grouped:
        rows = [replace(row, response=replace(row.response, group=row.response.id)) for row in rows]
    verdict = verdict_of(rows, [row.label for row in rows], metric=metric, at_least=0.1)
    assert (verdict.passed, verdict.rows, verdict.different_rows) == (False, 30 * different, different)
    number = f"{different} different validation row{'s' if different > 1 else ''}"
    assert f"is known on {number} only; gate.least_rows requires 30" in refusal(verdict.as_dict())


def test_copies_of_a_row_are_no_further_evidence():
    rows = rows_of(36)
    labels = [row.label if n % 6 else "b" for n, row in enumerate(rows)]
    once = verdict_of(rows, labels, metric="accuracy").agreement_of_all.accuracy
    copies = [copy for row in rows for copy in copied(row, 20)]
    often = verdict_of(copies, [label for label in labels for _ in range(20)], metric="accuracy")
    figure = often.agreement_of_all.accuracy
    assert figure.value == pytest.approx(once.value)
    assert figure.high - figure.low > 0.8 * (once.high - once.low)
    assert often.agreement_of_all.groups == 36


@pytest.mark.parametrize("task", [NOMINAL, ORDINAL, SETS], ids=lambda task: task.kind)
@pytest.mark.parametrize("metric", METRICS)
def test_rows_of_a_single_code_pass_no_gate(task, metric):
    code = CODES[task.kind][1]
    rows = [replace(row, label=code) for row in rows_of(60, task)]
    verdict = verdict_of(rows, [code] * 60, task, metric=metric, at_least=0.1)
    assert not verdict.passed
    assert "all 60 validation rows have the same human code" in refusal(verdict.as_dict())


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("metric", METRICS)
def test_a_handful_of_rows_passes_no_gate_even_if_one_row_is_enough(rows, metric):
    coded = rows_of(rows)
    assert not verdict_of(coded, [row.label for row in coded], metric=metric, least_rows=1, at_least=0.5).passed


def test_an_undefined_metric_passes_no_gate_however_low():
    rows = [replace(row, label="a") for row in rows_of(60)]
    verdict = verdict_of(rows, ["a"] * 60, at_least=-1)
    assert verdict.agreement_of_all.kappa is None
    assert not verdict.passed
    assert "the same human code" in refusal(verdict.as_dict())


def test_a_teacher_that_codes_nothing_passes_no_gate_however_low():
    verdict = verdict_of(rows_of(60), [None] * 60, at_least=-1)
    assert (verdict.passed, verdict.coded, verdict.agreement, verdict.agreement_of_all) == (False, 0, None, None)


def test_a_refusal_names_the_uncoded_rows_and_what_they_count_for():
    rows = rows_of(60)
    verdict = verdict_of(rows, [row.label if n < 40 else None for n, row in enumerate(rows)])
    assert "counting 20 of 60 rows as coded wrongly (20: could not be read)" in refusal(verdict.as_dict())


@pytest.mark.parametrize("bound", [float("nan"), float("inf"), 1.5])
def test_a_bound_that_is_no_agreement_is_refused(bound):
    with pytest.raises(ValueError, match="at_least"):
        GateSection(at_least=bound)


@pytest.mark.parametrize(
    ("task", "code", "expected"),
    [
        (NOMINAL, "a", "c"),
        (NOMINAL, "c", "a"),
        (ORDINAL, "a", "c"),
        (ORDINAL, "b", "c"),
        (ORDINAL, "c", "a"),
        (SETS, "a", "b;c"),
        (SETS, "none", "a;b;c"),
    ],
)
def test_an_uncoded_row_counts_as_coded_as_wrongly_as_can_be(task, code, expected):
    assert wrong_label(code, ["c", "a", "b"], task) == expected


def coded_by(rows, **columns):
    """The rows with the codes of single coders; None for a blank cell."""
    columns = {name: list(column) for name, column in columns.items()}
    return [
        replace(row, codes={name: column[n] for name, column in columns.items() if column[n]})
        for n, row in enumerate(rows)
    ]


def test_three_coders_are_compared_with_the_teacher_beside_the_gate():
    rows = rows_of(60)
    good = [row.label for row in rows]
    sloppy = ["a" if n % 4 == 0 else label for n, label in enumerate(good)]
    coded = coded_by(rows, one=good, two=good, three=sloppy)
    verdict = verdict_of(coded, [None, *good[1:]], coders=("one", "two", "three"), epsilon=0.1)
    assert verdict.alt_test.uncoded == 1
    assert [each.coder for each in verdict.alt_test.coders] == ["one", "two", "three"]
    assert verdict.alt_test.epsilon == 0.1
    assert verdict.passed
    assert "alternative annotator test passed: beats 3 of 3 coders" in repr(verdict)
    assert verdict.as_dict()["alt_test"]["winning_rate"] == 1.0


def test_coders_with_too_few_codes_are_named_beside_the_gate():
    rows = rows_of(60)
    good = [row.label for row in rows]
    coded = coded_by(rows, one=good, two=good, three=[*good[:5], *[None] * 55])
    verdict = verdict_of(coded, good, coders=("one", "two", "three"))
    assert verdict.alt_test is None
    assert "three is left out: 5 of this coder's rows" in repr(verdict)
    assert verdict.as_dict()["alt_test_note"].endswith("(25 more)")


def test_two_coders_make_no_such_test():
    rows = rows_of(60)
    good = [row.label for row in rows]
    verdict = verdict_of(coded_by(rows, one=good, two=good), good, coders=("one", "two"))
    assert (verdict.alt_test, verdict.alt_test_note) == (None, "")


def test_each_source_of_certainty_is_compared_with_how_often_the_teacher_is_right():
    rows = rows_of(60)
    labels = [
        TeacherLabel(
            row.response.id,
            row.label if n % 3 else "b",
            1.0 if n % 2 else 2 / 3,
            {},
            ("a", "b", "c"),
            "m",
            confidences=(0.9, 0.5, None) if n < 50 else (),
            confidence=(0.9 if n % 3 else 0.4) if n < 50 else None,
            probability=0.8,
        )
        for n, row in enumerate(rows)
    ]
    section = TeacherSection(base_url="http://localhost/v1", model="m", confidence=True)
    verdict = check_gate(section, Labelling(tuple(labels), (), Usage()), rows, NOMINAL)
    found = verdict.certainty
    assert {source: each.rows for source, each in found.items()} == {"votes": 60, "logprobs": 60, "confidence": 50}
    right = sum(label.label == row.label for label, row in zip(labels, rows, strict=True)) / 60
    assert found["votes"].right.value == pytest.approx(right)
    assert found["logprobs"].ece.value == pytest.approx(abs(0.8 - right))
    assert found["confidence"].auc.value > found["votes"].auc.value
    assert verdict.votes_without_confidence == 50 + 30
    assert "certainty by confidence: mean 0." in repr(verdict)
    assert msgspec.convert(verdict.as_dict() | {"accepted": False}, type=GateTeacher).certainty.keys() == found.keys()


def test_one_vote_says_nothing_by_its_share():
    rows = rows_of(40)
    assert verdict_of(rows, [row.label for row in rows]).certainty == {}
