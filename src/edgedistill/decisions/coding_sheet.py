"""Coding sheets: export responses for human coding, and import the codes as train or validation rows.

The columns of a sheet are id, the column of ``group_by``, the inputs of the task, optionally the student's suggestions
or the row's inclusion probability, and an empty `human_code`. Texts that look like a formula are escaped by
`table_writer`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgedistill.data import Records, read_responses
from edgedistill.data.given_tables import AS_IT_IS, ReadingOptions, read_given_table
from edgedistill.data.reading import read_all_responses
from edgedistill.data.twins import same_text
from edgedistill.data.types import CODE_COLUMN, Response, canonical_code
from edgedistill.decisions.draws_log import (
    open_rows,
    read_draws,
    read_log,
    require_codebook,
    require_draws_that_count,
    reviewed_probabilities,
)
from edgedistill.errors import DataError, ProjectFileError, RunError
from edgedistill.project.schema import Project
from edgedistill_serve import Bundle, Scorer
from edgedistill_serve.grading.table_reader import TableRow, read_columns, read_rows
from edgedistill_serve.grading.table_writer import table_writer
from edgedistill_serve.scoring.score import Score
from edgedistill_serve.task.task import Task, quote_columns, quote_label

PROBABILITY_COLUMN = "inclusion_probability"
SUGGESTION_COLUMNS = ("suggested_label", "probability", "reason")


@dataclass(frozen=True, slots=True)
class HumanCode:
    """A human code from a sheet, with the row's inclusion probability where the sheet has one."""

    response: Response
    label: str
    inclusion_probability: float | None = None


@dataclass(frozen=True, slots=True)
class SheetFault:
    """A row of a sheet that cannot be imported, and the reason; with its code, if the codebook does not have that."""

    row: int
    id: str
    fault: str
    unknown_label: str = ""


@dataclass(frozen=True, slots=True)
class ParsedSheet:
    """The rows of a sheet; each row is in one of the four attributes.

    Attributes:
        codes: New codes.
        known: Ids that already have the same code.
        uncoded: Ids without a code.
        faults: Rows that cannot be imported.
        notes: What was assumed when the sheet was read.
    """

    codes: tuple[HumanCode, ...]
    known: tuple[str, ...]
    uncoded: tuple[str, ...]
    faults: tuple[SheetFault, ...]
    notes: tuple[str, ...] = ()

    @property
    def unknown_labels(self) -> tuple[str, ...]:
        """Codes that are not in the codebook, in the order of the sheet."""
        return tuple(dict.fromkeys(fault.unknown_label for fault in self.faults if fault.unknown_label))


def build_sheet(
    rows: Sequence[tuple[Response, Score]], task: Task, *, group_by: str | None = None, suggestions: bool = False
) -> list[list[str]]:
    """Return the lines of a coding sheet, beginning with the header.

    Args:
        rows: Responses to be coded, with their scores.
        task: Defines the inputs.
        group_by: Name of the group column, or None.
        suggestions: Whether to show the student's label, its probability and the reason for review. Suggestions bias
            coders towards them.
    """

    def suggested(score: Score) -> list[str]:
        return [score.label, f"{score.probability:.3f}", score.reason or ""] if suggestions else []

    return _sheet_lines(
        [(response, suggested(score)) for response, score in rows],
        task,
        group_by,
        SUGGESTION_COLUMNS if suggestions else (),
    )


def build_drawn_sheet(
    rows: Sequence[tuple[Response, float]], task: Task, *, group_by: str | None = None
) -> list[list[str]]:
    """Return the lines of a coding sheet of drawn rows, beginning with the header.

    Args:
        rows: Responses to be coded, with their inclusion probabilities.
        task: Defines the inputs.
        group_by: Name of the group column, or None.
    """
    return _sheet_lines([(each, [repr(p)]) for each, p in rows], task, group_by, (PROBABILITY_COLUMN,))


