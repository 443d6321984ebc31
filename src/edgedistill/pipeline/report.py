"""The report: the results of the other stages as one HTML page."""

import datetime as dt
from dataclasses import replace
from typing import Any

from edgedistill.coding import coding_summary
from edgedistill.decisions.learning_curve import curve_data
from edgedistill.evaluation.files import to_plain
from edgedistill.pipeline.run import Run
from edgedistill.report.inputs import ReportInputs, read_report_inputs
from edgedistill.report.next_steps import next_steps


def report(run: Run) -> dict[str, Any]:
    """Write `report.html` from the run folder; an export is not required.

    Returns:
        The verdict, which model it is about (the served graph where an export measured it), and its κ, for `run.json`.

    Raises:
        RunError: A file is missing, damaged or of another version.
        DataError: The journal of the coding page is damaged.
    """
    # Imported here because matplotlib takes a second to load.
    from edgedistill.report.page import render_page

    section = run.project.report
    inputs = read_inputs(
        run,
        examples=section.examples,
        texts={row.id: row.inputs for row in run.records.splits.test.responses},
        study=run.project.folder / section.study if section.study else None,
    )
    verdict, html = render_page(inputs, dt.datetime.now(dt.UTC).date().isoformat())
    run.folder.write_text("report.html", html)
    kappa = inputs.served.student.kappa
    return {
        "verdict": str(verdict.answer),
        "headline": verdict.headline,
        "only_label": verdict.only_label or None,
        "next_steps": list(next_steps(inputs, verdict)),
        "model": next(iter(inputs.columns)),
        "kappa": to_plain(kappa) if kappa else None,
    }


def read_inputs(run: Run, **options: Any) -> ReportInputs:
    """Read the run folder of a project; for the options see `read_report_inputs`."""
    project = run.project
    found = read_report_inputs(
        run.folder,
        name=project.name,
        project_file=f"{project.folder.name}/{project.path.name}",
        definitions={label.name: label.definition for label in project.task.labels},
        coding=coding_summary(project),
        **options,
    )
    splits = run.records.splits
    texts = {row.question: row.inputs.get("question", row.question) for row in splits.test.responses if row.question}
    found = replace(found, questions=texts)
    if found.learning_curve is None:
        return found
    return replace(
        found, learning_curve_is_current=found.learning_curve.data == curve_data(splits.train, splits.validation)
    )
