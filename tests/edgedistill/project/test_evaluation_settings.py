"""The sections `evaluation` and `review`: an aim has its own number, and names must be there."""

import pytest

from edgedistill.errors import ProjectFileError
from edgedistill.project import read_project

PROJECT = """\
name: t
task: {labels: [{name: process}, {name: outcome}]}
data: {human: h.csv}
"""


@pytest.fixture
def read(tmp_path):
    def write_and_read(more):
        (tmp_path / "p.yaml").write_text(PROJECT + more, "utf-8")
        return read_project(tmp_path / "p.yaml")

    return write_and_read


def test_what_is_left_out_calibrates_and_chooses_no_thresholds(read):
    project = read("")
    assert project.review is None
    assert project.evaluation.calibrate
    assert (project.evaluation.coders, project.evaluation.subgroups, project.evaluation.population) == ((), (), None)


@pytest.mark.parametrize(
    "aim",
    [
        "{aim: keep_kappa, at_least: 0.75}",
        "{aim: at_most_to_people, share: 0.15}",
        "{aim: at_most_wrong, share: 0.05}",
        "{aim: at_most_wrong, share: 0.05, confidence: 0.9, per_label: true, groups: school}",
    ],
)
def test_an_aim_comes_with_its_number(read, aim):
    assert read(f"review: {aim}\n").review.aim in aim


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("review: {aim: keep_kappa}", "aim keep_kappa needs the key at_least"),
        ("review: {aim: keep_kappa, share: 0.1}", "aim keep_kappa needs the key at_least"),
        ("review: {aim: at_most_to_people}", "aim at_most_to_people needs the key share"),
        (
            "review: {aim: at_most_to_people, share: 0.1, at_least: 0.7}",
            "aim at_most_to_people takes share, not at_least",
        ),
        ("review: {aim: keep_kappa, at_least: 1.2}", "review.at_least"),
        ("review: {aim: keep_kapa, at_least: 0.7}", "review.aim"),
        ("review: {at_least: 0.7}", "the key review.aim is missing"),
        ("review: {per_label: true}", "the key review.aim is missing, which per_label needs"),
        ("review: {aim: at_most_wrong}", "aim at_most_wrong needs the key share"),
        ("review: {aim: at_most_wrong, share: 1}", "review.share"),
        ("review: {aim: at_most_wrong, share: 0.1, confidence: 0.2}", "review.confidence"),
        ("review: {aim: at_most_wrong, share: 0.1, at_least: 0.7}", "aim at_most_wrong takes share, not at_least"),
        ("review: {aim: keep_kappa, at_least: 0.7, groups: school}", "aim keep_kappa takes at_least, not groups"),
        ("review: {aim: at_most_wrong, share: 0.1, groups: label}", "groups: label is not a column of groups"),
        (
            "evaluation: {coders: [second]}\nreview: {aim: at_most_wrong, share: 0.1, groups: second}",
            "review.groups: second is a column of evaluation.coders",
        ),
        ("evaluation: {positive: proces}", "evaluation.positive is not a label; the labels are process, outcome"),
        ("evaluation: {coders: [one, two, one]}", "coders names the column 'one' twice"),
        ("evaluation: {alt_test_epsilon: 1}", "evaluation.alt_test_epsilon"),
        ("evaluation: {subgroup: [x]}", "did you mean subgroups?"),
    ],
)
def test_an_impossible_section_is_reported_with_its_key(read, given, message):
    with pytest.raises(ProjectFileError) as error:
        read(given + "\n")
    assert message in str(error.value)
