"""A checkpoint becomes a bundle that scores as the student does, or nothing is written."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edgedistill_export import ExportPlan, export_bundle
from edgedistill_export.quantize.recipes import Recipe, quantize_int8
from edgedistill_export.verify.golden import MAX_ROWS
from edgedistill_serve.bundle.guarantee import Guarantee
from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.scoring.scorer import Scorer

from ..promises import promise
from .exporting import contents_of, negating, plan_of, spoiling
from .tiny import GRADING, MAX_TOKENS, PRAISE, TEXTS, quantized_by_onnxruntime, rows_for, save_student


@pytest.fixture
def student(tmp_path: Path) -> Path:
    return save_student(tmp_path / "student", PRAISE)


def test_int8_has_fp32_beside_it(student: Path, tmp_path: Path):
    exported = export_bundle(student, tmp_path / "bundle", plan_of(), rows_for(PRAISE))
    assert set(contents_of(tmp_path / "bundle")) == {
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
    exported = export_bundle(student, tmp_path / "bundle", replace(plan_of(), fp32_beside=False), rows_for(PRAISE))
    assert "onnx/model.onnx" not in exported.bundle.manifest.files
    scorer = Scorer(Bundle.load(tmp_path / "bundle"))
    assert scorer.precision == "int8"


def test_fp32_that_is_served_is_not_left_out(student: Path, tmp_path: Path):
    plan = replace(plan_of(max_flip_rate=0.05), fp32_beside=False)
    exported = export_bundle(student, tmp_path / "bundle", plan, rows_for(PRAISE), quantize=negating)
    assert exported.served == "fp32"
    assert "onnx/model.onnx" in exported.bundle.manifest.files


def test_a_plan_for_fp32_makes_no_int8(student: Path, tmp_path: Path):
    exported = export_bundle(student, tmp_path / "bundle", plan_of(precision="fp32"), rows_for(PRAISE))
    assert "onnx/model_quantized.onnx" not in exported.bundle.manifest.files
    assert len(exported.steps) == 1
    assert exported.notes == ()


def test_int8_that_flips_too_many_labels_is_left_out_with_a_note(student: Path, tmp_path: Path):
    rows = rows_for(PRAISE)
    exported = export_bundle(student, tmp_path / "bundle", plan_of(max_flip_rate=0.05), rows, quantize=negating)
    quantized = exported.steps[1]
    assert quantized.flips == len(rows)
    assert (exported.served, exported.bundle.manifest.precision) == ("fp32", "fp32")
    assert "onnx/model_quantized.onnx" not in exported.bundle.manifest.files
    (note,) = exported.notes
    assert note.startswith("int8 changes the label of 17 of 17 validation rows (100.00%; export.max_flip_rate allows 5")
    assert note.endswith("so fp32 is served.")
    assert note in (tmp_path / "bundle/README.md").read_text()


def test_a_single_flip_of_few_rows_is_explained(student: Path, tmp_path: Path):
    rows = rows_for(PRAISE)[:1]
    exported = export_bundle(student, tmp_path / "bundle", plan_of(max_flip_rate=0.05), rows, quantize=negating)
    assert exported.notes[0].endswith(
        "With fewer than 20 validation rows a single change is too many: code more rows, or set export.max_flip_rate "
        "to 1 for a file of about a quarter of the size."
    )


def test_as_many_flips_as_are_allowed_are_served(student: Path, tmp_path: Path):
    exported = export_bundle(
        student, tmp_path / "bundle", plan_of(max_flip_rate=1.0), rows_for(PRAISE), quantize=negating
    )
    assert exported.served == "int8"


def test_int8_that_gives_no_numbers_is_left_out_with_a_note(student: Path, tmp_path: Path):
    exported = export_bundle(student, tmp_path / "bundle", plan_of(), rows_for(PRAISE), quantize=spoiling)
    assert exported.served == "fp32"
    assert exported.notes[0].startswith("The int8 graph failed, so fp32 is served: ")


def test_the_same_checkpoint_gives_the_same_version(student: Path, tmp_path: Path):
    first = export_bundle(student, tmp_path / "first", plan_of(), rows_for(PRAISE))
    second = export_bundle(student, tmp_path / "second", plan_of(), rows_for(PRAISE))
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
    assert [step["after"] for step in manifest.provenance["export"]["steps"]] == ["ONNX fp32", "int8"]
    assert "torch" in manifest.provenance["export"]["versions"]


@pytest.mark.parametrize(("recipe", "invariant"), [(quantize_int8, True), (quantized_by_onnxruntime, False)])
def test_the_bundle_says_whether_rows_may_share_a_batch(student: Path, tmp_path: Path, recipe: Recipe, invariant: bool):
    made = export_bundle(student, tmp_path / "bundle", plan_of(), rows_for(PRAISE), quantize=recipe)
    assert made.served == "int8"
    assert made.bundle.manifest.batch_invariant == invariant


def test_no_path_of_this_machine_is_in_the_bundle(student: Path, tmp_path: Path):
    for name, where in (("config.json", "_name_or_path"), ("tokenizer_config.json", "name_or_path")):
        content = json.loads((student / name).read_text())
        (student / name).write_text(json.dumps(content | {where: str(student)}))
    export_bundle(student, tmp_path / "bundle", plan_of(), rows_for(PRAISE))
    assert not [name for name, content in contents_of(tmp_path / "bundle").items() if str(tmp_path).encode() in content]


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_bundle_states_the_agreement_of_the_graph_that_it_serves(student: Path, tmp_path: Path, precision: str):
    locked = rows_for(PRAISE)
    seen: list[list[str]] = []

    def measure(labels):
        seen.append(list(labels))
        return {"rows": len(labels), "accuracy": 0.125}

    of_pytorch = {"rows": len(locked), "accuracy": 0.875}
    plan = replace(
        plan_of(), precision=precision, locked=locked, measure=measure, metrics={"student": of_pytorch, "teacher": {}}
    )
    bundle = export_bundle(student, tmp_path / "bundle", plan, locked).bundle
    assert seen == [[score.label for score in Scorer(bundle, threads=1).score(locked)]]
    assert bundle.manifest.metrics == {"student": {"rows": len(locked), "accuracy": 0.125}, "teacher": {}}
    card = (tmp_path / "bundle/README.md").read_text()
    assert f"The student's figures are those of the {precision} graph that is served." in card
    assert "0.125" in card
    assert "0.875" not in card


def test_golden_rows_are_validation_rows_only_if_the_plan_says_so(student: Path, tmp_path: Path):
    rows = [{"response": f"{text} {i}", "id": "not carried"} for i in range(4) for text in TEXTS]
    plan = replace(plan_of(), golden="validation")
    golden = export_bundle(student, tmp_path / "bundle", plan, rows).bundle.golden
    assert (
        "golden.json` contains the texts of 32 validation rows verbatim" in (tmp_path / "bundle/README.md").read_text()
    )
    assert len(golden.rows) == MAX_ROWS
    assert all(row.inputs in [{"response": given["response"]} for given in rows] for row in golden.rows)


def test_special_tokens_are_named_though_the_checkpoint_does_not_list_them(student: Path, tmp_path: Path):
    (student / "special_tokens_map.json").unlink(missing_ok=True)  # transformers 5 writes none
    export_bundle(student, tmp_path / "bundle", plan_of(), rows_for(PRAISE))
    assert json.loads((tmp_path / "bundle/special_tokens_map.json").read_text()) == {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }


def test_exporting_is_silent(student: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    export_bundle(student, tmp_path / "bundle", plan_of(), rows_for(PRAISE))
    assert capfd.readouterr() == ("", "")


def test_the_bundle_records_for_which_questions_the_rule_was_shown(tmp_path: Path):
    folder = save_student(tmp_path / "student", GRADING)
    questions = ("why is it hot", "what is a circuit")
    rows = [
        {"question": question, "reference_answer": "because", "response": text}
        for question in questions
        for text in ("great job", "you worked hard", "the answer")
    ]
    exported = export_bundle(folder, tmp_path / "bundle", plan_of(GRADING, "fp32"), rows)
    contexts = exported.bundle.manifest.contexts
    assert contexts is not None
    assert (contexts.rows, contexts.distinct, contexts.closed) == (6, 2, True)
    scorer = Scorer(exported.bundle, threads=1)
    new = rows[0] | {"question": "who are you"}
    assert [score.reason for score in scorer.score([rows[0], new])] == [None, "new question"]
    card = (exported.bundle.folder / "README.md").read_text("utf-8")
    assert "validated for 2 questions (6 validation rows)" in card


@dataclass
class Chosen:
    """A rule and a promise."""

    rule: ReviewRule
    guarantee: Guarantee | None


@pytest.mark.parametrize(("fp32_beside", "graphs"), [(True, ("int8", "fp32")), (False, ("int8",))])
def test_the_rule_is_chosen_on_the_scores_of_the_graphs_of_the_bundle(student, tmp_path, fp32_beside, graphs):
    seen = {}

    def choose(scores, encoded, max_novelty):
        seen.update(scores)
        promised = promise(rows=100, accepted=80, wrong=0, bound=0.05, units=80, graphs=tuple(scores))
        assert len(encoded) == len(scores["int8"].logits)
        assert max_novelty is None
        return Chosen(ReviewRule(thresholds={"process": 0.7}), promised)

    rows = rows_for(PRAISE)
    plan = replace(plan_of(), choose_review=choose, fp32_beside=fp32_beside)
    exported = export_bundle(student, tmp_path / "bundle", plan, rows)
    manifest = Bundle.load(tmp_path / "bundle").manifest
    assert tuple(seen) == graphs == manifest.guarantee.graphs
    assert manifest.review.thresholds == {"process": 0.7} == exported.review.rule.thresholds
    decoder = manifest.label_decoder
    alone = [score.label for score in Scorer(exported.bundle).score(rows)]
    assert list(decoder.labels(seen["int8"].logits)) == alone
    assert "at most 5 % differ from the human code" in (tmp_path / "bundle/README.md").read_text("utf-8")
