"""Labelling: the teachers code the unlabelled responses."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill.data.types import Response, TeacherLabel
from edgedistill.errors import DataError, RunError
from edgedistill.pipeline.folder import RunFolder
from edgedistill.pipeline.gate import teacher_agreement
from edgedistill.pipeline.run import Run
from edgedistill.teacher import AnswerFormat, TeacherRequest, combine_labellings
from edgedistill.teacher.gating import count_votes_without_confidence


def label(run: Run) -> dict[str, Any]:
    """Have the teachers code the unlabelled responses and write `labels.jsonl`.

    Returns:
        Counts and cost for `run.json`; for several teachers also those of each, and their agreement.
    """
    responses = run.records.unlabelled
    labellings = run.code_with_each(run.used, responses, "label: {} codes responses")
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
    if any(teacher.confidence for teacher in run.used):
        entry["votes_without_confidence"] = count_votes_without_confidence(labelling)
    if len(labellings) > 1:
        entry["teachers"] = {
            name: {"labelled": len(each.labels), "set_aside": len(each.set_aside), "cost": asdict(each.usage)}
            for name, each in labellings.items()
        }
        entry["between"] = teacher_agreement(run, labellings, responses)
    return entry


def read_labels(folder: RunFolder) -> tuple[TeacherLabel, ...]:
    """Read `labels.jsonl`."""
    return read_labels_file(folder / "labels.jsonl")


def read_labels_file(path: Path) -> tuple[TeacherLabel, ...]:
    """Read labels in the format of `labels.jsonl`.

    Raises:
        DataError: The file cannot be read, or a line is not a label.
    """
    try:
        lines = path.read_text("utf-8").split("\n")  # not at U+2028, as `splitlines` does
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", where=str(path)) from None
    if not lines[-1]:  # what follows the last line break
        lines.pop()
    labels = []
    for number, line in enumerate(lines, 1):
        try:
            labels.append(_label(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError(
                "is not a label",
                where=f"{path}, line {number}",
                hint="A line is an object with id, label, consistency, shares, votes and teacher.",
            ) from None
    return tuple(labels)


def _line(row: TeacherLabel) -> dict[str, Any]:
    line = asdict(row)
    del line["opinions"]
    for name in ("confidences", "confidence", "probability"):
        if line[name] in (None, ()):
            del line[name]
    if row.opinions:
        line["teachers"] = [_line(opinion) for opinion in row.opinions]
    return line


def _label(line: Mapping[str, Any]) -> TeacherLabel:
    fields = {name: value for name, value in line.items() if name != "teachers"}
    opinions = tuple(_label(each) for each in line.get("teachers", ()))
    lists = {"votes": tuple(line["votes"]), "confidences": tuple(line.get("confidences", ()))}
    return TeacherLabel(**fields | lists | {"opinions": opinions})


@dataclass(frozen=True, slots=True)
class Prompt:
    """A teacher's first request for a response.

    Attributes:
        teacher: The teacher's name.
        request: The request, in the first answer format.
    """

    teacher: str
    request: TeacherRequest


def build_prompts(run: Run, ident: str) -> tuple[Prompt, ...]:
    """Return the first request that each teacher would get for a response, as if the cache were empty.

    If a request carries several responses, the others are rows of the same split, or other unlabelled ones.

    Args:
        run: The project and its rows.
        ident: The id of a response, human-coded or unlabelled.

    Raises:
        DataError: No row in use has this id.
        RunError: The labels of all teachers exist already.
    """
    response, neighbours = _find_response(run, ident)
    prompts = []
    if run.panel and not run.project.asked:
        raise RunError(
            "the labels exist already: nothing is asked, and there is no prompt", where=str(run.project.path)
        )
    for teacher in run.project.asked:
        plan = run.asked[teacher.called].plan(neighbours if teacher.per_request > 1 else (response,))
        coding = {each.id: coding for each, coding in plan.pairs}[ident]
        requests = [request for request in plan.coding_requests() if coding in request.codings]
        if not requests:
            raise DataError("has characters that are not valid text", where=response.place)
        prompts.append(Prompt(teacher.called, plan.build_request(requests[0], AnswerFormat.SCHEMA)))
    return tuple(prompts)


def _find_response(run: Run, ident: str) -> tuple[Response, tuple[Response, ...]]:
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
        f"no response in use has the id {ident!r}",
        where=str(run.project.path),
        hint="Use a value of the column id; `set_aside.csv` in the run folder lists the rows that are not used.",
    )
