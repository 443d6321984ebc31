"""Encoding of texts as token ids, shared by training, checking and scoring."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Encoding, Tokenizer, models

from edgedistill_serve.errors import ScoringFailed
from edgedistill_serve.task.scripts import NO_LETTERS, Letters, count_letters
from edgedistill_serve.task.task import CUT_ORDER, Truncation, context_names, model_texts, texts_apart
from edgedistill_serve.task.visible_text import INK, is_blank, without_markup

_PARALLEL_CHARACTERS = 4_000
"""From this many characters on, the tokenizer's own threads are used: they release the GIL for other Python threads."""
_CHUNK_CHARACTERS = 500_000
"""Characters that are tokenized in one call, unless one text is longer. A token takes about 100 bytes of memory."""

_PLACEHOLDERS = ("first", "second")
_FIRST_PLACEHOLDER_ID = 2**32 - len(_PLACEHOLDERS)
"""The placeholders have the highest possible ids, which no vocabulary reaches."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One response, encoded for the student.

    Attributes:
        ids: Token ids including special tokens; at most the encoder's ``max_tokens``.
        type_ids: Segment ids, one per token id; with ``references_apart`` 1 for the response, and 0, 2, 3, … for the
            texts before it.
        tokens: Number of tokens of the response alone, before truncation and without special tokens.
        truncated: Whether the response was truncated. A truncated context does not count.
        blank: Whether the response has nothing visible (`is_blank`).
        unknown_share: Share of the response that the vocabulary cannot represent, in [0, 1]: of its tokens, or of its
            letters, digits and symbols if that is larger; of what remains after truncation. HTML markup around other
            text does not make it smaller. It is 1 for a visible text without any token.
        context_tokens: Number of tokens of the context, before truncation.
        context_tokens_lost: Number of them that truncation removed.
        letters: What the response consists of without HTML markup, before truncation.
        lost: The inputs that lost tokens, each with their number, the response last. With ``context_first``, which
            bundles of earlier versions have, only whether the context did is known, and it is named ``context``.
        context_unknown_share: Like ``unknown_share``, of the context before truncation; with ``references_apart`` of
            that of its texts of which most is unknown.
    """

    ids: tuple[int, ...] = field(repr=False)
    type_ids: tuple[int, ...]
    tokens: int
    truncated: bool
    blank: bool = False
    unknown_share: float = 0.0
    context_tokens: int = 0
    context_tokens_lost: int = 0
    letters: Letters = field(default=NO_LETTERS, repr=False, hash=False)
    lost: tuple[tuple[str, int], ...] = ()
    context_unknown_share: float = 0.0


