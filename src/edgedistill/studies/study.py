"""A study: its runs are planned, made where they are not done, and told.

make_study(study, kind, …) -> Report
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

from edgedistill.errors import ProjectFileError, RunError, TrainingFailed
from edgedistill.pipeline.folder import RunFolder
from edgedistill.progress import OnProgress
from edgedistill.studies.estimates import measured, summaries
from edgedistill.studies.inputs import Material, gather
from edgedistill.studies.registry import RECIPES, Recipe
from edgedistill.studies.runs import Journal, Settings, ident_of, run
from edgedistill.studies.study_file import Kind, Study
from edgedistill.studies.tables import COLUMNS, Sheet, run_rows, summary_sheets
from edgedistill.studies.types import Line, Outcome, Plan

_HINTED = (
    "Validation rows chose the epoch, and each student scored the test rows once. Brackets: 95 % intervals of a "
    "bootstrap over test rows and seeds; a gain is paired. sd: of macro-F1 over seeds."
)
_AS_PUBLISHED = (
    "AS PUBLISHED: THE TEST ROWS CHOSE THE EPOCH, there is one seed, and human rows are not shown again. These figures "
    "flatter. They are here to be compared with the corrected protocol, not to be believed."
)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a study.

    Attributes:
        folder: Where its tables and plots lie.
        made: Runs that were made now.
        planned: Runs of the study, those that share an outcome counted each.
        not_run: Plans that cannot be run, with the reason; runs that failed among them.
        failed: How many of these failed.
        elsewhere: Runs that another process is making.
        sheets: The tables.
        files: What was written, by name.
    """

    folder: Path
    made: int
    planned: int
    not_run: tuple[Plan, ...]
    failed: int
    elsewhere: int
    sheets: tuple[Sheet, ...]
    files: tuple[str, ...]


@dataclass(slots=True)
class _Progress:
    """What has come of the plans so far."""

    lines: list[Line] = field(default_factory=list)
    not_run: list[Plan] = field(default_factory=list)
    elsewhere: list[Plan] = field(default_factory=list)
    planned: int = 0
    made: int = 0
    failed: int = 0


@dataclass(frozen=True)
class _Desk:
    """What every run of a study is made with."""

    study: Study
    kind: Kind
    materials: dict[str, Material]
    settings: Settings
    journal: Journal
    folder: RunFolder
    advance: OnProgress


