"""Labelling: the teachers code the responses that no human coded."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill.data.types import Response, TeacherLabel
from edgedistill.errors import DataError
from edgedistill.pipeline.folder import RunFolder
from edgedistill.pipeline.gate import between
from edgedistill.pipeline.run import Run
from edgedistill.teacher import AnswerFormat, TeacherRequest, combine_labellings


def label(run: Run) -> dict[str, Any]:
    """Have the teachers code the unlabelled responses and write `labels.jsonl`.

    Returns:
        Counts and cost for `run.json`, and of several teachers what each did and how far they agree.
    """
    responses = run.records.unlabelled
    labellings = run.ask_each(run.used, responses, "label: {} codes responses")
    labelling = combine_labellings(responses, labellings, run.weights, run.task)
    lines = (json.dumps(_line(row), ensure_ascii=False) + "\n" for row in labelling.labels)
    run.folder.write_text("labels.jsonl", "".join(lines))
    entry: dict[str, Any] = {
        "rows": len(responses),
        "labelled": len(labelling.labels),
        "set_aside": [{"id": row.id, "reason": row.reason, "detail": row.detail} for row in labelling.set_aside],
        "set_aside_by_cause": dict(Counter(row.reason for row in labelling.set_aside).most_common()),
        "cost": asdict(labelling.usage),
    }
    if len(labellings) > 1:
        entry["teachers"] = {
            name: {"labelled": len(each.labels), "set_aside": len(each.set_aside), "cost": asdict(each.usage)}
            for name, each in labellings.items()
        }
        entry["between"] = between(run, labellings)
    return entry


def read_labels(folder: RunFolder) -> tuple[TeacherLabel, ...]:
    """Read `labels.jsonl` back."""
    return read_labels_file(folder / "labels.jsonl")


def read_labels_file(path: Path) -> tuple[TeacherLabel, ...]:
    """Read labels in the form of `labels.jsonl`.

    Raises:
        DataError: The file cannot be read, or a line is no label.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", where=str(path)) from None
    labels = []
    for number, line in enumerate(lines, 1):
        try:
            labels.append(_label(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError(
                "is no label",
                where=f"{path}, line {number}",
                hint="A line is an object with id, label, consistency, shares, votes and teacher.",
            ) from None
    return tuple(labels)


def _line(row: TeacherLabel) -> dict[str, Any]:
    line = asdict(row)
    del line["opinions"]
    if row.opinions:
        line["teachers"] = [_line(opinion) for opinion in row.opinions]
    return line


def _label(line: Mapping[str, Any]) -> TeacherLabel:
    given = {name: value for name, value in line.items() if name != "teachers"}
    opinions = tuple(_label(each) for each in line.get("teachers", ()))
    return TeacherLabel(**given | {"votes": tuple(line["votes"]), "opinions": opinions})


@dataclass(frozen=True, slots=True)
class Prompt:
    """One teacher's first request about a response.

    Attributes:
        teacher: The teacher's name.
        request: The request, in the first of the answer formats.
    """

    teacher: str
    request: TeacherRequest


def prompts_of(run: Run, ident: str) -> tuple[Prompt, ...]:
    """Return what each teacher would be sent first about a response, were nothing in the cache.

    With several responses in a request, its neighbours are those of the same split, or the other unlabelled ones.

    Args:
        run: The project and its rows.
        ident: The id of a response, human-coded or unlabelled.

    Raises:
        DataError: No row that is used has this id.
    """
    response, neighbours = _found(run, ident)
    prompts = []
    for teacher in run.panel:
        plan = run.teachers[teacher.called].plan(neighbours if teacher.per_request > 1 else (response,))
        coding = {each.id: coding for each, coding in plan.pairs}[ident]
        requests = [request for request in plan.coding_requests() if coding in request.codings]
        if not requests:
            raise DataError("it holds characters that are no text", where=response.place)
        prompts.append(Prompt(teacher.called, plan.build_request(requests[0], AnswerFormat.SCHEMA)))
    return tuple(prompts)


def _found(run: Run, ident: str) -> tuple[Response, tuple[Response, ...]]:
    splits = run.records.splits
    for rows in (
        run.records.unlabelled,
        splits.validation.responses,
        splits.test.responses,
        splits.train.responses,
    ):
        for response in rows:
            if response.id == ident:
                return response, rows
    raise DataError(
        f"no response that is used has the id {ident!r}",
        where=str(run.project.path),
        hint="Ids stand in the column id; `set_aside.csv` in the run folder names the rows that are not used.",
    )