def _sheet_lines(
    rows: Sequence[tuple[Response, list[str]]], task: Task, group_by: str | None, columns: tuple[str, ...]
) -> list[list[str]]:
    groups = [group_by] if group_by else []
    lines = [["id", *groups, *task.inputs, *columns, CODE_COLUMN]]
    for response, cells in rows:
        texts = [response.id, *([response.group or ""] if group_by else []), *response.inputs.values()]
        lines.append([*texts, *cells, ""])
    return lines


def read_sheet(
    name: str,
    rows: Iterable[TableRow],
    known: Mapping[str, Response],
    coded: Mapping[str, str],
    task: Task,
) -> ParsedSheet:
    """Read the codes of a completed sheet.

    Args:
        name: File name for messages.
        rows: Rows of the sheet.
        known: Responses that may be on a sheet, by id.
        coded: Existing human codes by id.
        task: Defines the allowed labels.

    Raises:
        DataError: The sheet has no rows, or lacks the column ``id`` or ``human_code``.
    """
    codes: list[HumanCode] = []
    unchanged: list[str] = []
    uncoded: list[str] = []
    faults: list[SheetFault] = []
    first_rows: dict[str, int] = {}
    for row in rows:
        _require(name, row)
        ident = _cell(row, "id", lambda text: text in known or text in coded)
        label = _cell(row, CODE_COLUMN, lambda text: not _invalid_code(text, task))
        first = first_rows.setdefault(ident, row.row)
        if fault := f"the id is also in row {first}" if first != row.row else _fault(row, ident, known, coded):
            faults.append(SheetFault(row.row, ident, fault))
        elif not label:
            uncoded.append(ident)
        elif problem := _invalid_code(label, task):
            faults.append(SheetFault(row.row, ident, problem, label))
        elif ident not in coded:
            codes.append(HumanCode(known[ident], canonical_code(label, task), _probability(row)))
        elif coded[ident] == canonical_code(label, task):
            unchanged.append(ident)
        else:
            problem = f"the sheet has the code {label!r}, but the id already has the human code {coded[ident]!r}"
            faults.append(SheetFault(row.row, ident, problem))
    if not first_rows:
        raise DataError("the sheet has no rows", where=name)
    return ParsedSheet(tuple(codes), tuple(unchanged), tuple(uncoded), tuple(faults))


def _probability(row: TableRow) -> float | None:
    """Return the inclusion probability of a row; None if it has none."""
    text = row.values.get(PROBABILITY_COLUMN, "").strip().removeprefix("'")
    return float(text.replace(",", ".")) if text else None  # a spreadsheet may have put a decimal comma


def _invalid_probability(row: TableRow) -> str:
    """Return why a row's inclusion probability cannot be used; empty if it can, or if the row has none."""
    try:
        value = _probability(row)
    except ValueError:
        value = -1.0
    if value is None or 0 < value <= 1:
        return ""
    return f"the {PROBABILITY_COLUMN} {row.values[PROBABILITY_COLUMN]!r} is not a number above 0 and at most 1"


def _fault(row: TableRow, ident: str, known: Mapping[str, Response], coded: Mapping[str, str]) -> str:
    if ident not in known:
        reason = "it is coded in the human file" if ident in coded else "no response for review has it"
        return f"unknown id: {reason}" if ident else "the id is empty"
    for name, text in known[ident].inputs.items():
        if name in row.values and _comparable(row.values[name]) != _comparable(text):
            return f"the {name} differs from the one with this id"
    return _invalid_probability(row)


def _invalid_code(label: str, task: Task) -> str:
    """Return why a text is not a valid code of the task; empty if it is valid."""
    try:
        canonical_code(label, task)
    except DataError as error:
        if task.kind == "multilabel":
            return f"{quote_label(label)} is not a valid code: {error.what}; labels are {', '.join(task.names)}"
        return f"unknown label {quote_label(label)}; labels are {', '.join(task.names)}"
    return ""


