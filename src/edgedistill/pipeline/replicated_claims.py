"""What a replication package has of promise, novelty and learning curve: columns of its rows, and their settings.

unlike_column()       whether a row is unlike the training texts
promise_columns()     the validation rows that a promise counts, and what is independent among them
promise_settings()    share, confidence and parts of the promise
curve_columns()       the codes of the validation rows by the students of the learning curve
"""

from collections.abc import Iterable, Mapping
from typing import Any

from edgedistill.decisions import ValidationScores
from edgedistill.decisions.learning_curve import CURVE_CODES_FILE
from edgedistill.errors import RunError
from edgedistill.pipeline.evaluate import Measured
from edgedistill.pipeline.run import Run
from edgedistill.project.evaluation import ReviewSection
from edgedistill.report.inputs import ReportInputs
from edgedistill.report.paper_markup import plain
from edgedistill_export.export_stages import is_readable
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.scoring.graph_choice import load_encoder
from edgedistill_serve.task.contexts import context_hash
from edgedistill_serve.task.task import task_inputs


def read_kept(run: Run, name: str, command: str) -> dict[str, Any]:
    """Read what a command kept beside its result; empty if there is no such file.

    Raises:
        RunError: It is damaged.
    """
    if not run.folder.has(name):
        return {}
    try:
        found = run.folder.read_json(name)
    except RunError:
        found = None
    if not isinstance(found, dict) or not found:
        raise RunError(
            "is damaged",
            where=str(run.folder / name),
            hint=f"`edgedistill {command}` writes it again; without the file its table is not computed again.",
        )
    return found


def student_novelty(measured: Measured) -> dict[str, float]:
    """Return the novelty of each row to the student in PyTorch."""
    both = (measured.validation, measured.test)
    return {row: novelty for scores in both for row, novelty in zip(scores.ids, scores.novelty or (), strict=False)}


def readable_rows(run: Run) -> set[str]:
    """Return the ids of the validation rows that a limit of novelty is chosen on."""
    section = run.project.review or ReviewSection()
    rule = ReviewRule(max_unknown_share=section.max_unknown_share)
    responses = run.records.splits.validation.responses
    rows = load_encoder(run.bundle).encode([task_inputs(each.inputs, run.task) for each in responses])
    return {each.id for each, row in zip(responses, rows, strict=True) if is_readable(row, rule)}


def unlike_column(
    run: Run, report: ReportInputs, novelty: Mapping[str, float], readable: set[str]
) -> dict[str, dict[str, str]]:
    """Return whether each row is unlike the training texts; novelty itself would confirm a guessed text."""
    outcome = report.served.review.test.novelty
    if outcome is None:
        return {}
    counted = readable | {each.id for each in run.records.splits.test.responses}
    return {
        "unlike": {row: "no" if value <= outcome.limit else "yes" for row, value in novelty.items() if row in counted}
    }


def promise_columns(
    run: Run, report: ReportInputs, validation: ValidationScores, decisions: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Return the validation rows that a promise counts as accepted, and what is independent among them."""
    found = report.served.review.guarantee
    if found is None:
        return {}
    counted = run.records.splits.validation.rows
    ids = [row.response.id for row in counted]
    columns = {"promise": {row: decisions.get(row, "") for row in ids}}
    tokens = dict(zip(validation.ids, (row.ids for row in validation.encoded), strict=True))
    numbers = numbered(tokens.get(row, row) for row in ids)
    columns["tokens"] = {row: f"tokens-{number}" for row, number in zip(ids, numbers, strict=True)}
    if "questions" in found.unit:  # held-out questions by their name, others by question and reference answer
        texts = (row.response.inputs for row in counted)
        names = (row.response.question for row in counted) if validation.questions else None
        questions = numbered(names or (context_hash(task_inputs(inputs, run.task)) for inputs in texts))
        columns["question"] = {row: f"question-{number}" for row, number in zip(ids, questions, strict=True)}
    if found.group_column:
        columns["promise_group"] = {row.response.id: row.subgroups.get(found.group_column, "") for row in counted}
    return columns


def promise_settings(report: ReportInputs, served: str) -> dict[str, Any] | None:
    """Return what the script needs to compute the evidence of a promise; None without one."""
    review = report.served.review
    if (found := review.guarantee) is None:
        return None
    units = {"learners": "group", "questions": "question"}
    return {
        "labels_from": served,
        "share": found.share,
        "confidence": found.confidence,
        "compared": found.compared,
        "clusters": [units[unit] for unit in found.unit.split(" and ") if unit in units],
        "labels": [plain(name) for name in found.labels],
        "labels_tested": review.labels_tested or len(found.labels),
        "groups": [plain(name) for name in found.groups],
    }


def curve_columns(run: Run, report: ReportInputs) -> dict[str, dict[str, str]] | None:
    """Return the codes of the validation rows by the students of the learning curve; None if they were not kept."""
    curve = report.learning_curve
    if curve is None or not report.learning_curve_is_current:
        return {}
    found = read_kept(run, CURVE_CODES_FILE, "review curve")
    if found.get("data") != curve.data:
        return None
    return {
        f"curve:{size}:{seed}": codes
        for size, each in found["codings"].items()
        for seed, codes in enumerate(each, start=1)
    }


def numbered(keys: Iterable[object]) -> list[int]:
    """Return a number for each key, from 1, in the order of their first occurrence."""
    numbers: dict[object, int] = {}
    return [numbers.setdefault(key, len(numbers) + 1) for key in keys]
