"""A checkpoint becomes a bundle that scores as the student does, or nothing is written."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from edgedistill_export import Checkpoint, ExportFailed, ExportPlan, export_bundle
from edgedistill_export.conversion import to_onnx
from edgedistill_export.golden import MOST_ROWS
from edgedistill_export.parity import probabilities
from edgedistill_export.quantization import RECIPES
from edgedistill_serve.bundle import Bundle
from edgedistill_serve.encoding import Encoded
from edgedistill_serve.errors import BundleError, DataError
from edgedistill_serve.manifest import Precision, ReviewRule
from edgedistill_serve.scorer import Scorer
from edgedistill_serve.task import Task

from .tiny import FAMILIES, GRADING, MAX_TOKENS, OVERLONG, PRAISE, TEXTS, Kin, rows_for, save_student


def _plan(task: Task = PRAISE, precision: Precision = "int8", max_flip_rate: float = 1.0) -> ExportPlan:
    return ExportPlan("praise", task, MAX_TOKENS, precision, max_flip_rate)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def _with_weights(source: Path, target: Path, change: str) -> None:
    """Copy a graph with its classification head negated, or its weights made NaN."""
    model = onnx.load(source)
    for weights in model.graph.initializer:
        if "classifier" in weights.name and weights.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(weights)
            weights.CopyFrom(numpy_helper.from_array(-values if change == "negated" else values * np.nan, weights.name))
    onnx.save(model, target)


def _negating(fp32: Path, int8: Path, _rows: Sequence[Encoded]) -> None:
    _with_weights(fp32, int8, "negated")


def _spoiling(fp32: Path, int8: Path, _rows: Sequence[Encoded]) -> None:
    _with_weights(fp32, int8, "nan")


def _unfaithful(student: Checkpoint, file: Path) -> None:
    to_onnx(student, file)
    _with_weights(file, file, "negated")


@pytest.fixture
def student(tmp_path: Path) -> Path:
    return save_student(tmp_path / "student", PRAISE)


@pytest.mark.parametrize("kin", FAMILIES, ids=lambda kin: kin.name)
@pytest.mark.parametrize("task", [PRAISE, GRADING], ids=["response alone", "three inputs"])
def test_the_bundle_scores_as_pytorch_does(tmp_path: Path, kin: Kin, task: Task):
    folder = save_student(tmp_path / "student", task, kin)
    rows = rows_for(task)
    exported = export_bundle(folder, tmp_path / "bundle", _plan(task, "fp32"), rows)
    logits = Checkpoint.load(folder, task, MAX_TOKENS).logits(rows)
    scores = Scorer(Bundle.load(tmp_path / "bundle"), threads=1).score(rows)
    assert [score.label for score in scores] == [task.names[i] for i in logits.argmax(axis=1)]
    found = np.array([[score.probabilities[name] for name in task.names] for score in scores])
    np.testing.assert_allclose(found, probabilities(logits, _plan(task).readout), atol=1e-5)
    assert exported.served == "fp32"


@pytest.mark.parametrize("kin", FAMILIES, ids=lambda kin: kin.name)
@pytest.mark.parametrize("task", [PRAISE, GRADING], ids=["response alone", "three inputs"])
def test_int8_scores_are_as_far_from_pytorch_as_the_chain_says(tmp_path: Path, kin: Kin, task: Task):
    folder = save_student(tmp_path / "student", task, kin)
    rows = rows_for(task)
    exported = export_bundle(folder, tmp_path / "bundle", _plan(task), rows)
    logits = Checkpoint.load(folder, task, MAX_TOKENS).logits(rows)
    scorer = Scorer(exported.bundle, threads=1)
    scores = scorer.score(rows)
    labels = [task.names[i] for i in logits.argmax(axis=1)]
    found = np.array([[score.probabilities[name] for name in task.names] for score in scores])
    converted, quantized = exported.chain
    assert (scorer.precision, scorer.notes) == ("int8", ())
    assert converted.flips == 0
    assert sum(score.label != label for score, label in zip(scores, labels, strict=True)) == quantized.flips
    assert np.abs(found - probabilities(logits, _plan(task).readout)).max() == pytest.approx(
        quantized.max_probability_difference, abs=1e-5
    )
    assert quantized.max_probability_difference > 1e-4  # int8 it is, and not fp32 twice


def test_an_overlong_response_is_scored_and_marked_as_cut(student: Path, tmp_path: Path):
    exported = export_bundle(student, tmp_path / "bundle", _plan(), rows_for(PRAISE))
    (score,) = Scorer(exported.bundle, threads=1).score([OVERLONG])
    assert score.truncated
    assert score.tokens > MAX_TOKENS


# optimum and onnxruntime warn of their own future on import and load, which is not what these tests are about
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_optimum_opens_the_bundle_and_agrees(student: Path, tmp_path: Path, precision: Precision):
    from optimum.onnxruntime import ORTModelForSequenceClassification

    exported = export_bundle(student, tmp_path / "bundle", _plan(), rows_for(PRAISE))
    file = exported.bundle.model_file(precision)
    assert file is not None
    model = ORTModelForSequenceClassification.from_pretrained(
        tmp_path / "bundle", subfolder="onnx", file_name=file.name
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "bundle")
    texts = TEXTS[:6]
    logits = np.array([model(**tokenizer(text, return_tensors="np"))[0][0] for text in texts])
    served = Scorer(export_bundle(student, tmp_path / "again", _plan(precision=precision), rows_for(PRAISE)).bundle)
    expected = [[score.probabilities[name] for name in PRAISE.names] for score in served.score(texts)]
    np.testing.assert_allclose(probabilities(logits, _plan().readout), expected, atol=1e-5)
    assert model.config.id2label == dict(enumerate(PRAISE.names))
    assert model.config.problem_type == "single_label_classification"


def test_transformers_cuts_where_the_scorer_does(student: Path, tmp_path: Path):
    export_bundle(student, tmp_path / "bundle", _plan(), rows_for(PRAISE))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "bundle")
    checkpoint = Checkpoint.load(student, PRAISE, MAX_TOKENS)
    (encoded,) = checkpoint.encoder.encode([{"response": OVERLONG}])
    assert tokenizer(OVERLONG, truncation=True)["input_ids"] == list(encoded.ids)


def test_int8_has_fp32_beside_it(student: Path, tmp_path: Path):
    exported = export_bundle(student, tmp_path / "bundle", _plan(), rows_for(PRAISE))
    assert set(_contents(tmp_path / "bundle")) == {
        "bundle.json",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "onnx/model.onnx",
        "onnx/model_quantized.onnx",
        "golden.json",
        "README.md",
    }
    assert set(exported.bundle.golden.tolerance) == {"int8", "fp32"}
    assert exported.bytes == (tmp_path / "bundle/onnx/model_quantized.onnx").stat().st_size
    assert exported.notes == ()


def test_int8_alone_is_served_where_the_plan_leaves_fp32_out(student: Path, tmp_path: Path):
    exported = export_bundle(student, tmp_path / "bundle", replace(_plan(), fp32_beside=False), rows_for(PRAISE))
    assert "onnx/model.onnx" not in exported.bundle.manifest.files
    scorer = Scorer(Bundle.load(tmp_path / "bundle"))
    assert scorer.precision == "int8"


def test_fp32_that_is_served_is_not_left_out(student: Path, tmp_path: Path):
    plan = replace(_plan(max_flip_rate=0.05), fp32_beside=False)
    exported = export_bundle(student, tmp_path / "bundle", plan, rows_for(PRAISE), quantize=_negating)
    assert exported.served == "fp32"
    assert "onnx/model.onnx" in exported.bundle.manifest.files


def test_a_plan_for_fp32_makes_no_int8(student: Path, tmp_path: Path):
    exported = export_bundle(student, tmp_path / "bundle", _plan(precision="fp32"), rows_for(PRAISE))
    assert "onnx/model_quantized.onnx" not in exported.bundle.manifest.files
    assert len(exported.chain) == 1
    assert exported.notes == ()


def test_int8_that_flips_too_many_labels_is_left_out_with_a_note(student: Path, tmp_path: Path):
    rows = rows_for(PRAISE)
    exported = export_bundle(student, tmp_path / "bundle", _plan(max_flip_rate=0.05), rows, quantize=_negating)
    quantized = exported.chain[1]
    assert quantized.flips == len(rows)
    assert (exported.served, exported.bundle.manifest.precision) == ("fp32", "fp32")
    assert "onnx/model_quantized.onnx" not in exported.bundle.manifest.files
    (note,) = exported.notes
    assert note.startswith("int8 changes the label of 17 of 17 validation rows (100.00%; export.max_flip_rate allows 5")
    assert note.endswith("so fp32 is served.")
    assert note in (tmp_path / "bundle/README.md").read_text()


def test_as_many_flips_as_are_allowed_are_served(student: Path, tmp_path: Path):
    exported = export_bundle(
        student, tmp_path / "bundle", _plan(max_flip_rate=1.0), rows_for(PRAISE), quantize=_negating
    )
    assert exported.served == "int8"


def test_int8_that_gives_no_numbers_is_left_out_with_a_note(student: Path, tmp_path: Path):
    exported = export_bundle(student, tmp_path / "bundle", _plan(), rows_for(PRAISE), quantize=_spoiling)
    assert exported.served == "fp32"
    assert exported.notes[0].startswith("There is no int8 graph that works, so fp32 is served: ")


def test_a_conversion_that_changes_the_model_leaves_the_old_bundle_whole(student: Path, tmp_path: Path):
    export_bundle(student, tmp_path / "bundle", _plan(), rows_for(PRAISE))
    before = _contents(tmp_path)
    with pytest.raises(ExportFailed, match="ONNX fp32 is not the model that PyTorch is"):
        export_bundle(student, tmp_path / "bundle", _plan(), rows_for(PRAISE), convert=_unfaithful)
    assert _contents(tmp_path) == before


def test_a_failed_export_leaves_nothing_where_nothing_was(student: Path, tmp_path: Path):
    with pytest.raises(ExportFailed):
        export_bundle(student, tmp_path / "bundle", _plan(), rows_for(PRAISE), convert=_unfaithful)
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Give up root's right to write everywhere, where the tests run as root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_target_that_cannot_be_written_keeps_the_old_bundle_whole():
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders cannot be entered by another user
        place = Path(name)
        student = save_student(place / "student", PRAISE)
        export_bundle(student, place / "shelf" / "bundle", _plan(), rows_for(PRAISE))
        before = _contents(place / "shelf")
        (student / "model.safetensors").chmod(0o644)
        (place / "shelf").chmod(0o555)
        place.chmod(0o755)
        with _as_nobody(), pytest.raises(BundleError, match="cannot be written"):
            export_bundle(student, place / "shelf" / "bundle", _plan(precision="fp32"), rows_for(PRAISE))
        assert _contents(place / "shelf") == before
        (place / "shelf").chmod(0o755)


def test_a_folder_of_something_else_is_not_replaced(student: Path, tmp_path: Path):
    before = _contents(student)
    with pytest.raises(BundleError, match="no bundle"):
        export_bundle(student, student, _plan(), rows_for(PRAISE))
    assert _contents(student) == before


def test_the_same_checkpoint_gives_the_same_version(student: Path, tmp_path: Path):
    first = export_bundle(student, tmp_path / "first", _plan(), rows_for(PRAISE))
    second = export_bundle(student, tmp_path / "second", _plan(), rows_for(PRAISE))
    assert first.bundle.manifest.files == second.bundle.manifest.files
    assert first.bundle.manifest.version == second.bundle.manifest.version


def test_what_the_plan_says_is_in_the_manifest(student: Path, tmp_path: Path):
    plan = ExportPlan(
        "praise",
        PRAISE,
        MAX_TOKENS,
        "int8",
        1.0,
        temperature=2.0,
        review=ReviewRule(thresholds={"process": 0.7}),
        metrics={"student": {"rows": 9}},
        provenance={"teacher": {"model": "m"}},
    )
    manifest = export_bundle(student, tmp_path / "bundle", plan, rows_for(PRAISE)).bundle.manifest
    assert (manifest.name, manifest.task, manifest.max_tokens) == ("praise", PRAISE, MAX_TOKENS)
    assert (manifest.temperature, manifest.review) == (2.0, plan.review)
    assert manifest.metrics == {"student": {"rows": 9}}
    assert manifest.provenance["teacher"] == {"model": "m"}
    assert [step["after"] for step in manifest.provenance["export"]["chain"]] == ["ONNX fp32", "int8"]
    assert "torch" in manifest.provenance["export"]["versions"]


@pytest.mark.parametrize(("recipe", "invariant"), [("int8-kept", True), ("int8-dynamic", False)])
def test_the_bundle_says_whether_rows_may_share_a_batch(student: Path, tmp_path: Path, recipe: str, invariant: bool):
    made = export_bundle(student, tmp_path / "bundle", _plan(), rows_for(PRAISE), quantize=RECIPES[recipe])
    assert made.served == "int8"
    assert made.bundle.manifest.batch_invariant == invariant


def test_the_temperature_softens_what_the_chain_measures(student: Path, tmp_path: Path):
    rows = rows_for(PRAISE)
    sharp = export_bundle(student, tmp_path / "sharp", _plan(), rows)
    soft_plan = ExportPlan("praise", PRAISE, MAX_TOKENS, "int8", 1.0, temperature=50.0)
    soft = export_bundle(student, tmp_path / "soft", soft_plan, rows)
    assert soft.chain[1].max_probability_difference < sharp.chain[1].max_probability_difference / 5


def test_no_path_of_this_machine_is_in_the_bundle(student: Path, tmp_path: Path):
    for name, where in (("config.json", "_name_or_path"), ("tokenizer_config.json", "name_or_path")):
        content = json.loads((student / name).read_text())
        (student / name).write_text(json.dumps(content | {where: str(student)}))
    export_bundle(student, tmp_path / "bundle", _plan(), rows_for(PRAISE))
    assert not [name for name, content in _contents(tmp_path / "bundle").items() if str(tmp_path).encode() in content]


def test_golden_rows_are_few_and_of_the_validation_rows(student: Path, tmp_path: Path):
    rows = [{"response": f"{text} {i}", "id": "not carried"} for i in range(4) for text in TEXTS]
    golden = export_bundle(student, tmp_path / "bundle", _plan(), rows).bundle.golden
    assert len(golden.rows) == MOST_ROWS
    assert all(row.inputs in [{"response": given["response"]} for given in rows] for row in golden.rows)


def test_special_tokens_are_named_though_the_checkpoint_does_not_list_them(student: Path, tmp_path: Path):
    listed = json.loads((student / "special_tokens_map.json").read_text())
    (student / "special_tokens_map.json").unlink()
    export_bundle(student, tmp_path / "bundle", _plan(), rows_for(PRAISE))
    assert json.loads((tmp_path / "bundle/special_tokens_map.json").read_text()) == listed


def test_an_export_without_rows_to_check_with_is_refused(student: Path, tmp_path: Path):
    with pytest.raises(ExportFailed, match="no validation row"):
        export_bundle(student, tmp_path / "bundle", _plan(), [])


def test_the_row_that_lacks_an_input_is_named(tmp_path: Path):
    student = save_student(tmp_path / "student", GRADING)
    rows = [*rows_for(GRADING)[:2], {"response": "ok"}]
    with pytest.raises(DataError, match="validation row 3: the input 'question' is missing"):
        export_bundle(student, tmp_path / "bundle", _plan(GRADING), rows)


def test_a_student_whose_training_diverged_is_refused(student: Path, tmp_path: Path):
    weights = load_file(student / "model.safetensors")
    weights["classifier.bias"] = torch.full_like(weights["classifier.bias"], float("nan"))
    save_file(weights, student / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExportFailed, match="scores that are no numbers"):
        export_bundle(student, tmp_path / "bundle", _plan(), rows_for(PRAISE))
    assert not (tmp_path / "bundle").exists()


def test_exporting_is_silent(student: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    export_bundle(student, tmp_path / "bundle", _plan(), rows_for(PRAISE))
    assert capfd.readouterr() == ("", "")


def test_a_bundle_moves_to_another_place_and_scores_the_same(student: Path, tmp_path: Path):
    exported = export_bundle(student, tmp_path / "bundle", _plan(), rows_for(PRAISE))
    shutil.rmtree(student)
    here = Scorer(exported.bundle, threads=1).score(TEXTS)
    there = Scorer(Bundle.load(shutil.move(tmp_path / "bundle", tmp_path / "elsewhere")), threads=1).score(TEXTS)
    assert there == here
