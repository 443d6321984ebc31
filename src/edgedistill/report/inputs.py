"""Everything a report is made from, read from the run folder.

Material
├── Evaluation, Gate     evaluation.json, gate.json (evaluation.py)
├── Journal              run.json: versions, rows, what each stage noted, what was spent
├── ScoredRow            a line of test_scores.csv
├── TeacherVote          what a line of labels.jsonl says of its votes
├── Table                trials.csv
├── StudyRun             a line of a study's runs.csv
└── BundleFacts          what the bundle says of itself
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgedistill.data import RowCounts
from edgedistill.errors import RunError
from edgedistill.evaluation.types import Evaluation, Gate, Hop
from edgedistill.teacher.spending import Spent


@dataclass(frozen=True, slots=True)
class Journal:
    """`run.json`."""

    versions: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[RowCounts] = ()
    notes: Sequence[str] = ()
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    spending: Mapping[str, Spent] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One test row: codes, how sure the model is of its own, and whether a person sees it."""

    id: str
    human: str
    student: str
    probability: float
    decision: str
    reason: str
    teacher: str


@dataclass(frozen=True, slots=True)
class TeacherVote:
    """The label that a teacher gave one response, and the share of its votes for it."""

    label: str
    consistency: float


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file of the run folder."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __iter__(self) -> Any:
        """Yield each row by column."""
        return (dict(zip(self.header, row, strict=True)) for row in self.rows)