def _require(name: str, row: TableRow) -> None:
    for column in ("id", CODE_COLUMN):
        if column not in row.values:
            raise DataError(
                f"there is no column {column!r}; the columns are {quote_columns(row.values)}",
                where=f"{name}, row {row.row}",
                hint="Fill in a sheet from `edgedistill review sheet` without changing its columns.",
            )


def _cell(row: TableRow, column: str, is_known: Callable[[str], bool]) -> str:
    """Return the text of a cell, without a leading apostrophe that is not part of a known text.

    Spreadsheets, and sheets of version 0.1, put one before a text that looks like a formula.
    """
    text = row.values[column].strip()
    bare = text.removeprefix("'").strip()
    return bare if not is_known(text) and is_known(bare) else text


def _comparable(text: str) -> str:
    """Return a text of a sheet as it is compared: without leading apostrophes, see `_cell`."""
    return same_text(text).lstrip("'")


@dataclass(frozen=True, slots=True)
class SheetSummary:
    """Counts of an export.

    Attributes:
        responses: Responses scored.
        accepted: Responses that need no review.
        to_people: Rows of the sheet by reason.
        set_aside: Rows of the file that were not scored, by reason, such as rows that are already coded.
    """

    responses: int
    accepted: int
    to_people: dict[str, int]
    set_aside: dict[str, int]


@dataclass(frozen=True, slots=True)
class MergeSummary:
    """Counts of an import.

    Attributes:
        added: Codes added to the file of reviewed rows.
        known: Codes that it already contained.
        uncoded: Ids without a code.
        file: The file of reviewed rows.
        validation: Number of the added codes that are validation rows; the others are train rows.
        open_rows: By wave of `review next`, drawn rows that have no code yet, for the waves up to the last with one.
    """

    added: int
    known: int
    uncoded: tuple[str, ...]
    file: Path
    validation: int = 0
    open_rows: Mapping[int, int] = field(default_factory=dict)


def require_new(out: Path) -> None:
    """Raise where a sheet is already there: it may contain codes.

    Raises:
        DataError: The file exists.
    """
    if out.exists():
        raise DataError("already exists", where=str(out), hint="Choose another name: the file may contain codes.")


def write_lines(out: Path, lines: Sequence[Sequence[str]]) -> None:
    """Write a sheet, in the table format of its suffix.

    Args:
        out: The file; it must not exist.
        lines: The sheet, beginning with the header.

    Raises:
        DataError: It exists or cannot be written.
    """
    _write(out, lines, overwrite=False)


def candidates(project: Project, records: Records, responses: Path | None) -> tuple[Sequence[Response], dict[str, int]]:
    """Return the uncoded responses that people may code, and the numbers of other rows by reason.

    Args:
        project: The project.
        records: Its rows.
        responses: A file of responses; None for those of the project.

    Raises:
        DataError: There is no file, or it cannot be read.
    """
    path = responses_file(project, responses)
    if responses is not None:
        reading = read_responses(project, path, records.splits)
        return reading.rows, dict(Counter(row.reason for row in reading.set_aside))
    return records.unlabelled, dict(Counter(row.reason for row in records.set_aside if row.file == path.name))


