"""The example studies with a tiny student and a cache of recorded answers."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from edgedistill.teacher import AnswerCache
from edgedistill.teacher.cache import import_jsonl

EXAMPLES = Path(__file__).parents[3] / "examples"
WORDS = ["you", "your", "jordan", "the", "a", "it", "how", "tried", "trying", "kept", "worked", "hard", "job", "great"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A random backbone with a small vocabulary."""
    folder = tmp_path_factory.mktemp("tiny")
    special_tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate([*special_tokens, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
    config = BertConfig(**sizes, vocab_size=len(vocabulary), max_position_embeddings=64, initializer_range=0.1)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def examples(tmp_path_factory, tiny):
    """The folder of the example studies, next to the example project."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "praise").mkdir()
    for name in ("project.yaml", "human.csv", "responses.csv"):
        shutil.copy(EXAMPLES / "praise" / name, folder / "praise")
    with AnswerCache(folder / "praise" / "teacher-cache") as cache:
        import_jsonl(cache, EXAMPLES / "praise" / "teacher-cache.jsonl")
    (folder / "studies").mkdir()
    for path in (EXAMPLES / "studies").iterdir():
        if path.suffix == ".yaml":
            text = path.read_text("utf-8")
            small = re.sub(r"student: \{", f"student: {{backbone: {tiny}, max_tokens: 24, ", text)
            (folder / "studies" / path.name).write_text(small if "tasks:" in text else text, "utf-8")
        elif path.suffix == ".csv":
            shutil.copy(path, folder / "studies")
    return folder / "studies"
