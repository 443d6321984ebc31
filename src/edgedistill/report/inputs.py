"""Everything a report is made from, read from the run folder.

Material
├── Evaluation, Fidelity, Gate     evaluation.json, fidelity.json, gate.json (edgedistill.evaluation)
├── Journal              run.json: versions, rows, what each stage noted, what was spent
├── ScoredRow            a line of test_scores.csv
├── TeacherVote          what a line of labels.jsonl says of its votes
├── Table                trials.csv
├── StudyRun             a line of a study's runs.csv
└── BundleFacts          what the bundle says of itself
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgedistill.agreement import Agreement
from edgedistill.data import RowCounts
from edgedistill.errors import RunError
from edgedistill.evaluation.files import decode_file, read_evaluation, read_fidelity, stage_hint
from edgedistill.evaluation.types import Evaluation, Fidelity, FidelityStep, Gate
from edgedistill.teacher.spending import StageSpending


@dataclass(frozen=True, slots=True)
class Journal:
    """`run.json`."""

    versions: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[RowCounts] = ()
    notes: Sequence[str] = ()
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    spending: Mapping[str, StageSpending] = field(default_factory=dict)


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
    fidelity: Fidelity | None
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

    @property
    def steps(self) -> Sequence[FidelityStep]:
        """From the teacher's labels to the served file."""
        distillation = self.evaluation.distillation
        return (*([distillation] if distillation else ()), *(self.fidelity.steps if self.fidelity else ()))


T = TypeVar("T")


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
    evaluation = read_evaluation(folder / "evaluation.json", project_file)
    scores = _scores(folder / "test_scores.csv", evaluation, stage_hint("evaluate", project_file))
    return Material(
        name=name,
        project_file=project_file,
        definitions=definitions,
        instructions=instructions,
        evaluation=evaluation,
        fidelity=read_fidelity(folder / "fidelity.json", folder / "evaluation.json", project_file),
        gate=_optional(folder / "gate.json", Gate, stage_hint("gate", project_file)),
        journal=decode_file(folder / "run.json", Journal, stage_hint("run", project_file)),
        scores=scores,
        votes=_votes(folder / "labels.jsonl", stage_hint("label", project_file)),
        trials=_optional_table(folder / "trials.csv", stage_hint("train", project_file)),
        generation=_optional(folder / "generation.json", dict[str, Any], stage_hint("generate", project_file)),
        shrinking=_optional(folder / "shrinking.json", dict[str, Any], stage_hint("train", project_file)),
        bundle=_bundle(folder, evaluation, stage_hint("export", project_file)),
        examples=examples,
        texts=(texts or {}) if examples else {},
        study=_study(study) if study else (),
    )


def _optional(path: Path, kind: type[T], hint: str) -> T | None:
    return decode_file(path, kind, hint) if path.exists() else None


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


def _bundle(folder: Path, evaluation: Evaluation, hint: str) -> BundleFacts | None:
    path = folder / "bundle" / "bundle.json"
    manifest = _optional(path, dict[str, Any], hint)
    if manifest is None:
        return None
    try:
        graph = {"int8": "onnx/model_quantized.onnx", "fp32": "onnx/model.onnx"}[manifest["precision"]]
        return BundleFacts(
            manifest["version"],
            manifest["precision"],
            manifest["files"][graph]["bytes"],
            msgspec.convert(manifest["metrics"], dict[str, Agreement]) == evaluation.agreement,
        )
    except (KeyError, TypeError, msgspec.ValidationError):
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
