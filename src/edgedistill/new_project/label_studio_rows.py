"""An export of Label Studio as one row for each task: JSON, JSON-MIN, or CSV with a row for each annotation.

The label of a row is the code on which all of its annotators agree; each annotator has a column of codes.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill.errors import DataError
from edgedistill.label_studio.annotations import annotator_name, answers_of, list_in, records_of, update_seconds
from edgedistill_serve.grading.detected_table import DetectedTable
from edgedistill_serve.grading.text_rows import TableRow
from edgedistill_serve.task.task import LABEL_SEPARATOR, NO_LABEL

CODER = "code of "
"""How the names of the columns of annotators begin."""
_OWN = frozenset(
    ["annotator", "annotation_id", "created_at", "updated_at", "lead_time", "id", "predictions", "agreement"]
)


@dataclass(frozen=True, slots=True)
class _Annotation:
    """What an annotator answered to a task, by control."""

    task: str
    annotator: str
    answers: Mapping[str, tuple[str, ...]]
    updated: float


def label_studio_table(path: Path, control: str | None = None) -> DetectedTable:
    """Read a JSON or JSON-MIN export as a table: the data of the tasks, ``id``, ``label`` and a column per annotator.

    Args:
        path: The file.
        control: The name of the tag with the codes; None to find it.

    Raises:
        DataError: The file is not such an export, or it has several tags with codes.
    """
    texts: dict[str, dict[str, str]] = {}
    found: list[_Annotation] = []
    for number, record in enumerate(records_of(path), start=1):
        whole = any(key in record for key in ("annotations", "completions", "data"))
        ident = str(record.get("id", number))
        read = _of_task(record, ident) if whole else _of_annotation(record, ident)
        texts.setdefault(ident, {}).update(read[0])
        found += read[1]
    return _as_table(path.name, texts, found, control=control)


def one_row_per_task(table: DetectedTable, control: str | None = None) -> DetectedTable:
    """Return a CSV export with one row per task instead of one per annotation; see `label_studio_table`."""
    texts: dict[str, dict[str, str]] = {}
    found: list[_Annotation] = []
    for row in table.rows:
        record: dict[str, Any] = {}
        for name, cell in row.values.items():
            try:
                record[name] = json.loads(cell) if cell.startswith(("{", "[")) else cell
            except (ValueError, RecursionError):
                record[name] = cell
        ident = str(record.get("id", row.row))
        data, annotations = _of_annotation(record, ident)
        texts.setdefault(ident, {}).update(data)
        found += annotations
    return _as_table(table.name, texts, found, table.notes, control=control)


def _of_task(record: Mapping[str, Any], ident: str) -> tuple[dict[str, str], list[_Annotation]]:
    data = record.get("data")
    texts = {key: value for key, value in data.items() if isinstance(value, str)} if isinstance(data, dict) else {}
    found = []
    for each in list_in(record, "annotations") or list_in(record, "completions"):
        if not isinstance(each, dict) or each.get("was_cancelled") or each.get("skipped"):
            continue
        answers: dict[str, tuple[str, ...]] = {}
        for result in list_in(each, "result"):
            if isinstance(result, dict):
                control = str(result.get("from_name"))
                answers[control] = (*answers.get(control, ()), *_codes(result.get("value")))
        name = annotator_name(each.get("completed_by"))
        found.append(_Annotation(ident, name, answers, update_seconds(each.get("updated_at"))))
    return texts, found


def _of_annotation(record: Mapping[str, Any], ident: str) -> tuple[dict[str, str], list[_Annotation]]:
    """Read a record of JSON-MIN or a row of CSV, in which data and controls stand side by side."""
    others = {key: value for key, value in record.items() if key not in _OWN}
    texts = {key: value for key, value in others.items() if isinstance(value, str)}
    if not str(record.get("annotation_id") or record.get("annotator") or ""):
        return texts, []
    answers = {key: tuple(_codes(value)) for key, value in others.items()}
    name = annotator_name(record.get("annotator"))
    return texts, [_Annotation(ident, name, answers, update_seconds(record.get("updated_at")))]


def _codes(value: object) -> Iterator[str]:
    for kind, answer in answers_of(value):
        last = answer[-1] if kind == "taxonomy" and isinstance(answer, list) and answer else answer
        if str(last).strip():
            yield str(last).strip()


def _as_table(
    name: str,
    texts: Mapping[str, Mapping[str, str]],
    found: Iterable[_Annotation],
    notes: tuple[str, ...] = (),
    *,
    control: str | None,
) -> DetectedTable:
    annotations = sorted(found, key=lambda each: each.updated)
    control = control or _control(name, annotations)
    latest = {(each.task, each.annotator): each for each in annotations}  # of two, the one that was updated last
    annotators = sorted({annotator for _, annotator in latest})
    data = [key for key in dict.fromkeys(key for each in texts.values() for key in each) if key != control]
    columns = ["id", *(key for key in data if key not in ("id", "label")), "label"]
    coders = {each: f"{CODER}{each}" for each in annotators} if len(annotators) > 1 else {}
    rows, disagree = [], 0
    for number, (ident, own) in enumerate(texts.items(), start=1):
        codes = {
            who: LABEL_SEPARATOR.join(dict.fromkeys(each.answers.get(control, ()))) or NO_LABEL
            for who in annotators
            if (each := latest.get((ident, who))) is not None and each.answers.get(control)
        }
        disagree += len(set(codes.values())) > 1
        label = next(iter(codes.values())) if len(set(codes.values())) == 1 else ""
        values = {key: own.get(key, "") for key in columns} | {"id": ident, "label": label}
        values |= {column: codes.get(who, "") for who, column in coders.items()}
        rows.append(TableRow(number, values, values))
    said = [
        f"{name} is an export of Label Studio: {len(rows)} tasks, codes of {len(annotators)} annotators ({control})"
    ]
    if disagree:
        said.append(f"{disagree} tasks whose annotators disagree have no label; adjudicate them by `edgedistill code`")
    return DetectedTable(name, (*columns, *coders.values()), tuple(rows), (*notes, *said))


def _control(name: str, annotations: Iterable[_Annotation]) -> str:
    """Return the control with the codes: the one whose answers repeat."""
    cells: dict[str, set[str]] = {}
    tasks: dict[str, set[str]] = {}
    for each in annotations:
        for control, answers in each.answers.items():
            if answers:
                cells.setdefault(control, set()).update(answers)
                tasks.setdefault(control, set()).add(each.task)
    repeating = [control for control, found in cells.items() if len(found) <= max(2, len(tasks[control]) // 2)]
    if not repeating:
        raise DataError("no annotation has a code", where=name, hint="Export the project with its annotations.")
    if len(repeating) > 1 and "label" not in repeating:
        raise DataError(
            f"the annotations have several tags with codes: {', '.join(sorted(repeating)[:5])}",
            where=name,
            hint="Say which, as a project codes one question: --column label=NAME.",
        )
    return "label" if "label" in repeating else repeating[0]
