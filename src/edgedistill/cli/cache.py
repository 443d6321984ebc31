"""The commands of `edgedistill cache`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgedistill.cli.terminal import Terminal
from edgedistill.errors import CacheDamaged, DataError, ProjectFileError
from edgedistill.project import read_project

cache_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look after the teacher's cached answers.")

Where = Annotated[Path, typer.Argument(metavar="PROJECT.yaml", help="A project file, or a cache's own folder.")]
Lines = Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="One answer a line.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_SHOWN = 10


def _folder(where: Path, *, must_exist: bool = True) -> Path:
    if where.is_dir():
        folder = where
    else:
        project = read_project(where)
        folders = {project.folder / teacher.cache for teacher in project.panel}
        if not folders:
            raise ProjectFileError("there is no teacher, so there is no cache", where=str(where))
        if len(folders) > 1:
            told = ", ".join(sorted(str(folder) for folder in folders))
            raise ProjectFileError(
                f"its teachers have several caches: {told}", where=str(where), hint="Name one of these folders."
            )
        folder = folders.pop()
    if must_exist and not (folder / "cache.db").is_file():
        raise DataError(
            "there is no cache yet",
            where=str(folder),
            hint="`edgedistill label` or `edgedistill cache import` makes it.",
        )
    return folder


@cache_app.command()
def stats(where: Where, as_json: AsJson = False) -> None:
    """Say how many answers the cache holds, of which models and addresses, and how large it is.

    A model whose answers changed behind the same name, going by what the answers say of themselves, is named.

    Example: edgedistill cache stats praise/project.yaml
    """
    from edgedistill.teacher import AnswerCache, changed

    terminal = Terminal(as_json=as_json)
    folder = _folder(where)
    with AnswerCache(folder) as cache:
        found = cache.stats()
    terminal.console.print(f"{found.entries} answers, {found.bytes / 1e6:.1f} MB in {folder}")
    for model, count in found.models.items():
        terminal.say(f"  model {model}: {count}")
    for address, count in found.addresses.items():
        terminal.say(f"  address {address}: {count}")
    for line in changed(found.voices):
        terminal.say(line)
    terminal.finish({"folder": str(folder), **asdict(found), "changed": changed(found.voices)})


@cache_app.command("export")
def export_answers(where: Where, file: Lines, as_json: AsJson = False) -> None:
    """Write every answer to a JSONL file, which another machine can import.

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
    """Add the answers of a JSONL file; each key is recomputed, and an answer that is there stays.

    Example: edgedistill cache import praise/project.yaml answers.jsonl
    """
    from edgedistill.teacher import AnswerCache, import_jsonl

    terminal = Terminal(as_json=as_json)
    with AnswerCache(_folder(where, must_exist=False)) as cache:
        done = import_jsonl(cache, file)
    terminal.console.print(f"{done.added} answers added, {done.present} were there, {len(done.bad)} lines refused")
    for bad in done.bad[:_SHOWN]:
        terminal.console.print(f"  line {bad.line}: {bad.fault}")
    terminal.finish(
        {
            "added": done.added,
            "present": done.present,
            "refused": [{"line": bad.line, "fault": bad.fault} for bad in done.bad],
        }
    )
    if done.bad:
        raise DataError(
            f"{len(done.bad)} lines are no answers; the others are imported",
            where=f"{file}, line {done.bad[0].line}",
            hint="Export the file again from the cache that it came from.",
        )


@cache_app.command()
def verify(
    where: Where,
    repair: Annotated[bool, typer.Option("--repair", help="Drop what is damaged; it is then asked for again.")] = False,
    mend: Annotated[bool, typer.Option("--mend", hidden=True)] = False,
    as_json: AsJson = False,
) -> None:
    """Read every answer and recompute its key.

    Example: edgedistill cache verify praise/project.yaml --repair
    """
    from edgedistill.teacher import AnswerCache, salvage

    if mend:
        sys.stderr.write("edgedistill: --mend is deprecated; use --repair\n")
        repair = True
    terminal = Terminal(as_json=as_json)
    folder = _folder(where)
    try:
        with AnswerCache(folder) as cache:
            found = cache.verify(drop_damaged=repair)
    except CacheDamaged:
        if not repair:
            raise
        saved = salvage(folder)
        terminal.console.print(
            f"{saved.kept} answers kept; the others will be asked for again. "
            f"The damaged database is {saved.damaged_file}"
        )
        terminal.finish({"kept": saved.kept, "damaged_file": str(saved.damaged_file)})
        return
    terminal.console.print(f"{found.entries} answers are sound, {len(found.damaged)} are damaged")
    for key, fault in found.damaged[:_SHOWN]:
        terminal.console.print(f"  {key}: {fault}{' (dropped)' if repair else ''}")
    terminal.finish(
        {
            "sound": found.entries,
            "damaged": [{"key": key, "fault": fault} for key, fault in found.damaged],
            "dropped": repair,
        }
    )
    if found.damaged and not repair:
        raise CacheDamaged(
            f"{len(found.damaged)} answers are damaged",
            where=str(folder),
            hint="`edgedistill cache verify --repair` drops them; they are then asked for again.",
        )
