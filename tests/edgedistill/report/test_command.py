"""`edgedistill report` as a user runs it, before there is anything to report."""

from ...e2e.lessons import command, write_lesson


def test_a_report_before_the_evaluation_names_the_stage_that_is_missing(tmp_path):
    project = write_lesson(tmp_path, "http://127.0.0.1:9/v1")
    done = command("edgedistill", "report", project, expect=2)
    assert done.stderr == (
        "edgedistill: report: gate is not done with the current settings and data. "
        f"Run `edgedistill gate {project}`, or `edgedistill run {project}` for all stages.\n"
    )
    assert not (tmp_path / "runs" / "lesson" / "report.html").exists()


def test_a_plan_is_laid_down_from_the_command_line(tmp_path):
    project = write_lesson(tmp_path, "http://127.0.0.1:9/v1")
    done = command("edgedistill", "preregister", project)
    assert done.stdout == f"preregistration  {tmp_path / 'lesson.preregistration.json'}\n"
    assert (tmp_path / "lesson.preregistration.md").read_text("utf-8").startswith("# Preregistration of lesson\n")
    again = command("edgedistill", "preregister", project, expect=2)
    assert "never overwritten" in again.stderr
