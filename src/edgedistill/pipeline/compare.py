"""The new bundle and the one in use on the locked test rows."""

from pathlib import Path
from typing import Any

from edgedistill.errors import EdgeDistillError, RunError
from edgedistill.evaluation.bundle_rows import BUNDLE_ROWS, read_bundle_rows
from edgedistill.evaluation.coded_rows import CodedTable
from edgedistill.evaluation.compare_bundles import compare_on_rows, joint_task
from edgedistill.evaluation.comparison import COMPARISON
from edgedistill.evaluation.files import to_plain
from edgedistill.pipeline.run import Run
from edgedistill.project.schema import Project
from edgedistill_serve import Bundle, Scorer


def compare(run: Run) -> dict[str, Any]:
    """Compare the exported bundle with the one in use on the test rows, and write `comparison.json`.

    Returns:
        Both versions, the verdict, and the difference in κ, for `run.json`.

    Raises:
        RunError: The bundle in use cannot be compared with that of this project.
        BundleError: A bundle was changed, or cannot be used on this machine.
    """
    project, test = run.project, run.records.splits.test
    served = _load(project.folder / str(project.report.compare_with))
    new = Bundle.load(run.folder / "bundle")
    run.on_progress("compare: both bundles score the test rows", 0, 1)
    table = CodedTable("the locked test rows", "", len(test), test.rows, {}, has_ids=True)
    folder = run.folder.file(BUNDLE_ROWS).parent
    found = compare_on_rows(
        Scorer(served),
        Scorer(new),
        table,
        {
            "old": read_bundle_rows(folder, served.manifest.version),
            "new": read_bundle_rows(folder, new.manifest.version),
        },
        columns=project.evaluation.subgroups,
        smallest=project.evaluation.smallest_subgroup,
    )
    run.folder.write_json(COMPARISON, to_plain(found))
    return {
        "old": found.old.version,
        "new": found.new.version,
        "rows": found.rows,
        "verdict": found.verdict,
        "kappa": to_plain(found.kappa),
    }


def require_served_bundle(project: Project) -> None:
    """Check before a run pays and trains that the bundle in use can be compared with what it will export.

    Raises:
        RunError: The path is not a bundle, or one with another codebook, or the run would replace it.
    """
    if project.report.compare_with is None:
        return
    folder = project.folder / project.report.compare_with
    if folder.resolve() == (project.run_folder / "bundle").resolve():
        raise RunError(
            "is the folder into which this project exports, so that the bundle in use would be lost",
            where=str(folder),
            hint=f"Keep and serve a copy: cp -r {folder} served; then `--served served`.",
        )
    served = _load(folder)
    try:
        joint_task(served.task, project.task.task)
    except EdgeDistillError as error:
        raise RunError(
            f"cannot be compared with this project: {error.what}",
            where=str(folder),
            hint="Here the old bundle is the one in use, and the new one that of the project. Leave out "
            "report.compare_with (--served) where the codebook has changed.",
        ) from None


def _load(folder: Path) -> Bundle:
    try:
        return Bundle.load(folder)
    except EdgeDistillError as error:
        hint = "Name the folder of the bundle in use in report.compare_with (--served)."
        raise RunError(error.what, where=error.where or str(folder), hint=hint) from None
