"""A student that is trained from a backbone without the tokens that no text needs."""

import json
import string

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from edgedistill.errors import TrainingFailed
from edgedistill.project.student import StudentSection
from edgedistill.student import train_student
from edgedistill.student.cut_backbone import cut_backbone
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.quantize import vocabulary as vocabulary_module
from edgedistill_export.quantize.tokenizer_cut import vocabulary_of

from .conftest import WORDS, make_model

UNUSED = [f"zq{letter}" for letter in string.ascii_lowercase]
"""Words of the backbone that no text has."""


def write_word_pieces(folder):
    """Write a tiny BERT whose WordPiece vocabulary has letters, the words of the toy task, and unused words."""
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [mark + letter for letter in string.ascii_lowercase for mark in ("", "##")]
    pieces = list(dict.fromkeys([*marks, *letters, *UNUSED, *WORDS]))
    tokenizer = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    make_model("bert", len(pieces)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return write_word_pieces(tmp_path_factory.mktemp("pieces"))


@pytest.fixture(autouse=True)
def no_frequent_tokens(monkeypatch):
    """The tiny vocabulary has no more tokens than would be kept because they are frequent."""
    monkeypatch.setattr(vocabulary_module, "COMMON", 0)


def pieces_of(folder):
    return vocabulary_of(json.loads((folder / "tokenizer.json").read_text()))


def texts_of(mixture):
    return [row.inputs for row in mixture]


def test_the_tokens_of_the_texts_stay_with_their_embeddings(backbone, mixture, task, tmp_path):
    cut = cut_backbone(backbone, tmp_path / "cut", texts_of(mixture), task)
    before, after = pieces_of(backbone), pieces_of(tmp_path / "cut")
    assert after.keys().isdisjoint(UNUSED)
    assert {word for row in mixture for word in row.inputs["response"].split()} <= after.keys()
    assert (cut.pieces_before, cut.pieces) == (len(before), len(after))
    tables = [BertModel.from_pretrained(each).get_input_embeddings().weight for each in (backbone, tmp_path / "cut")]
    assert all(torch.equal(tables[0][before[piece]], tables[1][place]) for piece, place in after.items())


def test_the_student_is_trained_with_the_vocabulary_that_it_is_served_with(
    backbone, mixture, validation, task, sections, tmp_path
):
    cut_backbone(backbone, tmp_path / "cut", texts_of(mixture), task)
    trained = train_student(mixture, validation, task, sections(epochs=(4,)), tmp_path / "cut", tmp_path / "student")
    assert trained.best.validation_macro_f1 > 0.8
    assert pieces_of(tmp_path / "student").keys().isdisjoint(UNUSED)
    # Another cut for the same texts, as before an export, changes nothing.
    student = Checkpoint.load(tmp_path / "student", task, 24)
    again, _ = vocabulary_module.cut_vocabulary(student, texts_of(mixture), tmp_path / "again")
    assert pieces_of(again.folder) == pieces_of(tmp_path / "student")


def test_a_backbone_that_is_a_classifier_keeps_its_classifier(backbone, mixture, task, tmp_path):
    names = dict(enumerate(task.names))
    whole = BertForSequenceClassification.from_pretrained(
        backbone, id2label=names, label2id={name: place for place, name in names.items()}
    )
    for file in backbone.iterdir():
        (tmp_path / "whole" / file.name).parent.mkdir(exist_ok=True)
        (tmp_path / "whole" / file.name).write_bytes(file.read_bytes())
    whole.save_pretrained(tmp_path / "whole")
    cut_backbone(tmp_path / "whole", tmp_path / "cut", texts_of(mixture), task)
    found = BertForSequenceClassification.from_pretrained(tmp_path / "cut")
    assert torch.equal(found.classifier.weight, whole.classifier.weight)


def test_a_vocabulary_that_cannot_be_cut_is_named_before_training(bert, mixture, task, tmp_path):
    with pytest.raises(TrainingFailed, match="the backbone's vocabulary cannot be cut: a vocabulary of the kind 'Word"):
        cut_backbone(bert, tmp_path / "cut", texts_of(mixture), task)
    assert not (tmp_path / "cut").exists()


def test_a_nano_student_takes_no_vocabulary_setting():
    with pytest.raises(ValueError, match="kind: nano cuts a vocabulary that does not fit into its bundle; remove"):
        StudentSection(kind="nano", vocabulary="cut")
