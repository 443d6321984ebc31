"""Preregistration: what a project lays down before its test rows are evaluated, and what of it was kept.

The file is dated by this computer's clock and can be changed like any other: a registry that stores it, or a time stamp
of its SHA-256, proves the date.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any, Final

import msgspec
from ruamel.yaml import YAML

from edgedistill.data.reading import held_out
from edgedistill.data.twins import same_row
from edgedistill.data.types import CodedResponse
from edgedistill.errors import RunError
from edgedistill.evaluation.files import decode_file
from edgedistill.pipeline.folder import RunFolder, hash_json
from edgedistill.pipeline.run import Run
from edgedistill.project.schema import Project
from edgedistill.report.methods import PlanCheck
from edgedistill.report.rules import REQUIRED_KAPPA

FORMAT: Final = 1
_FETCHING = {"concurrency", "cache", "prices", "budget", "api_key_env", "timeout_seconds", "tries", "gate"}
"""Keys of a teacher that change none of its answers, and the gate, which is a part of its own."""
_KAPPA = {"ordinal": "quadratic weighted kappa", "multilabel": "mean kappa over labels"}


class Plan(msgspec.Struct):
    """`NAME.preregistration.json`.

    Attributes:
        format: `FORMAT`.
        project: The project's name.
        date: When it was written, in UTC.
        edgedistill: The version that wrote it.
        parts: By part, what was laid down.
        sha256: By part, the SHA-256 of its canonical JSON.
    """

    format: int
    project: str
    date: str
    edgedistill: str
    parts: dict[str, Any]
    sha256: dict[str, str]


def plan_file(project: Project) -> Path:
    """Return where a project's preregistration is: beside the project file, because a run folder may be deleted."""
    return project.folder / f"{project.name}.preregistration.json"


def preregister(run: Run) -> Path:
    """Write the preregistration of a project as JSON, and beside it as Markdown to be read and deposited.

    It holds the parts of the project file that decide the result (codebook, splits, teacher, gate, training, decision
    rule, evaluation), the primary figure, and hashes of the rows; no response's text and no row's id.

    Returns:
        The JSON file.

    Raises:
        RunError: There is one already, the test rows have been evaluated, or a file cannot be written.
    """
    file, project = plan_file(run.project), run.project
    if file.exists():
        raise RunError(
            "exists already; a preregistration is never overwritten",
            where=str(file),
            hint="Rename it to keep it and write another plan; the methods section compares with the new one.",
        )
    if run.folder.has("evaluation.json"):
        raise RunError(
            "the test rows of this project have been evaluated, so it is too late to preregister",
            where=str(run.folder / "evaluation.json"),
            hint="Preregister before `edgedistill evaluate`, or with new test rows under another project name.",
        )
    parts = plan_parts(run)
    plan = Plan(
        format=FORMAT,
        project=project.name,
        date=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        edgedistill=version("edgedistill"),
        parts=parts,
        sha256={name: hash_json(part) for name, part in parts.items()},
    )
    folder = RunFolder(project.folder)
    text = json.dumps(msgspec.to_builtins(plan), ensure_ascii=False, indent=2) + "\n"
    folder.write_text(file.name, text)
    folder.write_text(file.with_suffix(".md").name, _as_markdown(plan, hashlib.sha256(text.encode()).hexdigest()))
    return file


