"""A run that is done is known again, by all that decides its outcome and nothing else."""

from dataclasses import replace

import pytest

from edgedistill.data import TestRows, ValidationRows
from edgedistill.project import MixSection
from edgedistill.studies.designs.drawing import RowSources, plan_run
from edgedistill.studies.runs import RunStore, run_id
from edgedistill.studies.types import Predictions, RunResult, StudentResult

from ...processes import Process
from .study_inputs import coded, inputs, settings


def plan(task, seed=0, human=20, condition="a"):
    return plan_run(task, condition, seed, RowSources({"human": task.human}, MixSection(human=human, teacher=0)), {})


def ident(task=None, how=None, **given):
    task = task or inputs()
    return run_id(plan(task, **given), task, how or settings())


def test_what_a_study_calls_a_run_does_not_count():
    assert ident(condition="a") == ident(condition="b")


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"human": 21},
        {"how": settings("as-published")},
        {"how": settings(steps=7)},
        {"task": inputs(test=22)},
        {"task": inputs(weights="another sha")},
    ],
)
def test_what_decides_the_outcome_counts(other):
    assert ident() != ident(**other)


def retold(rows):
    """The same rows with other texts under the same ids and codes."""
    return tuple(
        replace(row, response=replace(row.response, inputs={"response": f"{row.response.text}, retold"}))
        for row in rows
    )


@pytest.mark.parametrize("name", ["test", "transfer"])
def test_the_texts_that_judge_count(name):
    rows = coded("x", 6)
    before, after = (
        inputs(tests={"test": TestRows(coded("t", 6)), name: TestRows(judges)}) for judges in (rows, retold(rows))
    )
    assert ident(before) != ident(after)


def test_the_texts_that_choose_count():
    rows = coded("v", 6)
    before, after = (inputs(validation=ValidationRows(chosen)) for chosen in (rows, retold(rows)))
    assert ident(before) != ident(after)


def test_a_backbone_is_known_by_its_files_and_not_by_where_it_lies():
    assert ident(inputs(backbone="here")) == ident(inputs(backbone="there"))


def test_labels_of_a_teacher_that_is_never_wrong_are_still_not_human_codes():
    task = inputs()
    by_human = plan(task)
    by_teacher = replace(by_human, rows=tuple(replace(row, source="teacher") for row in by_human.rows))
    assert run_id(by_human, task, settings()) != run_id(by_teacher, task, settings())


def test_a_soft_label_counts():
    task = inputs()
    before = plan(task)
    after = replace(before, rows=(replace(before.rows[0], shares={"yes": 0.6, "no": 0.4}), *before.rows[1:]))
    assert run_id(before, task, settings()) != run_id(after, task, settings())


OUTCOME = RunResult(
    "id", (StudentResult(0, {"human": 3}, (Predictions("test", ("yes", None), ((0.75, 0.25), (0.5, 0.5))),), 1.5),)
)


def test_an_outcome_comes_back_as_it_was_kept(tmp_path):
    RunStore(tmp_path).keep(OUTCOME)
    assert RunStore(tmp_path).outcome("id") == OUTCOME


@pytest.mark.parametrize("harm", [b"", b'{"run": "id"', b"[]"])
def test_a_damaged_outcome_counts_as_not_done(tmp_path, harm):
    RunStore(tmp_path).keep(OUTCOME)
    (tmp_path / "runs" / "id.json").write_bytes(harm)
    assert RunStore(tmp_path).outcome("id") is None


HOLDS = """
import sys, time
from pathlib import Path
from edgedistill.data import TestRows, ValidationRows
from edgedistill.studies.runs import RunStore
with RunStore(Path(sys.argv[1])).claimed("id") as work:
    (work / "left").write_text("over")
    print("claimed", flush=True)
    time.sleep(60)
"""


def test_a_run_belongs_to_one_process_until_that_is_killed(tmp_path):
    with Process("-c", HOLDS, tmp_path) as other:
        try:
            assert other.stdout.readline() == "claimed\n"
            with RunStore(tmp_path).claimed("id") as work:
                assert work is None
        finally:
            other.kill()
    with RunStore(tmp_path).claimed("id") as work:
        assert list(work.iterdir()) == []


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    (tmp_path / "work" / "id").mkdir(parents=True)
    RunStore(tmp_path).tidy()
    assert list((tmp_path / "work").iterdir()) == []
