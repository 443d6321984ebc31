"""The stages in order, what each reads and writes, and which of them still have to run."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

from edgedistill.decisions.learning_curve import LEARNING_CURVE_FILE
from edgedistill.errors import EdgeDistillError, GateRefused, RunError
from edgedistill.estimates.results import ESTIMATES_FILE
from edgedistill.evaluation.bundle_rows import BUNDLE_ROWS
from edgedistill.evaluation.comparison import COMPARISON
from edgedistill.pipeline.folder import (
    ASSISTANT,
    CUT_BACKBONE,
    FROZEN,
    MIXTURE,
    NANO_START,
    OVERLAP,
    SHRUNK,
    SIZES,
    STUDENT,
    file_digest,
)
from edgedistill.pipeline.inputs import NOTHING, StageInputs, fingerprint, result_path, select
from edgedistill.pipeline.run import Run, shows_examples
from edgedistill.pipeline.tracking import log_run, require_tracker
from edgedistill.project.schema import Project
from edgedistill.sizes import SIZES_FILE
from edgedistill.teacher.existing_labels import describe_missing_rows
from edgedistill.teacher.gating import describe_rows_needed, refusal

_STUDENT_TASK = ("project.task.kind", "project.task.labels.name", "project.task.inputs", "project.task.redact")
"""What a student knows of the task: neither definitions nor instructions."""
_QUESTIONS = ("project.data.questions", "project.data.question_by", "records.unlabelled")
"""What tells the questions that the student was trained on from others."""
_TRAINED = (
    "train.best",
    "train.trials",
    "train.assistant.compared",
    "train.assistant.prior_correction",
    "train.prior_correction",
)
_MIX_RESULTS = tuple(f"results.run.json.stages.mix.{name}" for name in ("max_tokens", "unreadable_validation_rows"))
_GATE_RESULTS = ("results.gate.json.used", "results.gate.json.weights")


def _coding(project: Project) -> tuple[str, ...]:
    """What decides the answers of teachers that code responses, beside the responses."""
    paths = ["project.teacher", "project.teachers", "project.task", "project.data.max_characters"]
    if shows_examples(project):
        paths += ["records.splits.train", "records.splits.reviewed"]
    if any(teacher.few_shot_choice == "similar" for teacher in project.asked):
        paths += ["project.student.backbone", "project.student.max_tokens"]
    if len(project.asked) < len(project.panel):  # a table of labels is read as the project says of its own tables
        paths += [f"project.data.{name}" for name in ("human", "header_row", "first_row", "sheet", "columns", "ids")]
    return tuple(paths)


_WITHOUT_GATES = ("project.teacher.gate", "project.teachers.gate")


def _gate(project: Project) -> StageInputs:
    coders = ("project.evaluation.coders", "project.evaluation.alt_test_epsilon", "records.validation_codes")
    return StageInputs((*_coding(project), "project.teachers_vote", "records.splits.validation", *coders))


def _label(project: Project) -> StageInputs:
    return StageInputs((*_coding(project), *_GATE_RESULTS, "records.unlabelled"), _WITHOUT_GATES)


def _generate(project: Project) -> StageInputs:
    splits = (f"records.splits.{name}" for name in ("train", "validation", "test", "reviewed"))
    return StageInputs((*_coding(project), *_GATE_RESULTS, "project.generate", *splits), _WITHOUT_GATES)


def _mix(_: Project) -> StageInputs:
    return StageInputs(
        (
            "project.mix",
            *_STUDENT_TASK,
            *(f"project.student.{name}" for name in ("backbone", "max_tokens", "kind", "architecture", "sizes")),
            *(f"records.splits.{name}" for name in ("train", "validation", "test")),
            "records.unlabelled",
            "results.labels.jsonl",
            "results.synthetic.jsonl",
        )
    )


def _train(project: Project) -> StageInputs:
    paths = ["project.student", *_STUDENT_TASK, "records.splits.validation", f"results.{MIXTURE}", *_MIX_RESULTS]
    section = project.student
    cut = section.vocabulary == "cut"
    if section.shrink or section.assistant or section.kind == "nano" or section.sizes or cut:
        paths += ["records.splits.train", "records.splits.test", "records.unlabelled", "results.synthetic.jsonl"]
    if project.student.sizes:
        paths.append("project.export.precision")
    return StageInputs(tuple(paths), ("project.student.shrink.export",))


def _overlap(project: Project) -> tuple[str, ...]:
    """The baseline of a task with reference answers."""
    return (OVERLAP,) if "reference_answer" in project.task.inputs else ()


def _other_students(project: Project) -> tuple[str, ...]:
    """The other classifiers that `train` writes for some projects, and `evaluate` reads."""
    section = project.student
    return (
        *((ASSISTANT,) if section.assistant else ()),
        *((SIZES, SIZES_FILE) if section.sizes else ()),
        *_overlap(project),
    )


_TABLE_SETTINGS = tuple(
    f"project.data.{name}"
    for name in (
        "human",
        "unlabelled",
        "reviewed",
        "columns",
        "header_row",
        "first_row",
        "sheet",
        "html",
        "ids",
        "label_spelling",
    )
)
"""How a table of people is read."""


def _evaluate(project: Project) -> StageInputs:
    section = project.evaluation
    splits = ["train", "validation", "test", "predefined", "twins", "repeated_groups"]
    paths = [
        *("project.evaluation", "project.review", *_QUESTIONS, *_STUDENT_TASK),
        *(
            f"project.student.{name}"
            for name in ("kind", "backbone", "max_tokens", "assistant", "shrink.export", "sizes")
        ),
        *(f"results.{name}" for name in (STUDENT, *_other_students(project), SHRUNK, FROZEN, MIXTURE, "trials.csv")),
        *(f"results.run.json.stages.{name}" for name in _TRAINED[1:]),
        *_MIX_RESULTS,
        *("project.teacher", "project.teachers", "records.codes", "records.validation_groups"),
    ]
    if project.panel:
        paths += [*_coding(project), *_GATE_RESULTS]
    if section.population:
        paths += ["project.data.group_by", "project.data.max_characters", "project.task.labels", *_TABLE_SETTINGS]
    return StageInputs((*paths, *(f"records.splits.{name}" for name in splits)), _WITHOUT_GATES)


def _export(_: Project) -> StageInputs:
    splits = ("train", "validation", "test", "twins")
    return StageInputs(
        (
            *("project.name", "project.export", "project.task", "project.review"),
            *("project.data.questions", "project.data.question_by"),
            *(f"project.evaluation.{name}" for name in _FIGURES),
            *(f"project.student.{name}" for name in ("backbone", "max_tokens", "shrink.export")),
            *(f"project.{who}.{what}" for who in ("teacher", "teachers") for what in _TEACHER_PROVENANCE),
            *("project.teachers_vote", "project.review.novelty"),
            *(f"records.splits.{name}" for name in splits),
            *("records.codes", "records.validation_groups", "records.unlabelled", "records.row_counts"),
            *(f"results.{name}" for name in ("gate.json", MIXTURE, STUDENT, SHRUNK, "trials.csv", "evaluation.json")),
            *(f"results.run.json.stages.{name}" for name in _LOGGED),
            *_MIX_RESULTS,
        ),
        ("project.task.instructions",),
    )


_LOGGED = ("mix.by_source_and_label", *_TRAINED, "evaluate.inputs")
_FIGURES = ("coders", "alt_test_epsilon", "subgroups", "smallest_subgroup", "positive")
_TEACHER_PROVENANCE = ("name", "model", "votes", "temperature", "labels")


_OF_COMMANDS = (LEARNING_CURVE_FILE, ESTIMATES_FILE)
"""What `review next` and `estimate` write, which the report shows."""


def _compare(_: Project) -> StageInputs:
    section = ("project.evaluation.subgroups", "project.evaluation.smallest_subgroup", "project.report.compare_with")
    return StageInputs((*section, "records.splits.test", "records.codes", "results.bundle", f"results.{BUNDLE_ROWS}"))


def _report(project: Project) -> StageInputs:
    results = tuple(f"results.{name}" for stage in STAGES if stage.name != "report" for name in stage.written(project))
    read = ("project.name", "project.report", "project.task.labels", "project.data.human")
    splits = ("records.splits.train", "records.splits.validation", "records.splits.test")
    beside = tuple(map(result_path, _OF_COMMANDS))
    return StageInputs((*read, *splits, *results, *beside), ("project.report.compare_with",), log=True)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a run.

    Attributes:
        name: Its command, its module in this package, and the function there that does its work.
        inputs: What it reads in this project.
        outputs: What it writes into the run folder.
        optional: What it writes for some projects besides its outputs.
        scratch: What it writes that is not a result, such as the state of a search.
        wanted: Whether this project has the stage.
        may_lack: Earlier stages that need not be done.
        beside: Files of the run folder that it reads if they are there, and that no stage writes.
        work: Does the stage's work, and returns its entry in `run.json`; None: the function of that name.
    """

    name: str
    inputs: Callable[[Project], StageInputs]
    outputs: tuple[str, ...]
    optional: Callable[[Project], tuple[str, ...]] = lambda _: ()
    scratch: tuple[str, ...] = ()
    wanted: Callable[[Project], bool] = lambda _: True
    may_lack: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    work: Callable[[Run], dict[str, Any]] | None = None

    def written(self, project: Project) -> tuple[str, ...]:
        """Return its results in this project."""
        return (*self.outputs, *self.optional(project)) if self.wanted(project) else ()

    def run(self, run: Run) -> dict[str, Any]:
        """Do its work with nothing but its inputs."""
        # Loaded where it is used: some stages load torch.
        work = self.work or getattr(import_module(f"edgedistill.pipeline.{self.name}"), self.name)
        own = (*self.written(run.project), *self.scratch)
        entry: dict[str, Any] = work(
            run.restricted(
                self.name, self.inputs(run.project), own, [*_earlier_results(run.project, self), *self.beside]
            )
        )
        return entry


