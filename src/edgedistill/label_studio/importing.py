"""Codes of Label Studio into the table that was exported: one column per coder, and the label on which all agree.

The table is written by the function that the coding page uses, which changes no other cell, such as
``inclusion_probability``, and keeps the table as it was. A label that an import wrote is known from a log, so that a
later import of another coder, who disagrees, empties it again; labels of people are never changed.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edgedistill.agreement import HumanAgreement, human_agreement
from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.coding.figures import FOLDER, journal_file
from edgedistill.coding.table import CodingTable, write_cells
from edgedistill.data.twins import fold_text
from edgedistill.data.types import CODE_COLUMN
from edgedistill.decisions.coding_sheet import PROBABILITY_COLUMN, SUGGESTION_COLUMNS
from edgedistill.errors import ArgumentError, DataError, RunError
from edgedistill.label_studio.annotations import Annotations, Fault, read_annotations
from edgedistill.label_studio.configuration import CONTROL
from edgedistill.label_studio.tasks import ID_FIELD, label_column, read_coding_table
from edgedistill.project.schema import Project
from edgedistill_serve.bundle.atomic_folder import replace_file
from edgedistill_serve.grading.formula_cells import looks_like_formula
from edgedistill_serve.task.task import INPUTS, list_some, quote_label

_LOG = "label-studio.jsonl"


@dataclass(frozen=True, slots=True)
class ImportedCodes:
    """What an import found and wrote.

    Attributes:
        table: The file that was written.
        coders: By column: number of codes in the export.
        new: Number of codes that the table did not have.
        replaced: Number of codes that replaced another one.
        labels: Number of rows that got a label, because all their coders agree.
        emptied: Number of labels of earlier imports that were emptied, because the coders no longer agree.
        disputed: Ids of the rows whose coders disagree; they have no label before adjudication.
        kept: Ids of rows with a label that differs from the code on which their coders agree; it stays.
        ground_truth: Number of codes that were marked as ground truth.
        tasks: Number of tasks in the export.
        without_code: Number of rows in the export that nobody has coded.
        left_out: Number of annotations that are no codes, by reason.
        skipped: Rows of the export that were not imported, with the reason.
        agreement: Agreement of all coders in the table, with 95 % intervals; None with fewer than two coders.
        version: Name of the copy of the table as it was before; empty if nothing was written.
    """

    table: Path
    coders: Mapping[str, int]
    new: int
    replaced: int
    labels: int
    emptied: int
    disputed: tuple[str, ...]
    kept: tuple[str, ...]
    ground_truth: int
    tasks: int
    without_code: int
    left_out: Mapping[str, int]
    skipped: tuple[Fault, ...]
    agreement: HumanAgreement | None
    version: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings, numbers and None, ready for JSON."""
        skipped = [fault._asdict() for fault in self.skipped]
        return {**asdict(self), "table": str(self.table), "coders": dict(self.coders), "skipped": skipped}


def import_codes(
    project: Project,
    export: Path,
    *,
    sheet: Path | None = None,
    coders: Mapping[str, str] | None = None,
    replace: bool = False,
    skip_faults: bool = False,
    ground_truth: bool = False,
    control: str = CONTROL,
    id_field: str = ID_FIELD,
) -> ImportedCodes:
    """Write the codes of an export into the table that was exported, one column per coder.

    The column ``label`` (``human_code`` in a sheet) of a row is filled where all coders of the row agree; rows on which
    they disagree stay without a label, for adjudication on the coding page.

    Args:
        project: The project.
        export: A JSON or JSON-MIN export of Label Studio.
        sheet: The coding sheet that was exported; None: ``data.human``.
        coders: Names of columns by annotator: an e-mail address or the number of an annotator. Others are named by the
            first part of the address, or ``coder_`` and the number.
        replace: Whether a code in the table may be replaced by another one of the same coder.
        skip_faults: Whether to import the other rows if some cannot be imported.
        ground_truth: Whether a code that was marked as ground truth becomes the label of its row, whatever the others
            say. JSON-MIN has no such mark.
        control: Name of the tag with which people coded.
        id_field: The key of a row's id in a task's data.

    Raises:
        ArgumentError: A name in `coders` belongs to nobody in the export.
        DataError: The export or the table cannot be read, a label is unknown to the codebook, a row cannot be imported,
            a code would be replaced, or a name cannot be the name of a column. Nothing was written.
        RunError: The project is open on the coding page.
    """
    with _lock(project):
        return _import(
            project,
            export,
            read_annotations(export, project.task.task, control=control, id_field=id_field),
            read_coding_table(project, sheet),
            sheet=sheet,
            names=coders or {},
            replace=replace,
            skip_faults=skip_faults,
            ground_truth=ground_truth,
        )


