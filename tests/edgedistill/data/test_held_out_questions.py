"""With data.questions: held_out, validation and test rows answer questions that no train row answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.data import read_records
from edgedistill.data.splitting import split_rows
from edgedistill.data.tables import CodedRow
from edgedistill.data.types import CodedResponse, Response
from edgedistill.errors import DataError, ProjectFileError
from edgedistill.project import read_project
from edgedistill.project.data import SplitSection
from edgedistill_serve.task.task import Label, Task

TASK = Task("nominal", (Label("yes"), Label("no")), ("question", "response"))


def coded(questions: int, rows: int = 12) -> list[CodedRow]:
    return [
        CodedRow(
            CodedResponse(
                Response(
                    f"r{question}-{row}", {"question": f"Q{question}", "response": f"{question} {row}"}, "h.csv", 2
                ),
                ("yes", "no")[row % 2],
            ),
            None,
        )
        for question in range(questions)
        for row in range(rows)
    ]


def asked(rows) -> set[str]:
    return {row.response.question for row in rows}


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from(["a", "b", "c", "d", "e"]), st.sampled_from("stu"), st.booleans()),
        min_size=8,
        max_size=60,
    ),
    st.integers(0, 4),
    st.sampled_from([0.0, 0.5, 0.9]),
)
def test_a_split_loses_no_row_and_shares_no_question_between_train_and_validation(drawn, seed, known):
    rows = [
        CodedRow(
            CodedResponse(
                Response(f"r{i}", {"question": f"Q{question}", "response": text}, "h.csv", i + 2, group),
                "yes" if yes else "no",
            ),
            None,
        )
        for i, (question, text, group, yes) in enumerate(drawn)
    ]
    try:
        splits = split_rows("h.csv", rows, SplitSection(seed=seed, known_questions=known), TASK, held_out=True)
    except DataError:  # too few questions, which another test shows
        return
    assert sorted(row.response.id for side in (splits.train, splits.validation, splits.test) for row in side) == sorted(
        row.coded.response.id for row in rows
    )
    assert not asked(splits.train) & asked(splits.validation)
    assert not asked(splits.test) & asked(splits.validation)
    assert asked(splits.test) - asked(splits.train)
    known_rows = {
        row.response.inputs["response"] for row in splits.test if row.response.question in asked(splits.train)
    }
    assert not known_rows & {row.response.text for row in splits.train}


def test_half_of_the_test_rows_answer_known_questions_by_default():
    splits = split_rows("h.csv", coded(10), SplitSection(), TASK, held_out=True)
    known = sum(row.response.question in asked(splits.train) for row in splits.test)
    assert (len(splits.train), len(splits.validation), len(splits.test), known) == (72, 24, 24, 12)
    assert splits.notes == (
        (
            "questions held out: 7 in train rows, 2 others in validation rows; the test rows answer 1 unknown question "
            "(12 rows) and 6 known ones (12 rows)"
        ),
    )


def test_one_question_cannot_be_held_out():
    with pytest.raises(DataError) as error:
        split_rows("h.csv", coded(1), SplitSection(), TASK, held_out=True)
    assert error.value.what == (
        "all 12 coded rows answer the same question, so that no question can be held out; data.questions: held_out "
        "needs at least 3, for train, validation and test rows"
    )
    assert error.value.hint == "Add rows of other questions, or set data.questions: known."


def test_two_questions_are_too_few():
    with pytest.raises(DataError, match="the coded rows answer 2 questions, too few to hold any out"):
        split_rows("h.csv", coded(2), SplitSection(), TASK, held_out=True)


PROJECT = """\
name: t
task:
  labels: [{{name: yes}}, {{name: no}}]
  inputs: {inputs}
