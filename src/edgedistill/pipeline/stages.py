"""The stages in order, what each depends on, and which of them still have to run."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgedistill.errors import GateRefused, RunError
from edgedistill.pipeline.folder import FROZEN, SHRUNK, STUDENT, digest, fingerprint
from edgedistill.pipeline.gate import gate
from edgedistill.pipeline.generate import generate
from edgedistill.pipeline.label import label
from edgedistill.pipeline.mix import MIXTURE, mix
from edgedistill.pipeline.report import report, report_sources
from edgedistill.pipeline.run import Run
from edgedistill.project.schema import Project


def train(run: Run) -> dict[str, Any]:
    """Do `stages.train`."""
    from edgedistill.pipeline.train import train

    return train(run)


def evaluate(run: Run) -> dict[str, Any]:
    """Do `stages.evaluate`."""
    from edgedistill.pipeline.evaluate import evaluate

    return evaluate(run)


def export(run: Run) -> dict[str, Any]:
    """Do `stages.export`."""
    from edgedistill.pipeline.export import export

    return export(run)


_FORMAT = 3
"""Raised when a stage's output changes its meaning, so that older outputs are made anew."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a run.

    Attributes:
        name: Its command.
        work: Does it, and returns what `run.json` keeps of it.
        outputs: What it writes into the run folder.
        after: Stages whose outputs it reads.
        settings: The part of the project file that it depends on; the data files always count.
        found: What it depends on of what earlier stages found.
        also: What it writes for some projects beside its outputs.
        wanted: Whether this project has the stage at all.
        may_lack: Stages before it that need not be done.
    """

    name: str
    work: Callable[[Run], dict[str, Any]]
    outputs: tuple[str, ...]
    after: tuple[str, ...]
    settings: Callable[[Project], Any]
    wanted: Callable[[Project], bool] = lambda _: True
    found: Callable[[Run], Any] = lambda _: None
    also: Callable[[Project], tuple[str, ...]] = lambda _: ()
    may_lack: tuple[str, ...] = ()


def _asking(project: Project) -> dict[str, Any]:
    """What decides the teachers' answers: the way they are fetched and paid for does not."""
    how = {"concurrency", "tries", "timeout_seconds", "cache", "prices", "budget", "gate", "api_key_env"}
    by_likeness = any(teacher.few_shot_choice == "similar" for teacher in project.panel)
    return {
        "teachers": [teacher.model_dump(exclude=how) for teacher in project.panel],
        "codebook": project.panel and project.task.model_dump(),
        "backbone": by_likeness and project.student.backbone,
    }


def _used(run: Run) -> list[Any]:
    """Which teachers are heard, and what each counts."""
    return [[teacher.called for teacher in run.used], dict(run.weights)] if run.project.panel else []


def _compared_files(run: Run) -> list[str]:
    """Return the digests of the population's file and of the human-trained student."""
    section, folder = run.project.evaluation, run.project.folder
    files = [folder / section.population] if section.population else []
    if section.human_trained:
        files += [folder / section.human_trained / name for name in (STUDENT, MIXTURE)]
    return [digest(file) for file in files if file.exists()]


