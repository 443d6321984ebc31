"""`edgedistill study`: what decides how good a student becomes, on one's own data."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgedistill.cli.terminal import Terminal
from edgedistill.errors import RunError
from edgedistill.studies import Kind, read_study

study_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train many students and compare them: one CSV of every run, a table, plots. A study that is stopped goes on.",
)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file; docs/studies.md explains it.")]
Offline = Annotated[bool, typer.Option("--offline", help="Answer from the teachers' caches alone.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _study_command(kind: Kind, does: str) -> None:
    def command(study: StudyFile, offline: Offline = False, as_json: AsJson = False) -> None:
        _study(study, kind, Terminal(as_json=as_json), offline=offline)

    command.__doc__ = f"{does}\n\nExample: edgedistill study {kind} examples/studies/{kind}.yaml --offline"
    study_app.command(kind)(command)


def _study(path: Path, kind: Kind, terminal: Terminal, *, offline: bool) -> None:
    study = read_study(path)

    from edgedistill.studies.study import run_study  # loads torch, which a wrong study file should not wait for

    with terminal.progress() as advance:
        report = run_study(study, kind, offline=offline, advance=advance, say=terminal.say)
    for sheet in report.sheets:
        terminal.console.print(sheet.table())
        for note in sheet.notes:
            terminal.say(note)
    terminal.say(f"{report.planned} runs, {report.made} of them made now, {len(report.not_run)} not run")
    terminal.say(f"{report.folder}: {', '.join(report.files)}")
    terminal.finish(
        {
            "folder": str(report.folder),
            "made": report.made,
            "planned": report.planned,
            "made_elsewhere": report.elsewhere,
            "not_run": [
                {"task": plan.task, "condition": plan.condition, "seed": plan.seed, "reason": plan.missing}
                for plan in report.not_run
            ],
            "files": list(report.files),
            "tables": [asdict(sheet) for sheet in report.sheets],
        }
    )
    if report.failed:
        raise RunError(
            f"{report.failed} runs failed, the others are done",
            where=str(report.folder / "runs.csv"),
            hint="Its column not_run says why; the same command tries them again.",
        )


_KINDS: tuple[tuple[Kind, str], ...] = (
    ("label-source", "Compare students on human codes with students on teacher labels, and with the teacher itself."),
    ("ratio", "Compare shares of synthetic rows beside human ones."),
    ("temperature", "Compare synthetic rows that were written at several temperatures."),
    ("consistency", "Leave out less consistent labels, by several thresholds."),
    ("teachers", "Compare students of several teachers."),
)
for _kind, _does in _KINDS:
    _study_command(_kind, _does)
