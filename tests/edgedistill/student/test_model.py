"""Backbones that can, and cannot, be loaded."""

import json
import shutil

import pytest
import torch
from transformers import BertForSequenceClassification

from edgedistill.errors import TrainingFailed
from edgedistill.student import train_student
from edgedistill.student.model import load_model
from edgedistill_serve.scoring.encoding import Encoder


@pytest.fixture
def copy(bert, tmp_path):
    """A copy of the tiny BERT that a test may spoil."""
    return shutil.copytree(bert, tmp_path / "backbone")


@pytest.fixture
def train(mixture, validation, task, sections, tmp_path):
    """Train one epoch on a backbone; returns the checkpoint's folder."""

    def run(backbone, max_tokens=24):
        section = sections(epochs=(1,), max_tokens=max_tokens)
        return train_student(mixture, validation, task, section, backbone, tmp_path / "student").folder

    return run


def test_pickled_weights_are_refused(copy, train):
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(
        TrainingFailed, match=r"no \*.safetensors weights; pickled weights are not read, because they can run code"
    ):
        train(copy)


def test_a_folder_without_a_config_is_refused(copy, train):
    (copy / "config.json").unlink()
    with pytest.raises(TrainingFailed, match="the backbone cannot be loaded"):
        train(copy)


def test_a_model_with_custom_code_is_refused(copy, train):
    config = json.loads((copy / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoModelForSequenceClassification": "own.Own", "AutoConfig": "own.C"},
    }
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "own.py").write_text("raise SystemExit('code of the backbone was run')")
    with pytest.raises(TrainingFailed, match="the backbone cannot be loaded"):
        train(copy)


def test_truncated_weights_are_refused(copy, train):
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(TrainingFailed, match="the backbone cannot be loaded"):
        train(copy)


def test_a_folder_without_a_tokenizer_is_refused(copy, train):
    for path in copy.glob("*token*"):
        path.unlink()
    with pytest.raises(TrainingFailed, match="the backbone has no tokenizer"):
        train(copy)


def test_a_vocabulary_file_is_converted_to_a_fast_tokenizer(copy, train):
    vocabulary = json.loads((copy / "tokenizer.json").read_text())["model"]["vocab"]
    for path in copy.glob("*token*"):
        path.unlink()
    (copy / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)) + "\n")
    encoded = Encoder(train(copy) / "tokenizer.json", 24).encode([{"response": "You tried"}])[0]
    assert encoded.ids == tuple(vocabulary[word] for word in ("[CLS]", "you", "tried", "[SEP]"))


def test_missing_special_tokens_are_written(copy, train):
    (copy / "special_tokens_map.json").unlink(missing_ok=True)
    written = json.loads((train(copy) / "special_tokens_map.json").read_text())
    assert set(written) == {"pad_token", "unk_token", "cls_token", "sep_token"}


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_rows_can_have_as_many_tokens_as_positions(family, backbones, train):
    assert train(backbones[family], max_tokens=64).is_dir()


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_more_tokens_than_positions_are_refused_before_training(family, backbones, train):
    with pytest.raises(TrainingFailed, match="the backbone does not support max_tokens = 65"):
        train(backbones[family], max_tokens=65)


def test_half_precision_weights_are_trained_in_fp32(copy, task):
    model = BertForSequenceClassification.from_pretrained(copy).half()
    model.config.dtype = torch.float16
    model.save_pretrained(copy)
    assert {parameter.dtype for parameter in load_model(copy, task).parameters()} == {torch.float32}


def test_a_classifier_for_another_number_of_labels_is_replaced(copy, task):
    BertForSequenceClassification.from_pretrained(copy, num_labels=7).save_pretrained(copy)
    assert load_model(copy, task).num_labels == 3


def test_a_tokenizer_of_another_model_is_refused(copy, train):
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {f"word{number}": 100 + number for number in range(50)}
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(TrainingFailed, match="largest id is 149, and the model has 25 tokens"):
        train(copy)


def test_a_tokenizer_that_fails_on_unknown_characters_is_refused(copy, train):
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    pieces = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    tokenizer["model"] = {"type": "Unigram", "vocab": [[piece, -1.0] for piece in pieces], "unk_id": None}
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(TrainingFailed, match="the backbone's tokenizer has no token for unknown characters, and fails"):
        train(copy)
