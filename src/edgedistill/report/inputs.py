"""The inputs of a report, read from the run folder.

ReportInputs
├── Evaluation, Fidelity, Gate   evaluation.json, fidelity.json, gate.json (edgedistill.evaluation)
├── RunLog                       run.json: versions, row counts, entries of stages, spending
├── ScoredRow                    a line of test_scores.csv
├── TeacherVote                  the votes in a line of labels.jsonl
├── Table                        trials.csv
├── LearningCurve                learning_curve.json (edgedistill.decisions)
├── StudyRun                     a line of a study's runs.csv
├── BundleSummary                bundle.json
└── EstimateTable                estimates.json (edgedistill.estimates)
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from edgedistill.agreement import Agreement
from edgedistill.coding import CodingSummary
from edgedistill.data import RowCounts
from edgedistill.decisions.learning_curve import LEARNING_CURVE_FILE, LearningCurve, read_learning_curve
from edgedistill.errors import RunError
from edgedistill.estimates.results import ESTIMATES_FILE, ESTIMATES_VERSION, EstimateTable
from edgedistill.evaluation.comparison import COMPARISON, BundleComparison, read_comparison
from edgedistill.evaluation.files import decode_file, read_evaluation, read_fidelity, stage_hint
from edgedistill.evaluation.types import Evaluation, Fidelity, FidelityStep, Gate
from edgedistill.sizes import SIZES_FILE, SizeChoice, read_sizes
from edgedistill.teacher.spending import StageSpending
from edgedistill_serve.bundle.manifest import NoveltyFit
from edgedistill_serve.grading.delimited import read_records


@dataclass(frozen=True, slots=True)
class RunLog:
    """`run.json`."""

    versions: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[RowCounts] = ()
    notes: Sequence[str] = ()
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    spending: Mapping[str, StageSpending] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One test row: its codes, the probability of the student's, and the decision."""

    id: str
    human: str
    student: str
    probability: float
    decision: str
    reason: str
    teacher: str


@dataclass(frozen=True, slots=True)
class TeacherVote:
    """A teacher's label of a response, and the share of the votes for it."""

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
    """One student of a study, evaluated on one set of test rows."""

    study: str
    task: str
    learner: str
    test: str
    synthetic_share: float | None
    macro_f1: float
    leak: str


