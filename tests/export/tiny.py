"""Tiny random students, made in memory: a tokenizer of a few sentences and two layers of 32."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from edgedistill_export.quiet import quiet
from edgedistill_serve.task.task import Label, Task

PRAISE = Task(
    "nominal",
    (Label("process", "praises effort or strategy"), Label("outcome", "praises the result"), Label("none")),
    ("response",),
)
GRADING = Task(
    "ordinal", (Label("wrong"), Label("partly"), Label("right")), ("question", "reference_answer", "response")
)
MOVES = Task("multilabel", (Label("praises"), Label("asks"), Label("tells")), ("response",))
MAX_TOKENS = 48

TEXTS = (
    "You kept trying different strategies until the fractions worked.",
    "Great job, you are so smart!",
    "Now open the next page and add the two fractions.",
    "What would happen if the bulb were taken out of the circuit?",
    "The battery has no gap, so there is a closed path to the bulb.",
    "I like how you checked your answer, Jordan",
    "ok",
    "well done 🎉👏🏽 you stayed with it",
    "أحسنت، لقد حاولت مرارا",
    "כל הכבוד על ההתמדה",
    "Tu as essayé plusieurs façons, bravo",
    "",
    "   ",
    "no",
    "The terminals are connected to the same state [SEP] <mask> & so on",
    "yes yes yes yes yes yes yes yes",
)
OVERLONG = "you tried again and again " * 60


@dataclass(frozen=True)
class Kin:
    """One family of models: how a tiny one and its tokenizer are made."""

    name: str
    config: type
    model: type
    byte_level: bool
    unigram: bool = False


BERT = Kin("bert", BertConfig, BertForSequenceClassification, byte_level=False)
DISTILBERT = Kin("distilbert", DistilBertConfig, DistilBertForSequenceClassification, byte_level=False)
ROBERTA = Kin("roberta", RobertaConfig, RobertaForSequenceClassification, byte_level=True)
E5 = Kin("e5", BertConfig, BertForSequenceClassification, byte_level=False, unigram=True)
FAMILIES = (BERT, DISTILBERT, ROBERTA)

IN_LANGUAGES = (
    "Du hast verschiedene Strategien ausprobiert, das war eine gute Idee.",
    "Weiß nicht, vielleicht ist der Stromkreis geöffnet",
    "المصباح مضاء لأن الدائرة مغلقة.",
    "جربت أكثر من طريقة وهذا رائع",
    "หลอดไฟติดเพราะวงจรปิด",
    "คุณพยายามหลายวิธีแล้ว ดีมาก",
    "灯亮了,因为电路是闭合的。",
    "你试了很多方法,真棒",
)


def rows_for(task: Task) -> list[dict[str, str]]:
    """The sentences as rows of a task, one of them overlong; a context where the task has one."""
    context = {
        "question": "Why did bulb A stay on?",
        "reference_answer": "It is still in a closed path with a battery.",
    }
    return [
        {name: context[name] for name in task.inputs if name in context} | {"response": text}
        for text in (*TEXTS, OVERLONG)
    ]


def save_student(folder: Path, task: Task, kin: Kin = BERT, seed: int = 0) -> Path:
    """Write a checkpoint folder as a trainer would; weights are random, spread so that labels differ between rows."""
    tokenizer = unigram_tokenizer() if kin.unigram else _byte_level() if kin.byte_level else _word_pieces()
    marks = _marks(kin.byte_level or kin.unigram)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), marks, strict=True)),
        model_input_names=["input_ids", "attention_mask"] + (["token_type_ids"] if kin is BERT else []),
    )
    wide = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4} if kin is DISTILBERT else {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4
    }  # fmt: skip
    torch.manual_seed(seed)
    model = kin.model(
        kin.config(
            vocab_size=len(fast),
            max_position_embeddings=64,
            pad_token_id=fast.pad_token_id,
            id2label=dict(enumerate(task.names)),
            label2id={name: i for i, name in enumerate(task.names)},
            problem_type="multi_label_classification" if task.kind == "multilabel" else "single_label_classification",
            **wide,
        )
    )
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.25)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def _marks(byte_level: bool) -> tuple[str, ...]:
    return ("<pad>", "<unk>", "<s>", "</s>", "<mask>") if byte_level else ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def _word_pieces() -> Tokenizer:
    pad, unknown, first, last, mask = _marks(byte_level=False)
    reading = (normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer())
    words = {word for text in TEXTS for word, _ in reading[1].pre_tokenize_str(reading[0].normalize_str(text))}
    letters = set("".join(words))
    # The trainer's choice between equally frequent pieces differs from process to process, so whole words are listed.
    pieces = [pad, unknown, first, last, mask, *sorted(words | letters), *sorted(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece(vocab={piece: i for i, piece in enumerate(pieces)}, unk_token=unknown))
    tokenizer.normalizer, tokenizer.pre_tokenizer = reading
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([pad, unknown, first, last, mask])
    ends = [(mark, tokenizer.token_to_id(mark)) for mark in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} $B:1 {last}:1", special_tokens=ends
    )
    return tokenizer


def _byte_level() -> Tokenizer:
    pad, unknown, first, last, mask = _marks(byte_level=True)
    tokenizer = Tokenizer(models.BPE(unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=350,
            special_tokens=[first, pad, last, unknown, mask],  # RoBERTa's order: the id of <pad> is 1
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        (last, tokenizer.token_to_id(last)), (first, tokenizer.token_to_id(first)), add_prefix_space=False
    )
    return tokenizer


def unigram_tokenizer(texts: Sequence[str] = (*TEXTS, *IN_LANGUAGES)) -> Tokenizer:
    """A SentencePiece Unigram tokenizer with the words of the texts, beginnings and ends of them, and their letters."""
    pad, unknown, first, last, mask = _marks(byte_level=True)
    tokenizer = Tokenizer(models.Unigram([(unknown, 0.0)], unk_id=0))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    split = (tokenizer.normalizer.normalize_str, tokenizer.pre_tokenizer.pre_tokenize_str)
    words = sorted({word for text in texts for word, _ in split[1](split[0](text))})
    short = [word for word in words if len(word) <= 12]
    parts = sorted({part for word in words for at in range(1, len(word)) for part in (word[:at], word[at : at + 3])})
    letters = sorted(set("".join(words)))
    pieces = dict.fromkeys([*short, *(part for part in parts if 1 < len(part) <= 5), *letters])
    scores = [-4.0 - len(piece) / 8 - place / 256 for place, piece in enumerate(pieces)]
    scored = sorted(zip(pieces, scores, strict=True), key=lambda one: -one[1])
    marks = [(mark, 0.0) for mark in (first, pad, last, unknown)]  # XLM-RoBERTa's order: the id of <pad> is 1
    tokenizer.model = models.Unigram([*marks, *scored, (mask, 0.0)], unk_id=3)
    tokenizer.add_special_tokens([first, pad, last, unknown, mask])
    ends = [(mark, tokenizer.token_to_id(mark)) for mark in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} {last} $B {last}", special_tokens=ends
    )
    return tokenizer


def quantized_by_onnxruntime(fp32: Path, int8: Path, _rows: Sequence[object] = ()) -> None:
    """A recipe of somebody else's, with one scale over a whole batch: rows move each other's scores."""
    with quiet():
        quantize_dynamic(fp32, int8, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
