"""The codes in an export of Label Studio: what counts as a person's code, and what does not.

Both formats that keep annotators apart are read: JSON, with whole tasks, and JSON-MIN, with one record per annotation,
as the converter of label-studio-sdk writes it. A code is a submitted annotation of a person. Predictions, drafts,
skipped tasks, and predictions that somebody submitted as they were, are none. Of several annotations of a row by the
same person, the one updated last counts.
"""

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from edgedistill.errors import DataError
from edgedistill.label_studio.configuration import CONTROL
from edgedistill.label_studio.tasks import ID_FIELD
from edgedistill_serve.task.task import NO_LABEL, Task, join_labels, quote_columns, quote_label

SKIPPED = "skipped by the annotator"
DRAFT = "a draft that was not submitted"
PREDICTION = "a prediction of a model"
ACCEPTED_PREDICTION = "a prediction that was submitted unchanged"
NO_CODE = "an annotation without a code"
EARLIER = "an earlier annotation of the same row by the same person"

_HINT = "Export the project as JSON or JSON-MIN; both hold who annotated what."


class Fault(NamedTuple):
    """A row whose code cannot be imported, and the reason."""

    id: str
    fault: str


@dataclass(frozen=True, slots=True)
class Annotations:
    """The codes of an export.

    Attributes:
        codes: By annotator, an e-mail address or a number: the code by row id, in its canonical form.
        texts: By row id, the inputs that were shown.
        ground_truth: By row id, the codes that were marked as ground truth. JSON-MIN has no such mark.
        tasks: Number of tasks.
        without_code: Number of tasks that nobody has coded.
        left_out: Number of annotations that are no codes, by reason.
        unknown_labels: Codes that the codebook does not have, with the number of annotations.
        faults: Annotations that cannot be read as one code of the task.
    """

    codes: Mapping[str, Mapping[str, str]]
    texts: Mapping[str, Mapping[str, str]]
    ground_truth: Mapping[str, Sequence[str]]
    tasks: int
    without_code: int
    left_out: Mapping[str, int]
    unknown_labels: Mapping[str, int]
    faults: Sequence[Fault]


@dataclass(frozen=True, slots=True)
class _Annotation:
    ident: str
    annotator: str
    answers: list[tuple[str, Any]]
    time: tuple[float, float, float]
    is_ground_truth: bool = False


@dataclass
class _Reading:
    task: Task
    control: str
    id_field: str
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    found: list[_Annotation] = field(default_factory=list)
    tasks: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)

    def add(self, record: dict[str, Any], number: int) -> None:
        if any(key in record for key in ("annotations", "completions", "data")):
            self._add_task(record, number)
        else:
            self._add_minimal(record, number)

    def _add_task(self, record: dict[str, Any], number: int) -> None:
        data = record.get("data")
        ident = self._ident(data, number)
        self.tasks.add(str(record.get("id", f"record {number}")))
        self.left_out[DRAFT] += len(list_in(record, "drafts"))
        self.left_out[PREDICTION] += len(list_in(record, "predictions"))
        annotations = record.get("annotations", record.get("completions")) or []
        for annotation in _objects(annotations, f"task {number}: the annotations"):
            results = [
                each
                for each in _objects(annotation.get("result") or [], f"task {number}: the result")
                if each.get("from_name") == self.control
            ]
            if annotation.get("was_cancelled") or annotation.get("skipped"):
                self.left_out[SKIPPED] += 1
            elif any(each.get("origin") == "prediction" for each in results):
                self.left_out[ACCEPTED_PREDICTION] += 1
            else:
                values = [each.get("value") for each in results]
                answers = [answer for value in values for answer in answers_of(value)]
                self._add_annotation(ident, annotation.get("completed_by"), answers, annotation)

    def _add_minimal(self, record: dict[str, Any], number: int) -> None:
        ident = self._ident(record, number)
        self.tasks.add(str(record.get("id", f"record {number}")))
        if record.get("annotator") is None and record.get("annotation_id") is None:
            return
        self._add_annotation(ident, record.get("annotator"), list(answers_of(record.get(self.control))), record)

    def _add_annotation(
        self, ident: str, annotator: object, answers: list[tuple[str, Any]], annotation: Mapping[str, Any]
    ) -> None:
        if not answers:
            self.left_out[NO_CODE] += 1
            return
        name = annotator_name(annotator)
        if not name:
            self.faults.append(Fault(ident, "an annotation has no annotator"))
            return
        number = annotation.get("annotation_id", annotation.get("id"))
        last = float(number) if isinstance(number, int | float) else 0.0
        time = update_seconds(annotation.get("updated_at")), update_seconds(annotation.get("created_at")), last
        self.found.append(_Annotation(ident, name, answers, time, bool(annotation.get("ground_truth"))))

    def _ident(self, data: object, number: int) -> str:
        if not isinstance(data, dict) or not str(data.get(self.id_field) or "").strip():
            there = quote_columns(data) if isinstance(data, dict) else "none"
            raise DataError(
                f"task {number} has no {self.id_field!r} among its data ({there})",
                hint="Import the tasks that `edgedistill review label-studio export` writes, or name the key with "
                "--id-field.",
            )
        ident = str(data[self.id_field]).strip()
        shown = {name: data[name] for name in self.task.inputs if isinstance(data.get(name), str)}
        self.texts.setdefault(ident, {}).update(shown)
        return ident

    def code(self, annotation: _Annotation) -> str | None:
        """Return the code of an annotation, or None after noting why it has none."""
        names: dict[str, None] = {}
        unknown = []
        for kind, value in annotation.answers:
            name = _label(kind, value, self.task)
            if name is None:
                unknown.append(describe_answer(kind, value))
            else:
                names[name] = None
        if unknown:
            self.unknown.update(unknown)
            return None
        if self.task.kind == "multilabel":
            if NO_LABEL in names and len(names) > 1:
                self.faults.append(Fault(annotation.ident, f"{NO_LABEL!r} is combined with labels"))
                return None
            return join_labels([name for name in names if name != NO_LABEL], self.task)
        if len(names) > 1:
            self.faults.append(Fault(annotation.ident, f"{annotation.annotator} gave {len(names)} labels"))
            return None
        return next(iter(names))


