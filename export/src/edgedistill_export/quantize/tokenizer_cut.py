"""Choose the tokens that a reduced vocabulary keeps, and write the reduced `tokenizer.json`.

Three tokenizer models are supported: WordPiece (BERT, DistilBERT, MPNet), byte-level BPE (RoBERTa, ModernBERT) and
Unigram (SentencePiece: multilingual E5, XLM-RoBERTa, XLNet, ALBERT, DeBERTa-v2).

WordPiece repeatedly takes the longest matching token, from left to right. A word is tokenized as before if all its
tokens are kept: the longest matches still exist, and no longer one was added. Since every single character is kept,
with and without the prefix ``##``, a word that could be tokenized before still can.

BPE repeatedly merges the pair that is first in the list of merges. A word is tokenized as before if every merge
applied to it is kept: the first applicable merge still exists, and no earlier merge was added. Every byte is
kept, so every text can be tokenized.

Unigram takes the segmentation of a word with the highest sum of scores. A word is tokenized as before if the tokens of
its best segmentation are kept: the other segmentations lose candidates and gain none. An unknown character costs ten
less than the lowest score of the vocabulary; the token with that score is therefore kept, or the removal of a token
could change words that never used it. Single characters are kept for the scripts of the texts only: a vocabulary for
100 languages has 14,000 of them. A character of another script becomes unknown, so that the response goes to a person.
"""

import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, TypeAlias

from edgedistill_export.errors import ExportFailed

TokenizerFile: TypeAlias = Mapping[str, Any]
"""`tokenizer.json` as JSON gives it."""

_NOT_PLAIN = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
_HINT = "Set export.vocabulary to full, or choose a backbone with a WordPiece, byte-level BPE or Unigram tokenizer."
_SPACE = "\u2581"
"""What SentencePiece writes for a space."""


def vocabulary_of(tokenizer: TokenizerFile) -> dict[str, int]:
    """Return the id of each token of the tokenizer model."""
    vocabulary = tokenizer["model"]["vocab"]
    if isinstance(vocabulary, Mapping):
        return dict(vocabulary)
    return {piece: number for number, (piece, _) in enumerate(vocabulary)}


def fragments_of(words: Iterable[str]) -> set[str]:
    """Return every two and every three consecutive characters of words, by which `choose_tokens` knows a language.

    Example:
        >>> sorted(fragments_of(["\u2581Tag"]))
        ['Ta', 'Tag', 'ag', '▁T', '▁Ta']
    """
    return {word[at : at + length] for word in words for length in (2, 3) for at in range(len(word) - length + 1)}


def choose_tokens(
    tokenizer: TokenizerFile, reached: Iterable[str], common: int, fragments: Collection[str] = frozenset()
) -> frozenset[str]:
    """Choose the tokens that a reduced vocabulary keeps.

    These are: the special and added tokens; every token of one character or byte, in its forms for the beginning and
    the inside of a word (for Unigram, without letters of scripts that no token of the texts has); the tokens of the
    texts, for BPE including those they are merged from; and the ``common`` most frequent tokens among the others. These
    have the lowest ids, since all kinds of vocabularies list frequent tokens first; for Unigram, tokens of the texts'
    scripts and language come first: those of which every three consecutive characters are fragments of the texts,
    then those of which every two are.

    Args:
        tokenizer: The content of a ``tokenizer.json``.
        reached: The tokens of the texts; may contain duplicates.
        common: Number of frequent tokens that are kept even if no text needs them; 0 or more.
        fragments: As `fragments_of` returns them for the texts; used for Unigram only.

    Raises:
        ExportFailed: The tokenizer model cannot be reduced exactly.
    """
    kept, frequent = _KINDS[_kind(tokenizer)](tokenizer, frozenset(reached), fragments)
    kept |= {token["content"] for token in tokenizer.get("added_tokens", ())}
    unknown = tokenizer["model"].get("unk_token")
    kept |= {unknown} if unknown else set()
    return frozenset((kept | set(frequent[:common])) & vocabulary_of(tokenizer).keys())


