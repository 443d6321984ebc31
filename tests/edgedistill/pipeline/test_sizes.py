"""Students of several sizes: training, the choice, its evaluation and report."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from edgedistill.data.reading import read_records
from edgedistill.data.types import CodedResponse, Response, ValidationRows
from edgedistill.errors import TrainingFailed
from edgedistill.pipeline.folder import RunFolder
from edgedistill.pipeline.run import Run
from edgedistill.pipeline.stages import run_stages
from edgedistill.project.reading import read_project
from edgedistill.project.student import StudentSection
from edgedistill.student import sizes as sizes_module
from edgedistill.student.sizes import choose_size
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.nano import is_nano
from edgedistill_serve.task.task import Label, Task

from .tiny import write_tiny

TASK = Task("nominal", (Label("yes"), Label("no")), ("response",))


def run_of(file):
    project = read_project(file)
    return Run(project, read_records(project), RunFolder(project.run_folder))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of four sizes."""
    file = write_tiny(tmp_path_factory.mktemp("sizes") / "project")
    text = file.read_text().replace(
        "max_tokens: 24", "max_tokens: 24\n  sizes: [nano, frozen, 1, 2]\n  not_worse_by: 0.9"
    )
    file.write_text(text)
    run = run_of(file)
    return run, run_stages(run)


def test_every_size_is_trained_and_the_smallest_that_is_not_worse_is_the_student(finished):
    run, _ = finished
    choice = json.loads((run.folder.path / "sizes.json").read_text())
    assert {size["name"] for size in choice["sizes"]} == {"nano", "frozen", "1 layer", "2 layers"}
    assert [size["bytes"] for size in choice["sizes"]] == sorted(size["bytes"] for size in choice["sizes"])
    assert choice["picked"] == next(size["name"] for size in choice["sizes"] if size["not_worse"])
    picked = run.folder.path / "sizes" / choice["picked_folder"] / "model.safetensors"
    assert picked.read_bytes() == (run.folder.path / "student" / "model.safetensors").read_bytes()


def test_the_nano_size_is_a_nano_student_and_the_layers_are_counted(finished):
    run, _ = finished
    folder = run.folder.path / "sizes"
    assert is_nano(Checkpoint.load(folder / "nano", run.task, 24).model)
    assert Checkpoint.load(folder / "layers-1", run.task, 24).model.config.num_hidden_layers == 1


def test_the_other_sizes_are_evaluated_on_test_rows_too(finished):
    run, _ = finished
    evaluation = json.loads((run.folder.path / "evaluation.json").read_text())
    names = {"nano": "nano student", "frozen": "frozen student", "1 layer": "student of 1 layer"}
    picked = json.loads((run.folder.path / "sizes.json").read_text())["picked"]
    expected = {coding for name, coding in names.items() if name != picked}
    assert expected <= set(evaluation["agreement"])


def test_run_and_report_say_which_size_was_picked_and_whether_test_rows_confirm_it(finished):
    run, steps = finished
    train = next(step for step in steps if step.stage == "train")
    picked = train.entry["best"]["size"]
    assert any(picked in note and "exported" in note for note in train.entry["notes"])
    page = (run.folder.path / "report.html").read_text()
    assert "Students of several sizes" in page
    assert f"{picked} (picked)" in page
    assert "Size of the model" in page


def test_more_layers_than_the_backbone_has_are_refused_before_training(tmp_path):
    file = write_tiny(tmp_path / "project")
    file.write_text(file.read_text().replace("max_tokens: 24", "max_tokens: 24\n  sizes: [nano, 3]"))
    with pytest.raises(TrainingFailed) as error:
        run_stages(run_of(file), until="train")
    assert (error.value.what, error.value.where) == ("the backbone has 2 layers, and sizes asks for 3", "student.sizes")
    assert error.value.hint == "Use 1 to 2, or another student.backbone."


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sizes": ["nano", 6], "kind": "frozen"}, "remove kind: frozen and add frozen to sizes"),
        ({"sizes": ["nano", 6], "shrink": {"layers": 3}}, "sizes trains the smaller students itself; remove shrink"),
        ({"sizes": [3, 3]}, "sizes names 3 twice"),
        ({"sizes": ["nano"]}, "at least 2 items"),
        ({"sizes": ["nano", 0]}, "greater than or equal to 1"),
        ({"not_worse_by": 0.1}, "not_worse_by requires sizes"),
    ],
)
def test_settings_that_do_not_fit_several_sizes_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        StudentSection.model_validate(given)


def students_that_err(**wrong):
    """Students that code so many of 200 rows wrongly."""
    logits = {}
    for name, count in wrong.items():
        logits[name] = np.array([[1.0, 0.0], [0.0, 1.0]] * 100)
        logits[name][:count] = -logits[name][:count]
    return {
        size: SimpleNamespace(task=TASK, logits=lambda rows, found=found: found)
        for size, found in zip(("nano", 3, 6), logits.values(), strict=True)
    }


@pytest.fixture
def choose(monkeypatch):
    """The choice for students that code so many rows wrongly."""
    rows = ValidationRows(
        tuple(
            CodedResponse(Response(f"v{row}", {"response": f"text {row}"}, "human.csv", row), ("yes", "no")[row % 2])
            for row in range(200)
        )
    )
    cost = {"nano": (2, 5000.0), "3 layers": (9, 400.0), "6 layers": (20, 200.0)}
    costs = {
        name: SimpleNamespace(bytes=size, precision="int8", texts_per_second=speed)
        for name, (size, speed) in cost.items()
    }
    monkeypatch.setattr(sizes_module, "_costs", lambda *_: costs)
    return lambda margin=0.1, **wrong: choose_size(students_that_err(**wrong), rows, margin, "int8")


def test_a_smaller_size_within_the_margin_is_picked(choose):
    choice = choose(nano=4, three=2, six=2)
    assert (choice.best, choice.picked) == ("3 layers", "nano")
    assert "not worse than the best, 3 layers, by more than 0.1 κ" in choice.note


def test_a_smaller_size_whose_interval_reaches_beyond_the_margin_is_not_picked(choose):
    choice = choose(nano=20, three=10, six=2)
    assert (choice.best, choice.picked) == ("6 layers", "6 layers")
    assert [size.not_worse for size in choice.sizes] == [False, False, True]
    assert "no smaller size was shown to be not worse" in choice.note


def test_a_loss_that_is_undefined_is_not_within_the_margin(choose, monkeypatch):
    monkeypatch.setattr(sizes_module, "change", lambda *_, **__: SimpleNamespace(kappa_lost=None))
    choice = choose(nano=3, three=3, six=2)
    assert choice.picked == choice.best == "6 layers"


def test_a_nano_student_as_good_as_the_fine_tuned_ones_is_said_with_what_to_change(choose):
    (note,) = choose(nano=2, three=2, six=2).other_notes
    assert "nano agrees" in note
    assert "student.preset: thorough" in note
    assert not choose(nano=30, three=2, six=2).other_notes
