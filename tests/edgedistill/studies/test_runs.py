"""A finished run is recognized by everything that determines its result, and by nothing else."""

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


def test_the_fingerprint_does_not_include_the_name_of_the_condition():
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
def test_the_fingerprint_includes_everything_that_determines_the_result(other):
    assert ident() != ident(**other)


def with_other_texts(rows):
    """The same ids and codes with other texts."""
    return tuple(
        replace(row, response=replace(row.response, inputs={"response": f"{row.response.text}, changed"}))
        for row in rows
    )


@pytest.mark.parametrize("name", ["test", "transfer"])
def test_the_fingerprint_includes_the_texts_of_test_rows(name):
    rows = coded("x", 6)
    before, after = (
        inputs(tests={"test": TestRows(coded("t", 6)), name: TestRows(test_rows)})
        for test_rows in (rows, with_other_texts(rows))
    )
    assert ident(before) != ident(after)


def test_the_fingerprint_includes_the_texts_of_validation_rows():
    rows = coded("v", 6)
    before, after = (inputs(validation=ValidationRows(validation)) for validation in (rows, with_other_texts(rows)))
    assert ident(before) != ident(after)


def test_the_fingerprint_includes_the_files_of_the_backbone_and_not_its_path():
    assert ident(inputs(backbone="here")) == ident(inputs(backbone="there"))


def test_the_fingerprint_includes_the_source_of_the_labels():
    task = inputs()
    by_human = plan(task)
    by_teacher = replace(by_human, rows=tuple(replace(row, source="teacher") for row in by_human.rows))
    assert run_id(by_human, task, settings()) != run_id(by_teacher, task, settings())


def test_the_fingerprint_includes_soft_labels():
    task = inputs()
    before = plan(task)
    after = replace(before, rows=(replace(before.rows[0], shares={"yes": 0.6, "no": 0.4}), *before.rows[1:]))
    assert run_id(before, task, settings()) != run_id(after, task, settings())


RESULT = RunResult(
    "id", (StudentResult(0, {"human": 3}, (Predictions("test", ("yes", None), ((0.75, 0.25), (0.5, 0.5))),), 1.5),)
)


def test_a_saved_result_is_loaded_unchanged(tmp_path):
    RunStore(tmp_path).save(RESULT)
    assert RunStore(tmp_path).load("id") == RESULT


@pytest.mark.parametrize("harm", [b"", b'{"run": "id"', b"[]"])
def test_a_damaged_result_counts_as_not_finished(tmp_path, harm):
    RunStore(tmp_path).save(RESULT)
    (tmp_path / "runs" / "id.json").write_bytes(harm)
    assert RunStore(tmp_path).load("id") is None


HOLDS = """
import sys, time
from pathlib import Path
from edgedistill.data import TestRows, ValidationRows
from edgedistill.studies.runs import RunStore
with RunStore(Path(sys.argv[1])).claim("id") as work:
    (work / "left").write_text("over")
    print("claimed", flush=True)
    time.sleep(60)
"""


def test_a_run_is_locked_by_one_process_until_that_is_killed(tmp_path):
    with Process("-c", HOLDS, tmp_path) as other:
        try:
            assert other.stdout.readline() == "claimed\n"
            with RunStore(tmp_path).claim("id") as work:
                assert work is None
        finally:
            other.kill()
    with RunStore(tmp_path).claim("id") as work:
        assert list(work.iterdir()) == []


def test_files_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / "work" / "id").mkdir(parents=True)
    RunStore(tmp_path).clean_up()
    assert list((tmp_path / "work").iterdir()) == []
