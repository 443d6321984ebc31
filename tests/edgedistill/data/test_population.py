"""Responses on which label prevalence is estimated: each counts, with its human code where people coded its text."""

import pytest

from edgedistill.data import read_population, read_records
from edgedistill.errors import DataError
from edgedistill.project import read_project

PROJECT = """\
name: p
task: {labels: [{name: process}, {name: outcome}], inputs: [question, response]}
data: {human: h.csv, group_by: learner}
evaluation: {population: term.csv}
"""
LABELS = ("process", "outcome")
SPLITS = ("train", "validation", "test")


@pytest.fixture
def read(tmp_path):
    def write_and_read(term, more=""):
        rows = "".join(f"h{n},why?,text {n},{LABELS[n % 2]},s{n % 3},{SPLITS[n % 3]}\n" for n in range(12))
        (tmp_path / "h.csv").write_text(f"id,question,response,label,learner,split\n{rows}{more}", "utf-8")
        (tmp_path / "term.csv").write_text(f"id,question,response,learner\n{term}", "utf-8")
        (tmp_path / "p.yaml").write_text(PROJECT, "utf-8")
        project = read_project(tmp_path / "p.yaml")
        return read_population(project, project.evaluation.population, read_records(project).splits)

    return write_and_read


@pytest.mark.parametrize("coded", [0, 1, 2])
def test_a_repeat_of_a_coded_text_of_any_split_has_its_code(read, coded):
    found = read(f"p1,Why?,TEXT  {coded},s9\n")
    assert (found.known, found.responses) == ((LABELS[coded % 2],), ())


def test_every_repeat_counts(read):
    found = read("".join(f"p{n},why?,text 1,s9\n" for n in range(5)) + "".join(f"q{n},why?,new,s9\n" for n in range(3)))
    assert found.known == ("outcome",) * 5
    assert [response.id for response in found.responses] == ["q0", "q1", "q2"]


def test_rows_of_locked_groups_count(read):
    assert [response.id for response in read("p1,why?,new,s2\np2,why?,newer,s1\n").responses] == ["p1", "p2"]


def test_the_same_answer_to_another_question_has_no_known_code(read):
    assert read("p1,why not?,text 1,s9\n").known == ()


def test_repeats_of_a_text_with_two_codes_have_them_in_turn(read):
    more = "x1,why?,hm,process,s0,train\nx2,why?,hm,outcome,s0,train\nx3,why?,hm,outcome,s0,train\n"
    found = read("".join(f"p{n},why?,hm,s9\n" for n in range(6)), more)
    assert found.known == ("process", "outcome", "outcome") * 2


def test_what_cannot_be_counted_is_set_aside_with_a_reason(read):
    found = read("p1,why?, ,s9\np2,why?,new,s9\n")
    assert (found.read, len(found.responses)) == (2, 1)
    assert [(row.id, row.reason) for row in found.set_aside] == [("p1", "blank response")]


def test_a_file_without_a_row_that_can_be_counted_is_refused(read):
    with pytest.raises(DataError, match=r"term.csv: none of its 2 rows can be used \(2 blank response\)"):
        read("p1,why?, ,s9\np2,why?,,s9\n")


def test_an_id_of_a_coded_row_with_another_text_is_refused(read):
    with pytest.raises(DataError, match=r"term.csv, row 2: the id 'h1' is already used in h.csv, row 3"):
        read("h1,why?,new,s9\n")
