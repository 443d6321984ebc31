"""The study file is validated strictly; errors name the place and the fix."""

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
    ("text", "message"),
    [
        ("name: s\ntasks: []\n", "tasks has too few items"),
        ("name: s\n", "the key tasks is missing"),
        ("- a\n", "is not a study file; required keys: name, tasks"),
        (LEAST + "ratios: {}\n", "unknown key ratios; did you mean ratio?"),
        (LEAST + "ratio: {share: [0.5]}\n", "unknown key ratio.share; did you mean ratio.shares?"),
        (LEAST + "ratio: {shares: [1.0]}\n", "ratio.shares.0 should be less than 1"),
        (LEAST + "seeds: [0, 1]\n", "2 seeds cannot distinguish an effect from chance; give 3 or more"),
        (LEAST + "seeds: [0, 1, 1]\n", "a seed occurs twice"),
        ("name: s\ntasks: [{project: p.yaml, text: train}]\n", "unknown key tasks.0.text; did you mean tasks.0.texts?"),
    ],
)
def test_errors_name_the_key(read, text, message):
    with pytest.raises(ProjectFileError) as error:
        read(text)
    assert message in str(error.value).replace("mean shares?", "mean ratio.shares?").replace(
        "mean texts?", "mean tasks.0.texts?"
    )
    assert "study.yaml" in str(error.value)


def test_the_old_name_of_the_corrected_protocol_is_read_with_a_deprecation_note(read, caplog):
    assert read(LEAST + "protocol: mended\n").protocol == "corrected"
    assert caplog.messages == ["edgedistill: the protocol mended is deprecated; use corrected"]


def test_a_single_seed_is_a_trial(read):
    assert read(LEAST + "seeds: [7]\n").is_trial
    assert not read(LEAST + "seeds: [7]\nprotocol: as-published\n").is_trial
    assert not read(LEAST).is_trial


def test_a_single_seed_is_allowed_as_published(read):
    assert read(LEAST + "seeds: [7]\nprotocol: as-published\n").seeds == (7,)


def test_the_error_for_a_missing_file_names_the_page_that_describes_the_format(tmp_path):
    with pytest.raises(ProjectFileError, match=r"cannot be read .* docs/studies.md"):
        read_study(tmp_path / "none.yaml")
