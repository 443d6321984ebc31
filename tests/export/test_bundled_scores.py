"""A bundle scores as the student does, wherever it is opened."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from edgedistill_export import Checkpoint, ExportPlan, ExportResult, export_bundle
from edgedistill_export.verify.parity import probabilities
from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.manifest import Precision
from edgedistill_serve.scoring.scorer import Scorer
from edgedistill_serve.task.task import Task

from .exporting import plan_of
from .tiny import FAMILIES, GRADING, MAX_TOKENS, OVERLONG, PRAISE, TEXTS, Kin, rows_for, save_student


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_student(tmp_path_factory.mktemp("student"), PRAISE)


@pytest.fixture(scope="module")
def exported(student: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """The student's bundle of int8, with fp32 beside it."""
    return export_bundle(student, tmp_path_factory.mktemp("export") / "bundle", plan_of(), rows_for(PRAISE))


@pytest.mark.parametrize("kin", FAMILIES, ids=lambda kin: kin.name)
@pytest.mark.parametrize("task", [PRAISE, GRADING], ids=["response alone", "three inputs"])
def test_the_bundle_scores_as_pytorch_does(tmp_path: Path, kin: Kin, task: Task):
    folder = save_student(tmp_path / "student", task, kin)
    rows = rows_for(task)
    exported = export_bundle(folder, tmp_path / "bundle", plan_of(task, "fp32"), rows)
    logits = Checkpoint.load(folder, task, MAX_TOKENS).logits(rows)
    scores = Scorer(Bundle.load(tmp_path / "bundle"), threads=1).score(rows)
    assert [score.label for score in scores] == [task.names[i] for i in logits.argmax(axis=1)]
    found = np.array([[score.probabilities[name] for name in task.names] for score in scores])
    np.testing.assert_allclose(found, probabilities(logits, plan_of(task).label_decoder), atol=1e-5)
    assert exported.served == "fp32"


@pytest.mark.parametrize("kin", FAMILIES, ids=lambda kin: kin.name)
@pytest.mark.parametrize("task", [PRAISE, GRADING], ids=["response alone", "three inputs"])
def test_int8_scores_are_as_far_from_pytorch_as_the_chain_says(tmp_path: Path, kin: Kin, task: Task):
    folder = save_student(tmp_path / "student", task, kin)
    rows = rows_for(task)
    exported = export_bundle(folder, tmp_path / "bundle", plan_of(task), rows)
    logits = Checkpoint.load(folder, task, MAX_TOKENS).logits(rows)
    scorer = Scorer(exported.bundle, threads=1)
    scores = scorer.score(rows)
    labels = [task.names[i] for i in logits.argmax(axis=1)]
    found = np.array([[score.probabilities[name] for name in task.names] for score in scores])
    converted, quantized = exported.steps
    assert (scorer.precision, scorer.notes) == ("int8", ())
    assert converted.flips == 0
    assert sum(score.label != label for score, label in zip(scores, labels, strict=True)) == quantized.flips
    assert np.abs(found - probabilities(logits, plan_of(task).label_decoder)).max() == pytest.approx(
        quantized.max_probability_difference, abs=1e-5
    )
    assert quantized.max_probability_difference > 1e-4  # int8 it is, and not fp32 twice


def test_an_overlong_response_is_scored_and_marked_as_cut(exported: ExportResult):
    (score,) = Scorer(exported.bundle, threads=1).score([OVERLONG])
    assert score.truncated
    assert score.tokens > MAX_TOKENS


# optimum and onnxruntime warn of their own future on import and load, which is not what these tests are about
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_optimum_opens_the_bundle_and_agrees(
    student: Path, exported: ExportResult, tmp_path: Path, precision: Precision
):
    loader = pytest.importorskip("optimum.onnxruntime").ORTModelForSequenceClassification

    folder = exported.bundle.folder
    file = exported.bundle.model_file(precision)
    assert file is not None
    model = loader.from_pretrained(folder, subfolder="onnx", file_name=file.name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = TEXTS[:6]
    logits = np.array([model(**tokenizer(text, return_tensors="np"))[0][0] for text in texts])
    served = Scorer(export_bundle(student, tmp_path / "again", plan_of(precision=precision), rows_for(PRAISE)).bundle)
    expected = [[score.probabilities[name] for name in PRAISE.names] for score in served.score(texts)]
    np.testing.assert_allclose(probabilities(logits, plan_of().label_decoder), expected, atol=1e-5)
    assert model.config.id2label == dict(enumerate(PRAISE.names))
    assert model.config.problem_type == "single_label_classification"


def test_transformers_cuts_where_the_scorer_does(student: Path, exported: ExportResult):
    tokenizer = AutoTokenizer.from_pretrained(exported.bundle.folder)
    checkpoint = Checkpoint.load(student, PRAISE, MAX_TOKENS)
    (encoded,) = checkpoint.encoder.encode([{"response": OVERLONG}])
    assert tokenizer(OVERLONG, truncation=True)["input_ids"] == list(encoded.ids)


def test_the_temperature_softens_what_the_chain_measures(student: Path, exported: ExportResult, tmp_path: Path):
    soft_plan = ExportPlan("praise", PRAISE, MAX_TOKENS, "int8", 1.0, temperature=50.0)
    soft = export_bundle(student, tmp_path / "soft", soft_plan, rows_for(PRAISE))
    assert soft.steps[1].max_probability_difference < exported.steps[1].max_probability_difference / 5


def test_a_bundle_moves_to_another_place_and_scores_the_same(tmp_path: Path):
    student = save_student(tmp_path / "student", PRAISE)
    exported = export_bundle(student, tmp_path / "bundle", plan_of(), rows_for(PRAISE))
    shutil.rmtree(student)
    here = Scorer(exported.bundle, threads=1).score(TEXTS)
    there = Scorer(Bundle.load(shutil.move(tmp_path / "bundle", tmp_path / "elsewhere")), threads=1).score(TEXTS)
    assert there == here
