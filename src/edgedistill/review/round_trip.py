"""Review: responses that the bundle sends to people leave as a coding sheet, and their codes become train rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedistill.errors import DataError, ProjectFileError, RunError
from edgedistill.project.sections import Project
from edgedistill.records import Records, Response, read_responses
from edgedistill.review.sheet import Merging, read_sheet, sheet
from edgedistill_serve import Bundle, Scorer
from edgedistill_serve.table_writer import table_writer
from edgedistill_serve.tables import Row, columns, read_rows


@dataclass(frozen=True, slots=True)
class SheetWritten:
    """What became of the responses that were looked at.

    Attributes:
        responses: How many were scored.
        accepted: How many need no person.
        to_people: Rows of the sheet, by reason.
        set_aside: Rows of the file that are no candidates, by reason, such as those that are coded already.
    """

    responses: int
    accepted: int
    to_people: dict[str, int]
    set_aside: dict[str, int]


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of a sheet's rows.

    Attributes:
        added: Codes that are new in the file of reviewed rows.
        known: Codes that were there before and say the same.
        uncoded: Ids whose code is missing.
        file: The file of reviewed rows.
    """

    added: int
    known: int
    uncoded: tuple[str, ...]
    file: Path


def write_sheet(
    project: Project, records: Records, out: Path, *, responses: Path | None = None, suggestions: bool = False
) -> SheetWritten:
    """Score uncoded responses with the project's bundle, and write those that its rule sends to people.

    Args:
        project: Its bundle must have been exported.
        records: Its rows; what is human-coded already leaves no more.
        out: The sheet: a table, by its suffix. A file that is there is left as it is.
        responses: A file of responses; None: the project's own.
        suggestions: Whether the sheet shows what the student says.

    Raises:
        DataError: No response goes to a person; a file cannot be used; ``out`` is there already.
        RunError: There is no bundle yet, or it is another codebook's.
        BundleError: The bundle cannot be used.
    """
    if out.exists():
        raise DataError("is there already", where=str(out), mend="Give the sheet another name: it may hold codes.")
    candidates, set_aside = _candidates(project, records, responses)
    scored = list(zip(candidates, _scorer(project).score([dict(row.inputs) for row in candidates]), strict=True))
    to_people = [(row, score) for row, score in scored if score.decision == "review"]
    if not to_people:
        raise DataError(
            f"the bundle's rule sends none of {len(scored)} responses to a person",
            where=str(project.path),
            mend="Give the section review an aim, then run evaluate and export again."
            if project.review is None
            else "There is nothing to code.",
        )
    lines = sheet(to_people, project.task.task, group_by=project.data.group_by, suggestions=suggestions)
    _write(out, lines, overwrite=False)
    return SheetWritten(
        len(scored), len(scored) - len(to_people), dict(Counter(str(score.reason) for _, score in to_people)), set_aside
    )


def read_codes(project: Project, records: Records, coded: Path, *, responses: Path | None = None) -> Merging:
    """Read a sheet that people coded, without merging it.

    Args:
        project: Says what codes there are.
        records: Its rows.
        coded: The sheet.
        responses: The file of responses that the sheet was made from; None: the project's own.

    Raises:
        DataError: A file cannot be used.
    """
    splits = records.splits
    reviewed = {row.response.id: row for row in splits.train if row.response.file == _reviewed(project).name}
    known = {row.id: row for row in _candidates(project, records, responses)[0]}
    known |= {ident: row.response for ident, row in reviewed.items()}
    codes = {row.response.id: row.label for rows in (splits.train, splits.validation, splits.test) for row in rows}
    return read_sheet(coded.name, read_rows(coded), known, codes, project.task.task)


def merge_codes(project: Project, merging: Merging) -> Merged:
    """Append new codes to the file that `data.reviewed` names; its rows are train rows, whatever the splits.

    Args:
        project: Names the file.
        merging: Without faults.

    Raises:
        ProjectFileError: The project file names no such file.
        DataError: The file cannot be read or written.
    """
    if merging.faults:
        raise DataError(f"{len(merging.faults)} rows cannot be merged")
    file = project.folder / _reviewed(project)
    header, rows = _kept(file, project)
    for code in merging.codes:
        values = {"id": code.response.id, **code.response.inputs, "label": code.label}
        if project.data.group_by:
            values[project.data.group_by] = code.response.group or ""
        rows.append([values.get(name, "") for name in header])
    if merging.codes:
        _write(file, [header, *rows], overwrite=True)
    return Merged(len(merging.codes), len(merging.known), merging.uncoded, file)


def _reviewed(project: Project) -> Path:
    if project.data.reviewed is None:
        raise ProjectFileError(
            "the key data.reviewed is missing, which names the file that reviewed codes go to",
            where=str(project.path),
            mend="Add `reviewed: reviewed.csv` to the section data.",
        )
    return project.data.reviewed


def _candidates(project: Project, records: Records, file: Path | None) -> tuple[Sequence[Response], dict[str, int]]:
    """The responses that may go to people, and how many of the file's rows may not."""
    if file is not None:
        reading = read_responses(project, file.resolve(), records.splits)
        return reading.rows, dict(Counter(row.reason for row in reading.set_aside))
    if project.data.unlabelled is None:
        raise DataError(
            "the project has no uncoded responses",
            where=str(project.path),
            mend="Name a file of them: --responses FILE, or data.unlabelled in the project file.",
        )
    name = project.data.unlabelled.name
    return records.unlabelled, dict(Counter(row.reason for row in records.set_aside if row.file == name))


def _scorer(project: Project) -> Scorer:
    folder = project.run_folder / "bundle"
    if not folder.is_dir():
        raise RunError("there is no bundle yet", where=str(folder), mend="`edgedistill run PROJECT` makes it.")
    bundle = Bundle.load(folder)
    if bundle.task != project.task.task:
        raise RunError(
            "the bundle was made with another codebook",
            where=str(folder),
            mend="`edgedistill run PROJECT` makes it anew.",
        )
    return Scorer(bundle)


def _kept(file: Path, project: Project) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of the reviewed codes that there are; of a file to be, its header alone."""
    if not file.exists():
        groups = [project.data.group_by] if project.data.group_by else []
        return ["id", *groups, *project.task.inputs, "label"], []
    header = list(columns(file))
    return header, [[row.values.get(name, "") for name in header] for row in read_rows(file)]


def _write(file: Path, lines: Sequence[Sequence[str]], *, overwrite: bool) -> None:
    header, *rows = lines
    with table_writer(file, dict.fromkeys(header), {}, overwrite=overwrite) as write:
        for number, cells in enumerate(rows, start=2):
            values = dict(zip(header, cells, strict=True))
            write(Row(number, values, values), {})