def _import(
    project: Project,
    export: Path,
    annotations: Annotations,
    table: CodingTable,
    *,
    sheet: Path | None,
    names: Mapping[str, str],
    replace: bool,
    skip_faults: bool,
    ground_truth: bool,
) -> ImportedCodes:
    task = project.task.task
    _require_known_labels(annotations, export, task.names)
    faults = [*annotations.faults, *_row_faults(annotations, table)]
    if faults and not skip_faults:
        raise DataError(
            f"{len(faults)} rows cannot be imported: {_listed([f'{each.id!r}: {each.fault}' for each in faults])}; "
            "nothing was imported",
            where=export.name,
            hint="Correct them, or import the other rows with --skip-faults.",
        )
    refused = {fault.id for fault in faults}
    columns = _column_names(annotations, names, project, table)
    codes = {
        columns[annotator]: {ident: code for ident, code in rows.items() if ident not in refused}
        for annotator, rows in annotations.codes.items()
    }
    if not any(codes.values()):
        raise DataError(
            "holds no code of a person",
            where=export.name,
            hint="; ".join(f"{reason}: {number}" for reason, number in annotations.left_out.items())
            or "Nobody has submitted an annotation yet, or the tag has another name: --control NAME.",
        )
    present = {column: table.codes(column, task, {}) for column in _all_coders(project, table, codes)}
    cells = {
        column: {ident: code for ident, code in rows.items() if present[column].get(ident) != code}
        for column, rows in codes.items()
    }
    changed = [(column, ident) for column, rows in cells.items() for ident in rows if ident in present[column]]
    if changed and not replace:
        raise DataError(
            f"{len(changed)} codes differ from those in the table: "
            f"{_listed([f'{ident!r} of {column}' for column, ident in changed])}; nothing was imported",
            where=table.path.name,
            hint="Replace them with --replace (the table as it was is kept), or name the columns with --coder.",
        )
    together = {column: {**present[column], **codes.get(column, {})} for column in present}
    log = journal_file(project, sheet).with_name(_LOG)
    labels = _Labels.of(
        table,
        label_column(table, sheet),
        together,
        ids={ident for rows in codes.values() for ident in rows},
        decided={i: each[0] for i, each in annotations.ground_truth.items() if ground_truth and len(set(each)) == 1},
        earlier=_read_log(log),
    )
    new = sum(map(len, cells.values()))
    cells[label_column(table, sheet)] = labels.cells
    cells = {column: rows for column, rows in cells.items() if rows}
    version = ""
    if cells:
        _append_log(log, export, labels.cells)
        version = write_cells(table, cells, log.parent / "versions")
    coded = {name: rows for name, rows in together.items() if rows}
    return ImportedCodes(
        table=table.path,
        coders={column: len(rows) for column, rows in codes.items()},
        new=new - len(changed),
        replaced=len(changed),
        labels=sum(bool(label) for label in labels.cells.values()),
        emptied=sum(not label for label in labels.cells.values()),
        disputed=labels.disputed,
        kept=labels.kept,
        ground_truth=sum(map(len, annotations.ground_truth.values())),
        tasks=annotations.tasks,
        without_code=annotations.without_code,
        left_out=annotations.left_out,
        skipped=tuple(faults),
        agreement=human_agreement(coded, task, groups=_groups(table)) if len(coded) > 1 else None,
        version=version,
    )


@dataclass(frozen=True, slots=True)
class _Labels:
    """Labels to be written by id (empty ones are removed), rows in dispute, and rows whose label stays."""

    cells: dict[str, str]
    disputed: tuple[str, ...]
    kept: tuple[str, ...]

    @classmethod
    def of(
        cls,
        table: CodingTable,
        column: str,
        codes: Mapping[str, Mapping[str, str]],
        *,
        ids: set[str],
        decided: Mapping[str, str],
        earlier: Mapping[str, str],
    ) -> "_Labels":
        cells, disputed, kept = {}, [], []
        for ident in filter(ids.__contains__, table.responses):
            given = {rows[ident] for rows in codes.values() if ident in rows}
            wanted = decided.get(ident) or (next(iter(given)) if len(given) == 1 else "")
            cell = table.cell(column, ident)
            is_ours = not cell or cell == earlier.get(ident)
            if cell != wanted and is_ours:
                cells[ident] = wanted
            if not wanted and is_ours:
                disputed.append(ident)
            if wanted and cell != wanted and not is_ours:
                kept.append(ident)
        return cls(cells, tuple(disputed), tuple(kept))