@dataclass(frozen=True, slots=True)
class BundleSummary:
    """The bundle of a run.

    Attributes:
        version: Its version.
        precision: That of the served graph.
        bytes: Size of the served graph.
        same_figures: Whether its model card has the same figures as the report.
        novelty: How its measure of novelty was fitted; None if it has none.
    """

    version: str
    precision: str
    bytes: int
    same_figures: bool
    novelty: NoveltyFit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInputs:
    """The inputs of a report.

    Attributes:
        name: The project's name.
        project_file: Its file in the commands of the page, such as ``praise/project.yaml``.
        definitions: By label, in codebook order.
        fidelity: None before an export of this evaluation.
        gate: None without a teacher.
        votes: Those of the responses that the teacher labelled for training; empty without labels.
        trials: `trials.csv`.
        generation: `generation.json`; None without synthetic responses.
        shrinking: `shrinking.json`; None without a smaller student.
        sizes: `sizes.json`; None without students of several sizes.
        bundle: None before an export.
        learning_curve: What `edgedistill review curve` measured; None if it did not.
        learning_curve_is_current: Whether it was measured on the train and validation rows of this run.
        examples: Number of misclassified responses that are shown with their texts.
        texts: Inputs of the test rows that may be shown, by id.
        questions: The text of each question of the test rows, by `Response.question`.
        study: Runs of a study that is shown, too.
        coding: Where the human codes come from; None if they were not made on the coding page.
        estimates: `estimates.json`; None unless `edgedistill estimate` was run.
        comparison: `comparison.json`: the bundle and the one in use; None unless the project names one.
    """

    name: str
    project_file: str
    definitions: Mapping[str, str]
    evaluation: Evaluation
    fidelity: Fidelity | None
    gate: Gate | None
    run_log: RunLog
    scores: Sequence[ScoredRow]
    votes: Sequence[TeacherVote] = ()
    trials: Table | None = None
    generation: Mapping[str, Any] | None = None
    shrinking: Mapping[str, Any] | None = None
    sizes: SizeChoice | None = None
    bundle: BundleSummary | None = None
    learning_curve: LearningCurve | None = None
    learning_curve_is_current: bool = True
    examples: int = 0
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    questions: Mapping[str, str] = field(default_factory=dict)
    study: Sequence[StudyRun] = ()
    coding: CodingSummary | None = None
    estimates: EstimateTable | None = None
    comparison: BundleComparison | None = None

    @property
    def served(self) -> Evaluation:
        """The evaluation with the served graph as its student, where an export measured it; else `evaluation`."""
        return self.fidelity.of_served(self.evaluation) if self.fidelity else self.evaluation

    @property
    def is_served(self) -> bool:
        """Whether `served` has the figures of the served graph."""
        return self.fidelity is not None and self.fidelity.agreement is not None

    @property
    def columns(self) -> Mapping[str, Agreement]:
        """The agreement of each coding with the human codes, by its name in tables, the model first."""
        if self.fidelity is None or self.fidelity.agreement is None:
            return self.evaluation.agreement
        return {
            self.fidelity.served_name: self.fidelity.agreement,
            "student (PyTorch)": self.evaluation.student,
            **{name: each for name, each in self.evaluation.agreement.items() if name != "student"},
        }

    @property
    def steps(self) -> Sequence[FidelityStep]:
        """From the teacher's labels to the served file."""
        distillation = self.evaluation.distillation
        return (*([distillation] if distillation else ()), *(self.fidelity.steps if self.fidelity else ()))


T = TypeVar("T")


class RunFiles(Protocol):
    """A run folder: the paths of its files, and which of them this project's stages wrote."""

    def file(self, name: str) -> Path:
        """Return the path of a file."""

    def has(self, name: str) -> bool:
        """Return whether it exists."""


def read_report_inputs(
    folder: RunFiles,
    *,
    name: str,
    project_file: str,
    definitions: Mapping[str, str],
    examples: int = 0,
    texts: Mapping[str, Mapping[str, str]] | None = None,
    study: Path | None = None,
    coding: CodingSummary | None = None,
) -> ReportInputs:
    """Read a run folder; only `evaluation.json`, `test_scores.csv` and `run.json` are required.

    Args:
        folder: The run folder.
        name: The project's name.
        project_file: Its file in the commands of the page, such as ``praise/project.yaml``.
        definitions: By label, in codebook order.
        examples: Number of misclassified responses that are shown with their texts.
        texts: Inputs of test rows, by id; they are dropped if `examples` is 0.
        study: A folder with a study's `runs.csv`.
        coding: Where the human codes come from.

    Raises:
        RunError: A required file is missing, or a file is damaged or of another version.
    """
    file = folder.file("evaluation.json")
    evaluation = read_evaluation(file)
    scores = _read_scores(folder.file("test_scores.csv"), stage_hint("evaluate"), evaluation)

    def optional(name: str, stage: str, read: Callable[[Path, str], T]) -> T | None:
        return read(folder.file(name), stage_hint(stage)) if folder.has(name) else None

    fidelity = optional("fidelity.json", "export", lambda path, _: read_fidelity(path, file))
    served = {"student": fidelity.agreement} if fidelity and fidelity.agreement else {}

    def read_bundle(path: Path, hint: str) -> BundleSummary:
        return _read_bundle(path, hint, {**evaluation.agreement, **served})

    return ReportInputs(
        name=name,
        project_file=project_file,
        definitions=definitions,
        evaluation=evaluation,
        fidelity=fidelity,
        gate=optional("gate.json", "gate", lambda path, hint: decode_file(path, Gate, hint)),
        run_log=decode_file(folder.file("run.json"), RunLog, stage_hint("run")),
        scores=scores,
        votes=optional("labels.jsonl", "label", _read_votes) or (),
        trials=optional("trials.csv", "train", _read_table),
        generation=optional("generation.json", "generate", _read_object),
        shrinking=optional("shrinking.json", "train", _read_object),
        sizes=optional(SIZES_FILE, "train", read_sizes),
        bundle=optional("bundle/bundle.json", "export", read_bundle),
        learning_curve=optional(LEARNING_CURVE_FILE, "report", lambda path, _: read_learning_curve(path)),
        examples=examples,
        texts=(texts or {}) if examples else {},
        study=_read_study(study) if study else (),
        coding=coding,
        estimates=optional(ESTIMATES_FILE, "estimate", _read_estimates),
        comparison=optional(COMPARISON, "compare", lambda path, _: read_comparison(path)),
    )