def read_annotations(path: Path, task: Task, *, control: str = CONTROL, id_field: str = ID_FIELD) -> Annotations:
    """Read the codes of an export.

    Args:
        path: A file that Label Studio has exported as JSON or JSON-MIN.
        task: Its labels.
        control: Name of the tag with which people coded: `Choices`, `Taxonomy` (its last level counts) or `Rating`
            (the number of stars is the rank of the label).
        id_field: The key of a row's id in a task's data.

    Raises:
        DataError: The file is not such an export, or a task has no id.
    """
    reading = _Reading(task, control, id_field)
    try:
        for number, record in enumerate(records_of(path), start=1):
            reading.add(record, number)
    except DataError as error:
        raise DataError(error.what, where=error.where or path.name, hint=error.hint) from None
    latest: dict[tuple[str, str], _Annotation] = {}
    for annotation in sorted(reading.found, key=lambda each: each.time):
        key = annotation.annotator, annotation.ident
        reading.left_out[EARLIER] += key in latest
        latest[key] = annotation
    codes: dict[str, dict[str, str]] = {}
    ground_truth: dict[str, list[str]] = {}
    for annotation in latest.values():
        if (code := reading.code(annotation)) is not None:
            codes.setdefault(annotation.annotator, {})[annotation.ident] = code
            if annotation.is_ground_truth:
                ground_truth.setdefault(annotation.ident, []).append(code)
    coded = {annotation.ident for annotation in latest.values()}
    return Annotations(
        codes=dict(sorted(codes.items())),
        texts=reading.texts,
        ground_truth=ground_truth,
        tasks=len(reading.tasks),
        without_code=len(reading.texts.keys() - coded),
        left_out={reason: number for reason, number in reading.left_out.items() if number},
        unknown_labels=dict(reading.unknown),
        faults=tuple(reading.faults),
    )


def records_of(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the tasks of a JSON export, or the records of a JSON-MIN export.

    Raises:
        DataError: The file cannot be read, or is not such an export.
    """
    try:
        content = json.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=str(path)) from None
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise DataError(f"is not valid JSON ({reason})", where=path.name, hint=_HINT) from None
    yield from _objects([content] if isinstance(content, dict) else content, "the file")


def _objects(values: object, what: str) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(each, dict) for each in values):
        raise DataError(f"{what} should be a list of objects", hint=_HINT)
    return values


def list_in(record: Mapping[str, Any], key: str) -> list[Any]:
    """Return the list that a record has under a key; an empty one if it has none, or a number instead."""
    value = record.get(key)
    return value if isinstance(value, list) else []


def answers_of(value: object) -> Iterator[tuple[str, Any]]:
    """Yield the answers in a result's value, or in the field of JSON-MIN, each with the kind of its control."""
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str):
            yield "choices", each
        elif isinstance(each, int | float):
            yield "rating", each
        elif isinstance(each, dict):
            for kind in ("choices", "taxonomy"):
                items = each.get(kind) or []
                for item in items if isinstance(items, list) else [items]:
                    yield kind, item
            if each.get("rating") is not None:
                yield "rating", each["rating"]


def _label(kind: str, value: Any, task: Task) -> str | None:
    """Return the label that an answer names; None if the codebook does not have it."""
    if kind == "rating":
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_rank = task.kind == "ordinal" and is_number and value in range(1, len(task.names) + 1)
        return task.names[int(value) - 1] if is_rank else None
    if kind == "taxonomy":
        value = value[-1] if isinstance(value, list) and value else value
    name = value.strip() if isinstance(value, str) else None
    known = name in task.names or (name == NO_LABEL and task.kind == "multilabel")
    return name if known else None


def describe_answer(kind: str, value: Any) -> str:
    """Return an answer as messages name it."""
    if kind == "rating":
        return f"rating {value}"
    path = value if isinstance(value, list) else [value]
    return quote_label(" > ".join(map(str, path)))


def annotator_name(completed_by: object) -> str:
    """Return who annotated: an e-mail address where the export has one, otherwise a number."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    return "" if completed_by is None or isinstance(completed_by, bool) else str(completed_by).strip()


def update_seconds(time: object) -> float:
    """Return a time as seconds since 1970; 0 for none."""
    try:
        read = dt.datetime.fromisoformat(str(time))
    except ValueError:
        return 0.0
    return (read if read.tzinfo else read.replace(tzinfo=dt.UTC)).timestamp()