def write_sheet(
    project: Project, records: Records, out: Path, *, responses: Path | None = None, suggestions: bool = False
) -> SheetSummary:
    """Score uncoded responses with the project's bundle, and write those that its rule sends to people.

    Args:
        project: A project with an exported bundle.
        records: Its rows; rows with a human code are not exported.
        out: The sheet to write, in the table format of its suffix; it must not exist.
        responses: A file of responses; None for those of the project.
        suggestions: Whether to show the student's suggestions.

    Raises:
        DataError: No response goes to a person, a file cannot be read or written, or ``out`` exists.
        RunError: There is no bundle, or it was made with another codebook.
        BundleError: The bundle cannot be loaded.
    """
    require_new(out)
    rows, set_aside = candidates(project, records, responses)
    scored = list(zip(rows, _scorer(project).score([dict(row.inputs) for row in rows]), strict=True))
    to_people = [(row, score) for row, score in scored if score.decision == "review"]
    if not to_people:
        raise DataError(
            f"the bundle's rule sends none of {len(scored)} responses to a person",
            where=str(project.path),
            hint="Set an aim in the section review, then run evaluate and export again."
            if project.review is None or project.review.aim in ("least_probability", "none")
            else "There is nothing to code.",
        )
    lines = build_sheet(to_people, project.task.task, group_by=project.data.group_by, suggestions=suggestions)
    write_lines(out, lines)
    return SheetSummary(
        len(scored), len(scored) - len(to_people), dict(Counter(str(score.reason) for _, score in to_people)), set_aside
    )


def read_codes(
    project: Project,
    records: Records,
    coded: Path,
    *,
    responses: Path | None = None,
    reading: ReadingOptions = AS_IT_IS,
    accept_older_codebook: bool = False,
) -> ParsedSheet:
    """Read a completed sheet without importing it.

    Args:
        project: Its project.
        records: Its rows.
        coded: The sheet.
        responses: The file of responses that the sheet was written from; None for those of the project.
        reading: How the sheet is read.
        accept_older_codebook: Read rows that `review next` drew before the codebook was changed.

    Raises:
        DataError: A file cannot be read, or the sheet was drawn for an older codebook.
        RunError: The log of draws is damaged.
    """
    splits = records.splits
    name = _reviewed(project).name
    table = read_given_table(
        coded,
        reading,
        needed=("id", CODE_COLUMN),
        optional=(*project.task.inputs, PROBABILITY_COLUMN),
        codes=(CODE_COLUMN,),
        task=project.task.task,
    ).without_empty_rows()
    rows = table.rows
    log = read_log(project.run_folder)
    draws = log.draws
    drawn = {row.values.get("id", "").strip() for row in rows if row.values.get(PROBABILITY_COLUMN, "").strip()}
    require_draws_that_count(log, drawn, coded.name)
    if not accept_older_codebook:
        require_codebook(project, draws, {row.values.get("id", "").strip() for row in rows}, coded.name)
    known = {row.id: row for row in candidates(project, records, responses)[0]}
    if drawn := {ident for draw in draws for ident in draw.ids}:  # codes of one wave may set rows of another aside
        known |= {
            row.id: row for row in read_all_responses(project, responses_file(project, responses)) if row.id in drawn
        }
    reviewed = [row for rows in (splits.train, splits.validation) for row in rows if row.response.file == name]
    known |= {row.response.id: row.response for row in reviewed}
    codes = {row.response.id: row.label for rows in (splits.train, splits.validation, splits.test) for row in rows}
    sheet = read_sheet(coded.name, rows, known, _codes_in_file(project) | codes, project.task.task)
    return replace(sheet, notes=table.notes)