@dataclass(frozen=True, slots=True)
class SpecialTokenTemplate:
    """The special tokens that a tokenizer puts around one text, or around a pair.

    Attributes:
        pieces: Token id and type id of every special token. A text is represented by the id of its placeholder and the
            type id of its tokens.
        added: Number of special tokens.
    """

    pieces: tuple[tuple[int, int], ...]
    added: int

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer, texts: int) -> "SpecialTokenTemplate":
        """Read the template from the tokenizer's post-processor, applied to texts of one placeholder token each.

        Args:
            tokenizer: Every post-processor of a ``tokenizer.json`` works: all of them keep the ids of a text and give
                them one type id.
            texts: Number of texts, 1 or 2.
        """
        vocabulary = {text: _FIRST_PLACEHOLDER_ID + index for index, text in enumerate(_PLACEHOLDERS)}
        placeholder_tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_PLACEHOLDERS[0]))
        joined = tokenizer.post_process(*[placeholder_tokenizer.encode(text) for text in _PLACEHOLDERS[:texts]])
        return cls(
            tuple(zip(joined.ids, joined.type_ids, strict=True)), int(tokenizer.num_special_tokens_to_add(texts == 2))
        )

    def fill_apart(
        self, texts: Sequence[Sequence[int]], response: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the ids and type ids of a pair whose first text consists of several, each with a type id of its own.

        Args:
            texts: Token ids of at least one text. Between two stands the token that ends the first text of a pair.
            response: Token ids of the second text of the pair.
        """
        ids: list[int] = []
        type_ids: list[int] = []
        before = 0
        for token, type_id in self.pieces:
            if token < _FIRST_PLACEHOLDER_ID:
                ids.append(token)
                type_ids.append(type_id or before)
            elif token == _FIRST_PLACEHOLDER_ID:
                for number, text in enumerate(texts):
                    if number:
                        ids.append(self.separator)
                        type_ids.append(before)
                        before = number + 1  # 1 is the response
                    ids += text
                    type_ids += [before] * len(text)
            else:
                ids += response
                type_ids += [type_id] * len(response)
        return tuple(ids), tuple(type_ids)

    @property
    def separator(self) -> int:
        """The special token after the first text of a pair."""
        places = [place for place, (token, _) in enumerate(self.pieces) if token == _FIRST_PLACEHOLDER_ID]
        return self.pieces[places[0] + 1][0]

    def fill(self, texts: Sequence[list[int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the ids and type ids of texts with their special tokens.

        Args:
            texts: Token ids of each text, as many texts as the template has.
        """
        ids: list[int] = []
        type_ids: list[int] = []
        for token, type_id in self.pieces:
            if token < _FIRST_PLACEHOLDER_ID:
                ids.append(token)
                type_ids.append(type_id)
            else:
                text = texts[token - _FIRST_PLACEHOLDER_ID]
                ids += text
                type_ids += [type_id] * len(text)
        return tuple(ids), tuple(type_ids)


class _Tokens(NamedTuple):
    """One text as tokens.

    Attributes:
        ids: Those of a context, or of the first ``max_tokens`` tokens of a response.
        total: The number of all tokens.
        unknown: For the first unknown token of each word, as a place in ``ids``, the number of letters, digits and
            symbols of the word (`INK`) that no token of the vocabulary stands for.
    """

    ids: list[int]
    total: int
    unknown: Mapping[int, int]


class Encoder:
    """Encodes responses. If a row is too long, the context is truncated before the response.

    With ``question_first`` the question loses tokens first, from its end, then the rubric, and the reference answers
    last; with ``context_first``, which bundles of earlier versions have, the end of the context does. With
    ``references_apart`` each text before the response ends with the separator and has a type id of its own; the rubric
    loses tokens first, then the last reference answers. Special tokens
    such as ``[SEP]`` in a response are encoded as plain text.

    Args:
        tokenizer_file: A ``tokenizer.json``, or its content.
        max_tokens: Longest sequence, including special tokens.
        truncation: What is truncated first.

    Attributes:
        max_tokens: As given.
        unknown_token: Id of the token for text that the vocabulary cannot represent; None if it represents every text.
    """

    def __init__(
        self, tokenizer_file: Path | bytes, max_tokens: int, truncation: Truncation = "question_first"
    ) -> None:
        self.max_tokens, self.truncation = max_tokens, truncation
        content = tokenizer_file.read_bytes() if isinstance(tokenizer_file, Path) else tokenizer_file
        self._tokenizer = load_plain_tokenizer(content)
        self._alone = SpecialTokenTemplate.from_tokenizer(self._tokenizer, texts=1)
        self._pair = SpecialTokenTemplate.from_tokenizer(self._tokenizer, texts=2)
        self.unknown_token = find_unknown_token(self._tokenizer)
        self._ink = _Ink(self._tokenizer, self.unknown_token)
        # A Unigram tokenizer names an unknown token by its text.
        self._spells_unknown = isinstance(self._tokenizer.model, models.Unigram)

    @property
    def max_text_tokens(self) -> int:
        """Largest number of tokens of context and response together, without special tokens."""
        return self.max_tokens - self._pair.added

    def encode(self, rows: Sequence[Mapping[str, str]]) -> list[Encoded]:
        """Encode the inputs of several responses. ``result[i]`` depends on ``rows[i]`` only.

        Raises:
            ScoringFailed: The tokenizer failed on one of them.
        """
        if self.truncation == "references_apart":
            return self._encode_apart(rows)
        pairs = [model_texts(row) for row in rows]
        context = iter(self._tokenize([first for first, second in pairs if second is not None], whole=True))
        responses = self._tokenize([first if second is None else second for first, second in pairs])
        return [
            self._join(row, None if second is None else next(context), response)
            for row, (_, second), response in zip(rows, pairs, responses, strict=True)
        ]

    def _encode_apart(self, rows: Sequence[Mapping[str, str]]) -> list[Encoded]:
        every = [texts_apart(row) for row in rows]
        before = iter(self._tokenize([text for texts in every for _, text in texts], whole=True))
        responses = self._tokenize([row["response"] for row in rows])
        return [
            self._join_apart(row, [(name, next(before)) for name, _ in texts], response)
            for row, texts, response in zip(rows, every, responses, strict=True)
        ]

    def _join_apart(self, row: Mapping[str, str], texts: Sequence[tuple[str, _Tokens]], response: _Tokens) -> Encoded:
        template = self._pair if texts else self._alone
        available = self.max_tokens - template.added
        read = response.ids[:available]
        room = available - len(read)
        lost: Counter[str] = Counter()
        kept: list[list[int]] = []
        for name, tokens in texts:
            separators = 1 if kept else 0
            part = tokens.ids[: max(room - separators, 0)]
            lost[name] += tokens.total - len(part)
            if part or not kept:
                kept.append(part)
                room -= separators + len(part)
        filled = template.fill_apart(kept, read) if texts else template.fill([read])
        return self._encoded(row, response, read, filled, [tokens for _, tokens in texts], lost)

    def _tokenize(self, texts: list[str], *, whole: bool = False) -> list[_Tokens]:
        try:
            return self._tokenize_chunks(texts, whole)
        except BaseException as error:
            if not is_tokenizer_error(error):
                raise
            # The original message could contain parts of the text.
            reason = _UNKNOWN_CHARACTER if lacks_unknown_token(error) else type(error).__name__
            raise ScoringFailed(f"the tokenizer failed on this response ({reason})") from None

    def _tokenize_chunks(self, texts: list[str], whole: bool) -> list[_Tokens]:
        read = self._whole if whole else self._truncate
        if sum(map(len, texts)) < _PARALLEL_CHARACTERS:
            return [read(self._tokenizer.encode(text, add_special_tokens=False), text) for text in texts]
        return [
            read(encoding, text)
            for chunk in _chunks(texts)
            for text, encoding in zip(chunk, self._tokenizer.encode_batch(chunk, add_special_tokens=False), strict=True)
        ]

    # The tokenizer's own `truncate` and `post_process` give the same ids, but they also encode every part that is cut
    # off and join each of them with the other text.
    def _truncate(self, encoding: Encoding, text: str) -> _Tokens:
        ids = encoding.ids[: self.max_tokens]
        return _Tokens(ids, len(encoding), self._unknown(encoding, ids, text) if self.unknown_token in ids else {})

    def _whole(self, encoding: Encoding, text: str) -> _Tokens:
        ids = encoding.ids
        return _Tokens(ids, len(ids), self._unknown(encoding, ids, text) if self.unknown_token in ids else {})

    def _unknown(self, encoding: Encoding, ids: list[int], text: str) -> dict[int, int]:
        normalizer = self._tokenizer.normalizer
        unknown: dict[int, int] = {}
        previous = None
        for place, token in enumerate(ids):
            word = encoding.token_to_word(place) if token == self.unknown_token else None
            if word is None or word == previous:
                continue
            previous = word
            start, end = encoding.word_to_chars(word)
            first, last = encoding.word_to_tokens(word)
            # Counted in the normalized text, because the web page's tokenizer does not know places in the original.
            if self._spells_unknown:
                content = "".join(encoding.tokens[first:last])
            else:
                content = normalizer.normalize_str(text[start:end]) if normalizer else text[start:end]
            known = sum(map(self._ink.__getitem__, ids[first:last]))
            unknown[place] = max(0, len(INK.findall(content)) - known)
        return unknown

    def _join(self, row: Mapping[str, str], context: _Tokens | None, response: _Tokens) -> Encoded:
        template = self._alone if context is None else self._pair
        available = self.max_tokens - template.added
        read = response.ids[:available]
        texts = [read]
        lost: dict[str, int] = {}
        if context is not None:
            kept, lost = self._cut_context(row, context.ids, available - len(read))
            texts.insert(0, kept)
        before = [] if context is None else [context]
        return self._encoded(row, response, read, template.fill(texts), before, lost)

    def _encoded(
        self,
        row: Mapping[str, str],
        response: _Tokens,
        read: list[int],
        filled: tuple[tuple[int, ...], tuple[int, ...]],
        before: Sequence[_Tokens],
        lost: Mapping[str, int],
    ) -> Encoded:
        """Return a row with what was cut: ``read`` of the response's tokens are left, ``lost`` is of its context."""
        text = row["response"]
        blank, shown = is_blank(text), without_markup(text)
        unknown_share = self._unknown_share(response, read, blank)
        if shown != text and not blank:
            # The tags of "<p>\N{THUMBS UP SIGN}</p>" are known, and what it shows is not.
            (alone,) = self._tokenize([shown])
            unknown_share = max(unknown_share, self._unknown_share(alone, alone.ids[: len(read)], blank))
        cut = {**lost, "response": response.total - len(read)}
        return Encoded(
            *filled,
            response.total,
            cut["response"] > 0,
            blank,
            unknown_share,
            sum(tokens.total for tokens in before),
            sum(lost.values()),
            count_letters(shown),
            tuple((name, count) for name, count in cut.items() if count),
            max((self._unknown_share(tokens, tokens.ids, blank=True) for tokens in before), default=0.0),
        )

    def _cut_context(self, row: Mapping[str, str], ids: list[int], room: int) -> tuple[list[int], dict[str, int]]:
        """Return the tokens of a context that fit, and how many each of its inputs lost."""
        names = context_names(row)
        if (over := len(ids) - room) <= 0:
            return ids, {}
        if len(names) == 1 or self.truncation == "context_first":
            return ids[:room], {names[0] if len(names) == 1 else "context": over}
        # Where an input ends is found by tokenizing what comes before: unlike places in the text, the page's tokenizer
        # can do that, too.
        before = [" ".join(row[name] for name in names[:end]) for end in range(1, len(names))]
        ends = [0]
        for tokens in (*(each.total for each in self._tokenize(before)), len(ids)):
            ends.append(min(max(tokens, ends[-1]), len(ids)))
        parts = {name: ids[start:end] for name, (start, end) in zip(names, pairwise(ends), strict=True)}
        lost: dict[str, int] = {}
        for name in CUT_ORDER:
            if (taken := min(over, len(parts.get(name, ())))) > 0:
                parts[name] = parts[name][: len(parts[name]) - taken]
                lost[name] = taken
                over -= taken
        return [token for part in parts.values() for token in part], lost

    def _unknown_share(self, response: _Tokens, read: list[int], blank: bool) -> float:
        if not read:
            return 0.0 if blank else 1.0
        if self.unknown_token not in read:
            return 0.0
        unknown = sum(count for place, count in response.unknown.items() if place < len(read))
        visible = unknown + sum(map(self._ink.__getitem__, read))
        return max(read.count(self.unknown_token) / len(read), unknown / visible if visible else 0.0)


class _Ink(dict[int, int]):
    """The number of letters, digits and symbols (`INK`) of each token; 0 for the unknown token."""

    def __init__(self, tokenizer: Tokenizer, unknown_token: int | None) -> None:
        super().__init__({} if unknown_token is None else {unknown_token: 0})
        self._tokenizer = tokenizer

    def __missing__(self, token: int) -> int:
        self[token] = len(INK.findall(self._tokenizer.id_to_token(token)))
        return self[token]


def is_tokenizer_error(error: BaseException) -> bool:
    """Whether the tokenizers library can have raised this: bare exceptions, and panics, which are no `Exception`."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


_UNKNOWN_CHARACTER = "it has a character that the vocabulary lacks, which has no token for unknown characters"


def lacks_unknown_token(error: BaseException) -> bool:
    """Whether a tokenizer failed because it met an unknown character and has no token for these."""
    return is_tokenizer_error(error) and "unk" in str(error).lower()


def load_plain_tokenizer(content: bytes) -> Tokenizer:
    """Return a tokenizer that truncates and pads nothing, and for which a typed ``[SEP]`` or ``</s>`` is plain text.

    Its special tokens are those of its post-processor only.

    Args:
        content: The content of a ``tokenizer.json``.

    Raises:
        Exception: It is not valid; the tokenizers library raises no narrower class.
    """
    tokenizer = Tokenizer.from_buffer(content)
    if isinstance(tokenizer.model, models.Unigram):
        tokenizer = Tokenizer.from_str(json.dumps(_without_special_pieces(json.loads(content))))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def _without_special_pieces(content: dict[str, Any]) -> dict[str, Any]:
    """A Unigram tokenizer whose special tokens no text can spell.

    Special tokens are pieces of the vocabulary, so ``encode_special_tokens`` alone does not help: ``</s>`` is found in
    the text like any other piece, with the best score of all.
    """
    model, added = content["model"], content.get("added_tokens") or []
    special = {token["content"] for token in added if token["special"]}
    if isinstance(model.get("unk_id"), int):
        special.add(model["vocab"][model["unk_id"]][0])
    # No word has a space, which is written as U+2581 or separates words.
    pieces = [[f"\0{piece} " if piece in special else piece, score] for piece, score in model["vocab"]]
    return {
        **content,
        "model": {**model, "vocab": pieces},
        "added_tokens": [token for token in added if not token["special"]],
    }


def find_unknown_token(tokenizer: Tokenizer) -> int | None:
    """Return the id of the token for text that the vocabulary cannot represent, or None if there is none."""
    model = tokenizer.model
    if isinstance(model, models.Unigram):
        unigram = json.loads(tokenizer.to_str())["model"]
        return None if unigram["unk_id"] is None else int(unigram["unk_id"])
    return None if model.unk_token is None else model.token_to_id(model.unk_token)


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield the texts in order, in lists of up to `_CHUNK_CHARACTERS` characters."""
    chunk: list[str] = []
    characters = 0
    for text in texts:
        if chunk and characters + len(text) > _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
        chunk.append(text)
        characters += len(text)
    yield chunk
