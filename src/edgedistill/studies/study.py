"""A study: plans its runs, makes those that are not finished, and reports the results.

run_study(study, kind, …) -> StudyResult
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgedistill.errors import ProjectFileError, RunError, TrainingFailed
from edgedistill.pipeline.folder import RunFolder
from edgedistill.progress import OnProgress
from edgedistill.studies.estimates import score_result, summarize_conditions
from edgedistill.studies.inputs import TaskInputs, read_task, request_inputs
from edgedistill.studies.registry import DESIGNS, Design
from edgedistill.studies.runs import RunStore, Settings, run, run_id
from edgedistill.studies.study_file import FEWEST_SEEDS, Kind, Study
from edgedistill.studies.tables import COLUMNS, StudyTable, run_rows, summary_tables
from edgedistill.studies.types import ResultRow, RunPlan, RunResult

_CORRECTED = (
    "The epoch was selected on validation rows, and each student scored the test rows once. Brackets: 95 % intervals "
    "of a bootstrap over test rows and seeds. Differences are paired. sd: standard deviation of macro-F1 over seeds."
)
_AS_PUBLISHED = (
    "AS PUBLISHED: THE EPOCH WAS SELECTED ON THE TEST ROWS, with one seed and without replay of human rows. These "
    "results are biased upwards; use them only for comparison with the corrected protocol."
)

_TRIAL = (
    f"A TRIAL WITH ONE SEED: it shows that the study runs, and no effect in it can be distinguished from chance. Give "
    f"{FEWEST_SEEDS} seeds or more for results."
)


@dataclass(frozen=True, slots=True)
class StudyResult:
    """The result of a study.

    Attributes:
        folder: The folder of its tables and plots.
        made: Number of runs made now.
        planned: Number of runs of the study; runs that share a result are counted separately.
        not_run: Plans that cannot be run, with the reason, including failed runs.
        failed: Number of failed runs.
        elsewhere: Number of runs that another process is making.
        tables: The tables.
        files: Names of the files written.
    """

    folder: Path
    made: int
    planned: int
    not_run: tuple[RunPlan, ...]
    failed: int
    elsewhere: int
    tables: tuple[StudyTable, ...]
    files: tuple[str, ...]


@dataclass(slots=True)
class _Progress:
    """The results so far."""

    lines: list[ResultRow] = field(default_factory=list)
    not_run: list[RunPlan] = field(default_factory=list)
    elsewhere: list[RunPlan] = field(default_factory=list)
    planned: int = 0
    made: int = 0
    failed: int = 0


@dataclass(frozen=True)
class _Context:
    """The settings that all runs of a study share."""

    study: Study
    kind: Kind
    task_inputs: dict[str, TaskInputs]
    settings: Settings
    run_store: RunStore
    folder: RunFolder
    on_progress: OnProgress


def run_study(
    study: Study,
    kind: Kind,
    *,
    offline: bool = False,
    on_progress: OnProgress = lambda *_: None,
    on_message: Callable[[str], None] = lambda _: None,
) -> StudyResult:
    """Make every run of a study that is not finished, and write `runs.csv`, `table.md` and the plots.

    Several processes can work on the same study; they share its runs. An interrupted study can be resumed.

    Args:
        study: The study file.
        kind: The kind of study.
        offline: Use only answers in the teachers' caches.
        on_progress: Called with the progress.
        on_message: Called with each message, one line at a time.

    Raises:
        ProjectFileError: The projects lack an input that the study needs.
        RunError: No run can be made, or the folder cannot be written.
        EdgeDistillError: Reading the projects or a request to their teachers failed.
    """
    design = DESIGNS[kind]
    # Every task is read and checked before the first request of any: a refused study pays nothing.
    requirements = design.requirements(study)
    tasks = [
        read_task(study, entry, requirements, offline=offline, on_progress=on_progress, on_message=on_message)
        for entry in study.tasks
    ]
    if twice := [name for name, times in Counter(task.name for task in tasks).items() if times > 1]:
        raise ProjectFileError(
            f"two tasks are named {twice[0]!r}", where=str(study.path), hint="Give one of them a name."
        )
    task_inputs: dict[str, TaskInputs] = {}
    for task in tasks:
        inputs = task_inputs[task.name] = request_inputs(task)
        for note in inputs.notes:
            on_message(f"{inputs.name}: {note}")
    settings, run_store = Settings.of(study), RunStore(study.run_folder)
    context = _Context(study, kind, task_inputs, settings, run_store, RunFolder(study.run_folder / kind), on_progress)
    plans = _plans(study, design, task_inputs)
    on_message(f"{len(plans)} runs, of which {sum(bool(plan.missing) for plan in plans)} cannot be run")
    progress = _Progress(planned=len(plans))
    for place, plan in enumerate(plans):
        on_progress(f"study {kind}: runs", place, len(plans))
        before = progress.made
        _get_or_make(plan, context, progress)
        if progress.made > before:
            _write_runs(context, progress)
    for plan in tuple(progress.elsewhere):
        progress.elsewhere.remove(plan)
        _get_or_make(plan, context, progress)
    on_progress(f"study {kind}: runs", len(plans), len(plans))
    run_store.clean_up()
    return _write_report(context, design, progress)


def _plans(study: Study, design: Design, task_inputs: dict[str, TaskInputs]) -> list[RunPlan]:
    """All plans, ordered by seed, so that an interrupted study has run every condition."""
    found = [plan for inputs in task_inputs.values() for plan in design.plans(study, inputs)]
    return sorted(found, key=lambda plan: study.seeds.index(plan.seed))


def _get_or_make(plan: RunPlan, context: _Context, progress: _Progress) -> None:
    """Read the result of a plan, or make its run."""
    if plan.missing:
        progress.not_run.append(plan)
        return
    inputs = context.task_inputs[plan.task]
    ident = run_id(plan, inputs, context.settings)
    outcome = context.run_store.load(ident) or _make(plan, ident, context, progress)
    if outcome is not None:
        progress.lines += score_result(plan, outcome, inputs)


def _make(plan: RunPlan, ident: str, context: _Context, progress: _Progress) -> RunResult | None:
    """Make a run; None if another process is making it, or if it failed."""
    with context.run_store.claim(ident) as work:
        if work is None:
            progress.elsewhere.append(plan)
            return None
        # Another process may have finished it before this one locked it.
        if outcome := context.run_store.load(ident):
            return outcome
        try:
            outcome = run(plan, context.task_inputs[plan.task], context.settings, ident, work, context.on_progress)
        except TrainingFailed as error:
            progress.failed += 1
            progress.not_run.append(replace(plan, missing=f"failed: {error.what}"))
            return None
        context.run_store.save(outcome)
        progress.made += 1
        return outcome


def _write_runs(context: _Context, progress: _Progress) -> None:
    rows = list(run_rows(context.kind, context.study.protocol, progress.lines, progress.not_run))
    if unknown := {name for row in rows for name in row} - set(COLUMNS):
        raise AssertionError(f"runs.csv has no column for {', '.join(sorted(unknown))}")
    context.folder.write_csv("runs.csv", [COLUMNS, *([row.get(name) for name in COLUMNS] for row in rows)])


def _write_report(context: _Context, design: Design, progress: _Progress) -> StudyResult:
    study = context.study
    _write_runs(context, progress)
    if not progress.lines:
        reason = next((plan.missing for plan in progress.not_run), "another process is making them")
        raise RunError(
            f"no run could be made: {reason}",
            where=str(study.path),
            hint=f"The column not_run of {context.folder / 'runs.csv'} has the reasons.",
        )
    found = summarize_conditions(progress.lines, context.task_inputs)
    notes = [_AS_PUBLISHED if study.protocol == "as-published" else _CORRECTED, *_incomplete_notes(progress)]
    title = f"{study.name}: {context.kind}" + (" (AS PUBLISHED)" if study.protocol == "as-published" else "")
    if study.is_trial:
        notes.insert(0, _TRIAL)
        title += " (TRIAL WITH ONE SEED)"
    *first, last = summary_tables(title, found)
    tables = (*first, replace(last, notes=tuple(notes)), *design.tables(study, found, context.task_inputs))
    rows = [f"- {inputs.name}: {note}" for inputs in context.task_inputs.values() for note in inputs.notes]
    parts = [table.markdown() for table in tables] + (["## Rows", "", *rows, ""] if rows else [])
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
        tables,
        ("runs.csv", *files),
    )


def _incomplete_notes(progress: _Progress) -> Iterator[str]:
    """Notes about runs that the table does not include."""
    if progress.elsewhere:
        yield f"Another process is making {len(progress.elsewhere)} runs."
    for plan in _distinct(progress.not_run):
        yield f"Not run: {plan.task}, {plan.condition}: {plan.missing}."


def _distinct(plans: Sequence[RunPlan]) -> list[RunPlan]:
    """One plan for each condition and reason."""
    return list({(plan.task, plan.condition, plan.missing): plan for plan in plans}.values())
