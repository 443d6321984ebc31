"""The report: what the stages before it found, as one page for people."""

from typing import Any

from edgedistill.pipeline.folder import digest
from edgedistill.pipeline.run import Run

_SOURCES = (
    "evaluation.json",
    "test_scores.csv",
    "fidelity.json",
    "gate.json",
    "labels.jsonl",
    "generation.json",
    "shrinking.json",
    "trials.csv",
    "bundle/bundle.json",
)


def report(run: Run) -> dict[str, Any]:
    """Write `report.html` from what is in the run folder; without an export it says that there is none.

    Returns:
        The verdict, for `run.json`.

    Raises:
        RunError: A file that the report is made from is missing, damaged or of another version.
    """
    # matplotlib takes a second to load, which no other stage should wait for.
    from edgedistill.report.inputs import read_material
    from edgedistill.report.page import render_page

    project, section = run.project, run.project.report
    material = read_material(
        run.folder,
        name=project.name,
        project_file=project.path.name,
        definitions={label.name: label.definition for label in project.task.labels},
        examples=section.examples,
        texts={row.id: row.inputs for row in run.records.splits.test.responses},
        study=project.folder / section.study if section.study else None,
    )
    verdict, written = render_page(material)
    run.folder.write_text("report.html", written)
    return {"verdict": str(verdict.answer), "headline": verdict.headline}


def report_sources(run: Run) -> dict[str, str]:
    """Return the SHA-256 of every file that the report is made from, by name; of those that are there."""
    paths = {name: run.folder / name for name in _SOURCES}
    if run.project.report.study:
        paths["runs.csv"] = run.project.folder / run.project.report.study / "runs.csv"
    return {name: digest(path) for name, path in paths.items() if path.is_file()}