STAGES = (
    Stage("gate", _gate, ("gate.json",), wanted=lambda project: bool(project.panel)),
    Stage(
        "label",
        _label,
        ("labels.jsonl",),
        wanted=lambda project: bool(project.panel) and project.data.unlabelled is not None,
    ),
    Stage(
        "generate",
        _generate,
        ("synthetic.jsonl", "generation.json"),
        wanted=lambda project: project.generate is not None,
    ),
    Stage("mix", _mix, (MIXTURE,)),
    Stage(
        "train",
        _train,
        (STUDENT, "trials.csv", FROZEN),
        optional=lambda project: (
            *_other_students(project),
            *((SHRUNK, "shrinking.json") if project.student.shrink else ()),
        ),
        scratch=("search.sqlite3", "search", NANO_START, CUT_BACKBONE),
    ),
    Stage("evaluate", _evaluate, ("evaluation.json", "test_scores.csv")),
    Stage("export", _export, ("bundle", "fidelity.json"), scratch=("tuning.json", BUNDLE_ROWS)),
    Stage(
        "compare",
        _compare,
        (COMPARISON,),
        wanted=lambda project: project.report.compare_with is not None,
        beside=(BUNDLE_ROWS,),
    ),
    Stage("report", _report, ("report.html",), may_lack=("export",), beside=_OF_COMMANDS),
)
NAMES = tuple(stage.name for stage in STAGES)