def make_study(
    study: Study,
    kind: Kind,
    *,
    offline: bool = False,
    advance: OnProgress = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Make every run of a study that is not done, and write `runs.csv`, `table.md` and the plots.

    Several processes that make the same study share its runs. One that is stopped at any moment goes on where it was.

    Args:
        study: The study file.
        kind: What is studied.
        offline: Answer from the teachers' caches alone.
        advance: Told about progress.
        say: Told what a person should know, a line at a time.

    Raises:
        ProjectFileError: The study cannot be made of these projects.
        RunError: No run can be made, or the folder cannot be written.
        EdgeDistillError: Whatever reading the projects or asking their teachers raises.
    """
    recipe = RECIPES[kind]
    materials: dict[str, Material] = {}
    for entry in study.tasks:
        material = gather(study, entry, recipe.wants(study), offline=offline, advance=advance, say=say)
        if material.name in materials:
            raise ProjectFileError(
                f"two tasks are named {material.name!r}", where=str(study.path), hint="Give one of them a name."
            )
        materials[material.name] = material
        for note in material.notes:
            say(f"{material.name}: {note}")
    settings, journal = Settings.of(study), Journal(study.run_folder)
    desk = _Desk(study, kind, materials, settings, journal, RunFolder(study.run_folder / kind), advance)
    plans = _planned(study, recipe, materials)
    say(f"{len(plans)} runs, of which {sum(bool(plan.missing) for plan in plans)} cannot be made")
    progress = _Progress(planned=len(plans))
    for place, plan in enumerate(plans):
        advance(f"study {kind}: runs", place, len(plans))
        before = progress.made
        _take(plan, desk, progress)
        if progress.made > before:
            _write_runs(desk, progress)
    for plan in tuple(progress.elsewhere):
        progress.elsewhere.remove(plan)
        _take(plan, desk, progress)
    advance(f"study {kind}: runs", len(plans), len(plans))
    journal.tidy()
    return _reported(desk, recipe, progress)


def _planned(study: Study, recipe: Recipe, materials: dict[str, Material]) -> list[Plan]:
    """All plans, those of the first seed first: a study that is stopped has compared every condition."""
    found = [plan for material in materials.values() for plan in recipe.plans(study, material)]
    return sorted(found, key=lambda plan: study.seeds.index(plan.seed))


def _take(plan: Plan, desk: _Desk, progress: _Progress) -> None:
    """Look up what came of a plan, or make its run."""
    if plan.missing:
        progress.not_run.append(plan)
        return
    material = desk.materials[plan.task]
    ident = ident_of(plan, material, desk.settings)
    outcome = desk.journal.outcome(ident) or _made(plan, ident, desk, progress)
    if outcome is not None:
        progress.lines += measured(plan, outcome, material)


def _made(plan: Plan, ident: str, desk: _Desk, progress: _Progress) -> Outcome | None:
    """Make a run; None where another process is making it, or where it fails."""
    with desk.journal.claimed(ident) as work:
        if work is None:
            progress.elsewhere.append(plan)
            return None
        # Another process may have made it between the look and the claim.
        if outcome := desk.journal.outcome(ident):
            return outcome
        try:
            outcome = run(plan, desk.materials[plan.task], desk.settings, ident, work, desk.advance)
        except TrainingFailed as error:
            progress.failed += 1
            progress.not_run.append(replace(plan, missing=f"failed: {error.what}"))
            return None
        desk.journal.keep(outcome)
        progress.made += 1
        return outcome


def _write_runs(desk: _Desk, progress: _Progress) -> None:
    table = StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(run_rows(desk.kind, desk.study.protocol, progress.lines, progress.not_run))
    desk.folder.write_text("runs.csv", table.getvalue())


def _reported(desk: _Desk, recipe: Recipe, progress: _Progress) -> Report:
    study = desk.study
    _write_runs(desk, progress)
    if not progress.lines:
        raise RunError(
            f"no run could be made: {next((plan.missing for plan in progress.not_run), 'another process makes them')}",
            where=str(study.path),
            hint=f"{desk.folder / 'runs.csv'} has the reason of each.",
        )
    found = summaries(progress.lines, desk.materials)
    notes = [_AS_PUBLISHED if study.protocol == "as-published" else _HINTED, *_open(progress)]
    title = f"{study.name}: {desk.kind}" + (" (AS PUBLISHED)" if study.protocol == "as-published" else "")
    *first, last = summary_sheets(title, found)
    sheets = (*first, replace(last, notes=tuple(notes)), *recipe.sheets(study, found, desk.materials))
    rows = [f"- {material.name}: {note}" for material in desk.materials.values() for note in material.notes]
    parts = [sheet.markdown() for sheet in sheets] + (["## Rows", "", *rows, ""] if rows else [])
    files = {"table.md": "\n".join(parts), **recipe.files(study, found, desk.materials)}
    for name, text in files.items():
        desk.folder.write_text(name, text)
    return Report(
        desk.folder.path,
        progress.made,
        progress.planned,
        tuple(progress.not_run),
        progress.failed,
        len(progress.elsewhere),
        sheets,
        ("runs.csv", *files),
    )


def _open(progress: _Progress) -> Iterator[str]:
    """What the table lacks."""
    if progress.elsewhere:
        yield f"{len(progress.elsewhere)} runs are being made by another process."
    for plan in _distinct(progress.not_run):
        yield f"Not run: {plan.task}, {plan.condition}: {plan.missing}."


def _distinct(plans: Sequence[Plan]) -> list[Plan]:
    """One plan for each condition and reason: its seeds lack the same."""
    return list({(plan.task, plan.condition, plan.missing): plan for plan in plans}.values())