def cut_tokenizer(tokenizer: TokenizerFile, kept: frozenset[str]) -> tuple[dict[str, Any], list[int]]:
    """Return a tokenizer's file with only the kept tokens.

    Tokens are renumbered in the order of their old ids. Everything else is unchanged.

    Args:
        tokenizer: The content of a ``tokenizer.json``.
        kept: The tokens that `choose_tokens` chose.

    Returns:
        The new content, and the old id of each new id: row *i* of the new embedding table is row ``result[i]`` of the
        old one. An added token that is not in the vocabulary is ordered by its id.
    """
    model = tokenizer["model"]
    vocabulary = {piece: number for piece, number in vocabulary_of(tokenizer).items() if piece in kept}
    added = {token["id"] for token in tokenizer.get("added_tokens", ())}
    old_ids = sorted({*vocabulary.values(), *added})
    new_id = {old: new for new, old in enumerate(old_ids)}
    in_order = sorted(vocabulary.items(), key=lambda item: item[1])
    if model["type"] == "Unigram":
        cut_model = {**model, "vocab": [model["vocab"][old] for _, old in in_order], "unk_id": new_id[model["unk_id"]]}
    else:
        cut_model = {**model, "vocab": {piece: new_id[old] for piece, old in in_order}}
    if "merges" in model:
        cut_model["merges"] = [
            merge for merge in model["merges"] if all(part in vocabulary for part in _parts_and_result(merge))
        ]
    cut = {
        **tokenizer,
        "model": cut_model,
        "added_tokens": [{**token, "id": new_id[token["id"]]} for token in tokenizer.get("added_tokens", ())],
        "post_processor": _renumbered(tokenizer.get("post_processor"), new_id),
    }
    if cut.get("padding"):
        cut["padding"] = {**cut["padding"], "pad_id": new_id[cut["padding"]["pad_id"]]}
    return cut, old_ids


def _kind(tokenizer: TokenizerFile) -> str:
    model = tokenizer.get("model") or {}
    kind = model.get("type")
    if kind not in _KINDS:
        raise ExportFailed(f"a vocabulary of the kind {kind!r} cannot be cut", where="tokenizer.json", hint=_HINT)
    odd = [key for key in _NOT_PLAIN if model.get(key)]
    if kind == "BPE" and (odd or not _is_byte_level(tokenizer.get("pre_tokenizer"))):
        raise ExportFailed(
            f"this BPE vocabulary is not plainly byte-level ({', '.join(odd) or 'no ByteLevel reading'}), so it cannot "
            "be cut exactly",
            where="tokenizer.json",
            hint=_HINT,
        )
    if kind == "Unigram":
        _expect_unknown_token(model)
    return str(kind)


def _expect_unknown_token(model: Mapping[str, Any]) -> None:
    """A Unigram tokenizer without an unknown token fails on a text with a character that it does not have."""
    unknown, size = model.get("unk_id"), len(model["vocab"])
    if not isinstance(unknown, int) or not 0 <= unknown < size:
        raise ExportFailed(
            f"this Unigram vocabulary has no token for unknown characters (unk_id is {unknown}, of {size} tokens), so "
            "it cannot be cut",
            where="tokenizer.json",
            hint="Set export.vocabulary to full, or set model.unk_id to the place of the unknown token.",
        )


def _is_byte_level(reading: Any) -> bool:
    if not isinstance(reading, Mapping):
        return False
    return reading.get("type") == "ByteLevel" or any(map(_is_byte_level, reading.get("pretokenizers", ())))


def _word_pieces(tokenizer: TokenizerFile, reached: frozenset[str], _: Collection[str]) -> tuple[set[str], list[str]]:
    vocabulary = tokenizer["model"]["vocab"]
    mark = tokenizer["model"].get("continuing_subword_prefix", "##")

    def letters(piece: str) -> list[str]:
        """The pieces of one letter by which this piece could be written."""
        inner = piece.removeprefix(mark) if piece != mark else piece
        first = mark + inner[:1] if inner != piece else inner[:1]
        return [first, *(mark + letter for letter in inner[1:])]

    single = {piece for piece in vocabulary if letters(piece) == [piece]}
    # A letter that is no piece by itself can be read only within a longer piece.
    needed = {piece for piece in vocabulary if not single.issuperset(letters(piece)) and not _is_named(piece)}
    return single | needed | reached, _others(vocabulary, single | needed | reached)


def _is_named(piece: str) -> bool:
    """Whether a piece is a name such as ``[unused7]``, which no text is read as."""
    return piece.startswith("[") and piece.endswith("]") and len(piece) > len("[]")


