"""A student of human codes beside which the student and its teachers stand, and what is taken for one."""

import csv
import shutil

import pytest

from edgedistill.errors import RunError
from edgedistill.pipeline import run_stage, run_stages

from .tiny import run_of, write_tiny


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A trained student of human codes, in `runs/by-hand`, and another one of fewer of them in `runs/tiny`."""
    file = write_tiny(tmp_path_factory.mktemp("tiny"))
    project = file.read_text()
    file.write_text(project.replace("name: tiny", "name: by-hand"))
    run_stages(run_of(file), until="train")
    file.write_text(project.replace("evaluation:", "mix: {human: 30}\nevaluation:\n  human_trained: runs/by-hand", 1))
    run_stages(run_of(file), until="evaluate")
    return file


@pytest.fixture
def copy(done, tmp_path):
    return shutil.copytree(done.parent, tmp_path / "copy") / done.name


def evaluation(file):
    return run_of(file).folder.read_json("evaluation.json")


def change_mixture(file, **cells):
    """Write other cells into the first row of what the human-trained student learnt from."""
    path = file.parent / "runs/by-hand/mixture.csv"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[0] |= cells
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_precision_and_recall_are_told_against_the_human_trained_student(done):
    found = evaluation(done)
    (shift,) = found["shifts"]
    assert (shift["coding"], shift["against"], shift["rows"]) == ("student", "human-trained student", 60)
    for name in ("precision", "recall"):
        own, other = (
            found["agreement"][each]["per_label"]["process"][name] for each in (shift["coding"], shift["against"])
        )
        assert shift["average"] == "process"
        assert shift[name]["value"] == pytest.approx(own - other)


def test_another_student_in_that_folder_makes_the_evaluation_anew(copy):
    shutil.rmtree(copy.parent / "runs/by-hand/student")
    shutil.copytree(copy.parent / "runs/tiny/student", copy.parent / "runs/by-hand/student")
    run_stages(run_of(copy), until="evaluate")
    (shift,) = evaluation(copy)["shifts"]
    assert (shift["precision"]["value"], shift["recall"]["value"]) == (0, 0)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"source": "teacher"}, r"was trained on other rows than human-coded ones, too \(1 teacher\)"),
        ({"id": "h2"}, "was trained on 1 rows that are not train rows of this project, such as h2"),
        ({"response": "another text"}, "was trained on 1 rows that are not train rows of this project"),
        ({"shares": "{"}, "is missing, or belongs to a project with another task"),
    ],
)
def test_a_student_that_may_have_seen_other_rows_is_refused(copy, cells, message):
    change_mixture(copy, **cells)
    with pytest.raises(RunError, match=message):
        run_stage(run_of(copy), "evaluate")


def test_a_folder_without_a_run_is_named(copy):
    shutil.rmtree(copy.parent / "runs/by-hand")
    with pytest.raises(RunError, match=r"runs/by-hand/mixture\.csv: .*is missing"):
        run_stage(run_of(copy), "evaluate")
