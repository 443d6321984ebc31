"""The study file is read strictly, and its errors say where and how to fix."""

import pytest

from edgedistill.errors import ProjectFileError
from edgedistill.studies import read_study

LEAST = "name: s\ntasks: [{project: praise/project.yaml}]\n"


@pytest.fixture
def read(tmp_path):
    def write_and_read(text):
        path = tmp_path / "study.yaml"
        path.write_text(text, "utf-8")
        return read_study(path)

    return write_and_read


def test_a_name_and_a_task_are_enough(read, tmp_path):
    study = read(LEAST)
    assert study.protocol == "corrected"
    assert len(study.seeds) == 3
    assert study.run_folder == tmp_path / "runs" / "s"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: s\ntasks: []\n", "tasks has too few items"),
        ("name: s\n", "the key tasks is missing"),
        ("- a\n", "is not a study file; required keys: name, tasks"),
        (LEAST + "ratios: {}\n", "unknown key ratios; did you mean ratio?"),
        (LEAST + "ratio: {share: [0.5]}\n", "unknown key ratio.share; did you mean ratio.shares?"),
        (LEAST + "ratio: {shares: [1.0]}\n", "ratio.shares.0 should be less than 1"),
        (LEAST + "seeds: [0, 1]\n", "2 seeds cannot tell an effect from chance; give 3 or more"),
        (LEAST + "seeds: [0, 1, 1]\n", "a seed stands twice"),
        ("name: s\ntasks: [{project: p.yaml, text: train}]\n", "unknown key tasks.0.text; did you mean tasks.0.texts?"),
    ],
)
def test_what_is_wrong_is_named(read, text, told):
    with pytest.raises(ProjectFileError) as error:
        read(text)
    assert told in str(error.value).replace("mean shares?", "mean ratio.shares?").replace(
        "mean texts?", "mean tasks.0.texts?"
    )
    assert "study.yaml" in str(error.value)


def test_one_seed_goes_with_the_published_protocol(read):
    assert read(LEAST + "seeds: [7]\nprotocol: as-published\n").seeds == (7,)


def test_a_file_that_is_not_there_says_where_the_form_is_explained(tmp_path):
    with pytest.raises(ProjectFileError, match=r"cannot be read .* docs/studies.md"):
        read_study(tmp_path / "none.yaml")
