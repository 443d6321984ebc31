"""The confidence that a teacher states: requested on demand only, read strictly, never worth more than the label."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgedistill.data.types import CodedResponse, Response, TeacherLabel
from edgedistill.mixing import teacher_rows
from edgedistill.pipeline.label import _line, read_labels_file
from edgedistill.project.schema import Project
from edgedistill.project.teacher import TeacherSection
from edgedistill.project.training_set import MixSection
from edgedistill.teacher import Codebook, Labelling, LabellingPlan, combine_labellings, label_responses
from edgedistill.teacher.cache import AnswerCache
from edgedistill.teacher.codebook import AnswerFormat, AnswerShape, answer_instructions, build_opening_messages
from edgedistill.teacher.codebook import response_format as format_of
from edgedistill.teacher.gating import check_gate, describe_certainty
from edgedistill.teacher.labelling import use_same_examples
from edgedistill.teacher.parsing import Failure
from edgedistill.teacher.spending import Usage
from edgedistill.teacher.voting import Vote, count_multilabel_votes, count_votes, parse_votes
from edgedistill_serve.task.task import Task

from .codings import CODEBOOK, NO_WAIT, labelled, responses, section
from .stand_in import StandIn, completion, error

LABELS = CODEBOOK.names
SETS = Codebook(CODEBOOK.instructions, CODEBOOK.labels, CODEBOOK.inputs, multilabel=True)
EXAMPLE = CodedResponse(Response("e", {"response": "well done"}, "f", 1), "outcome")

PAID = {
    (): ("3f89fe4b2ab740a4", "68631b691861e181", "84f326ff75f0050e"),
    ("reasoning", "logprobs"): ("ada5d555ad2c5048", "56d436aa4de561f2", "f131552331d8e99e"),
    ("per_request",): ("be333d7723176a1a", "07fda205e999028d", "19a35432d43b3cba"),
}
PAID_SETS = {
    (): ("664186bd9d43f5dd", "d997eac0d41bff31", "648a333952888d74"),
    ("reasoning", "logprobs"): ("b95d67a5316827d7", "7bc289f40a5b8fe9", "69b9dd9344f18285"),
    ("per_request",): ("fd2f609277377c6c", "c6f5e786616eea33", "7f87d5f2725cc681"),
}
"""The keys of answers that were paid for before there was a confidence, by settings and answer format."""


def keys(codebook, **fields):
    teacher = TeacherSection(base_url="https://api.example/v1", model="m", **fields)
    coded = [Response("r", {"response": "you worked hard"}, "f", 1)]
    plan = LabellingPlan(coded, codebook, teacher, use_same_examples([EXAMPLE]))
    first = plan.coding_requests()[0]
    return tuple(plan.build_request(first, each).key()[:16] for each in AnswerFormat)


@pytest.mark.parametrize(("codebook", "paid"), [(CODEBOOK, PAID), (SETS, PAID_SETS)])
@pytest.mark.parametrize("named", PAID)
def test_answers_that_were_paid_for_without_a_confidence_stay_valid(codebook, paid, named):
    fields = {name: 3 if name == "per_request" else True for name in named}
    assert keys(codebook, **fields) == paid[named]
    assert set(keys(codebook, **fields, confidence=True)).isdisjoint(paid[named])


def shape(*, several=False, multilabel=False, reasoning=False, labels=LABELS):
    return AnswerShape(labels, reasoning, several, multilabel, confidence=True)


def test_the_schema_asks_for_a_whole_number_after_the_label():
    made = format_of(AnswerFormat.SCHEMA, shape(reasoning=True))["json_schema"]["schema"]
    assert list(made["properties"]) == made["required"] == ["reason", "label", "confidence"]
    assert made["properties"]["confidence"] == {"type": "integer"}
    several = format_of(AnswerFormat.SCHEMA, shape(several=True, multilabel=True))["json_schema"]["schema"]
    assert several["properties"]["codings"]["items"]["required"] == ["id", "labels", "confidence"]


@pytest.mark.parametrize("answer_format", AnswerFormat)
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("multilabel", [False, True])
def test_every_format_says_what_the_confidence_is(answer_format, several, multilabel):
    text = answer_instructions(answer_format, shape(several=several, multilabel=multilabel))
    assert "whole number from 0 to 100" in text
    assert f"human coder would give {'exactly these labels' if multilabel else 'the same label'}" in text
    assert "nothing else, give" not in text


def test_examples_without_a_confidence_are_no_turns_of_the_teacher():
    messages = build_opening_messages(CODEBOOK, [EXAMPLE], AnswerFormat.SCHEMA, shape())
    assert [message["role"] for message in messages] == ["system"]
    assert "well done" in messages[0]["content"]


def answer(content, finish="stop"):
    return {"choices": [{"message": {"content": content}, "finish_reason": finish}]}


def vote_of(content, wanted):
    votes = parse_votes(answer(content), wanted)
    assert not isinstance(votes, Failure), votes
    ((_, vote),) = votes.entries
    return vote


@pytest.mark.parametrize(("stated", "confidence"), [("0", 0.0), ("1", 0.01), ("85", 0.85), ("100", 1.0)])
def test_a_whole_number_of_percent_is_read(stated, confidence):
    assert vote_of(f'{{"label": "process", "confidence": {stated}}}', shape()) == Vote("process", None, confidence)


@pytest.mark.parametrize(
    "stated",
    ["-1", "101", "1000", "0.9", "85.0", '"85"', '"high"', "true", "false", "null", "[85]", "{}"],
)
def test_anything_else_is_no_confidence_and_the_label_counts(stated):
    assert vote_of(f'{{"label": "process", "confidence": {stated}}}', shape()) == Vote("process", None, None)


@pytest.mark.parametrize("stated", ["NaN", "-Infinity"])
def test_what_is_not_json_is_no_answer(stated):
    votes = parse_votes(answer(f'{{"label": "process", "confidence": {stated}}}'), shape())
    assert isinstance(votes, Failure)


def test_a_missing_confidence_leaves_the_label():
    assert vote_of('{"label": "process"}', shape()) == Vote("process", None, None)
    assert vote_of("process", shape()) == Vote("process", None, None)


def test_two_confidences_for_one_label_are_none():
    assert vote_of('{"label": "none", "confidence": 9} {"label": "none", "confidence": 8}', shape()).confidence is None
    assert vote_of('{"label": "none", "confidence": 9} {"label": "none", "confidence": 9}', shape()).confidence == 0.09


def test_a_confidence_that_nobody_requested_is_not_read():
    plain = AnswerShape(LABELS)
    assert vote_of('{"label": "process", "confidence": 85}', plain) == Vote("process", None, None)


@pytest.mark.parametrize(
    ("content", "confidence"),
    [
        ("process\nconfidence 85", 0.85),
        ("process\n\nConfidence: 85%", 0.85),
        ("**process**\n**Confidence:** 85 percent.", 0.85),
        ("Confidence: 7\nLabel: process", 0.07),
        ("process\nMy confidence is 60", 0.6),
        ("process\nconfidence 150", None),
        ("process\nconfidence: 0.85", None),
        ("process\nconfidence: high", None),
        ("process\nconfidence 80\nconfidence 90", None),
        ("process\nconfidence", None),
    ],
)
def test_plain_text_has_a_line_for_it(content, confidence):
    assert vote_of(content, shape()) == Vote("process", None, confidence)


def test_a_confidence_in_words_is_no_label():
    grades = shape(labels=("low", "high", "85", "100"))
    assert vote_of("low\nconfidence: high", grades) == Vote("low", None, None)
    assert vote_of("low\nconfidence 85", grades) == Vote("low", None, 0.85)
    assert vote_of("85\nconfidence 100", grades) == Vote("85", None, 1.0)


def test_after_a_reason_the_label_is_on_the_line_before():
    content = "It praises the outcome, not the process.\noutcome\nconfidence 70"
    assert vote_of(content, shape(reasoning=True)) == Vote("outcome", None, 0.7)


@pytest.mark.parametrize(
    ("content", "reasoning"),
    [
        ('{"codings": [{"id": "k73", "label": "process", "confidence": 80}, {"id": "b22", "label": "none"}]}', False),
        ('{"k73": {"label": "process", "confidence": 80}, "b22": {"label": "none", "confidence": "x"}}', False),
        ("k73: process | confidence 80\nb22: none", False),
        ("k73: praises effort | process | confidence: 80 %\nb22: no praise | none | confidence: unknown", True),
    ],
)
def test_each_of_several_responses_has_its_own(content, reasoning):
    votes = parse_votes(answer(content), shape(several=True, reasoning=reasoning))
    assert votes.assign(["k73", "b22"]) == [Vote("process", None, 0.8), Vote("none", None, None)]


def test_a_set_of_labels_has_one():
    wanted = shape(multilabel=True)
    assert vote_of('{"labels": ["outcome", "process"], "confidence": 30}', wanted) == Vote("process;outcome", None, 0.3)
    assert vote_of("process; outcome\nconfidence 30", wanted) == Vote("process;outcome", None, 0.3)


def stating(*stated, form=lambda label, confidence: json.dumps({"label": label, "confidence": confidence})):
    """A teacher whose votes have these labels and confidences, in order."""
    return lambda body, _before: completion(form(*stated[body["seed"]]))


def test_votes_are_kept_with_their_confidence(tmp_path: Path):
    with StandIn(stating(("process", 90), ("process", 70), ("outcome", 60))) as teacher:
        (row,) = labelled(tmp_path, teacher, "a", votes=3, confidence=True).labels
    assert (row.label, row.votes, row.confidences) == ("process", ("process", "process", "outcome"), (0.9, 0.7, 0.6))
    assert row.confidence == pytest.approx((0.9 + 0.7) / 3)
    assert row.consistency == pytest.approx(2 / 3)
    assert (row.soft, row.shares) == ("votes", {"process": 2 / 3, "outcome": 1 / 3})


def test_a_vote_without_a_confidence_is_left_out_of_it_and_counted(tmp_path: Path):
    with StandIn(stating(("process", 90), ("process", 190), ("outcome", 60))) as teacher:
        done = labelled(tmp_path, teacher, "a", votes=3, confidence=True)
    (row,) = done.labels
    assert row.confidences == (0.9, None, 0.6)
    assert row.confidence == pytest.approx(0.9 / 2)
    coded = [CodedResponse(responses("a")[0], "process")]
    task = Task("nominal", CODEBOOK.labels, CODEBOOK.inputs)
    verdict = check_gate(section("http://x/v1", confidence=True), done, coded, task)
    assert verdict.votes_without_confidence == 1
    assert "1 votes state no whole number" in "\n".join(describe_certainty(verdict.as_dict()))
    assert verdict.certainty.keys() == {"votes", "confidence"}


@pytest.mark.parametrize("refused", [("json_schema",), ("json_schema", "json_object")])
def test_endpoints_without_schemas_state_it_too(tmp_path: Path, refused):
    def script(body, _before):
        if (body.get("response_format") or {}).get("type") in refused:
            return error(400, "response_format is not supported")
        return completion(
            '{"label": "none", "confidence": 40}' if body.get("response_format") else "none\nconfidence 40"
        )

    with StandIn(script) as teacher:
        (row,) = labelled(tmp_path, teacher, "a", confidence=True).labels
    assert (row.label, row.confidence) == ("none", 0.4)


def test_a_multilabel_teacher_states_one_for_the_set(tmp_path: Path):
    def form(labels, confidence):
        return json.dumps({"labels": labels, "confidence": confidence})

    votes = ((["process"], 80), (["process", "outcome"], 40), (["process"], 60))
    with StandIn(stating(*votes, form=form)) as teacher, AnswerCache(tmp_path) as cache:
        teacher_section = section(teacher.base_url, votes=3, confidence=True)
        (row,) = label_responses(responses("a"), SETS, teacher_section, cache, retry_policy=NO_WAIT).labels
    assert (row.label, row.confidences) == ("process", (0.8, 0.4, 0.6))
    assert row.confidence == pytest.approx((0.8 + 0.6) / 3)


def stated(*votes):
    return [Vote(label, None, confidence) for label, confidence in votes]


def test_confidence_breaks_a_tie_unless_it_is_missing_or_equal():
    tie = stated(("process", 0.6), ("outcome", 0.9))
    assert count_votes("r", tie, "set_aside", "m", labels=LABELS) is None
    assert count_votes("r", tie, "confidence", "m", labels=LABELS).label == "outcome"
    assert count_votes("r", stated(("process", 0.6), ("outcome", 0.6)), "confidence", "m", labels=LABELS) is None
    assert count_votes("r", stated(("process", 0.6), ("outcome", None)), "confidence", "m", labels=LABELS) is None


def test_soft_labels_by_confidence_share_the_rest_evenly():
    votes = stated(("process", 0.8), ("outcome", 0.5), ("process", 0.9))
    row = count_votes("r", votes, "set_aside", "m", soft_labels="confidence", labels=LABELS)
    assert row.soft == "confidence"
    assert row.shares == pytest.approx({"process": 1.95 / 3, "outcome": 0.65 / 3, "none": 0.4 / 3})
    assert sum(row.shares.values()) == pytest.approx(1)
    partly = stated(("process", 0.8), ("process", None), ("process", 0.9))
    assert count_votes("r", partly, "set_aside", "m", soft_labels="confidence", labels=LABELS).soft == "votes"


def test_no_vote_for_the_label_with_a_confidence_is_none():
    row = count_votes("r", stated(("process", None), ("process", None), ("outcome", 0.9)), "set_aside", "m")
    assert (row.confidence, row.confidences) == (None, (None, None, 0.9))
    task = Task("multilabel", CODEBOOK.labels, CODEBOOK.inputs)
    assert count_multilabel_votes("r", ["process"], "set_aside", "m", task).confidences == ()


def given(name, label, confidence):
    confidences = () if confidence is None else (confidence,)
    return TeacherLabel("r2", label, 1.0, {label: 1.0}, (label,), name, confidences=confidences, confidence=confidence)


def test_teachers_with_another_label_count_as_unsure():
    task = Task("nominal", CODEBOOK.labels, CODEBOOK.inputs)
    every = {"x": given("x", "process", 0.9), "y": given("y", "process", 0.5), "z": given("z", "outcome", 0.8)}
    labellings = {name: Labelling((row,), (), Usage()) for name, row in every.items()}
    (row,) = combine_labellings(responses("a"), labellings, {"x": 2.0, "y": 1.0, "z": 1.0}, task).labels
    assert row.confidence == pytest.approx((2 * 0.9 + 0.5) / 4)
    assert row.confidences == (0.9, 0.5, 0.8)
    without = {**every, "x": given("x", "process", None), "y": given("y", "process", None)}
    labellings = {name: Labelling((row,), (), Usage()) for name, row in without.items()}
    (row,) = combine_labellings(responses("a"), labellings, dict.fromkeys("xyz", 1.0), task).labels
    assert (row.confidence, row.confidences) == (None, ())


def test_labels_are_written_with_it_and_without_it_as_before(tmp_path: Path):
    sure = replace(given("x", "process", 0.9), opinions=(given("y", "process", 0.5),), probability=0.7)
    plain = given("x", "outcome", None)
    lines = [_line(row) for row in (sure, plain)]
    assert set(lines[1]) == {"id", "label", "consistency", "shares", "votes", "teacher", "soft"}
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    assert read_labels_file(file) == (sure, plain)


def test_labels_below_the_required_confidence_do_not_train():
    rows = [replace(given("m", "process", each), id=f"r{n}") for n, each in enumerate((0.9, 0.5, None), 2)]
    assert [row.id for row in teacher_rows(responses("a", "b", "c"), rows)] == ["r2", "r3", "r4"]
    assert [row.id for row in teacher_rows(responses("a", "b", "c"), rows, 0.0, 0.6)] == ["r2"]
    (row, *_) = teacher_rows(responses("a", "b", "c"), rows)
    assert row.lineage == {"teacher": "m", "consistency": "1", "confidence": "0.9"}


@pytest.mark.parametrize("key", ["ties", "soft_labels"])
@pytest.mark.parametrize("source", ["confidence", "logprobs"])
def test_a_source_must_be_requested(key, source):
    with pytest.raises(ValueError, match=f"{key}: {source} requires {source}: true"):
        section("http://x/v1", **{key: source})
    assert getattr(section("http://x/v1", **{key: source, source: True}), key) == source


def project(kind="nominal", mix=None, **teacher):
    task = {"kind": kind, "labels": [{"name": "a"}, {"name": "b"}]}
    made = {"name": "p", "task": task, "data": {"human": "h.csv"}, "teacher": {"model": "m"} | teacher}
    return Project.model_validate(made | ({"mix": mix} if mix else {}))


def test_settings_that_cannot_apply_are_refused():
    with pytest.raises(ValueError, match="min_confidence requires confidence: true in every teacher section"):
        project(mix={"min_confidence": 0.5})
    assert project(mix={"min_confidence": 0.5}, confidence=True).mix == MixSection(min_confidence=0.5)
    for key in ("ties", "soft_labels"):
        with pytest.raises(ValueError, match="one confidence for the whole set of labels"):
            project("multilabel", confidence=True, **{key: "confidence"})
    assert project("multilabel", confidence=True).teacher.confidence
