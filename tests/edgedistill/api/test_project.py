"""A project file is run from Python as from the command line."""

import pytest

import edgedistill as ed
from edgedistill.errors import ProjectFileError, RunError
from edgedistill_serve import BundleError

from ...e2e.lessons import judge, write_lesson
from ..teacher.stand_in import StandIn


def test_a_file_that_is_none_is_an_error_of_ours(tmp_path):
    with pytest.raises(ProjectFileError, match="edgedistill init"):
        ed.Project.load(tmp_path / "project.yaml")
    (tmp_path / "project.yaml").write_text("name: x\ntasks: {}\n")
    with pytest.raises(ProjectFileError, match="did you mean task"):
        ed.Project.load(str(tmp_path / "project.yaml"))


def test_a_run_reports_its_steps_messages_and_progress_and_skips_what_is_done(tmp_path):
    steps, messages, progress = [], [], []
    with StandIn(judge) as teacher:
        project = ed.Project.load(write_lesson(tmp_path, teacher.base_url))
        run = project.run(
            until="mix",
            on_step=steps.append,
            on_message=messages.append,
            on_progress=lambda what, done, of: progress.append((what, done, of)),
        )
        assert [step.stage for step in steps] == ["gate", "label", "mix"]
        assert messages[0].startswith("estimate: 60 requests")
        assert progress[-1][1] == progress[-1][2]
        steps.clear()
        project.run(until="mix", offline=True, on_step=steps.append)
        assert all(step.skipped for step in steps)
    assert repr(run) == f"Run('lesson', folder={str(tmp_path / 'runs' / 'lesson')!r})"


def test_what_a_run_has_not_made_yet_is_an_error_of_ours(tmp_path):
    run = ed.Project.load(write_lesson(tmp_path, "http://127.0.0.1:9/v1")).start(folder=tmp_path / "elsewhere")
    assert run.folder.path == tmp_path / "elsewhere"
    with pytest.raises(RunError, match=r"evaluation\.json"):
        _ = run.evaluation
    with pytest.raises(RunError, match=r"report\.html"):
        _ = run.report_html
    with pytest.raises(BundleError, match=r"no such folder|does not exist"):
        _ = run.bundle
