"""Choose the tokens that a reduced vocabulary keeps, and write the reduced `tokenizer.json`.

Two tokenizer models are supported: WordPiece (BERT, DistilBERT, MPNet) and byte-level BPE (RoBERTa, ModernBERT).

WordPiece repeatedly takes the longest matching token, from left to right. A word is tokenized as before if all its
tokens are kept: the longest matches still exist, and no longer one was added. Since every single character is kept,
with and without the prefix ``##``, a word that could be tokenized before still can.

BPE repeatedly merges the pair that is first in the list of merges. A word is tokenized as before if every merge
applied to it is kept: the first applicable merge still exists, and no earlier merge was added. Every byte is
kept, so every text can be tokenized.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from edgedistill_export.errors import ExportFailed

TokenizerFile: TypeAlias = Mapping[str, Any]
"""`tokenizer.json` as JSON gives it."""

_NOT_PLAIN = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
_HINT = "Set export.vocabulary to full, or choose a backbone with a WordPiece or byte-level BPE tokenizer."


def choose_tokens(tokenizer: TokenizerFile, reached: Iterable[str], common: int) -> frozenset[str]:
    """Choose the tokens that a reduced vocabulary keeps.

    These are: the special and added tokens; every token of one character or byte, in its forms for the beginning and
    the inside of a word; the tokens of the texts, for BPE including those they are merged from; and the ``common``
    tokens of lowest id among the others, since both kinds of vocabularies list frequent tokens first.

    Args:
        tokenizer: The content of a ``tokenizer.json``.
        reached: The tokens of the texts; may contain duplicates.
        common: Number of frequent tokens that are kept even if no text needs them; 0 or more.

    Raises:
        ExportFailed: The tokenizer model cannot be reduced exactly.
    """
    kept, of_low_id = _KINDS[_kind(tokenizer)](tokenizer, frozenset(reached))
    kept |= {token["content"] for token in tokenizer.get("added_tokens", ())}
    unknown = tokenizer["model"].get("unk_token")
    kept |= {unknown} if unknown else set()
    return frozenset((kept | set(of_low_id[:common])) & set(tokenizer["model"]["vocab"]))


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
    vocabulary = {piece: number for piece, number in model["vocab"].items() if piece in kept}
    added = {token["id"] for token in tokenizer.get("added_tokens", ())}
    old_ids = sorted({*vocabulary.values(), *added})
    new_id = {old: new for new, old in enumerate(old_ids)}
    in_order = sorted(vocabulary.items(), key=lambda item: item[1])
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
    return str(kind)


def _is_byte_level(reading: Any) -> bool:
    if not isinstance(reading, Mapping):
        return False
    return reading.get("type") == "ByteLevel" or any(map(_is_byte_level, reading.get("pretokenizers", ())))


def _word_pieces(tokenizer: TokenizerFile, reached: frozenset[str]) -> tuple[set[str], list[str]]:
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


def _byte_pieces(tokenizer: TokenizerFile, reached: frozenset[str]) -> tuple[set[str], list[str]]:
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


_KINDS: Mapping[str, Callable[[TokenizerFile, frozenset[str]], tuple[set[str], list[str]]]] = {
    "WordPiece": _word_pieces,
    "BPE": _byte_pieces,
}
"""From a file and the pieces reached: what must stay, and the others, the generally most frequent first."""
