"""Codes of single coders, traits of rows, and rows that people coded at review: these become train rows alone."""

import pytest

from edgedistill.data import read_records
from edgedistill.errors import DataError
from edgedistill.project import read_project

PROJECT = """\
name: t
task: {labels: [{name: process}, {name: outcome}]}
data: {human: h.csv, unlabelled: u.csv, reviewed: r.csv, group_by: learner}
evaluation: {coders: [coder_1, coder_2], subgroups: [school]}
"""
LABELS = ("process", "outcome")
HUMAN = "".join(
    f"h{row},text {row},{LABELS[row % 2]},process,{'outcome' if row % 3 else ''},{'ab'[row % 2]},l{row}\n"
    for row in range(20)
)


@pytest.fixture
def read(tmp_path):
    def write_and_read(reviewed=None, human=HUMAN):
        (tmp_path / "p.yaml").write_text(PROJECT)
        (tmp_path / "h.csv").write_text("id,response,label,coder_1,coder_2,school,learner\n" + human)
        (tmp_path / "u.csv").write_text("id,response,learner\nu1,one more,m1\nu2,and another,m2\n")
        if reviewed is not None:
            (tmp_path / "r.csv").write_text("id,response,label,learner\n" + reviewed)
        return read_records(read_project(tmp_path / "p.yaml"))

    return write_and_read


def first(rows):
    return next(iter(rows))


def test_a_row_carries_the_codes_of_its_coders_and_its_traits(read):
    rows = {row.response.id: row for row in read().splits.test}
    for ident, row in rows.items():
        number = int(ident[1:])
        assert row.codes == {"coder_1": "process"} | ({"coder_2": "outcome"} if number % 3 else {})
        assert row.subgroups == {"school": "ab"[number % 2]}


def test_an_unknown_code_of_a_coder_is_named_with_row_and_coder(read):
    with pytest.raises(DataError, match=r"h.csv: row 22: unknown code of coder_1 'effort'"):
        read(human=HUMAN + "h99,more,process,effort,,a,l99\n")


def test_a_missing_column_of_a_coder_is_named(tmp_path, read):
    read()
    (tmp_path / "h.csv").write_text("id,response,label,coder_1,school,learner\nh1,x,process,process,a,l\n")
    with pytest.raises(DataError, match="there is no column 'coder_2'"):
        read_records(read_project(tmp_path / "p.yaml"))


def test_a_file_of_reviewed_rows_that_is_not_there_yet_is_none(read):
    assert [account.file for account in read().row_counts] == ["h.csv", "u.csv"]


def test_reviewed_rows_become_train_rows_and_are_not_labelled_again(read):
    before, after = read(), read("u1,one more,outcome,m1\n")
    assert [row.response.id for row in after.splits.train] == [*(r.response.id for r in before.splits.train), "u1"]
    assert after.splits.validation == before.splits.validation
    assert after.splits.test == before.splits.test
    assert [response.id for response in after.unlabelled] == ["u2"]
    (account,) = [account for account in after.row_counts if account.file == "r.csv"]
    assert (account.read, account.used, account.set_aside) == (1, {"train": 1}, {})


def test_a_reviewed_row_that_repeats_a_test_row_or_belongs_to_its_group_is_set_aside(read):
    locked = first(read().splits.test).response
    after = read(f"x1,{locked.text.upper()},process,m9\nx2,new text,process,{locked.group}\n")
    reasons = {row.id: row.reason for row in after.set_aside}
    assert reasons == {"x1": "duplicates a test row", "x2": "shares a group with test rows"}
    assert "x1" not in {row.response.id for row in after.splits.train}


def test_a_reviewed_row_with_an_id_of_the_human_file_is_refused(read):
    with pytest.raises(DataError, match=r"the id 'h3' is already used in h\.csv, row 5, with another text"):
        read("h3,quite another text,process,m9\n")


def test_an_unknown_label_of_a_reviewed_row_is_named(read):
    with pytest.raises(DataError, match=r"r.csv: row 2: the label 'Process' is another spelling of 'process'"):
        read("u1,one more,Process,m1\n")


def test_reviewed_rows_of_one_label_are_enough(read):
    assert len(read("u1,one more,outcome,m1\nu2,and another,outcome,m2\n").unlabelled) == 0