def plan_parts(run: Run) -> dict[str, Any]:
    """Return the parts of a preregistration as the project has them now."""
    project, splits = run.project, run.records.splits
    panel = [section.model_dump(mode="json") for section in project.panel]
    teachers = [{key: value for key, value in each.items() if key not in _FETCHING} for each in panel]
    for each in teachers:  # ids are those of learners' rows
        if "few_shot_ids" in each:
            each["few_shot_ids"] = hash_json(each["few_shot_ids"]) if each["few_shot_ids"] else []

    def section(name: str) -> Any:
        value = getattr(project, name)
        return value.model_dump(mode="json") if value is not None else None

    return {
        "codebook": section("task"),
        "splits": _split_settings(project),
        "teacher": {"teachers": teachers, "teachers_vote": project.teachers_vote},
        "gate": [each["gate"] for each in panel],
        "training rows": {"mix": section("mix"), "generate": section("generate")},
        "student and its search": section("student"),
        "decision rule": section("review"),
        "evaluation": {name: value for name, value in section("evaluation").items() if name != "human_trained"},
        "primary figure": {
            "figure": _KAPPA.get(project.task.kind, "Cohen's kappa"),
            "rows": "test rows of questions without train rows" if held_out(project) else "test rows",
            "interval": 0.95,
            "required": max(
                [REQUIRED_KAPPA, *(each.gate.at_least for each in project.panel if each.gate.metric == "kappa")]
            ),
        },
        "test rows": _digest(splits.test, lambda row: (row.response.id, same_row(row.response.inputs))),
        "human codes of the test rows": _digest(splits.test, lambda row: (row.response.id, row.label)),
        "validation rows": _digest(
            splits.validation, lambda row: (row.response.id, same_row(row.response.inputs), row.label)
        ),
    }


def _split_settings(project: Project) -> dict[str, Any]:
    """Return how rows are split; without held-out questions as before there were any, so that older plans are kept."""
    data = project.data.model_dump(mode="json")
    if held_out(project):
        return {name: data[name] for name in ("split", "group_by", "questions", "question_by")}
    return {
        "split": {name: value for name, value in data["split"].items() if name != "known_questions"},
        "group_by": data["group_by"],
    }


def check_plan(run: Run) -> PlanCheck | None:
    """Compare a preregistration with the project as it is now; None if there is none.

    Raises:
        RunError: The file is damaged, or of another version or project.
    """
    file = plan_file(run.project)
    if not file.exists():
        return None
    hint = (
        "Restore it from where it was deposited; without it, the methods section says that nothing was preregistered."
    )
    plan = decode_file(file, Plan, hint)
    if plan.format != FORMAT or plan.project != run.project.name:
        raise RunError("is of another version or project", where=str(file), hint=hint)
    if damaged := [name for name, part in plan.parts.items() if hash_json(part) != plan.sha256.get(name)]:
        raise RunError(f"was changed after it was written: {', '.join(damaged)}", where=str(file), hint=hint)
    now = {name: hash_json(part) for name, part in plan_parts(run).items()}
    evaluated = run.folder.run_log["stages"].get("evaluate", {}).get("finished", "")
    return PlanCheck(
        date=plan.date,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        kept=tuple(name for name, digest in plan.sha256.items() if now.get(name) == digest),
        changed=tuple(name for name, digest in plan.sha256.items() if now.get(name) != digest),
        before_evaluation=not evaluated or plan.date < evaluated,
    )


def _digest(rows: Iterable[CodedResponse], content: Callable[[CodedResponse], Any]) -> dict[str, Any]:
    """Return the number of rows, and one SHA-256 of all of them in the order of their ids."""
    found = sorted(rows, key=lambda row: row.response.id)
    return {"rows": len(found), "sha256": hash_json([content(row) for row in found])}


def _as_markdown(plan: Plan, sha256: str) -> str:
    lines = [
        f"# Preregistration of {plan.project}",
        "",
        f"Written on {plan.date} by EdgeDistill {plan.edgedistill}, before the test rows were evaluated.",
        "",
        f"SHA-256 of `{plan.project}.preregistration.json`: `{sha256}`",
        "",
        "The date is that of the computer that wrote this file. Deposit both files at a registry, such as OSF or",
        "AsPredicted, to have it proved. `edgedistill report --methods` compares the run with them and names what was",
        "changed afterwards.",
        "",
    ]
    for name, part in plan.parts.items():
        lines += [f"## {name[:1].upper()}{name[1:]}", "", "```yaml", *_yaml(part).splitlines(), "```", ""]
    return "\n".join(lines)


def _yaml(part: Mapping[str, Any] | list[Any] | None) -> str:
    if part is None:
        return "none"
    stream = StringIO()
    writer = YAML()
    writer.default_flow_style = False
    writer.width = 120
    writer.dump(part, stream)
    return stream.getvalue()