STAGES = (
    Stage(
        "gate",
        gate,
        ("gate.json",),
        (),
        lambda project: [_asking(project), project.teachers_vote, *(each.gate.model_dump() for each in project.panel)],
        lambda project: bool(project.panel),
    ),
    Stage(
        "label",
        label,
        ("labels.jsonl",),
        (),
        _asking,
        lambda project: bool(project.panel) and project.data.unlabelled is not None,
        _used,
    ),
    Stage(
        "generate",
        generate,
        ("synthetic.jsonl", "generation.json"),
        (),
        lambda project: [_asking(project), project.generate and project.generate.model_dump()],
        lambda project: project.generate is not None,
        _used,
    ),
    Stage("mix", mix, (MIXTURE,), ("label", "generate"), lambda project: project.mix.model_dump()),
    Stage(
        "train",
        train,
        (STUDENT, "trials.csv", FROZEN),
        ("mix",),
        lambda project: [
            project.student.model_dump(exclude={"shrink": {"export"}}),
            project.task.task.names,
            project.task.inputs,
        ],
        also=lambda project: (SHRUNK, "shrinking.json") if project.student.shrink else (),
    ),
    Stage(
        "evaluate",
        evaluate,
        ("evaluation.json", "test_scores.csv"),
        ("train",),
        lambda project: [
            _asking(project),
            project.evaluation.model_dump(mode="json"),
            project.review and project.review.model_dump(),
            project.student.shrink and project.student.shrink.export,
        ],
        found=lambda run: [_used(run), _compared_files(run)],
    ),
    Stage(
        "export",
        export,
        ("bundle", "fidelity.json"),
        ("gate", "train", "evaluate"),
        lambda project: [project.name, project.export.model_dump(), project.task.model_dump(mode="json")],
    ),
    Stage(
        "report",
        report,
        ("report.html",),
        ("gate", "label", "generate", "mix", "train", "evaluate", "export"),
        lambda project: project.report.model_dump(mode="json"),
        found=report_sources,
        may_lack=("export",),
    ),
)
NAMES = tuple(stage.name for stage in STAGES)


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one stage: it ran, or it was done already."""

    stage: str
    skipped: bool
    seconds: float
    entry: dict[str, Any]


def run_stages(run: Run, *, until: str = NAMES[-1], told: Callable[[Step], None] = lambda _: None) -> list[Step]:
    """Run every stage up to `until` that is not done, in order.

    Args:
        run: The project and its folder.
        until: The last stage to run.
        told: Called after each stage.

    Raises:
        GateRefused: The teacher does not reach the bar and nobody accepted it; `gate.json` is written.
        EdgeDistillError: Whatever a stage raises; the stages before it stay done.
    """
    _note_rows(run)
    steps = []
    for stage in _wanted(run.project)[: _last(run.project, until) + 1]:
        steps.append(_step(run, stage))
        told(steps[-1])
        if stage.name == "gate":
            _pass_gate(run)
    return steps


def run_stage(run: Run, name: str, *, told: Callable[[Step], None] = lambda _: None) -> Step:
    """Run one stage from what the stages before it wrote.

    Args:
        run: The project and its folder.
        name: The stage.
        told: Called after it, also where the gate refuses.

    Raises:
        RunError: The project has no such stage, or a stage before it is not done.
        GateRefused: As in `run_stages`.
    """
    stages = _wanted(run.project)
    stage = stages[_last(run.project, name)]
    for earlier in stages[: stages.index(stage)]:
        if earlier.name in stage.may_lack:
            continue
        if not run.folder.holds(earlier.name, _fingerprint(run, earlier)):
            raise RunError(
                f"{earlier.name} is not done for the project as it stands",
                where=name,
                hint=f"Run `edgedistill {earlier.name} {run.project.path.name}`, or `edgedistill run`.",
            )
        if earlier.name == "gate":
            _pass_gate(run)
    _note_rows(run)
    step = _step(run, stage)
    told(step)
    if stage.name == "gate":
        _pass_gate(run)
    return step


def try_stage(run: Run, name: str) -> None:
    """Do a stage's work as far as the run's way lets it, without recording it and whatever is done already.

    Raises:
        Paused: The way stopped it, as an estimate does.
        RunError: The project has no such stage.
    """
    _wanted(run.project)[_last(run.project, name)].work(run)


def _step(run: Run, stage: Stage) -> Step:
    mark = _fingerprint(run, stage)
    if run.folder.holds(stage.name, mark) and not (stage.name == "gate" and _overruled_now(run)):
        return Step(stage.name, True, 0.0, run.folder.journal["stages"][stage.name])
    start = time.monotonic()
    try:
        entry = stage.work(run)
    finally:
        run.note_spending()
    seconds = time.monotonic() - start
    outputs = (*stage.outputs, *stage.also(run.project))
    run.folder.note_stage(stage.name, {"fingerprint": mark, "seconds": round(seconds, 2), **entry}, outputs)
    return Step(stage.name, False, seconds, entry)


def _overruled_now(run: Run) -> bool:
    """Whether this run accepts a teacher that an earlier run refused."""
    verdicts = run.folder.read_json("gate.json")["teachers"]
    return run.accept_teacher and not all(verdict["passed"] or verdict["accepted"] for verdict in verdicts)


def _pass_gate(run: Run) -> None:
    verdict = run.folder.read_json("gate.json")
    if verdict["passed"] or verdict["accepted"]:
        return
    verdicts = verdict["teachers"]
    raise GateRefused(
        "; ".join(
            _refusal(each, f"{each['teacher']}'s" if len(verdicts) > 1 else "the teacher's") for each in verdicts
        ),
        where="gate",
        hint="Fix the codebook, choose another teacher, code more validation rows, or go on with --accept-teacher.",
    )


def _refusal(verdict: Mapping[str, Any], whose: str) -> str:
    estimate = (verdict["agreement"] or {}).get(verdict["metric"])
    if estimate is None:
        causes = Counter(row["reason"] for row in verdict["set_aside"]).most_common()
        why = f" ({', '.join(f'{n}: {cause}' for cause, n in causes)})" if causes else ""
        rows = f"{verdict['coded']} of {verdict['rows']} validation rows it coded"
        return f"{whose} {verdict['metric']} is undefined on the {rows}{why}"
    interval = "{value:.2f} [{low:.2f}, {high:.2f}]".format(**estimate)
    return f"{whose} {verdict['metric']} is {interval}; the interval's lower end must reach {verdict['at_least']:g}"


def _wanted(project: Project) -> list[Stage]:
    return [stage for stage in STAGES if stage.wanted(project)]


def _last(project: Project, name: str) -> int:
    names = [stage.name for stage in _wanted(project)]
    if name not in names:
        raise RunError(
            f"this project has no stage {name!r}", where=str(project.path), hint=f"It has {', '.join(names)}."
        )
    return names.index(name)


def _fingerprint(run: Run, stage: Stage) -> str:
    before = [_fingerprint(run, earlier) for earlier in _wanted(run.project) if earlier.name in stage.after]
    data = [
        run.project.data.model_dump(mode="json"),
        run.project.task.model_dump(mode="json", include={"redact"}),
        [account.sha256 for account in run.records.row_counts],
        *(["multilabel"] if run.project.task.kind == "multilabel" else []),
    ]
    return fingerprint([_FORMAT, stage.name, stage.settings(run.project), stage.found(run), data, before])


def _note_rows(run: Run) -> None:
    run.folder.note_rows([asdict(account) for account in run.records.row_counts], run.records.splits.notes)
    lines = [
        ["file", "row", "id", "reason", "detail"],
        *([*map(str, asdict(row).values())] for row in run.records.set_aside),
    ]
    run.folder.write_csv("set_aside.csv", lines)
