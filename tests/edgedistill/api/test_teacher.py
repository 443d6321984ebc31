"""The teacher from Python: DataFrames in, DataFrames out, over a real socket."""

import asyncio

import numpy as np
import pandas as pd
import pytest

from edgedistill.errors import AnswersMissing, ArgumentError, BudgetReached
from edgedistill.frames import responses_of
from edgedistill.task import Label, Task
from edgedistill.teacher import AnswerFormat
from edgedistill.teacher.teacher import Teacher

from ..teacher.stand_in import StandIn, coded, completion, text_of

TASK = Task("nominal", [Label("process", "praises effort"), Label("outcome", "praises the result")])
TEXTS = ("You tried again", "So clever", "You worked on", "Right answer")


def judge(body, _before):
    """The stand-in's script: effort is process."""
    return coded("process" if any(word in text_of(body) for word in ("tried", "worked")) else "outcome")


def in_two_minds(body, _before):
    """The stand-in's script: one vote of three is another."""
    return coded("outcome" if body["seed"] == 2 else "process")


@pytest.fixture
def teacher(tmp_path):
    """Makes teachers of one stand-in."""

    def make(endpoint, task=TASK, **settings):
        given = {"api_key_env": None, "votes": 1, "cache": tmp_path / "answers", "tries": 1} | settings
        return Teacher("stand-in", task=task, base_url=endpoint.base_url, **given)

    return make


@pytest.fixture
def frame():
    return pd.DataFrame({"response": TEXTS, "learner": list("abab")}, index=[7, 3, 3, 10])


def test_labels_stand_beside_every_row_in_its_order_with_its_index_and_columns(teacher, frame):
    with StandIn(judge) as endpoint:
        labelled = teacher(endpoint).label(frame)
    assert list(labelled.index) == [7, 3, 3, 10]
    assert list(labelled.columns) == [
        *("response", "learner", "label", "share_process", "share_outcome", "consistency", "set_aside_reason")
    ]
    assert list(labelled.label) == ["process", "outcome", "process", "outcome"]
    assert list(labelled.share_process) == [1, 0, 1, 0]
    assert labelled.set_aside_reason.isna().all()
    assert "label" not in frame


def test_votes_that_differ_make_shares_and_consistency(teacher):
    with StandIn(in_two_minds) as endpoint:
        row = teacher(endpoint, votes=3).label(["So you tried"]).iloc[0]
    assert (row.label, row.share_process, row.share_outcome, row.consistency) == pytest.approx(
        ("process", 2 / 3, 1 / 3, 2 / 3)
    )


def test_a_series_keeps_its_index_and_equal_texts_are_asked_about_once(teacher):
    series = pd.Series(["You tried", "You tried"], index=["x", "y"])
    with StandIn(judge) as endpoint:
        labelled = teacher(endpoint).label(series)
        assert sum(endpoint.asked.values()) == 1
    assert labelled.label.to_dict() == {"x": "process", "y": "process"}


def test_rows_without_a_label_have_the_reason_and_blank_ones_are_not_asked_about(teacher):
    def script(body, before):
        return completion("I cannot say") if "clever" in text_of(body) else judge(body, before)

    with StandIn(script) as endpoint:
        labelled = teacher(endpoint).label(["You tried", "So clever", "  ", None, np.nan, "x" * 10_001])
        assert sum(endpoint.asked.values()) == 2
    assert list(labelled.label.isna()) == [False, True, True, True, True, True]
    assert labelled.set_aside_reason[1].startswith("the teacher's answer could not be read")
    assert list(labelled.set_aside_reason[2:]) == ["blank response"] * 3 + ["response longer than 10000 characters"]
    assert labelled[["share_process", "consistency"]].isna().sum().to_list() == [5, 5]


def test_a_column_that_labelling_would_overwrite_is_refused(teacher, frame):
    with StandIn(judge) as endpoint, pytest.raises(ArgumentError, match=r"drop\(columns='label'\)"):
        teacher(endpoint).label(frame.assign(label="process"))


