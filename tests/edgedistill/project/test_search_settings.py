"""What `student.search` and `student.shrink` may say."""

import pytest

from edgedistill.errors import ProjectFileError
from edgedistill.project.reading import read_project
from edgedistill.project.student import CountRange, LearningRange
from edgedistill.student.search import distributions, grid

PROJECT = """\
name: praise
task:
  kind: nominal
  labels: [{{name: process}}, {{name: outcome}}]
data: {{human: human.csv}}
student: {student}
"""


@pytest.fixture
def student(tmp_path):
    """Read a project with this section `student`."""

    def read(text):
        (tmp_path / "project.yaml").write_text(PROJECT.format(student=text))
        return read_project(tmp_path / "project.yaml").student

    return read


def test_by_default_the_standard_preset_sets_learning_rate_and_epochs(student):
    section = student("{}")
    assert (section.preset, section.search.learning_rate, section.search.epochs) == ("standard", None, None)
    assert (section.search.method, section.search.prune) == ("grid", False)
    with pytest.raises(ValueError, match="learning_rate is not set"):
        grid(section.search)


def test_a_grid_is_every_combination_the_epochs_varying_fastest(student):
    search = student("{search: {learning_rate: [1e-5, 2e-5], batch_size: [8], epochs: [2, 4]}}").search
    tried = [(each["learning_rate"], each["epochs"]) for each in grid(search)]
    assert tried == [(1e-5, 2), (1e-5, 4), (2e-5, 2), (2e-5, 4)]


def test_tpe_takes_ranges_and_lists(student):
    search = student(
        "{search: {method: tpe, trials: 20, learning_rate: {low: 1e-5, high: 1e-3}, batch_size: [8, 16], "
        "epochs: {low: 2, high: 8}}}"
    ).search
    assert search.learning_rate == LearningRange(low=1e-5, high=1e-3)
    assert search.epochs == CountRange(low=2, high=8)
    found = distributions(search)
    assert found["learning_rate"].log
    assert found["batch_size"].choices == (8, 16)


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ("{search: {epochs: {low: 1, high: 4}}}", "epochs is a range, which requires method tpe; a grid takes a list"),
        ("{search: {method: tpe}}", "method tpe needs trials"),
        ("{search: {trials: 5}}", "trials requires method tpe"),
        (
            "{search: {method: tpe, trials: 5, learning_rate: {low: 1e-3, high: 1e-5}}}",
            "student.search.learning_rate: low is 0.001 and high is 1e-05; low must be smaller",
        ),
        (
            "{search: {method: tpe, trials: 5, epochs: {low: 2, hihg: 5}}}",
            "unknown key student.search.epochs.hihg; did you mean high",
        ),
        ("{search: {learning_rate: 5e-5}}", "student.search.learning_rate should be a list, not 5e-05"),
        ("{search: {learning_rate: []}}", "student.search.learning_rate has too few items"),
        ("{search: {method: random}}", "student.search.method .*'grid' or 'tpe'"),
        ("{shrink: {layers: 3, kept: [0, 2]}}", "kept must list 3 different layers in ascending order"),
        ("{shrink: {layers: 2, kept: [2, 0]}}", "kept must list 2 different layers in ascending order"),
        ("{shrink: {layer: 3}}", "unknown key student.shrink.layer; did you mean layers"),
        ("{kind: frosen}", "student.kind .*'fine-tuned', 'frozen' or 'nano'"),
    ],
)
def test_what_cannot_be_is_told_with_its_key(section, complaint, student):
    with pytest.raises(ProjectFileError, match=complaint):
        student(section)


def test_shrinking_is_off_unless_it_is_asked_for(student):
    assert student("{}").shrink is None
    assert student("{shrink: {}}").shrink.layers == 3