def _byte_pieces(tokenizer: TokenizerFile, reached: frozenset[str], _: Collection[str]) -> tuple[set[str], list[str]]:
    model = tokenizer["model"]
    rank: dict[tuple[str, str], int] = {}
    for merge in model["merges"]:
        first, second, _ = _parts_and_result(merge)
        rank.setdefault((first, second), len(rank))
    single = {piece for piece in model["vocab"] if len(piece) == 1}
    kept = single.union(*(_merged_from(piece, rank) for piece in reached))
    in_order = [_parts_and_result(merge)[2] for merge in model["merges"]]
    return kept, [piece for piece in dict.fromkeys(in_order) if piece not in kept]


def _merged_from(piece: str, rank: Mapping[tuple[str, str], int]) -> set[str]:
    """Every piece that stands for a while when this one is joined from its letters, itself among them."""
    parts = list(piece)
    seen = {piece, *parts}
    while len(parts) > 1:
        pairs = [(rank[pair], at) for at, pair in enumerate(pairwise(parts)) if pair in rank]
        if not pairs:
            break
        _, at = min(pairs)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        seen.add(parts[at])
    return seen


def _unigram_pieces(
    tokenizer: TokenizerFile, reached: frozenset[str], fragments: Collection[str]
) -> tuple[set[str], list[str]]:
    model = tokenizer["model"]
    # Special tokens stand in the list with scores of 0; no text is read as one of them.
    named = {token["content"] for token in tokenizer.get("added_tokens", ())} | {model["vocab"][model["unk_id"]][0]}
    pieces = [piece for piece, _ in model["vocab"]]
    scripts = {_ANY_SCRIPT, *(_script(character) for piece in reached for character in piece)}
    known = [piece for piece in pieces if scripts.issuperset(map(_script, piece.replace(_SPACE, "")))]
    single = {piece for piece in known if len(piece.removeprefix(_SPACE)) <= 1}
    lowest = min(model["vocab"], key=lambda scored: scored[1])[0]
    bytes_ = {f"<0x{byte:02X}>" for byte in range(256)} if model.get("byte_fallback") else set()
    kept = single | reached | named | bytes_ | {lowest}
    others = [piece for piece in known if piece not in kept and not _is_named(piece)]

    def likeness(piece: str) -> int:
        """2 for a piece of which all runs of three characters are known, 1 for runs of two, otherwise 0."""
        runs = [piece[at : at + 2] for at in range(len(piece) - 1)]
        if not all(run in fragments for run in runs):
            return 0
        return 1 + all(piece[at : at + 3] in fragments for at in range(len(piece) - 2))

    return kept, sorted(others, key=likeness, reverse=True)


_ANY_SCRIPT = ""


@cache
def _script(character: str) -> str:
    """The script of a letter, such as ``THAI`` or ``CJK``; `_ANY_SCRIPT` for digits, punctuation and common marks."""
    if unicodedata.category(character)[0] not in "LM":
        return _ANY_SCRIPT
    name = unicodedata.name(character, "").split(" ")[0].split("-")[0]
    return _ANY_SCRIPT if name in {"", "COMBINING", "MODIFIER", "VARIATION"} else name


def _others(vocabulary: Mapping[str, int], kept: set[str]) -> list[str]:
    left = (piece for piece in vocabulary if piece not in kept and not _is_named(piece))
    return sorted(left, key=vocabulary.__getitem__)


def _parts_and_result(merge: str | Sequence[str]) -> tuple[str, str, str]:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second, first + second


def _renumbered(processor: Any, new_id: Mapping[int, int]) -> Any:
    """A post-processor with new ids: templates, BERT's and RoBERTa's pairs of a token and its id, and sequences."""
    if not isinstance(processor, Mapping):
        return processor
    changed = dict(processor)
    if processor.get("special_tokens"):
        changed["special_tokens"] = {
            name: {**token, "ids": [new_id[old] for old in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
    for end in ("sep", "cls"):
        if end in processor:
            changed[end] = [processor[end][0], new_id[processor[end][1]]]
    if "processors" in processor:
        changed["processors"] = [_renumbered(inner, new_id) for inner in processor["processors"]]
    return changed


_KINDS: Mapping[str, Callable[[TokenizerFile, frozenset[str], Collection[str]], tuple[set[str], list[str]]]] = {
    "WordPiece": _word_pieces,
    "BPE": _byte_pieces,
    "Unigram": _unigram_pieces,
}
"""From a file, the pieces reached and the fragments: what must stay, and the others, the most frequent first."""
