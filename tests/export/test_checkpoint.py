"""A checkpoint folder is read whole and checked against its task, or refused with the reason."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertModel

from edgedistill_export import Checkpoint, CheckpointError
from edgedistill_serve.errors import DataError
from edgedistill_serve.task.task import Label, Task

from .tiny import FAMILIES, GRADING, MAX_TOKENS, MOVES, PRAISE, ROBERTA, Kin, rows_for, save_student


@pytest.fixture
def student(tmp_path: Path) -> Path:
    return save_student(tmp_path / "student", PRAISE)


def _edit(file: Path, **changes: object) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in (content | changes).items() if value != "gone"}))


@pytest.mark.parametrize("kin", FAMILIES, ids=lambda kin: kin.name)
@pytest.mark.parametrize("task", [PRAISE, GRADING], ids=["response alone", "three inputs"])
def test_logits_are_those_of_transformers_own_tokenizer_and_model(tmp_path: Path, kin: Kin, task: Task):
    folder = save_student(tmp_path, task, kin)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    row = {"question": "Why?", "reference_answer": "The battery", "response": "no gap 🎉"}
    texts = [" ".join(row[name] for name in task.inputs[:-1])] if len(task.inputs) > 1 else []
    with torch.no_grad():
        expected = model(**tokenizer(*texts, row["response"], return_tensors="pt")).logits[0].numpy()
    scored = Checkpoint.load(folder, task, MAX_TOKENS).logits([row])[0]
    np.testing.assert_allclose(scored, expected, atol=1e-6)


def test_a_rows_logits_are_the_same_bits_whatever_rows_are_beside_it(student: Path):
    checkpoint = Checkpoint.load(student, PRAISE, MAX_TOKENS)
    rows = rows_for(PRAISE)
    together = checkpoint.logits(rows)
    alone = np.concatenate([checkpoint.logits([row]) for row in rows])
    assert together.tobytes() == alone.tobytes()
    assert together.dtype == np.float32
    assert together.shape == (len(rows), 3)


def test_no_rows_give_no_logits(student: Path):
    assert Checkpoint.load(student, PRAISE, MAX_TOKENS).logits([]).shape == (0, 3)


def test_inputs_that_the_task_does_not_have_change_nothing(student: Path):
    checkpoint = Checkpoint.load(student, PRAISE, MAX_TOKENS)
    plain, with_question = checkpoint.logits([{"response": "ok"}, {"response": "ok", "question": "Why?"}])
    assert plain.tobytes() == with_question.tobytes()


def test_a_row_without_an_input_of_the_task_is_refused(tmp_path: Path):
    checkpoint = Checkpoint.load(save_student(tmp_path, GRADING), GRADING, MAX_TOKENS)
    with pytest.raises(DataError, match="'question' is missing"):
        checkpoint.logits([{"response": "ok"}])


def test_half_precision_weights_are_scored_in_fp32(student: Path):
    model = AutoModelForSequenceClassification.from_pretrained(student)
    model.bfloat16().save_pretrained(student)
    checkpoint = Checkpoint.load(student, PRAISE, MAX_TOKENS)
    assert {weights.dtype for weights in checkpoint.model.parameters()} == {torch.float32}


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"nowhere: the folder does not exist"):
        Checkpoint.load(tmp_path / "nowhere", PRAISE, MAX_TOKENS)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_missing_file_is_named(student: Path, name: str):
    (student / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        Checkpoint.load(student, PRAISE, MAX_TOKENS)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_file_is_an_error_of_ours(student: Path, name: str):
    (student / name).write_bytes(b"\x00 not what it says")
    with pytest.raises(CheckpointError):
        Checkpoint.load(student, PRAISE, MAX_TOKENS)


def test_pickled_weights_are_not_read(student: Path):
    (student / "model.safetensors").unlink()
    (student / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(CheckpointError, match="pickles are not read because they can run code"):
        Checkpoint.load(student, PRAISE, MAX_TOKENS)


def test_weights_in_several_files_are_not_read(student: Path):
    model = AutoModelForSequenceClassification.from_pretrained(student)
    (student / "model.safetensors").unlink()
    model.save_pretrained(student, max_shard_size="10KB")
    with pytest.raises(CheckpointError, match="in several files"):
        Checkpoint.load(student, PRAISE, MAX_TOKENS)


def test_labels_in_another_order_are_refused(student: Path):
    turned = Task(PRAISE.kind, PRAISE.labels[::-1], PRAISE.inputs)
    with pytest.raises(
        CheckpointError, match="labels are process, outcome, none; the task's are none, outcome, process"
    ):
        Checkpoint.load(student, turned, MAX_TOKENS)


def test_a_label_that_the_model_does_not_know_is_refused(student: Path):
    more = Task(PRAISE.kind, (*PRAISE.labels, Label("off task")), PRAISE.inputs)
    with pytest.raises(CheckpointError, match="the task's are process, outcome, none, off task"):
        Checkpoint.load(student, more, MAX_TOKENS)


def test_a_model_without_label_names_is_refused(student: Path):
    _edit(student / "config.json", id2label="gone", label2id="gone")
    with pytest.raises(CheckpointError, match="the model's labels are none"):
        Checkpoint.load(student, PRAISE, MAX_TOKENS)


def test_a_token_classifier_is_no_student(student: Path):
    _edit(student / "config.json", architectures=["BertForTokenClassification"])
    with pytest.raises(CheckpointError, match="not a sequence classifier"):
        Checkpoint.load(student, PRAISE, MAX_TOKENS)


def test_a_backbone_without_a_trained_head_is_no_student(student: Path):
    config = BertConfig.from_pretrained(student)
    backbone = BertModel(config)
    backbone.save_pretrained(student)
    _edit(student / "config.json", architectures=["BertForSequenceClassification"])
    with pytest.raises(CheckpointError, match=r"missing or have the wrong shape: classifier\.bias, classifier\.weight"):
        Checkpoint.load(student, PRAISE, MAX_TOKENS)


def test_a_model_of_several_labels_a_row_is_refused(student: Path):
    _edit(student / "config.json", problem_type="multi_label_classification")
    with pytest.raises(CheckpointError, match="trained for multi_label_classification"):
        Checkpoint.load(student, PRAISE, MAX_TOKENS)


def test_a_model_of_one_label_a_row_is_refused_for_a_multilabel_task(tmp_path: Path):
    _edit(save_student(tmp_path, MOVES) / "config.json", problem_type="single_label_classification")
    with pytest.raises(CheckpointError, match="a multilabel task needs multi_label_classification"):
        Checkpoint.load(tmp_path, MOVES, MAX_TOKENS)


def test_a_multilabel_student_has_a_logit_for_each_label(tmp_path: Path):
    checkpoint = Checkpoint.load(save_student(tmp_path, MOVES), MOVES, MAX_TOKENS)
    assert checkpoint.logits([{"response": "ok"}]).shape == (1, 3)
    assert checkpoint.config["problem_type"] == "multi_label_classification"


def test_a_foreign_tokenizer_is_refused(student: Path):
    tokenizer = json.loads((student / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {f"word{i}": 1000 + i for i in range(5)}
    (student / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match="token ids up to 1004"):
        Checkpoint.load(student, PRAISE, MAX_TOKENS)


@pytest.mark.parametrize("kin", FAMILIES, ids=lambda kin: kin.name)
def test_more_tokens_than_the_model_has_positions_are_refused(tmp_path: Path, kin: Kin):
    folder = save_student(tmp_path, PRAISE, kin)
    positions = 62 if kin is ROBERTA else 64  # of 64, RoBERTa leaves the two up to its padding id unused
    Checkpoint.load(folder, PRAISE, positions)
    with pytest.raises(CheckpointError, match=f"cannot read max_tokens = {positions + 1} tokens"):
        Checkpoint.load(folder, PRAISE, positions + 1)


def test_so_few_tokens_that_no_response_fits_are_refused(student: Path):
    with pytest.raises(CheckpointError, match="max_tokens = 3 leaves no room"):
        Checkpoint.load(student, PRAISE, 3)


def test_loading_is_silent(student: Path, capfd: pytest.CaptureFixture[str]):
    Checkpoint.load(student, PRAISE, MAX_TOKENS)
    assert capfd.readouterr() == ("", "")


def test_scoring_leaves_torchs_threads_as_they_were(student: Path):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        Checkpoint.load(student, PRAISE, MAX_TOKENS).logits(rows_for(PRAISE))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
