"""Tiny random backbones of the supported families, each with a tokenizer of that family."""

import warnings

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

ENCODERS = ("xlnet", "modernbert", "deberta", "deberta-v2", "electra")
DECODERS = ("mistral", "qwen2")
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
SPREAD = {"initializer_range": 0.1}
"""A spread of initial weights with which a tiny student learns within a few epochs."""


def save_backbone(family, words, folder):
    """Write a pretrained model of the family, random, whose tokenizer knows the words.

    Deprecation warnings of torch about code of transformers are ignored.
    """
    tokenizer = make_tokenizer(family, words)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        _model(family, len(tokenizer)).save_pretrained(folder)
    return folder


def make_tokenizer(family, words):
    """XLNet has special tokens at the end, decoders one at the start and none for padding, others those of BERT."""
    if family == "xlnet":
        marks, pair = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>"], "$A:0 <sep>:0 $B:1 <sep>:1 <cls>:2"
        named = {"unk_token": "<unk>", "cls_token": "<cls>", "sep_token": "<sep>", "pad_token": "<pad>"}
        return _fast([*marks, *words], "$A:0 <sep>:0 <cls>:2", pair, marks, named, padding_side="left")
    if family in DECODERS:
        marks, named = ["<unk>", "<s>", "</s>"], {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
        return _fast([*marks, *words], "<s>:0 $A:0", "<s>:0 $A:0 <s>:1 $B:1", marks, named)
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    named = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    single, pair = "[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"
    return _fast([*marks, *words], single, pair, marks, named)


def _fast(vocabulary, single, pair, marks, named, **settings):
    ids = {word: number for number, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=named["unk_token"]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(mark, ids[mark]) for mark in marks]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named, **settings)


def _model(family, size):
    import transformers as hf

    wide = {**SIZES, **SPREAD, "vocab_size": size, "max_position_embeddings": 64}
    match family:
        case "xlnet":
            config = {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64, "vocab_size": size, "pad_token_id": 5}
            return hf.XLNetModel(hf.XLNetConfig(**config, **SPREAD))
        case "modernbert":
            marks = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
            return hf.ModernBertModel(hf.ModernBertConfig(**wide, **marks, initializer_cutoff_factor=9.0))
        case "deberta":
            relative = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
            return hf.DebertaModel(hf.DebertaConfig(**wide, **relative, type_vocab_size=0))
        case "deberta-v2":
            relative = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 16}
            return hf.DebertaV2Model(hf.DebertaV2Config(**wide, **relative, type_vocab_size=0))
        case "electra":
            return hf.ElectraModel(hf.ElectraConfig(**wide, embedding_size=32))
        case "mistral":
            marks = {"bos_token_id": 1, "eos_token_id": 2}
            return hf.MistralModel(
                hf.MistralConfig(**wide, **marks, num_key_value_heads=1, head_dim=16, sliding_window=None)
            )
        case "qwen2":
            marks = {"bos_token_id": 1, "eos_token_id": 2}
            return hf.Qwen2Model(hf.Qwen2Config(**wide, **marks, num_key_value_heads=1))