@dataclass(frozen=True, slots=True)
class StudyRun:
    """One student of a study on one set of test rows."""

    study: str
    task: str
    learner: str
    test: str
    synthetic_share: float | None
    macro_f1: float
    leak: str


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """What the bundle says of itself.

    Attributes:
        version: Its version.
        precision: The graph that is served.
        bytes: Of that graph.
        same_figures: Whether its model card stands on the same figures as the report.
    """

    version: str
    precision: str
    bytes: int
    same_figures: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a report is made from.

    Attributes:
        name: The project's name.
        project_file: Its file's name.
        definitions: By label, in codebook order.
        instructions: The codebook's text.
        votes: Of the responses that the teacher coded for training; empty without labels.
        generation: `generation.json`; None where nothing was generated.
        shrinking: `shrinking.json`; None without a smaller student.
        examples: How many wrongly coded responses are shown with their texts.
        texts: By a test row's id its inputs; of the rows that may be shown.
        study: Runs of a study that is shown too.
    """

    name: str
    project_file: str
    definitions: Mapping[str, str]
    instructions: str
    evaluation: Evaluation
    gate: Gate | None
    journal: Journal
    scores: Sequence[ScoredRow]
    votes: Sequence[TeacherVote] = ()
    trials: Table | None = None
    generation: Mapping[str, Any] | None = None
    shrinking: Mapping[str, Any] | None = None
    bundle: BundleFacts | None = None
    examples: int = 0
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    study: Sequence[StudyRun] = ()


T = TypeVar("T")
_SCHEMA = 1
_STUDENT = "PyTorch"


def read_material(
    folder: Path,
    *,
    name: str,
    project_file: str,
    definitions: Mapping[str, str],
    instructions: str = "",
    examples: int = 0,
    texts: Mapping[str, Mapping[str, str]] | None = None,
    study: Path | None = None,
) -> Material:
    """Read a run folder; only `evaluation.json`, `test_scores.csv` and `run.json` must be there.

    Args:
        folder: The run folder.
        name: The project's name.
        project_file: Its file's name, for the commands that fix.
        definitions: By label, in codebook order.
        instructions: The codebook's text.
        examples: How many wrongly coded responses are shown with their texts.
        texts: By a test row's id its inputs; nothing of them is kept unless examples are wanted.
        study: A folder with a study's `runs.csv`.

    Raises:
        RunError: A file is missing that must be there, or one is damaged or of another version.
    """
    evaluation = read_evaluation(folder, project_file)
    scores = _scores(folder / "test_scores.csv", evaluation, _hint("evaluate", project_file))
    return Material(
        name=name,
        project_file=project_file,
        definitions=definitions,
        instructions=instructions,
        evaluation=evaluation,
        gate=_optional(folder / "gate.json", Gate, _hint("gate", project_file)),
        journal=_decoded(folder / "run.json", Journal, _hint("run", project_file)),
        scores=scores,
        votes=_votes(folder / "labels.jsonl", _hint("label", project_file)),
        trials=_optional_table(folder / "trials.csv", _hint("train", project_file)),
        generation=_optional(folder / "generation.json", dict[str, Any], _hint("generate", project_file)),
        shrinking=_optional(folder / "shrinking.json", dict[str, Any], _hint("train", project_file)),
        bundle=_bundle(folder, _hint("export", project_file)),
        examples=examples,
        texts=(texts or {}) if examples else {},
        study=_study(study) if study else (),
    )


def read_evaluation(folder: Path, project_file: str) -> Evaluation:
    """Read `evaluation.json`; its hops after the trained student come from `chain.json`, which may know one more.

    An evaluation that was made after the last export has none of them.

    Raises:
        RunError: It is missing, damaged, or of another version.
    """
    path, hint = folder / "evaluation.json", _hint("evaluate", project_file)
    if not path.exists():
        raise RunError("evaluate is not done: there are no figures to report", where=str(path), hint=hint)
    evaluation = _decoded(path, Evaluation, hint)
    if evaluation.schema_version != _SCHEMA:
        raise RunError(f"is of version {evaluation.schema_version}, not {_SCHEMA}", where=str(path), hint=hint)
    if "student" not in evaluation.agreement:
        raise RunError("says nothing of the student", where=str(path), hint=hint)
    after = _optional(folder / "chain.json", list[Hop], _hint("export", project_file))
    exported = any(hop.before == _STUDENT for hop in evaluation.chain)
    if after is None or not exported:
        return evaluation
    before = [hop for hop in evaluation.chain if hop.after == _STUDENT]
    return replace(evaluation, chain=[*before, *after])


def _hint(stage: str, project_file: str) -> str:
    return f"`edgedistill {stage} {project_file}` writes it."


def _optional(path: Path, kind: type[T], hint: str) -> T | None:
    return _decoded(path, kind, hint) if path.exists() else None


def _decoded(path: Path, kind: type[T], hint: str) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise RunError(f"cannot be read ({error.strerror})", where=str(path), hint=hint) from None
    except msgspec.ValidationError as error:
        raise RunError(f"is of another version or damaged ({error})", where=str(path), hint=hint) from None
    except msgspec.DecodeError:
        raise RunError("is no JSON", where=str(path), hint=hint) from None


def _table(path: Path, hint: str) -> Table:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise RunError(f"cannot be read ({why})", where=str(path), hint=hint) from None
    if not lines or any(len(line) != len(lines[0]) for line in lines):
        raise RunError("is damaged: its lines are not of one length", where=str(path), hint=hint)
    return Table(lines[0], lines[1:])


def _optional_table(path: Path, hint: str) -> Table | None:
    return _table(path, hint) if path.exists() else None


def _rows(path: Path, hint: str, made: Callable[[dict[str, str]], T]) -> list[T]:
    try:
        return [made(row) for row in _table(path, hint)]
    except (KeyError, ValueError) as error:
        raise RunError(f"is damaged ({error})", where=str(path), hint=hint) from None


def _scores(path: Path, evaluation: Evaluation, hint: str) -> Sequence[ScoredRow]:
    def made(row: dict[str, str]) -> ScoredRow:
        probability = float(row["certainty"] if evaluation.is_multilabel else row[f"p:{row['student']}"])
        rest = (row[name] for name in ("decision", "reason", "teacher"))
        return ScoredRow(row["id"], row["human"], row["student"], probability, *rest)

    rows = _rows(path, hint, made)
    if len(rows) != evaluation.rows:
        raise RunError(
            f"has {len(rows)} rows, and evaluation.json tells of {evaluation.rows}", where=str(path), hint=hint
        )
    return rows


def _votes(path: Path, hint: str) -> Sequence[TeacherVote]:
    if not path.exists():
        return ()
    try:
        return msgspec.json.decode(b"[" + b",".join(path.read_bytes().splitlines()) + b"]", type=list[TeacherVote])
    except (OSError, msgspec.DecodeError):
        raise RunError("is damaged", where=str(path), hint=hint) from None


def _bundle(folder: Path, hint: str) -> BundleFacts | None:
    path = folder / "bundle" / "bundle.json"
    manifest = _optional(path, dict[str, Any], hint)
    if manifest is None:
        return None
    evaluation = json.loads((folder / "evaluation.json").read_bytes())
    try:
        graph = {"int8": "onnx/model_quantized.onnx", "fp32": "onnx/model.onnx"}[manifest["precision"]]
        return BundleFacts(
            manifest["version"],
            manifest["precision"],
            manifest["files"][graph]["bytes"],
            manifest["metrics"] == evaluation["agreement"],
        )
    except (KeyError, TypeError):
        raise RunError("is of another version or damaged", where=str(path), hint=hint) from None


def _study(folder: Path) -> Sequence[StudyRun]:
    def made(row: dict[str, str]) -> StudyRun | None:
        if not row["macro_f1"]:
            return None
        return StudyRun(
            study=row["study"],
            task=row["task"],
            learner=row["learner"],
            test=row["test"],
            synthetic_share=float(row["synthetic_share"]) if row["synthetic_share"] else None,
            macro_f1=float(row["macro_f1"]),
            leak=row["leak"],
        )

    hint = "Name the folder of one study, such as runs/NAME/ratio: `edgedistill study` writes runs.csv there."
    return [run for run in _rows(folder / "runs.csv", hint, made) if run]
