"""`edgedistill report` as a user runs it, before there is anything to report."""

from ...e2e.lessons import command, write_lesson


def test_a_report_before_the_evaluation_names_the_stage_that_is_missing(tmp_path):
    project = write_lesson(tmp_path, "http://127.0.0.1:9/v1")
    done = command("edgedistill", "report", project, expect=2)
    assert done.stderr == (
        "edgedistill: report: gate is not done with the current settings and data. "
        "Run `edgedistill gate project.yaml`, or `edgedistill run`.\n"
    )
    assert not (tmp_path / "runs" / "lesson" / "report.html").exists()
