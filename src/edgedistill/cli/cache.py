"""The commands of `edgedistill cache`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgedistill.cli.project_argument import remember_project
from edgedistill.cli.terminal import Terminal
from edgedistill.errors import CacheDamaged, DataError, ProjectFileError
from edgedistill.project import read_project
from edgedistill.project.reading import names_a_project

cache_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Inspect, move and repair the teacher's cached answers."
)

Where = Annotated[
    Path,
    typer.Argument(metavar="PROJECT", help="A project, or the folder of a cache.", callback=remember_project),
]
Lines = Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="A file with one answer per line.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_MAX_SHOWN = 10


def _folder(where: Path, *, must_exist: bool = True) -> Path:
    if where.is_dir() and not names_a_project(where):
        folder = where
    else:
        project = read_project(where)
        folders = {project.folder / teacher.cache for teacher in project.asked}
        if not folders:
            raise ProjectFileError("the project has no teacher with an endpoint, and so no cache", where=str(where))
        if len(folders) > 1:
            names = ", ".join(sorted(str(folder) for folder in folders))
            raise ProjectFileError(
                f"its teachers have several caches: {names}",
                where=str(where),
                hint="Run the command with one of these folders.",
            )
        folder = folders.pop()
    if must_exist and not (folder / "cache.db").is_file():
        raise DataError(
            "there is no cache yet",
            where=str(folder),
            hint="`edgedistill label PROJECT` or `edgedistill cache import PROJECT FILE.jsonl` creates it.",
        )
    return folder


@cache_app.command()
def stats(where: Where, as_json: AsJson = False) -> None:
    """Show the number of cached answers by model and address, and the size of the cache.

    A note names each model whose answers report several model versions.

    Example: edgedistill cache stats praise/project.yaml
    """
    from edgedistill.teacher import AnswerCache, describe_model_changes

    terminal = Terminal(as_json=as_json)
    folder = _folder(where)
    with AnswerCache(folder) as cache:
        counts = cache.stats()
    terminal.console.print(f"{counts.entries} answers, {counts.bytes / 1e6:.1f} MB in {folder}")
    for model, count in counts.models.items():
        terminal.say(f"  model {model}: {count}")
    for address, count in counts.addresses.items():
        terminal.say(f"  address {address}: {count}")
    changes = describe_model_changes(counts.model_versions)
    for line in changes:
        terminal.say(line)
    terminal.finish({"folder": str(folder), **asdict(counts), "changed": changes})


@cache_app.command("export")
def export_answers(where: Where, file: Lines, as_json: AsJson = False) -> None:
    """Export all answers to a JSON Lines file, which another machine can import.

    Example: edgedistill cache export praise/project.yaml answers.jsonl
    """
    from edgedistill.teacher import AnswerCache, export_jsonl

    terminal = Terminal(as_json=as_json)
    with AnswerCache(_folder(where)) as cache:
        count = export_jsonl(cache, file)
    terminal.console.print(f"wrote {count} answers to {file}")
    terminal.finish({"file": str(file), "entries": count})


@cache_app.command("import")
def import_answers(where: Where, file: Lines, as_json: AsJson = False) -> None:
    """Add the answers of a JSON Lines file; keys are recomputed, existing answers stay unchanged.

    Example: edgedistill cache import praise/project.yaml answers.jsonl
    """
    from edgedistill.teacher import AnswerCache, import_jsonl

    terminal = Terminal(as_json=as_json)
    with AnswerCache(_folder(where, must_exist=False)) as cache:
        done = import_jsonl(cache, file)
    terminal.console.print(
        f"{done.added} answers added, {done.present} already there, {len(done.invalid)} lines refused"
    )
    for line in done.invalid[:_MAX_SHOWN]:
        terminal.console.print(f"  line {line.line}: {line.fault}")
    terminal.finish(
        {
            "added": done.added,
            "present": done.present,
            "refused": [{"line": line.line, "fault": line.fault} for line in done.invalid],
        }
    )
    if done.invalid:
        raise DataError(
            f"{len(done.invalid)} lines are not valid answers; the others are imported",
            where=f"{file}, line {done.invalid[0].line}",
            hint="Export the file again from its original cache.",
        )


@cache_app.command()
def verify(
    where: Where,
    repair: Annotated[
        bool, typer.Option("--repair", help="Drop damaged answers; they are then requested again.")
    ] = False,
    mend: Annotated[bool, typer.Option("--mend", hidden=True)] = False,
    as_json: AsJson = False,
) -> None:
    """Check every answer and its key.

    Example: edgedistill cache verify praise/project.yaml --repair
    """
    from edgedistill.teacher import AnswerCache, repair_database

    if mend:
        sys.stderr.write("edgedistill: --mend is deprecated; use --repair\n")
        repair = True
    terminal = Terminal(as_json=as_json)
    folder = _folder(where)
    try:
        with AnswerCache(folder) as cache:
            result = cache.verify(drop_damaged=repair)
    except CacheDamaged:
        if not repair:
            raise
        repaired = repair_database(folder)
        terminal.console.print(
            f"{repaired.kept} answers recovered; the others will be requested again. "
            f"The damaged database is {repaired.damaged_file}"
        )
        terminal.finish({"kept": repaired.kept, "damaged_file": str(repaired.damaged_file)})
        return
    terminal.console.print(f"{result.entries} answers are intact, {len(result.damaged)} are damaged")
    for key, fault in result.damaged[:_MAX_SHOWN]:
        terminal.console.print(f"  {key}: {fault}{' (dropped)' if repair else ''}")
    terminal.finish(
        {
            "sound": result.entries,
            "damaged": [{"key": key, "fault": fault} for key, fault in result.damaged],
            "dropped": repair,
        }
    )
    if result.damaged and not repair:
        raise CacheDamaged(
            f"{len(result.damaged)} answers are damaged",
            where=str(folder),
            hint="`edgedistill cache verify PROJECT --repair` drops them; they are then requested again.",
        )
