"""Coding sheets: responses leave for people to code, and their codes come back as training rows.

A sheet has the columns id, the one that ``group_by`` names, the task's inputs, with suggestions what the student says,
and an empty `human_code`. Spreadsheets run a cell that begins with ``=``, so texts that begin as a formula does get an
apostrophe before them, which is taken away again when the sheet comes back.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedistill.data import Records, read_responses
from edgedistill.data.tables import normalize_text
from edgedistill.data.types import Response, canonical_code
from edgedistill.errors import DataError, ProjectFileError, RunError
from edgedistill.project.schema import Project
from edgedistill_serve import Bundle, Scorer
from edgedistill_serve.grading.table_reader import Row, columns, read_rows
from edgedistill_serve.grading.table_writer import table_writer
from edgedistill_serve.scoring.score import Score
from edgedistill_serve.task.task import Task

CODE_COLUMN = "human_code"
SUGGESTION_COLUMNS = ("suggested_label", "probability", "reason")

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


@dataclass(frozen=True, slots=True)
class HumanCode:
    """A code that a person gave at review."""

    response: Response
    label: str


@dataclass(frozen=True, slots=True)
class SheetFault:
    """A row of a sheet that cannot be merged, and why."""

    row: int
    id: str
    fault: str


@dataclass(frozen=True, slots=True)
class ParsedSheet:
    """What a sheet brings: every row of it is in one of the four.

    Attributes:
        codes: New codes.
        known: Ids that were merged before with the same code.
        uncoded: Ids whose code is missing.
        faults: Rows that cannot be merged.
    """

    codes: tuple[HumanCode, ...]
    known: tuple[str, ...]
    uncoded: tuple[str, ...]
    faults: tuple[SheetFault, ...]


def build_sheet(
    rows: Sequence[tuple[Response, Score]], task: Task, *, group_by: str | None = None, suggestions: bool = False
) -> list[list[str]]:
    """Return the lines of a coding sheet, the header first, rows in the order given.

    Args:
        rows: What is to be coded, with what the student says of it.
        task: Names the inputs.
        group_by: The column that groups stand in, or none.
        suggestions: Whether the student's label, its probability and the reason for review are shown. People who see
            a suggestion lean towards it, so that their codes say less about the student.
    """
    groups = [group_by] if group_by else []
    lines = [["id", *groups, *task.inputs, *(SUGGESTION_COLUMNS if suggestions else ()), CODE_COLUMN]]
    for response, score in rows:
        said = (score.label, f"{score.probability:.3f}", score.reason or "") if suggestions else ()
        texts = [response.id, *([response.group or ""] if group_by else []), *response.inputs.values(), *said]
        lines.append([*map(_guarded, texts), ""])
    return lines


def read_sheet(
    name: str,
    rows: Iterable[Row],
    known: Mapping[str, Response],
    coded: Mapping[str, str],
    task: Task,
) -> ParsedSheet:
    """Read the codes of a sheet that came back.

    Args:
        name: Of the file, for messages.
        rows: Its rows.
        known: By id the responses that could be on a sheet.
        coded: By id the human codes that there are already.
        task: Its labels are the only codes allowed.

    Raises:
        DataError: The sheet has no rows, or lacks the column ``id`` or ``human_code``.
    """
    codes: list[HumanCode] = []
    before: list[str] = []
    uncoded: list[str] = []
    faults: list[SheetFault] = []
    places: dict[str, int] = {}
    for row in rows:
        _require(name, row)
        ident, label = _plain(row.values["id"].strip()), _plain(row.values[CODE_COLUMN].strip())
        first = places.setdefault(ident, row.row)
        if fault := f"the id stands in row {first} already" if first != row.row else _fault(row, ident, known, coded):
            faults.append(SheetFault(row.row, ident, fault))
        elif not label:
            uncoded.append(ident)
        elif told := _no_code(label, task):
            faults.append(SheetFault(row.row, ident, told))
        elif ident not in coded:
            codes.append(HumanCode(known[ident], canonical_code(label, task)))
        elif coded[ident] == canonical_code(label, task):
            before.append(ident)
        else:
            told = f"the human code {coded[ident]!r} is there already, and the sheet says {label!r}"
            faults.append(SheetFault(row.row, ident, told))
    if not places:
        raise DataError("holds no rows", where=name)
    return ParsedSheet(tuple(codes), tuple(before), tuple(uncoded), tuple(faults))


def _fault(row: Row, ident: str, known: Mapping[str, Response], coded: Mapping[str, str]) -> str:
    if ident not in known:
        there = "it is coded in the human file" if ident in coded else "no response that can be reviewed has it"
        return f"unknown id: {there}" if ident else "the id is empty"
    for name, text in known[ident].inputs.items():
        if name in row.values and normalize_text(_plain(row.values[name])) != normalize_text(text):
            return f"the {name} is not the one that this id has"
    return ""


def _no_code(label: str, task: Task) -> str:
    """Why a text is no code of the task; empty where it is one."""
    try:
        canonical_code(label, task)
    except DataError as error:
        if task.kind == "multilabel":
            return f"{label[:60]!r} is no code: {error.what}; labels are {', '.join(task.names)}"
        return f"unknown label {label[:60]!r}; labels are {', '.join(task.names)}"
    return ""


def _require(name: str, row: Row) -> None:
    for column in ("id", CODE_COLUMN):
        if column not in row.values:
            raise DataError(
                f"there is no column {column!r}; its columns are {', '.join(row.values)}",
                where=f"{name}, row {row.row}",
                hint="`edgedistill review sheet` writes a sheet; code it without changing its columns.",
            )


def _guarded(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


@dataclass(frozen=True, slots=True)
class SheetSummary:
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
class MergeSummary:
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
) -> SheetSummary:
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
        raise DataError("is there already", where=str(out), hint="Give the sheet another name: it may hold codes.")
    candidates, set_aside = _candidates(project, records, responses)
    scored = list(zip(candidates, _scorer(project).score([dict(row.inputs) for row in candidates]), strict=True))
    to_people = [(row, score) for row, score in scored if score.decision == "review"]
    if not to_people:
        raise DataError(
            f"the bundle's rule sends none of {len(scored)} responses to a person",
            where=str(project.path),
            hint="Give the section review an aim, then run evaluate and export again."
            if project.review is None
            else "There is nothing to code.",
        )
    lines = build_sheet(to_people, project.task.task, group_by=project.data.group_by, suggestions=suggestions)
    _write(out, lines, overwrite=False)
    return SheetSummary(
        len(scored), len(scored) - len(to_people), dict(Counter(str(score.reason) for _, score in to_people)), set_aside
    )


def read_codes(project: Project, records: Records, coded: Path, *, responses: Path | None = None) -> ParsedSheet:
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


def merge_codes(project: Project, merging: ParsedSheet) -> MergeSummary:
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
    return MergeSummary(len(merging.codes), len(merging.known), merging.uncoded, file)


def _reviewed(project: Project) -> Path:
    if project.data.reviewed is None:
        raise ProjectFileError(
            "the key data.reviewed is missing, which names the file that reviewed codes go to",
            where=str(project.path),
            hint="Add `reviewed: reviewed.csv` to the section data.",
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
            hint="Name a file of them: --responses FILE, or data.unlabelled in the project file.",
        )
    name = project.data.unlabelled.name
    return records.unlabelled, dict(Counter(row.reason for row in records.set_aside if row.file == name))


def _scorer(project: Project) -> Scorer:
    folder = project.run_folder / "bundle"
    if not folder.is_dir():
        raise RunError("there is no bundle yet", where=str(folder), hint="`edgedistill run PROJECT` makes it.")
    bundle = Bundle.load(folder)
    if bundle.task != project.task.task:
        raise RunError(
            "the bundle was made with another codebook",
            where=str(folder),
            hint="`edgedistill run PROJECT` makes it anew.",
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
