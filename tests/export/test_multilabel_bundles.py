"""A multilabel student becomes a bundle that gives its labels: through the exporter, and in other readers."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from edgedistill_export import Checkpoint, ExportPlan, ExportResult, export_bundle
from edgedistill_serve import DataError, Scorer
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.task.label_decoding import sigmoid
from edgedistill_serve.task.task import join_labels, split_labels

from .test_transformers_js import SCRIPTS
from .tiny import FAMILIES, MAX_TOKENS, MOVES, Kin, rows_for, save_student

ROWS = rows_for(MOVES)
SHORT = [row for row in ROWS[:-1] if row["response"].strip() and "[SEP]" not in row["response"]]
TEMPERATURE = 2.0


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return save_student(tmp_path_factory.mktemp("student"), MOVES)


def plan_for(student: Path, **changes: object) -> ExportPlan:
    """Each label's threshold lies between the rows in the middle, so that many sets of labels come up."""
    logits = Checkpoint.load(student, MOVES, MAX_TOKENS).logits(ROWS).astype(np.float64)
    distinct = [np.unique(column) for column in logits.T]
    between = np.array([(each[len(each) // 2 - 1] + each[len(each) // 2]) / 2 for each in distinct])
    thresholds = dict(zip(MOVES.names, sigmoid(between, TEMPERATURE).tolist(), strict=True))
    plan = ExportPlan("moves", MOVES, MAX_TOKENS, "int8", 1.0, temperature=TEMPERATURE, thresholds=thresholds)
    return replace(plan, **changes)


@pytest.fixture(scope="module")
def plan(student) -> ExportPlan:
    return plan_for(student, review=ReviewRule(least_certainty=0.6))


@pytest.fixture(scope="module")
def exported(student, plan, tmp_path_factory) -> ExportResult:
    return export_bundle(student, tmp_path_factory.mktemp("bundle") / "moves", plan, ROWS)


@pytest.mark.parametrize("kin", FAMILIES, ids=lambda kin: kin.name)
def test_the_bundle_gives_the_labels_that_pytorch_gives(tmp_path: Path, kin: Kin):
    folder = save_student(tmp_path / "student", MOVES, kin)
    plan = plan_for(folder, precision="fp32")
    bundle = export_bundle(folder, tmp_path / "bundle", plan, ROWS).bundle
    logits = Checkpoint.load(folder, MOVES, MAX_TOKENS).logits(ROWS)
    scores = Scorer(bundle, threads=1).score(ROWS)
    found = np.array([list(score.probabilities.values()) for score in scores])
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits / TEMPERATURE)), atol=1e-5)
    assert tuple(score.label for score in scores) == plan.label_decoder.labels(logits)
    assert len({score.label for score in scores}) >= 4


def test_a_flip_is_a_row_of_which_any_label_changes(exported, plan, student):
    scorer = Scorer(exported.bundle, threads=1)
    assert (scorer.precision, scorer.notes) == ("int8", ())
    labels = plan.label_decoder.labels(Checkpoint.load(student, MOVES, MAX_TOKENS).logits(ROWS))
    changed = sum(score.label != label for score, label in zip(scorer.score(ROWS), labels, strict=True))
    assert (exported.steps[0].flips, exported.steps[1].flips) == (0, changed)


def test_the_manifest_the_config_and_the_card_say_what_the_task_is(exported, plan):
    manifest = exported.bundle.manifest
    assert manifest.thresholds == plan.thresholds
    assert manifest.review == ReviewRule(least_certainty=0.6)
    config = json.loads((exported.bundle.folder / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert "any number of 3 codes, or none" in (exported.bundle.folder / "README.md").read_text()


def test_without_a_threshold_for_each_label_nothing_is_exported(student, plan, tmp_path):
    lacking = replace(plan, thresholds={"praises": 0.5, "asks": 0.5})
    with pytest.raises(DataError, match="a multilabel task of 3 labels needs 3 thresholds, not 2"):
        export_bundle(student, tmp_path / "bundle", lacking, ROWS)
    assert not (tmp_path / "bundle").exists()


def test_tuning_tells_what_agreement_with_sets_of_labels_costs(student, plan, tmp_path):
    codes = [join_labels(MOVES.names[: place % 4], MOVES) for place in range(len(ROWS))]
    tuned = replace(plan, precision="auto", codes=codes)
    exported = export_bundle(student, tmp_path / "bundle", tuned, ROWS, recipes={})
    assert exported.tuning is not None
    (fp32,) = exported.tuning.tried
    assert (fp32.flips, fp32.kappa_lost, fp32.worst_recall_change, fp32.batch_flips) == (0, 0.0, 0.0, 0)
    assert 0 < fp32.calibration_error < 1
    assert "The kappa loss is the mean over codes" in (tmp_path / "bundle" / "README.md").read_text()


def test_locked_rows_are_compared_by_their_sets_of_labels(student, plan, tmp_path):
    seen: dict[str, tuple[str, ...]] = {}
    comparing = replace(plan, locked=ROWS, compare=lambda labels: seen.update(labels) or [])
    export_bundle(student, tmp_path / "bundle", comparing, ROWS)
    assert list(seen) == ["PyTorch", "ONNX fp32", "int8"]
    assert any(len(split_labels(label, MOVES)) > 1 for label in seen["PyTorch"])


# optimum and onnxruntime warn of their own future on import and load, which is not what these tests are about
@pytest.mark.filterwarnings("ignore")
def test_optimum_s_pipeline_takes_the_sigmoid_of_each_label(exported):
    optimum = pytest.importorskip("optimum.onnxruntime")

    folder = exported.bundle.folder
    load, tokenizer = optimum.ORTModelForSequenceClassification.from_pretrained, AutoTokenizer.from_pretrained(folder)
    model = load(folder, subfolder="onnx", file_name="model_quantized.onnx")
    classify = optimum.pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)
    for row, expected in zip(SHORT, _uncalibrated(exported), strict=True):
        (found,) = classify([row["response"]])
        assert {each["label"]: each["score"] for each in found} == pytest.approx(expected, abs=1e-4)


def test_transformers_js_takes_the_sigmoid_of_each_label(exported):
    given = {"folder": str(exported.bundle.folder), "dtype": "q8", "every": True}
    rows = [{"text": row["response"]} for row in SHORT]
    ended = subprocess.run(
        ["node", "classify.mjs"], input=json.dumps({**given, "rows": rows}), capture_output=True, text=True, cwd=SCRIPTS
    )
    assert ended.returncode == 0, f"{ended.stderr}\n`make test` installs what this needs into tests/js/node_modules"
    expected = _uncalibrated(exported)
    for found, wanted in zip(json.loads(ended.stdout), expected, strict=True):
        assert {each["label"]: each["score"] for each in found} == pytest.approx(wanted, abs=0.02)
    assert max(sum(row.values()) for row in expected) > 1.2


def _uncalibrated(exported: ExportResult) -> list[dict[str, float]]:
    """The scorer's probabilities at temperature 1: other readers do not calibrate."""
    return [
        {name: float(sigmoid(np.log(np.array(share / (1 - share))) * TEMPERATURE, 1.0)) for name, share in row.items()}
        for row in (score.probabilities for score in Scorer(exported.bundle, threads=1).score(SHORT))
    ]
