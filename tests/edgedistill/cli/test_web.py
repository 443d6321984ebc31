"""`edgedistill web` and `edgedistill export --web`, as a user runs them."""

import json

import msgspec
import pytest

from edgedistill.data import read_records
from edgedistill.pipeline import Run, RunFolder
from edgedistill.pipeline.export import check_browser
from edgedistill.project import read_project
from edgedistill_export import ExportFailed
from edgedistill_serve import Scorer

from ...e2e.lessons import command, responses
from ...export.tiny import BERT, PRAISE, save_student
from ...export.web.tiny_page import TINY

PROJECT = """\
name: lesson
task:
  instructions: Code the praise.
  labels: [{{name: process, definition: Praises effort.}}, {{name: outcome, definition: Praises the result.}}]
data: {{human: human.csv, split: {{train: 0.4, validation: 0.3, test: 0.3}}}}
student:
  backbone: {backbone}
  max_tokens: 32
  search: {{learning_rate: [1e-3], batch_size: [8], epochs: [1]}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A project of a tiny student that has run to its bundle, and whose page was checked and written."""
    folder = tmp_path_factory.mktemp("lesson")
    backbone = save_student(folder / "tiny", PRAISE, BERT)
    rows = [("id", "response", "label"), *responses(0, 60)]
    (folder / "human.csv").write_text("\n".join(",".join(f'"{cell}"' for cell in row) for row in rows))
    (folder / "project.yaml").write_text(PROJECT.format(backbone=backbone))
    command("edgedistill", "run", folder / "project.yaml", "--until", "evaluate")
    command("edgedistill", "export", folder / "project.yaml", "--web", folder / "page", "--check-browser")
    return folder


def test_the_step_to_the_browser_is_the_last_one_in_fidelity_bundle_and_card(run):
    fidelity = json.loads((run / "runs/lesson/fidelity.json").read_text())
    bundle = json.loads((run / "runs/lesson/bundle/bundle.json").read_text())
    for steps in (
        fidelity["steps"],
        fidelity["validation_steps"],
        bundle["provenance"]["export"]["steps_on_test_rows"],
    ):
        assert steps[-1]["after"].endswith("in the browser")
        assert steps[-1]["before"] == steps[-2]["after"]
        assert (steps[-1]["rows"], steps[-1]["flips"]) == (18, 0)
    assert "0 of 18 validation rows, 0 of 18 test rows" in (run / "runs/lesson/bundle/README.md").read_text()


def test_the_page_is_of_the_bundle_that_was_written_last(run):
    bundle = json.loads((run / "runs/lesson/bundle/bundle.json").read_text())
    assert json.loads((run / "page/page.json").read_text())["version"] == bundle["version"]


def test_a_checked_export_counts_as_done(run):
    folder = RunFolder(run / "runs" / "lesson")
    assert folder.is_done("export", folder.run_log["stages"]["export"]["fingerprint"])


def test_a_browser_that_changes_too_many_labels_is_refused_and_the_bundle_stays_as_it_was(run):
    project = read_project(run / "project.yaml")
    folder = RunFolder(project.run_folder)
    before = (folder / "bundle" / "bundle.json").read_bytes()

    def turned_round(bundle, rows):
        other = {"process": "outcome", "outcome": "process"}
        return [msgspec.structs.replace(score, label=other[score.label]) for score in Scorer(bundle).score(rows)]

    with pytest.raises(ExportFailed, match="the browser changes the label of 18 of 18 validation rows") as raised:
        check_browser(Run(project, read_records(project), folder), turned_round)
    assert raised.value.exit_code == 5
    assert (folder / "bundle" / "bundle.json").read_bytes() == before


def test_a_bundle_that_is_there_gets_a_page(tmp_path):
    done = command("edgedistill", "web", TINY, tmp_path / "page", "--json")
    message = json.loads(done.stdout)
    assert (message["model"], message["responses"], message["folder"]) == ("praise", 5, str(tmp_path / "page"))
    assert (tmp_path / "page" / "index.html").is_file()


def test_what_is_no_bundle_gets_none(tmp_path):
    done = command("edgedistill", "web", tmp_path / "no", tmp_path / "page", expect=2)
    assert "the folder does not exist" in done.stderr
    assert not (tmp_path / "page").exists()


def test_the_check_goes_with_a_page(run):
    done = command("edgedistill", "export", run / "project.yaml", "--check-browser", expect=2)
    assert "--check-browser requires --web DIR" in done.stderr


def test_one_file_and_a_package_are_written_with_or_without_a_folder(tmp_path):
    page, package = tmp_path / "page.html", tmp_path / "lesson.zip"
    done = command("edgedistill", "web", TINY, "--single", page, "--scorm", package, "--json")
    message = json.loads(done.stdout)
    assert message["single"]["file"] == str(page)
    assert message["single"]["bytes"] == page.stat().st_size
    assert message["scorm"]["bytes"] == package.stat().st_size
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", "lesson.zip"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "there is nothing to write. Name a folder, or use --single FILE.html or --scorm FILE.zip."),
        (("--single", "p.html", "--embed", "https://a.org"), "--embed requires a folder."),
        (("page", "--embed", "lms.school.org"), "--embed: 'lms.school.org' is not the origin of a site."),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_written(tmp_path, options, message):
    done = command(
        "edgedistill", "web", TINY, *(tmp_path / each if each[0] == "p" else each for each in options), expect=2
    )
    assert message in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []
