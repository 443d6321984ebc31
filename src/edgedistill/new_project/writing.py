"""Writes a project for a table as people have it: the project file names the columns, and the table stays as it is."""

import json
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from edgedistill.data.reading import Records, read_records
from edgedistill.data.tables import is_empty_row
from edgedistill.errors import ArgumentError, DataError, EdgeDistillError, ProjectFileError
from edgedistill.new_project.label_studio_rows import CODER, label_studio_table, one_row_per_task
from edgedistill.new_project.proposal import Proposal, find_rows, guess_header_row, preview_rows, propose
from edgedistill.project.data import COLUMN_KEYS
from edgedistill.project.reading import read_project
from edgedistill.project.template import PROJECT, require_new_folder
from edgedistill_serve.grading.detected_table import DetectedTable, first_rows, read_detected, table_sheets
from edgedistill_serve.grading.header_rows import HEADER_FIRST, HeaderRows
from edgedistill_serve.grading.sources import Reading
from edgedistill_serve.grading.table_reader import TableRow
from edgedistill_serve.grading.table_writer import table_writer
from edgedistill_serve.task.html_text import html_to_text
from edgedistill_serve.task.task import INPUTS, Kind

HUMAN = "human.csv"
_JSON = (".json",)
_PREVIEW_ROWS = 5
_PLACEHOLDERS = ("first_label", "second_label")


@dataclass(frozen=True, slots=True)
class NewProject:
    """A project that was written for a table.

    Attributes:
        file: The project file.
        table: The data file that it reads.
        proposal: What the columns are for.
        notes: What was assumed, a sentence each.
        preview: The first five rows, by key.
        records: The rows as the project reads them; None if it cannot be run yet.
        problem: Why it cannot be run yet; empty if it can.
        header: Where the header of the table is.
    """

    file: Path
    table: Path
    proposal: Proposal
    notes: tuple[str, ...]
    preview: tuple[Mapping[str, str], ...]
    records: Records | None
    problem: str = ""
    header: HeaderRows = HEADER_FIRST

    @property
    def bundle(self) -> Path:
        """Where `edgedistill run` writes the bundle."""
        return self.file.parent / "runs" / self.file.parent.name / "bundle"


@dataclass(frozen=True, slots=True)
class NewProjectOptions:
    """What a person states about a table.

    Attributes:
        columns: By key, such as ``response``, the name of its column.
        header: Where the header is; None to find it.
        kind: Of the task; None to find it by the labels.
        html: Whether to remove HTML; None to remove it if there is any.
        uncoded: Whether no column has codes.
        sheet: Of an xlsx file; None for the one with the most responses, one with codes first.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    header: HeaderRows | None = None
    kind: Kind | None = None
    html: bool | None = None
    uncoded: bool = False
    sheet: str | None = None


def project_from_table(table: Path, folder: Path | None, options: NewProjectOptions) -> NewProject:
    """Write a project folder for a table.

    The project file refers to the table, which stays where it is. A table without codes, and an export of Label Studio
    with a row per annotation, are written to `human.csv` in the folder instead, as codes are written there.

    Args:
        table: A CSV, TSV, JSONL, Parquet or xlsx file, or a JSON export of Label Studio.
        folder: The folder to create; None: one with the name of the table, in the working folder.
        options: What is stated about the table; the rest is found, and listed in the notes.

    Raises:
        ArgumentError: An option cannot be used.
        DataError: The table cannot be read, or no column looks like responses; the message has the fix.
        ProjectFileError: The folder exists and is not empty, or cannot be written.
    """
    if unknown := [key for key in options.columns if key not in COLUMN_KEYS]:
        raise ArgumentError(f"{unknown[0]!r} is not known", where="columns", hint=f"Use {', '.join(COLUMN_KEYS)}.")
    folder = Path(_project_name(table)) if folder is None else folder
    require_new_folder(folder)
    read, header, converted, notes = _read(table, options)
    proposal = propose(
        read,
        {} if converted else options.columns,
        kind=options.kind,
        uncoded=options.uncoded,
        coders=[name for name in read.columns if converted and name.startswith(CODER)],
    )
    if options.html is not None:
        proposal = replace(proposal, html_rows=proposal.html_rows if options.html else 0)
    uncoded = proposal.labels is None
    if proposal.html_rows:
        notes.append(
            f"{proposal.html_rows} responses have HTML, such as <p> or &nbsp;, which is removed when they are read; "
            "--keep-html leaves it"
        )
    if proposal.labels is not None:
        without = sum(
            not is_empty_row(row) and not row.values.get(proposal.columns["label"], "").strip() for row in read.rows
        )
        if without:
            notes.append(f"{without} of {len(read.rows)} rows have no code: {_WITHOUT_CODE}")
    human = folder / HUMAN if uncoded or converted else table
    text = _project_text(folder.name, Path(os.path.relpath(human, folder)), proposal, header, rewritten=human != table)
    _write(folder, text, (read, proposal) if human != table else None)
    file = folder / "project.yaml"
    records, problem = _try(file, uncoded=uncoded)
    preview = tuple(islice(preview_rows(read, proposal), _PREVIEW_ROWS))
    return NewProject(file, human, proposal, (*notes, *proposal.notes), preview, records, problem, header)


_WITHOUT_CODE = "without a teacher they are not used; with one, name the table in data.unlabelled, too"


def _read(table: Path, options: NewProjectOptions) -> tuple[DetectedTable, HeaderRows, bool, list[str]]:
    """Return the table, where its header is, whether its rows are others than those of the file, and notes."""
    if table.suffix.lower() in _JSON:
        read = label_studio_table(table, options.columns.get("label"))
        return read, HEADER_FIRST, True, list(read.notes)
    sheet, notes = _find_sheet(table, options)
    header = _find_header(table, options, sheet)
    if options.header is None and header.header_row > 1:
        notes.append(f"the names of the columns are in row {header.header_row}; what is above is not read")
    read = read_detected(table, Reading(tuple(options.columns.values()), header=header))
    header = replace(header, first_row=header.first_row or read.first_row)
    is_label_studio = {"annotation_id", "annotator", "lead_time"} <= set(read.columns)
    ids = [row.values.get("id", "") for row in read.rows]
    if is_label_studio and len(set(ids)) < len(ids):
        read = one_row_per_task(read, options.columns.get("label"))
        return read, header, True, [*notes, *read.notes]
    return read, header, False, [*notes, *read.notes]


def _find_sheet(table: Path, options: NewProjectOptions) -> tuple[str | None, list[str]]:
    """Return the sheet of a workbook with several ones that has the most responses, and a note on the others."""
    sheets = [] if options.sheet else table_sheets(table)
    if len(sheets) < 2:
        return options.sheet, []
    counts: dict[str, tuple[bool, int]] = {}
    columns: dict[str, tuple[str, ...]] = {}
    for sheet in sheets:
        try:
            read = read_detected(table, Reading((), header=_find_header(table, options, sheet)))
        except DataError:  # an empty sheet
            continue
        counts[sheet], columns[sheet] = find_rows(read, options.columns, uncoded=options.uncoded), read.columns
    best = max(counts, key=lambda sheet: (counts[sheet][1] > 0, counts[sheet]), default=sheets[0])
    others = [f"{sheet!r} ({_rows(counts.get(sheet, (False, 0))[1])})" for sheet in sheets if sheet != best]
    same = [sheet for sheet in columns if sheet != best and columns[sheet] == columns[best] and counts[sheet][1]]
    note = (
        f"{table.name}: the sheet {best!r} ({_rows(counts.get(best, (False, 0))[1])}) is read, not {', '.join(others)}"
    )
    if same:
        note += f"; {', '.join(map(repr, same))} {_HAVE[len(same) > 1]} the same columns: copy all rows into one sheet"
    return best, [f"{note}; --sheet takes another"]


_HAVE = ("has", "have")


def _rows(responses: int) -> str:
    return f"{responses or 'no'} {'response' if responses == 1 else 'responses'}"


def _find_header(table: Path, options: NewProjectOptions, sheet: str | None) -> HeaderRows:
    if options.header is not None:
        return replace(options.header, sheet=sheet)
    return HeaderRows(guess_header_row(first_rows(table, Reading((), header=HeaderRows(sheet=sheet)))), sheet=sheet)


def _try(file: Path, *, uncoded: bool) -> tuple[Records | None, str]:
    """Read the new project's rows as `run` does; return them, or why it cannot."""
    if uncoded:
        return None, "no row is coded yet"
    try:
        return read_records(read_project(file)), ""
    except EdgeDistillError as error:
        return None, str(error)


def _project_name(table: Path) -> str:
    """Return a valid project name made of a file's name."""
    plain = unicodedata.normalize("NFKD", table.stem).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:60]
    return name or "project"


def _write(folder: Path, text: str, converted: tuple[DetectedTable, Proposal] | None) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "project.yaml").open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise ProjectFileError(f"cannot be written ({error.strerror})", where=str(folder)) from None
    if converted is not None:
        try:
            _write_human(folder / HUMAN, *converted)
        except DataError:
            with suppress(OSError):
                (folder / "project.yaml").unlink()
            raise


def _write_human(path: Path, table: DetectedTable, proposal: Proposal) -> None:
    """Write the rows with the columns of the keys, which need no mapping."""
    others = [name for name in (*proposal.coders, *filter(None, [proposal.group_by])) if name not in COLUMN_KEYS]
    others = [name for name in others if name != proposal.columns.get("label")]
    header = ["id", *others, *proposal.inputs, "label"]
    with table_writer(path, dict.fromkeys(header), {}, overwrite=False) as write:
        for number, row in enumerate(table.rows, start=2):
            values = {key: row.values.get(proposal.columns.get(key, ""), "") for key in header}
            values |= {name: row.values.get(name, "") for name in others}
            if proposal.row_ids:
                values["id"] = f"{Path(table.name).stem}:{row.row}"
            if proposal.html_rows:
                values |= {key: html_to_text(values[key]) for key in proposal.inputs}
            write(TableRow(number, values, values), {})