def test_a_second_call_and_another_teacher_of_the_same_cache_ask_nothing(teacher, frame, tmp_path):
    with StandIn(judge) as endpoint:
        first = teacher(endpoint)
        labelled = first.label(frame)
        assert (first.usage.asked, first.usage.cached) == (4, 0)
        first.label(frame)
        assert (first.usage.asked, first.usage.cached) == (4, 4)
        again = teacher(endpoint).label(frame, offline=True)
        assert sum(endpoint.asked.values()) == 4
        pd.testing.assert_frame_equal(labelled, again)
        assert first.export_answers(tmp_path / "answers.jsonl") == 4
        elsewhere = teacher(endpoint, cache=str(tmp_path / "elsewhere"))
        with pytest.raises(AnswersMissing):
            elsewhere.label(frame, offline=True)
        assert elsewhere.import_answers(str(tmp_path / "answers.jsonl")).added == 4
        pd.testing.assert_frame_equal(labelled, elsewhere.label(frame, offline=True))


def test_labelling_works_inside_an_event_loop_that_runs(teacher, frame):
    async def cell():
        return one.label(frame)

    with StandIn(judge) as endpoint:
        one = teacher(endpoint)
        assert list(asyncio.run(cell()).label) == ["process", "outcome", "process", "outcome"]


def test_an_estimate_asks_nothing_and_leaves_out_what_the_cache_holds(teacher, frame):
    prices = {"input_usd_per_million": 2.5, "output_usd_per_million": 10}
    with StandIn(judge) as endpoint:
        one = teacher(endpoint, votes=2, prices=prices)
        found = one.estimate(frame)
        assert found.requests == 8
        assert found.most_nano_dollars > found.input_nano_dollars > 0
        assert sum(endpoint.asked.values()) == 0
        one.label(frame[:1])
        assert one.estimate(frame).requests == 6


def test_a_budget_stops_and_keeps_what_was_answered(teacher, frame):
    with StandIn(judge) as endpoint:
        one = teacher(endpoint)
        plan = one.plan(responses_of(frame, TASK))
        worst = one.budget("label").max_cost(plan.build_request(plan.coding_requests()[0], AnswerFormat.SCHEMA))
        room_for_two = worst.input + worst.output + 150
        with pytest.raises(BudgetReached):
            teacher(endpoint, budget={"tokens": room_for_two}, concurrency=1).label(frame)
        asked = sum(endpoint.asked.values())
        assert 0 < asked < 4
        teacher(endpoint).label(frame)
        assert sum(endpoint.asked.values()) == 4


def test_the_gate_compares_with_human_codes_and_its_repr_is_a_table(teacher, frame):
    human = frame.assign(label=["process", "outcome", "process", "process"])
    with StandIn(judge) as endpoint:
        verdict = teacher(endpoint, gate={"metric": "accuracy", "at_least": 0.1, "least_rows": 4}).gate(human)
    assert verdict.agreement.accuracy.value == 0.75
    assert verdict.agreement.accuracy.low < 0.75
    assert verdict.passed
    assert "accuracy" in repr(verdict)
    assert ".750" in repr(verdict)
    assert "4 of 4 rows coded" in repr(verdict)
    assert "<td>.750 (" in verdict._repr_html_()
    assert "<script>" not in verdict._repr_html_()


def test_the_gate_takes_codes_beside_the_rows_and_draws_whole_groups(teacher, frame):
    with StandIn(judge) as endpoint:
        one = teacher(endpoint)
        verdict = one.gate(frame.response, ["process", "outcome", "process", "outcome"], groups=list("aabb"))
        assert verdict.agreement.groups == 2
        assert one.gate(frame.assign(label="process"), groups="learner").agreement.groups == 2


def test_a_gate_whose_every_row_is_set_aside_is_refused(teacher):
    with StandIn(completion("nothing")) as endpoint:
        verdict = teacher(endpoint).gate(["You tried"], ["process"])
    assert (verdict.passed, verdict.coded, verdict.rows) == (False, 0, 1)
    assert "refused: the teacher's agreement is known on 1 validation row only" in repr(verdict)
    assert "0 of 1 rows coded, the others (1: the teacher's answer could not be read) as wrong" in repr(verdict)


def test_examples_of_a_frame_stand_in_the_prompt(teacher):
    shown = pd.DataFrame(
        {"id": ["r1", "r2"], "response": ["you persist", "so bright"], "label": ["process", "outcome"]}
    )
    with StandIn(judge) as endpoint:
        one = teacher(endpoint, examples=shown, few_shot=1, few_shot_choice="fixed", few_shot_ids=["r2"])
        one.label(["You tried"])
        contents = [message["content"] for message in endpoint.bodies[0]["messages"]]
    assert any("so bright" in content for content in contents)
    assert not any("you persist" in content for content in contents)