def _earlier_results(project: Project, stage: Stage) -> dict[str, Stage]:
    """Return the results of the stages before one, each with the stage that writes it."""
    before = STAGES[: NAMES.index(stage.name)]
    return {name: earlier for earlier in before for name in earlier.written(project)}


def _fingerprint(run: Run, stage: Stage) -> str:
    inputs = stage.inputs(run.project)
    return fingerprint(run, stage.name, inputs, _result_inputs(run, stage, inputs))


def _result_inputs(run: Run, stage: Stage, inputs: StageInputs) -> dict[str, Any]:
    """Return the digest, or the declared part, of each result that a stage reads."""
    run_log = run.folder.run_log["stages"]
    found: dict[str, Any] = {}
    for name, earlier in _earlier_results(run.project, stage).items():
        path = result_path(name)
        if not inputs.partly(path) or not run.folder.has(name):
            continue
        if not inputs.counts(path):
            found[name] = select(run.folder.read_json(name), path, inputs.counts)
        elif earlier.name in stage.may_lack:
            found[name] = file_digest(run.folder / name)
        else:  # whoever runs a stage has checked that the stages before it are done: their results are as recorded
            found[name] = run_log.get(earlier.name, {}).get("outputs", {}).get(name)
    found |= {name: file_digest(run.folder / name) for name in stage.beside if run.folder.has(name)}
    if (log := select({"stages": run_log}, result_path("run.json"), inputs.counts)) is not NOTHING:
        found["run.json"] = log
    return found