def _project_text(name: str, human: Path, proposal: Proposal, header: HeaderRows, *, rewritten: bool) -> str:
    """Return the text of a project file: what was found, then the other settings of the template."""
    tail = PROJECT[PROJECT.index("# teacher:") :].format(name=name)
    tail = tail.replace("  coders: []  ", f"  coders: {_flow(proposal.coders)}  ") if proposal.coders else tail
    return "\n".join(
        [*_task_lines(name, proposal), *_data_lines(human, proposal, header, rewritten=rewritten), "", tail]
    )


def _task_lines(name: str, proposal: Proposal) -> list[str]:
    asked = f"was asked: {_one_line(proposal.question)}" if proposal.question else "was asked a question."
    answer = [f"A right answer is: {_one_line(proposal.reference)}"] if proposal.reference else []
    instructions = " ".join([f"A learner {asked}", *answer, "Code what the learner's answer shows."])
    counts = proposal.labels.counts if proposal.labels else dict.fromkeys(_PLACEHOLDERS)
    kind = proposal.labels.kind if proposal.labels else "nominal"
    width = max(len(_quoted(label)) for label in counts)
    return [
        f"# An EdgeDistill project. Run it with: edgedistill run {name}/project.yaml",
        "# Paths are relative to this file. Settings show the defaults unless a comment says otherwise; commented ones",
        "# are off. The definitions of labels are what an LLM reads as its codebook: write them before you use one.",
        f"name: {name}",
        "",
        "task:",
        _setting(f"kind: {kind}", "nominal; ordinal: labels from low to high; multilabel: any number of labels"),
        f"  instructions: {_quoted(instructions)}",
        "  labels:" if proposal.labels else _setting("labels:", "no column has codes: name the labels, then code"),
        *(
            f'    - {{name: {_quoted(label) + ",":<{width + 1}} definition: ""}}'
            f"{'' if count is None else f'   # {count} rows'}"
            for label, count in counts.items()
        ),
        f"  inputs: {_flow(proposal.inputs)}",
        _setting("redact: false", 'or true, or {ids: ["S[0-9]{6}"]}: replaces e-mails, phones, URLs and these ids'),
        "",
    ]


def _data_lines(human: Path, proposal: Proposal, header: HeaderRows, *, rewritten: bool) -> list[str]:
    table = _quoted(human.as_posix())
    lines = ["data:", f"  human: {table}"]
    if rewritten:
        lines.append(_setting("# unlabelled: responses.csv", "columns id, response; the teacher codes these"))
    else:
        lines += _reading_lines(proposal, header)
        lines.append(_setting(f"# unlabelled: {table}", "the rows without a code; the teacher codes these"))
    if proposal.group_by:
        lines.append(_setting(f"group_by: {_quoted(proposal.group_by)}", "no learner is in two splits"))
    return [
        *lines,
        _setting("# reviewed: reviewed.csv", "codes from `edgedistill review merge`: train or validation rows"),
        "  split: {train: 0.6, validation: 0.2, test: 0.2, seed: 0}",
        _setting("max_characters: 10000", "longer responses are set aside"),
    ]


def _reading_lines(proposal: Proposal, header: HeaderRows) -> list[str]:
    """Return the settings by which the table is read as it is."""
    named = {key: column for key, column in proposal.columns.items() if key != column}
    lines = (
        [_setting("columns:", "as in the file; the end of a name may be left out: 2. Explain\u2026")] if named else []
    )
    lines += [f"    {key}: {_quoted(column)}" for key, column in named.items()]
    settings = (
        (proposal.row_ids, "ids: row_numbers", "add new rows at the end of the table only: ids are row numbers"),
        (proposal.html_rows, "html: remove", "<p>, &nbsp; and the like; grade such files with --html"),
        (header.header_row > 1, f"header_row: {header.header_row}", "the row with the names of the columns"),
        (header.first_row, f"first_row: {header.first_row}", "the first row of responses"),
        (header.sheet, f"sheet: {_quoted(header.sheet or '')}", "the other sheets are not read"),
        (proposal.folds_labels, "label_spelling: folded", "case, spaces, NFC and NFD, and 1.0 beside 1 are one label"),
    )
    return lines + [_setting(setting, comment) for wanted, setting, comment in settings if wanted]


def _setting(setting: str, comment: str) -> str:
    return f"  {setting:<29} # {comment}"


def _flow(names: Sequence[str]) -> str:
    return f"[{', '.join(name if name in INPUTS else _quoted(name) for name in names)}]"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _quoted(text: str) -> str:
    """Return a text as a double-quoted scalar of YAML, which JSON is; characters without ink are escaped."""
    return "".join(
        character if character == " " or unicodedata.category(character)[0] not in "CZ" else _escaped(character)
        for character in json.dumps(text, ensure_ascii=False)
    )


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # JSON has no escape for the latter, YAML does