def merge_codes(project: Project, sheet: ParsedSheet) -> MergeSummary:
    """Append new codes to the file `data.reviewed`, whose rows are train rows, or validation rows if drawn as such.

    Rows that `review next` drew have their effective inclusion probability in the column `inclusion_probability`; those
    of earlier waves change when the codes of a later one arrive (`edgedistill.decisions.sampling`).

    Args:
        project: Its project.
        sheet: A sheet without faults.

    Raises:
        ProjectFileError: The project file has no `data.reviewed`.
        DataError: The sheet has faults, or the file cannot be read or written.
        RunError: The log of draws is damaged.
    """
    if sheet.faults:
        raise DataError(f"{len(sheet.faults)} rows cannot be imported")
    draws = read_draws(project.run_folder)
    validation = {ident for draw in draws for ident in draw.validation_ids}
    file = project.folder / _reviewed(project)
    header, rows = _read_reviewed(file, project)
    for code in sheet.codes:
        ident = code.response.id
        probability = code.inclusion_probability
        values = {"id": ident, **code.response.inputs, "label": code.label}
        values["purpose"] = "validation" if ident in validation else "train"
        values[PROBABILITY_COLUMN] = "" if probability is None else repr(probability)
        if project.data.group_by:
            values[project.data.group_by] = code.response.group or ""
        rows.append(values)
    ids = [row["id"] for row in rows]
    effective = {ident: repr(each) for ident, each in reviewed_probabilities(draws, ids).items()}
    rows = [{**row, PROBABILITY_COLUMN: effective.get(row["id"], row.get(PROBABILITY_COLUMN, ""))} for row in rows]
    if any(row[PROBABILITY_COLUMN] for row in rows):
        header += [name for name in ("purpose", PROBABILITY_COLUMN) if name not in header]
    if sheet.codes:
        _write(file, [header, *([row.get(name, "") for name in header] for row in rows)], overwrite=True)
    return MergeSummary(
        len(sheet.codes),
        len(sheet.known),
        sheet.uncoded,
        file,
        sum(code.response.id in validation for code in sheet.codes),
        open_rows(draws, ids),
    )


def _reviewed(project: Project) -> Path:
    if project.data.reviewed is None:
        raise ProjectFileError(
            "the key data.reviewed is missing; it names the file for reviewed codes",
            where=str(project.path),
            hint="Add `reviewed: reviewed.csv` to the section data.",
        )
    return project.data.reviewed


def _scorer(project: Project) -> Scorer:
    folder = project.run_folder / "bundle"
    if not folder.is_dir():
        raise RunError("there is no bundle", where=str(folder), hint="`edgedistill run PROJECT` exports one.")
    bundle = Bundle.load(folder)
    if bundle.task != project.task.task:
        raise RunError(
            "the bundle was made with another codebook",
            where=str(folder),
            hint="`edgedistill run PROJECT` rebuilds it.",
        )
    return Scorer(bundle)


def _read_reviewed(file: Path, project: Project) -> tuple[list[str], list[dict[str, str]]]:
    """Return header and rows of the file of reviewed codes; only the header if it does not exist."""
    if not file.exists():
        groups = [project.data.group_by] if project.data.group_by else []
        return ["id", *groups, *project.task.inputs, "label"], []
    return list(read_columns(file)), [dict(row.values) for row in read_rows(file)]


def _codes_in_file(project: Project) -> dict[str, str]:
    """Return the codes in the file of reviewed rows, also of rows that are set aside when a project is read."""
    file = project.folder / _reviewed(project)
    rows = read_rows(file) if file.exists() else ()
    return {row.values["id"]: row.values["label"] for row in rows if row.values.get("label")}


def reviewed_ids(project: Project) -> set[str]:
    """Return the ids of rows that have a code in the file `data.reviewed`, if the project has one."""
    return set(_codes_in_file(project)) if project.data.reviewed is not None else set()


def responses_file(project: Project, responses: Path | None) -> Path:
    """Return the file of responses, relative to the project file's folder or absolute.

    Raises:
        DataError: None is given, and the project names none.
    """
    if responses is not None:
        return responses.resolve()
    if project.data.unlabelled is None:
        raise DataError(
            "the project has no uncoded responses",
            where=str(project.path),
            hint="Pass --responses FILE, or set data.unlabelled in the project file.",
        )
    return project.data.unlabelled


def _write(file: Path, lines: Sequence[Sequence[str]], *, overwrite: bool) -> None:
    header, *rows = lines
    with table_writer(file, dict.fromkeys(header), {}, overwrite=overwrite) as write:
        for number, cells in enumerate(rows, start=2):
            values = dict(zip(header, cells, strict=True))
            write(TableRow(number, values, values), {})