@dataclass(frozen=True, slots=True)
class StageResult:
    """The outcome of one stage: it ran, or it was done already (`skipped`)."""

    stage: str
    skipped: bool
    seconds: float
    entry: dict[str, Any]


def run_stages(
    run: Run, *, until: str = NAMES[-1], on_step: Callable[[StageResult], None] = lambda _: None
) -> list[StageResult]:
    """Run every stage up to `until` that is not done, in order.

    Args:
        run: The project and its folder.
        until: The last stage to run.
        on_step: Called after each stage.

    Raises:
        GateRefused: No teacher passes the gate or was accepted; `gate.json` is written.
        EdgeDistillError: A stage failed; the stages before it stay done.
    """
    if run.project.report.compare_with and _stage_index(run.project, until) >= _stage_index(run.project, "export"):
        _require_served_bundle(run.project)
    require_tracker(run.project)
    _record_rows(run)
    steps = []
    for stage in _stages_of(run.project)[: _stage_index(run.project, until) + 1]:
        steps.append(_step(run, stage))
        on_step(steps[-1])
        if stage.name == "gate":
            _require_gate(run)
    _track(run, until)
    return steps


def run_stage(run: Run, name: str, *, on_step: Callable[[StageResult], None] = lambda _: None) -> StageResult:
    """Run one stage on the results of the stages before it.

    Args:
        run: The project and its folder.
        name: The stage.
        on_step: Called after it, also if the gate refuses.

    Raises:
        RunError: The project has no such stage, or a stage before it is not done.
        GateRefused: As in `run_stages`.
    """
    stage = _stages_of(run.project)[_stage_index(run.project, name)]
    if name == "compare":
        _require_served_bundle(run.project)
    require_tracker(run.project)
    require_done(run, before=name)
    _record_rows(run)
    step = _step(run, stage)
    on_step(step)
    if stage.name == "gate":
        _require_gate(run)
    _track(run, name)
    return step


def _track(run: Run, last: str) -> None:
    """Log the run to its tracker once it is evaluated; every stage up to `last` is done."""
    if run.project.track and _stage_index(run.project, last) >= _stage_index(run.project, "evaluate"):
        log_run(run, exported=is_done(run, "export"))


def require_done(run: Run, *, before: str) -> None:
    """Check that every stage that another one builds on is done with the current settings and data.

    Args:
        run: The project and its folder.
        before: That other stage, such as ``report``, which needs no export.

    Raises:
        RunError: The project has no such stage, or a stage before it is not done.
        GateRefused: As in `run_stages`.
    """
    stages = _stages_of(run.project)
    stage = stages[_stage_index(run.project, before)]
    for earlier in stages[: stages.index(stage)]:
        if earlier.name in stage.may_lack:
            continue
        if not is_done(run, earlier.name):
            raise RunError(
                f"{earlier.name} is not done with the current settings and data",
                where=before,
                hint=f"Run `edgedistill {earlier.name} PROJECT`, or `edgedistill run PROJECT` for all stages.",
            )
        if earlier.name == "gate":
            _require_gate(run)


def seen_by(run: Run, name: str) -> Run:
    """Return a run as one stage sees it, reading only: results that this project's stages did not write are not there.

    Raises:
        RunError: As `require_done`; also if there is an export that other settings or data led to.
        GateRefused: As in `run_stages`.
    """
    require_done(run, before=name)
    stage = _stages_of(run.project)[_stage_index(run.project, name)]
    wanted = {each.name for each in _stages_of(run.project)}
    for optional in wanted.intersection(stage.may_lack):
        if optional in run.folder.run_log["stages"] and not is_done(run, optional):
            raise RunError(
                f"{optional} was done with other settings or data",
                where=name,
                hint=f"Run `edgedistill {optional} PROJECT`, or `edgedistill run PROJECT` for all stages.",
            )
    available = [*_earlier_results(run.project, stage), *stage.beside]
    return run.restricted(name, stage.inputs(run.project), (), available)


