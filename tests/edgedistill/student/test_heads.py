"""Backbones that have a classifier."""

import json
import shutil

import pytest
import torch
from transformers import (
    BertForSequenceClassification,
    BertForTokenClassification,
    RobertaForSequenceClassification,
    set_seed,
)

from edgedistill.student import train_student
from edgedistill.student.model import load_model, note_other_task

OURS = {0: "process", 1: "outcome", 2: "other"}
THEIRS = {0: "low", 1: "middle", 2: "high"}


@pytest.fixture
def classifier(backbones, tmp_path):
    """Write a fine-tuned classifier; its head is far from any first weights."""

    def write(labels, kind=BertForSequenceClassification, family="bert"):
        folder = shutil.copytree(backbones[family], tmp_path / "backbone")
        named = {"id2label": labels, "label2id": {name: number for number, name in labels.items()}}
        model = kind.from_pretrained(folder, **named)
        with torch.no_grad():
            for name, weights in model.named_parameters():
                if name.startswith("classifier"):
                    weights.fill_(7.0)
        model.save_pretrained(folder)
        return folder

    return write


def head_of(model):
    return {name: weights for name, weights in model.state_dict().items() if name.startswith("classifier")}


def test_a_classifier_for_the_same_labels_is_kept(classifier, task):
    folder = classifier(OURS)
    assert note_other_task(folder, task) == ()
    assert all((weights == 7).all() for weights in head_of(load_model(folder, task)).values())


@pytest.mark.parametrize(
    ("labels", "kind", "family"),
    [
        (THEIRS, BertForSequenceClassification, "bert"),
        ({0: "outcome", 1: "process", 2: "other"}, BertForSequenceClassification, "bert"),
        ({number: f"label {number}" for number in range(7)}, BertForSequenceClassification, "bert"),
        (THEIRS, RobertaForSequenceClassification, "roberta"),
        (OURS, BertForTokenClassification, "bert"),
    ],
    ids=["other names", "another order", "another number", "a head of two layers", "a classifier of tokens"],
)
def test_a_classifier_for_other_labels_is_initialized_randomly(labels, kind, family, classifier, task):
    folder = classifier(labels, kind, family)
    assert len(note_other_task(folder, task)) == 1
    assert not any((weights == 7).any() for weights in head_of(load_model(folder, task)).values())


def test_the_encoder_of_another_task_is_used(classifier, backbones, task):
    ours = load_model(classifier(THEIRS), task).bert.encoder.state_dict()
    pretrained = load_model(backbones["bert"], task).bert.encoder.state_dict()
    assert all(torch.equal(ours[name], pretrained[name]) for name in pretrained)


def test_the_new_classifier_depends_on_the_seed(classifier, task):
    folder = classifier(THEIRS)
    drawn = []
    for seed in (1, 1, 2):
        set_seed(seed)
        drawn.append(load_model(folder, task).classifier.weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_pretrained_backbone_without_classifier_needs_no_note(bert, task):
    assert note_other_task(bert, task) == ()


def test_training_on_a_checkpoint_of_another_task_is_noted(classifier, mixture, validation, task, sections, tmp_path):
    done = train_student(mixture, validation, task, sections(epochs=(1,)), classifier(THEIRS), tmp_path / "student")
    (note,) = done.notes
    assert note.startswith("The backbone has a classifier for other labels (low, middle, high): its encoder is used")
    assert json.loads((done.folder / "config.json").read_text())["id2label"]["0"] == "process"


def test_a_classifier_without_label_names_is_noted(classifier, task):
    folder = classifier(THEIRS)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({key: config[key] for key in config if key != "id2label"}))
    assert note_other_task(folder, task)[0].startswith("The backbone has a classifier for unnamed labels:")
