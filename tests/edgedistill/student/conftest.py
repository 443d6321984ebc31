"""Tiny random backbones and a toy task: a keyword determines the label."""

import random
import sqlite3

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from edgedistill.data.types import CodedResponse, MixtureRow, Response, ValidationRows
from edgedistill.project.student import SearchSection, StudentSection
from edgedistill_serve.task.task import Label, Task

KEYWORDS = {"process": "tried", "outcome": "smart", "other": "page"}
FILLERS = ["you", "the", "a", "bulb", "circuit", "again", "so", "very", "now", "please", "look", "battery", "is", "it"]
WORDS = [*FILLERS, *KEYWORDS.values(), "what", "did", "do"]
SIZES = {
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "initializer_range": 0.1,
}


def make_tokenizer(family):
    pad, unknown, first, last = (
        ("<pad>", "<unk>", "<s>", "</s>") if family == "roberta" else ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    )
    # RoBERTa's padding has id 1, and its positions start after it.
    marks = [first, pad, last, unknown] if family == "roberta" else [pad, unknown, first, last, "[MASK]"]
    vocabulary = {word: number for number, word in enumerate([*marks, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = ((last, vocabulary[last]), (first, vocabulary[first]))
    tokenizer.post_processor = (
        processors.RobertaProcessing(*ends) if family == "roberta" else processors.BertProcessing(*ends)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, unk_token=unknown, cls_token=first, sep_token=last
    )


def make_model(family, vocabulary):
    torch.manual_seed(0)
    if family == "roberta":
        config = RobertaConfig(
            **SIZES, vocab_size=vocabulary, max_position_embeddings=66, type_vocab_size=1, pad_token_id=1
        )
        return RobertaModel(config)
    if family == "distilbert":
        return DistilBertModel(
            DistilBertConfig(
                dim=32,
                hidden_dim=64,
                n_layers=2,
                n_heads=2,
                initializer_range=SIZES["initializer_range"],
                vocab_size=vocabulary,
                max_position_embeddings=64,
            )
        )
    return BertModel(BertConfig(**SIZES, vocab_size=vocabulary, max_position_embeddings=64))


@pytest.fixture(scope="session")
def backbones(tmp_path_factory):
    """Folders by family: bert, roberta, distilbert."""
    folders = {}
    for family in ("bert", "roberta", "distilbert"):
        folders[family] = tmp_path_factory.mktemp(family)
        tokenizer = make_tokenizer(family)
        tokenizer.save_pretrained(folders[family])
        make_model(family, len(tokenizer)).save_pretrained(folders[family])
    return folders


@pytest.fixture
def bert(backbones):
    return backbones["bert"]


@pytest.fixture
def task():
    return Task(kind="nominal", labels=tuple(Label(name) for name in KEYWORDS), inputs=("response",))


def toy(rows, seed):
    """(label, text) pairs; the text contains the keyword of its label among filler words."""
    rng = random.Random(seed)
    for row in range(rows):
        label = list(KEYWORDS)[row % 3]
        words = [*rng.choices(FILLERS, k=rng.randint(2, 12)), KEYWORDS[label]]
        rng.shuffle(words)
        yield label, " ".join(words)


def make_mixture(rows=96, seed=1):
    return [
        MixtureRow(id=f"m{row}", inputs={"response": text}, label=label, source="human", shares={label: 1.0})
        for row, (label, text) in enumerate(toy(rows, seed))
    ]


def make_validation(rows=30, seed=2):
    return ValidationRows(
        tuple(
            CodedResponse(Response(f"v{row}", {"response": text}, "human.csv", row + 2), label)
            for row, (label, text) in enumerate(toy(rows, seed))
        )
    )


@pytest.fixture
def mixture():
    return make_mixture()


@pytest.fixture
def mixtures():
    """A function that makes mixtures of any size."""
    return make_mixture


@pytest.fixture
def validation():
    return make_validation()


@pytest.fixture
def section():
    """One short trial."""
    return make_section()


def make_section(learning_rate=(5e-3,), batch_size=(8,), epochs=(2,), seeds=(0,), max_tokens=24):
    search = SearchSection(learning_rate=learning_rate, batch_size=batch_size, epochs=epochs)
    return StudentSection(max_tokens=max_tokens, search=search, seeds=seeds)


@pytest.fixture
def sections():
    """A function that makes sections with other search settings."""
    return make_section


def states(kept):
    """The states of the trials of a search, sorted."""
    with sqlite3.connect(kept / "search.sqlite3") as store:
        return sorted(state for (state,) in store.execute("select state from trials"))