def is_done(run: Run, name: str) -> bool:
    """Return whether a stage is done with the current settings and data; False if the project has no such stage."""
    stage = next((stage for stage in _stages_of(run.project) if stage.name == name), None)
    return stage is not None and run.folder.is_done(name, _fingerprint(run, stage))


def try_stage(run: Run, name: str) -> None:
    """Do a stage's work without recording it, even if it or an earlier stage is not done; for estimates.

    Raises:
        Paused: The dispatch mode stopped it, as an estimate does.
        RunError: The project has no such stage.
    """
    _stages_of(run.project)[_stage_index(run.project, name)].run(run)


def _step(run: Run, stage: Stage) -> StageResult:
    current = _fingerprint(run, stage)
    if run.folder.is_done(stage.name, current) and not (stage.name == "gate" and _accepts_refused(run)):
        return StageResult(stage.name, True, 0.0, run.folder.run_log["stages"][stage.name])
    start = time.monotonic()
    try:
        entry = stage.run(run)
    except BaseException:
        with suppress(EdgeDistillError):  # the first error is the one to report
            run.record_spending()
        raise
    run.record_spending()
    seconds = time.monotonic() - start
    entry_of_run = {"fingerprint": current, "seconds": round(seconds, 2), **entry}
    run.folder.record_stage(stage.name, entry_of_run, stage.written(run.project))
    return StageResult(stage.name, False, seconds, entry)


def _accepts_refused(run: Run) -> bool:
    """Return whether this run accepts a teacher that an earlier run refused."""
    verdicts = run.folder.read_json("gate.json")["teachers"]
    return run.accept_teacher and not all(verdict["passed"] or verdict["accepted"] for verdict in verdicts)


_AFTER_REFUSAL = (
    "Fix the codebook, choose another teacher, code more validation rows, or continue with --accept-teacher."
)


def _require_gate(run: Run) -> None:
    verdict = run.folder.read_json("gate.json")
    if verdict["passed"] or verdict["accepted"]:
        return
    verdicts = verdict["teachers"]
    raise GateRefused(
        "; ".join(refusal(each, f"{each['teacher']}'s" if len(verdicts) > 1 else "the teacher's") for each in verdicts),
        where="gate",
        hint=" ".join(
            filter(
                None,
                [*map(describe_missing_rows, verdicts), *map(describe_rows_needed, verdicts), _AFTER_REFUSAL],
            )
        ),
    )


def _stages_of(project: Project) -> list[Stage]:
    return [stage for stage in STAGES if stage.wanted(project)]


def _require_served_bundle(project: Project) -> None:
    from edgedistill.pipeline.compare import require_served_bundle  # loads onnxruntime

    require_served_bundle(project)


def _stage_index(project: Project, name: str) -> int:
    names = [stage.name for stage in _stages_of(project)]
    if name == "compare" and name not in names:
        raise RunError(
            "no bundle in use is named with which the new one could be compared",
            where=str(project.path),
            hint="Name it with --served BUNDLE, or in the project file as report.compare_with.",
        )
    if name not in names:
        raise RunError(
            f"this project has no stage {name!r}", where=str(project.path), hint=f"It has {', '.join(names)}."
        )
    return names.index(name)


def _record_rows(run: Run) -> None:
    tables = run.label_tables
    counts = (*run.records.row_counts, *(table.counts for table in tables))
    notes = (*run.records.notes, *(note for table in tables for note in table.notes))
    run.folder.record_rows([asdict(each) for each in counts], notes)
    for table in tables:
        for line in table.describe():
            run.on_message(line)
    set_aside = (*run.records.set_aside, *(row for table in tables for row in table.set_aside))
    lines = [
        ["file", "row", "id", "reason", "detail"],
        *([*map(str, asdict(row).values())] for row in set_aside),
    ]
    run.folder.write_csv("set_aside.csv", lines)
