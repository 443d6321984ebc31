"""A run that is done is known again, by all that decides its outcome and nothing else."""

from dataclasses import replace

import pytest

from edgedistill.data import TestRows, ValidationRows
from edgedistill.project import MixSection
from edgedistill.studies.designs.drawing import Draw, plan_of
from edgedistill.studies.runs import Journal, ident_of
from edgedistill.studies.types import Outcome, Point, Scored

from ...processes import Process
from .study_inputs import coded, material, settings


def plan(task, seed=0, human=20, condition="a"):
    return plan_of(task, condition, seed, Draw({"human": task.human}, MixSection(human=human, teacher=0)), {})


def ident(task=None, how=None, **given):
    task = task or material()
    return ident_of(plan(task, **given), task, how or settings())


def test_what_a_study_calls_a_run_does_not_count():
    assert ident(condition="a") == ident(condition="b")


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"human": 21},
        {"how": settings("as-published")},
        {"how": settings(steps=7)},
        {"task": material(test=22)},
        {"task": material(weights="another sha")},
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
        material(tests={"test": TestRows(coded("t", 6)), name: TestRows(judges)}) for judges in (rows, retold(rows))
    )
    assert ident(before) != ident(after)


def test_the_texts_that_choose_count():
    rows = coded("v", 6)
    before, after = (material(validation=ValidationRows(chosen)) for chosen in (rows, retold(rows)))
    assert ident(before) != ident(after)


def test_a_backbone_is_known_by_its_files_and_not_by_where_it_lies():
    assert ident(material(backbone="here")) == ident(material(backbone="there"))


def test_labels_of_a_teacher_that_is_never_wrong_are_still_not_human_codes():
    task = material()
    by_human = plan(task)
    by_teacher = replace(by_human, rows=tuple(replace(row, source="teacher") for row in by_human.rows))
    assert ident_of(by_human, task, settings()) != ident_of(by_teacher, task, settings())


def test_a_soft_label_counts():
    task = material()
    before = plan(task)
    after = replace(before, rows=(replace(before.rows[0], shares={"yes": 0.6, "no": 0.4}), *before.rows[1:]))
    assert ident_of(before, task, settings()) != ident_of(after, task, settings())


OUTCOME = Outcome("id", (Point(0, {"human": 3}, (Scored("test", ("yes", None), ((0.75, 0.25), (0.5, 0.5))),), 1.5),))


def test_an_outcome_comes_back_as_it_was_kept(tmp_path):
    Journal(tmp_path).keep(OUTCOME)
    assert Journal(tmp_path).outcome("id") == OUTCOME


@pytest.mark.parametrize("harm", [b"", b'{"run": "id"', b"[]"])
def test_a_damaged_outcome_counts_as_not_done(tmp_path, harm):
    Journal(tmp_path).keep(OUTCOME)
    (tmp_path / "runs" / "id.json").write_bytes(harm)
    assert Journal(tmp_path).outcome("id") is None


HOLDS = """
import sys, time
from pathlib import Path
from edgedistill.data import TestRows, ValidationRows
from edgedistill.studies.runs import Journal
with Journal(Path(sys.argv[1])).claimed("id") as work:
    (work / "left").write_text("over")
    print("claimed", flush=True)
    time.sleep(60)
"""


def test_a_run_belongs_to_one_process_until_that_is_killed(tmp_path):
    with Process("-c", HOLDS, tmp_path) as other:
        try:
            assert other.stdout.readline() == "claimed\n"
            with Journal(tmp_path).claimed("id") as work:
                assert work is None
        finally:
            other.kill()
    with Journal(tmp_path).claimed("id") as work:
        assert list(work.iterdir()) == []


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    (tmp_path / "work" / "id").mkdir(parents=True)
    Journal(tmp_path).tidy()
    assert list((tmp_path / "work").iterdir()) == []
