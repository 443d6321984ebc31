"""`edgedistill study`: experiments on your own data about what makes a good student."""

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
    help="Train many students and compare them: a CSV file of all runs, tables, plots. Interrupted studies resume.",
)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file; docs/studies.md describes it.")]
Offline = Annotated[bool, typer.Option("--offline", help="Use only answers in the teachers' caches.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _study_command(kind: Kind, does: str) -> None:
    def command(study: StudyFile, offline: Offline = False, as_json: AsJson = False) -> None:
        _study(study, kind, Terminal(as_json=as_json), offline=offline)

    command.__doc__ = f"{does}\n\nExample: edgedistill study {kind} examples/studies/{kind}.yaml --offline"
    study_app.command(kind)(command)


def _study(path: Path, kind: Kind, terminal: Terminal, *, offline: bool) -> None:
    study = read_study(path)

    from edgedistill.studies.study import run_study  # loads torch; errors of the study file come first

    with terminal.progress() as advance:
        report = run_study(study, kind, offline=offline, on_progress=advance, on_message=terminal.say)
    for table in report.tables:
        terminal.console.print(table.table())
        for note in table.notes:
            terminal.say(note)
    terminal.say(f"{report.planned} runs, {report.made} of them new, {len(report.not_run)} not run")
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
            "tables": [asdict(table) for table in report.tables],
        }
    )
    if report.failed:
        raise RunError(
            f"{report.failed} runs failed; the others are finished",
            where=str(report.folder / "runs.csv"),
            hint="The column not_run has the reasons; run the same command to try again.",
        )


_KINDS: tuple[tuple[Kind, str], ...] = (
    ("label-source", "Compare students trained on human codes and on teacher labels, and the teacher itself."),
    ("ratio", "Compare shares of synthetic rows in the training set."),
    ("temperature", "Compare synthetic rows generated at several temperatures."),
    ("consistency", "Compare thresholds below which inconsistent labels are removed."),
    ("teachers", "Compare students trained on labels of several teachers."),
)
for _kind, _does in _KINDS:
    _study_command(_kind, _does)
