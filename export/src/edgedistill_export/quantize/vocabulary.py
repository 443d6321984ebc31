"""A student without the pieces that its texts do not use: a smaller file, and the same scores for those texts.

Of a small student, the embedding table is often the larger half, and most of its rows are never read.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from edgedistill_export.authors import LEAST_LEARNERS, Author, learners_of, used_by_few
from edgedistill_export.checkpoint import Checkpoint, read_json_object
from edgedistill_export.errors import CheckpointError, ExportFailed
from edgedistill_export.quantize.tokenizer_cut import choose_tokens, cut_tokenizer, fragments_of, vocabulary_of
from edgedistill_serve.scoring.encoding import load_plain_tokenizer
from edgedistill_serve.task.task import model_texts

COMMON = 4000
"""Number of frequent tokens that are kept even if no text needs them (docs/decisions/0004-vocabulary-cut.md)."""
COMMON_OF_MANY_LANGUAGES = 20_000
"""The same for Unigram (docs/decisions/0058-vocabulary-cut-for-unigram.md)."""

_ID_KEYS = tuple(f"{name}_token_id" for name in ("pad", "bos", "eos", "cls", "sep", "mask", "unk"))
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class VocabularyCut:
    """The result of a vocabulary reduction.

    Attributes:
        pieces_before: Tokens in the vocabulary of the trained student, the rows of its embedding table.
        pieces: Tokens after the reduction.
        width: Embedding size.
        texts: Number of texts that it was made for.
    """

    pieces_before: int
    pieces: int
    width: int
    texts: int

    @property
    def bytes_saved(self) -> int:
        """Bytes saved in an fp32 embedding table; an int8 table saves a quarter of it."""
        return (self.pieces_before - self.pieces) * self.width * _FLOAT_BYTES


def cut_vocabulary(
    student: Checkpoint,
    rows: Sequence[Mapping[str, str]],
    folder: Path,
    *,
    common: int | None = None,
    authors: Sequence[Author] = (),
    least_learners: int = LEAST_LEARNERS,
) -> tuple[Checkpoint, VocabularyCut]:
    """Write a checkpoint whose vocabulary and embedding table contain only the tokens that texts need.

    A token that fewer than ``least_learners`` learners used is not kept for their sake: it can be a name, and the
    vocabulary is a part of the bundle. Texts without such a token are tokenized as before and each token has the same
    embedding, so the student gives their rows bit-identical logits. Other texts may be split into other, shorter
    tokens, but never become unknown if they were known before, except letters of other scripts with a Unigram
    tokenizer; `edgedistill_export.quantize.tokenizer_cut` has the rules.

    Args:
        student: The trained student.
        rows: The task's inputs of every known row. Questions and reference answers are not learners' texts.
        folder: The output folder.
        common: As for `choose_tokens`; None for `COMMON`, or `COMMON_OF_MANY_LANGUAGES` with a Unigram tokenizer.
        authors: Who wrote each response, as in `edgedistill_export.authors`; empty if that is not known.
        least_learners: Number of learners from which on a token is kept; with 1, every token of the texts is.

    Returns:
        The reduced checkpoint, and the sizes before and after.

    Raises:
        ExportFailed: The tokenizer model cannot be reduced exactly.
        CheckpointError: One of the checkpoint's files is not valid.
    """
    cut = cut_files(
        student.folder, student.model, rows, folder, common=common, authors=authors, least_learners=least_learners
    )
    return Checkpoint.load(folder, student.task, student.encoder.max_tokens), cut


def cut_files(
    source: Path,
    model: Any,
    rows: Sequence[Mapping[str, str]],
    folder: Path,
    *,
    common: int | None = None,
    authors: Sequence[Author] = (),
    least_learners: int = LEAST_LEARNERS,
) -> VocabularyCut:
    """Write the files of a checkpoint or of a pretrained model with a reduced vocabulary; see `cut_vocabulary`.

    Args:
        source: A folder with ``tokenizer.json``, ``tokenizer_config.json``, ``config.json`` and safetensors.
        model: The transformers model of that folder, or a classifier with it as its base model.
        rows: As for `cut_vocabulary`, which has the other arguments, too.
        folder: The output folder.
        common: As for `choose_tokens`.
        authors: Who wrote each response.
        least_learners: Number of learners from which on a token is kept.

    Raises:
        ExportFailed: The tokenizer model cannot be reduced exactly.
        CheckpointError: One of the files is not valid.
    """
    file = source / "tokenizer.json"
    tokenizer = read_json_object(file)
    texts = list(dict.fromkeys(text for row in rows for text in model_texts(row) if text is not None))
    pieces_of = {text: frozenset(pieces) for text, pieces in zip(texts, tokenize_texts(file, texts), strict=True)}
    learners = learners_of(rows, authors)
    contexts = {first for first, second in map(model_texts, rows) if second is not None}

    def shared(items_of: Mapping[str, frozenset[str]]) -> set[str]:
        """What the texts consist of, without what fewer learners than ``least_learners`` used."""
        few = used_by_few([items_of[row["response"]] for row in rows], learners, least_learners)
        few = few.difference(*(items_of[context] for context in contexts))
        return set().union(*items_of.values()) - few

    unigram = tokenizer["model"]["type"] == "Unigram"
    fragments = shared(_fragments(file, texts)) if unigram else set()
    ids = {key: getattr(model.config, key, None) for key in _ID_KEYS}
    named = {piece for piece, number in vocabulary_of(tokenizer).items() if number in ids.values()}
    if common is None:
        common = COMMON_OF_MANY_LANGUAGES if unigram else COMMON
    cut, old_ids = cut_tokenizer(tokenizer, choose_tokens(tokenizer, shared(pieces_of) | named, common, fragments))
    new_id = {old: new for new, old in enumerate(old_ids)}
    _expect_same_positions(source, model, new_id)
    folder.mkdir(parents=True)
    _write_texts(source, folder, cut, new_id)
    config = read_json_object(source / "config.json")
    config |= {key: new_id.get(old) for key, old in ids.items() if old is not None}
    _write(folder / "config.json", config | {"vocab_size": len(old_ids)})
    before, width = _write_weights(source, model, folder, old_ids)
    return VocabularyCut(before, len(old_ids), width, len(texts))


def tokenize_texts(tokenizer_file: Path, texts: Sequence[str]) -> list[list[str]]:
    """Tokenize texts as a student reads them, without truncation; a typed ``[SEP]`` is plain text.

    Args:
        tokenizer_file: A ``tokenizer.json``.
        texts: As `edgedistill_serve.task.task.model_texts` returns them.

    Returns:
        The tokens of each text, in order.
    """
    tokenizer = load_plain_tokenizer(tokenizer_file.read_bytes())
    return [encoding.tokens for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def _fragments(tokenizer_file: Path, texts: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return `fragments_of` each text, normalized and split into words as the tokenizer does."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))

    def words(text: str) -> list[str]:
        normalized = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        split = tokenizer.pre_tokenizer
        return [word for word, _ in split.pre_tokenize_str(normalized)] if split else [normalized]

    return {text: frozenset(fragments_of(words(text))) for text in texts}


def _expect_same_positions(source: Path, model: Any, new_id: Mapping[int, int]) -> None:
    """RoBERTa-like models count positions from the id of the padding token, which therefore must not change."""
    pad = model.config.pad_token_id
    counts_from_it = any(
        hasattr(part, "padding_idx") for part in model.modules() if not isinstance(part, torch.nn.Embedding)
    )
    if counts_from_it and new_id.get(pad) != pad:
        raise ExportFailed(
            f"the reduction would change the padding token's id {pad}, from which this model counts positions",
            where=str(source / "tokenizer.json"),
            hint="Set export.vocabulary to full.",
        )


def _write_texts(source: Path, folder: Path, tokenizer: Mapping[str, Any], new_id: Mapping[int, int]) -> None:
    """Write the tokenizer's files, except vocabularies in other formats such as ``vocab.txt``."""
    _write(folder / "tokenizer.json", tokenizer)
    settings = read_json_object(source / "tokenizer_config.json")
    if "added_tokens_decoder" in settings:
        listed = settings["added_tokens_decoder"].items()
        settings["added_tokens_decoder"] = {str(new_id[int(old)]): token for old, token in listed if int(old) in new_id}
    _write(folder / "tokenizer_config.json", settings)
    if (source / "special_tokens_map.json").exists():
        _write(folder / "special_tokens_map.json", read_json_object(source / "special_tokens_map.json"))


def _write_weights(source: Path, model: Any, folder: Path, old_ids: Sequence[int]) -> tuple[int, int]:
    """Write the weights with the embeddings of the kept tokens; return the former number of rows and the row size."""
    table = model.get_input_embeddings().weight
    weights = {
        name: tensor for file in sorted(source.glob("*.safetensors")) for name, tensor in load_file(file).items()
    }
    # A pretrained model names its weights with or without the prefix that they have in a classifier.
    names = [name for of in (model, model.base_model) for name, found in of.named_parameters() if found is table]
    name = next((name for name in names if name in weights), None)
    if name is None:
        raise CheckpointError("the embedding table is not among the weights", where=str(source / "model.safetensors"))
    rows, width = weights[name].shape
    weights[name] = weights[name][list(old_ids)].contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return rows, width


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
