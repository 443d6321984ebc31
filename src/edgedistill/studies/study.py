"""A study: its runs are planned, made where they are not done, and told.

run_study(study, kind, …) -> StudyResult
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

from edgedistill.errors import ProjectFileError, RunError, TrainingFailed
from edgedistill.pipeline.folder import RunFolder
from edgedistill.progress import OnProgress
from edgedistill.studies.estimates import result_rows, summaries
from edgedistill.studies.inputs import TaskInputs, load_task_inputs
from edgedistill.studies.registry import DESIGNS, Design
from edgedistill.studies.runs import RunStore, Settings, run, run_id
from edgedistill.studies.study_file import Kind, Study
from edgedistill.studies.tables import COLUMNS, StudyTable, run_rows, summary_tables
from edgedistill.studies.types import ResultRow, RunPlan, RunResult

_CORRECTED = (
    "Validation rows chose the epoch, and each student scored the test rows once. Brackets: 95 % intervals of a "
    "bootstrap over test rows and seeds; a gain is paired. sd: of macro-F1 over seeds."
)
_AS_PUBLISHED = (
    "AS PUBLISHED: THE TEST ROWS CHOSE THE EPOCH, there is one seed, and human rows are not shown again. These figures "
    "flatter. They are here to be compared with the corrected protocol, not to be believed."
)


@dataclass(frozen=True, slots=True)
class StudyResult:
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
    not_run: tuple[RunPlan, ...]
    failed: int
    elsewhere: int
    sheets: tuple[StudyTable, ...]
    files: tuple[str, ...]


@dataclass(slots=True)
class _Progress:
    """What has come of the plans so far."""

    lines: list[ResultRow] = field(default_factory=list)
    not_run: list[RunPlan] = field(default_factory=list)
    elsewhere: list[RunPlan] = field(default_factory=list)
    planned: int = 0
    made: int = 0
    failed: int = 0


@dataclass(frozen=True)
class _Context:
    """What every run of a study is made with."""

    study: Study
    kind: Kind
    task_inputs: dict[str, TaskInputs]
    settings: Settings
    run_store: RunStore
    folder: RunFolder
    advance: OnProgress


def run_study(
    study: Study,
    kind: Kind,
    *,
    offline: bool = False,
    advance: OnProgress = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> StudyResult:
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
    design = DESIGNS[kind]
    task_inputs: dict[str, TaskInputs] = {}
    for entry in study.tasks:
        inputs = load_task_inputs(study, entry, design.requirements(study), offline=offline, advance=advance, say=say)
        if inputs.name in task_inputs:
            raise ProjectFileError(
                f"two tasks are named {inputs.name!r}", where=str(study.path), hint="Give one of them a name."
            )
        task_inputs[inputs.name] = inputs
        for note in inputs.notes:
            say(f"{inputs.name}: {note}")
    settings, run_store = Settings.of(study), RunStore(study.run_folder)
    context = _Context(study, kind, task_inputs, settings, run_store, RunFolder(study.run_folder / kind), advance)
    plans = _planned(study, design, task_inputs)
    say(f"{len(plans)} runs, of which {sum(bool(plan.missing) for plan in plans)} cannot be made")
    progress = _Progress(planned=len(plans))
    for place, plan in enumerate(plans):
        advance(f"study {kind}: runs", place, len(plans))
        before = progress.made
        _take(plan, context, progress)
        if progress.made > before:
            _write_runs(context, progress)
    for plan in tuple(progress.elsewhere):
        progress.elsewhere.remove(plan)
        _take(plan, context, progress)
    advance(f"study {kind}: runs", len(plans), len(plans))
    run_store.tidy()
    return _reported(context, design, progress)


def _planned(study: Study, design: Design, task_inputs: dict[str, TaskInputs]) -> list[RunPlan]:
    """All plans, those of the first seed first: a study that is stopped has compared every condition."""
    found = [plan for inputs in task_inputs.values() for plan in design.plans(study, inputs)]
    return sorted(found, key=lambda plan: study.seeds.index(plan.seed))


def _take(plan: RunPlan, context: _Context, progress: _Progress) -> None:
    """Look up what came of a plan, or make its run."""
    if plan.missing:
        progress.not_run.append(plan)
        return
    inputs = context.task_inputs[plan.task]
    ident = run_id(plan, inputs, context.settings)
    outcome = context.run_store.outcome(ident) or _made(plan, ident, context, progress)
    if outcome is not None:
        progress.lines += result_rows(plan, outcome, inputs)


def _made(plan: RunPlan, ident: str, context: _Context, progress: _Progress) -> RunResult | None:
    """Make a run; None where another process is making it, or where it fails."""
    with context.run_store.claimed(ident) as work:
        if work is None:
            progress.elsewhere.append(plan)
            return None
        # Another process may have made it between the look and the claim.
        if outcome := context.run_store.outcome(ident):
            return outcome
        try:
            outcome = run(plan, context.task_inputs[plan.task], context.settings, ident, work, context.advance)
        except TrainingFailed as error:
            progress.failed += 1
            progress.not_run.append(replace(plan, missing=f"failed: {error.what}"))
            return None
        context.run_store.keep(outcome)
        progress.made += 1
        return outcome


def _write_runs(context: _Context, progress: _Progress) -> None:
    table = StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(run_rows(context.kind, context.study.protocol, progress.lines, progress.not_run))
    context.folder.write_text("runs.csv", table.getvalue())


def _reported(context: _Context, design: Design, progress: _Progress) -> StudyResult:
    study = context.study
    _write_runs(context, progress)
    if not progress.lines:
        raise RunError(
            f"no run could be made: {next((plan.missing for plan in progress.not_run), 'another process makes them')}",
            where=str(study.path),
            hint=f"{context.folder / 'runs.csv'} has the reason of each.",
        )
    found = summaries(progress.lines, context.task_inputs)
    notes = [_AS_PUBLISHED if study.protocol == "as-published" else _CORRECTED, *_open(progress)]
    title = f"{study.name}: {context.kind}" + (" (AS PUBLISHED)" if study.protocol == "as-published" else "")
    *first, last = summary_tables(title, found)
    sheets = (*first, replace(last, notes=tuple(notes)), *design.sheets(study, found, context.task_inputs))
    rows = [f"- {inputs.name}: {note}" for inputs in context.task_inputs.values() for note in inputs.notes]
    parts = [sheet.markdown() for sheet in sheets] + (["## Rows", "", *rows, ""] if rows else [])
    files = {"table.md": "\n".join(parts), **design.files(study, found, context.task_inputs)}
    for name, text in files.items():
        context.folder.write_text(name, text)
    return StudyResult(
        context.folder.path,
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


def _distinct(plans: Sequence[RunPlan]) -> list[RunPlan]:
    """One plan for each condition and reason: its seeds lack the same."""
    return list({(plan.task, plan.condition, plan.missing): plan for plan in plans}.values())