data: {{human: h.csv, questions: held_out{data}}}
{more}
"""


@pytest.fixture
def read(tmp_path):
    def write_and_read(human: str, inputs: str = "[question, response]", data: str = "", more: str = "", **files: str):
        (tmp_path / "h.csv").write_text(human, "utf-8")
        for name, text in files.items():
            (tmp_path / f"{name}.csv").write_text(text, "utf-8")
        project = PROJECT.format(inputs=inputs, data=data, more=more).replace("yes}", "'yes'}").replace("no}", "'no'}")
        (tmp_path / "p.yaml").write_text(project, "utf-8")
        return read_records(read_project(tmp_path / "p.yaml"))

    return write_and_read


def table(columns: str, cells) -> str:
    return "\n".join([columns, *(",".join(row) for row in cells)]) + "\n"


def rows_of(questions: int = 5, rows: int = 8):
    return [
        (f"r{question}-{row}", f"Q{question}", f"answer {question} {row}", ("yes", "no")[row % 2])
        for question in range(questions)
        for row in range(rows)
    ]


def test_a_column_names_the_questions_of_a_task_that_has_only_responses(read):
    human = table("id,item,response,label", rows_of())
    records = read(human, "[response]", ", question_by: item")
    assert not asked(records.splits.train) & asked(records.splits.validation)
    assert len(asked(records.splits.train)) + len(asked(records.splits.validation)) == 4


def test_questions_that_differ_in_their_reference_answer_are_different():
    one, other = (
        Response("r", {"question": "Q", "reference_answer": reference, "response": "x"}, "h.csv", 2)
        for reference in ("A", "B")
    )
    assert one.question != other.question


def test_a_blank_cell_in_the_question_column_is_an_error_with_its_row(read):
    cells = rows_of()
    cells[3] = (cells[3][0], " ", *cells[3][2:])
    with pytest.raises(DataError, match=r"row 5: the question is missing in the column 'item' \(data.question_by\)"):
        read(table("id,item,response,label", cells), "[response]", ", question_by: item")


def test_uncoded_rows_of_held_out_questions_are_set_aside(read):
    uncoded = table("id,question,response", [(f"u{at}", f"Q{at}", f"new answer {at}") for at in range(6)])
    records = read(table("id,question,response,label", rows_of()), data=", unlabelled: u.csv", u=uncoded)
    trained = asked(records.splits.train)
    assert {row.id for row in records.unlabelled} == {
        f"u{at}"
        for at in range(6)
        if at == 5 or any(row.response.id.startswith(f"r{at}-") for row in records.splits.train)
    }
    assert all(row.reason.startswith("answers a held-out question of ") for row in records.set_aside)
    assert {row.question for row in records.unlabelled} >= trained


def test_a_split_column_may_not_share_questions_between_train_and_validation(read):
    cells = [(*row, ("train", "validation", "test")[at % 3]) for at, row in enumerate(rows_of())]
    with pytest.raises(DataError, match="5 questions of the column 'split' have both train and validation rows"):
        read(table("id,question,response,label,split", cells))


def test_a_split_column_without_validation_rows_gives_whole_questions_to_validation(read):
    cells = [(*row, "test" if row[1] == "Q4" else "train") for row in rows_of()]
    splits = read(table("id,question,response,label,split", cells)).splits
    assert not asked(splits.train) & asked(splits.validation)
    assert len(asked(splits.validation)) == 1


@pytest.mark.parametrize(
    ("inputs", "more", "message"),
    [
        ("[response]", "", "name its column in data.question_by, or add question to task.inputs"),
        ("[question, response]", "review: {new_questions: review}", "would send every response to a person"),
    ],
)
def test_a_project_that_contradicts_itself_is_refused(read, inputs, more, message):
    with pytest.raises(ProjectFileError, match=message):
        read(table("id,question,response,label", rows_of()), inputs, more=more)


def test_rows_without_a_reference_answer_are_set_aside_and_without_any_the_reason_is_said(read):
    inputs, columns = "[question, reference_answer, response]", "id,question,reference_answer,response,label"
    cells = [(row[0], row[1], "because" if at else " ", *row[2:]) for at, row in enumerate(rows_of())]
    records = read(table(columns, cells), inputs)
    assert [(row.id, row.reason) for row in records.set_aside] == [("r0-0", "blank reference_answer")]
    with pytest.raises(DataError, match=r"no row is coded \(40 blank reference_answer\)"):
        read(table(columns, [(row[0], row[1], "", *row[2:]) for row in rows_of()]), inputs)


def test_a_share_of_known_questions_needs_held_out_ones(tmp_path):
    (tmp_path / "p.yaml").write_text(
        "name: t\ntask: {labels: [{name: a}, {name: b}]}\ndata: {human: h.csv, split: {known_questions: 0.2}}\n"
    )
    with pytest.raises(ProjectFileError, match=r"split.known_questions needs data.questions: held_out"):
        read_project(tmp_path / "p.yaml")