def _read_estimates(path: Path, hint: str) -> EstimateTable:
    table = decode_file(path, EstimateTable, hint)
    if table.schema_version != ESTIMATES_VERSION:
        raise RunError(
            f"has schema version {table.schema_version}; this version of EdgeDistill reads {ESTIMATES_VERSION}",
            where=str(path),
            hint=hint,
        )
    return table


def _read_object(path: Path, hint: str) -> Mapping[str, Any]:
    return decode_file(path, dict[str, Any], hint)


def _read_table(path: Path, hint: str) -> Table:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = list(read_records(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise RunError(f"cannot be read ({why})", where=str(path), hint=hint) from None
    if not lines or any(len(line) != len(lines[0]) for line in lines):
        raise RunError("is damaged: its lines differ in length", where=str(path), hint=hint)
    return Table(lines[0], lines[1:])


def _read_rows(path: Path, hint: str, parse: Callable[[dict[str, str]], T]) -> list[T]:
    try:
        return [parse(row) for row in _read_table(path, hint)]
    except (KeyError, ValueError) as error:
        raise RunError(f"is damaged ({error})", where=str(path), hint=hint) from None


def _read_scores(path: Path, hint: str, evaluation: Evaluation) -> Sequence[ScoredRow]:
    def parse(row: dict[str, str]) -> ScoredRow:
        probability = float(row["certainty"] if evaluation.is_multilabel else row[f"p:{row['student']}"])
        rest = (row[name] for name in ("decision", "reason", "teacher"))
        return ScoredRow(row["id"], row["human"], row["student"], probability, *rest)

    rows = _read_rows(path, hint, parse)
    if len(rows) != evaluation.rows:
        raise RunError(f"has {len(rows)} rows, and evaluation.json has {evaluation.rows}", where=str(path), hint=hint)
    return rows


def _read_votes(path: Path, hint: str) -> Sequence[TeacherVote]:
    try:
        return msgspec.json.decode(b"[" + b",".join(path.read_bytes().splitlines()) + b"]", type=list[TeacherVote])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        raise RunError("is damaged", where=str(path), hint=hint) from None


def _read_bundle(path: Path, hint: str, agreement: Mapping[str, Agreement]) -> BundleSummary:
    manifest = _read_object(path, hint)
    try:
        graph = {"int8": "onnx/model_quantized.onnx", "fp32": "onnx/model.onnx"}[manifest["precision"]]
        return BundleSummary(
            manifest["version"],
            manifest["precision"],
            manifest["files"][graph]["bytes"],
            msgspec.convert(manifest["metrics"], dict[str, Agreement]) == agreement,
            msgspec.convert(manifest.get("novelty"), NoveltyFit | None),
        )
    except (KeyError, TypeError, msgspec.ValidationError):
        raise RunError("is of another version or damaged", where=str(path), hint=hint) from None


def _read_study(folder: Path) -> Sequence[StudyRun]:
    def parse(row: dict[str, str]) -> StudyRun | None:
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
    return [run for run in _read_rows(folder / "runs.csv", hint, parse) if run]