def test_a_task_of_several_inputs_takes_them_from_columns(teacher):
    task = Task("ordinal", ["wrong", "right"], inputs=["question", "response"])
    rows = pd.DataFrame({"response": ["4"], "question": ["2 + 2?"]})
    with StandIn(coded("right")) as endpoint:
        one = teacher(endpoint, task=task)
        assert one.label(rows).label[0] == "right"
        assert "<question>2 + 2?</question>" in endpoint.bodies[0]["messages"][-1]["content"]
        assert one.label(np.array([["2 + 2?", "4"]], dtype=object)).label[0] == "right"
        assert one.label([{"response": "4", "question": "2 + 2?"}]).label[0] == "right"
        assert sum(endpoint.asked.values()) == 1
        with pytest.raises(ArgumentError, match="a row has 1 texts, but the task has 2 inputs"):
            one.label(["4"])
        with pytest.raises(ArgumentError, match="there is no column 'question'"):
            one.label(rows[["response"]])


def test_what_a_task_redacts_never_leaves(teacher):
    with StandIn(judge) as endpoint:
        task = Task("nominal", TASK.labels, redact=["S[0-9]{6}"])
        labelled = teacher(endpoint, task=task).label(["S123456 tried"])
        assert "[ID] tried" in endpoint.bodies[0]["messages"][-1]["content"]
        assert "S123456" not in str(endpoint.bodies)
    assert labelled.response[0] == "S123456 tried"


def test_a_multilabel_task_gives_the_labels_that_hold(teacher):
    task = Task("multilabel", ["asks", "praises"])
    with StandIn(completion('{"labels": ["praises", "asks"]}')) as endpoint:
        one = teacher(endpoint, task=task)
        row = one.label(["Well done! Why?"]).iloc[0]
        assert (row.label, row.share_asks, row.share_praises) == ("asks;praises", 1, 1)
        assert one.gate(["Well done! Why?"], [["praises", "asks"]]).agreement.accuracy.value == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vote": 3}, "Teacher: unknown key vote; did you mean votes?"),
        ({"votes": 0}, "Teacher: votes should be greater than or equal to 1, not 0"),
        ({"few_shot": 2}, "few_shot needs examples"),
        ({"few_shot": 2, "examples": [("a", "b")]}, "a row has 2 texts"),
        ({"cache": None}, "cache must be a folder, not None"),
        ({"max_characters": "many"}, "max_characters must be a positive integer, not 'many'"),
        ({"api_key": " "}, "api_key is empty"),
        ({"budget": {"usd": 1}}, "a budget in usd needs prices"),
    ],
)
def test_a_setting_that_cannot_be_is_an_error_of_ours(settings, message):
    with pytest.raises(ArgumentError, match=message.replace("?", r"\?")):
        Teacher("m", task=TASK, **settings)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("one text", "a DataFrame, a Series, an array or a list is needed, not str"),
        (5, "not int"),
        ([3], "row 0: response is int, not text"),
        ([b"a"], "row 0: response is bytes, not text"),
        ({"a", "b"}, "not set"),
        ((text for text in ["a"]), "not generator"),
        (pd.DataFrame([["a", "b"]], columns=["response", "response"]), "there are several columns 'response'"),
        (["\ud800"], "row 0: the input 'response' contains a lone surrogate"),
    ],
)
def test_rows_that_cannot_be_read_are_an_error_of_ours(rows, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        Teacher("m", task=TASK, cache=tmp_path).label(rows)


@pytest.mark.parametrize(
    ("y", "message"),
    [(None, "y: no values are given"), (pd.DataFrame({"label": ["process"]}), "y: the values have 2 dimensions")],
)
def test_human_codes_that_cannot_be_read_are_an_error_of_ours(y, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        Teacher("m", task=TASK, cache=tmp_path).gate(["a text"], y)


def test_a_teacher_without_a_task_is_refused():
    with pytest.raises(ArgumentError, match="task must be a Task, not NoneType"):
        Teacher("m", task=None)


def test_progress_is_reported_in_votes(teacher, frame):
    reported = []
    with StandIn(judge) as endpoint:
        teacher(endpoint, votes=2).label(frame, on_progress=lambda *how_far: reported.append(how_far))
    assert reported[-1] == ("label: stand-in codes responses", 8, 8)