def _require_known_labels(annotations: Annotations, export: Path, names: Sequence[str]) -> None:
    if annotations.unknown_labels:
        unknown = [f"{name} ({number} annotations)" for name, number in annotations.unknown_labels.items()]
        raise DataError(
            f"the codebook does not have {_listed(unknown)}; nothing was imported",
            where=export.name,
            hint=f"Its labels are {', '.join(names)}. The rows were coded with another codebook: export the tasks "
            "again, or bring the labels back.",
        )


def _row_faults(annotations: Annotations, table: CodingTable) -> list[Fault]:
    coded = {ident for rows in annotations.codes.values() for ident in rows}
    faults = []
    for ident, texts in annotations.texts.items():
        response = table.responses.get(ident)
        if ident not in coded:
            continue
        if response is None:
            faults.append(Fault(ident, f"{table.path.name} has no such row that can be coded"))
        elif changed := [name for name, text in texts.items() if text != response.inputs.get(name)]:
            faults.append(Fault(ident, f"its {' and '.join(changed)} has changed since"))
    return faults


def _column_names(
    annotations: Annotations, names: Mapping[str, str], project: Project, table: CodingTable
) -> dict[str, str]:
    if unknown := [annotator for annotator in names if annotator not in annotations.codes]:
        raise ArgumentError(
            f"nobody called {_listed(unknown)} has a code in the export",
            hint=f"Annotators: {', '.join(annotations.codes) or 'none'}.",
        )
    columns = {annotator: names.get(annotator) or _default_name(annotator) for annotator in annotations.codes}
    reserved = ["id", "split", "label", CODE_COLUMN, PROBABILITY_COLUMN, *SUGGESTION_COLUMNS, *INPUTS]
    reserved += [*project.evaluation.subgroups, *filter(None, [project.data.group_by])]
    taken = {fold_text(name): name for name in reserved}
    taken |= {fold_text(name): name for name in table.columns if name not in columns.values()}
    for annotator, column in columns.items():
        if not column.strip() or not column.isprintable() or looks_like_formula(column):
            raise DataError(f"{quote_label(column)} cannot be the name of a column", hint="Use letters and digits.")
        if other := taken.get(fold_text(column)):
            raise DataError(
                f"the codes of {annotator} cannot be in a column {column!r}: there is already {other!r}",
                where=table.path.name,
                hint=f"Name the column: --coder {annotator}=NAME.",
            )
        taken[fold_text(column)] = column
    return columns


def _default_name(annotator: str) -> str:
    """Return the first part of an e-mail address, or ``coder_`` and the number."""
    name = annotator.partition("@")[0]
    return f"coder_{name}" if name.isdigit() else name


def _all_coders(project: Project, table: CodingTable, codes: Mapping[str, object]) -> list[str]:
    declared = [name for name in project.evaluation.coders if name in table.columns]
    return list(dict.fromkeys([*declared, *codes]))


def _groups(table: CodingTable) -> dict[str, str] | None:
    groups = bootstrap_groups([response.group for response in table.responses.values()])
    return dict(zip(table.responses, groups, strict=True)) if groups else None


def _listed(texts: Sequence[str]) -> str:
    return list_some(texts, separator="; ")


@contextmanager
def _lock(project: Project) -> Iterator[None]:
    """Keep the coding page out; it holds the same lock."""
    lock = FileLock(project.folder / FOLDER / ".lock")
    try:
        (project.folder / FOLDER).mkdir(exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(
            "the project is open on the coding page",
            where=str(project.path),
            hint="End `edgedistill code` first; all codes are saved.",
        ) from None
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror})", where=str(project.folder / FOLDER)) from None
    try:
        yield
    finally:
        lock.release()


def _read_log(log: Path) -> dict[str, str]:
    """Return the labels that imports have written, by id."""
    try:
        lines = log.read_bytes().splitlines()  # a text would also be split at U+2028
        return {ident: label for line in lines for ident, label in json.loads(line)["labels"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"the log of imports cannot be read ({type(error).__name__})",
            where=str(log),
            hint="Restore it, or move it away: labels of earlier imports then count as labels of people.",
        ) from None


def _append_log(log: Path, export: Path, labels: Mapping[str, str]) -> None:
    entry = {
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "export": export.name,
        "sha256": hashlib.sha256(export.read_bytes()).hexdigest(),
        "labels": labels,
    }
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        before = log.read_bytes() if log.exists() else b""
        line = f"{json.dumps(entry, ensure_ascii=False)}\n"
        replace_file(log, before + line.encode())  # a full disk must not leave half a line
    except OSError as error:
        raise DataError(
            f"the log of imports cannot be written ({error.strerror}); nothing was imported", where=str(log)
        ) from None
