"""From texts to token ids, the same way in training, checking and scoring."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tokenizers import Encoding, Tokenizer, models

from edgedistill_serve.task.task import model_texts

_LONG = 4_000
"""From so many characters on the tokenizer's own threads are worth waking: they let other Python threads go on."""
_AT_ONCE = 500_000
"""Characters that are tokenized together, unless one text has more: a token takes about 100 bytes until it is read."""

_STAND_INS = ("first", "second")
_FIRST_ID = 2**32 - len(_STAND_INS)
"""Ids of the stand-ins, the highest that there are: no vocabulary is so large."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One response as the student reads it.

    Attributes:
        ids: Token ids with the special tokens, at most the encoder's ``max_tokens`` long.
        type_ids: Segment ids, as long as ``ids``.
        tokens: How many tokens the response alone has, before any cut and without special tokens.
        truncated: Whether the response itself was cut; a cut context alone does not count.
    """

    ids: tuple[int, ...]
    type_ids: tuple[int, ...]
    tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class Template:
    """What a tokenizer puts around one text, or around two.

    Attributes:
        pieces: Token id and type id of every special token; in place of a text, the id of its stand-in, and the type id
            of its tokens.
        added: How many special tokens there are.
    """

    pieces: tuple[tuple[int, int], ...]
    added: int

    @classmethod
    def of(cls, tokenizer: Tokenizer, texts: int) -> "Template":
        """Find a tokenizer's template by letting it put its tokens around texts of one token each.

        Args:
            tokenizer: Its post-processor may be any that a ``tokenizer.json`` can hold: each leaves the ids of a text
                as they are, and gives all of them the same type id.
            texts: 1 or 2.
        """
        vocabulary = {text: _FIRST_ID + place for place, text in enumerate(_STAND_INS)}
        reader = Tokenizer(models.WordLevel(vocabulary, unk_token=_STAND_INS[0]))
        joined = tokenizer.post_process(*[reader.encode(text) for text in _STAND_INS[:texts]])
        return cls(
            tuple(zip(joined.ids, joined.type_ids, strict=True)), int(tokenizer.num_special_tokens_to_add(texts == 2))
        )

    def filled(self, texts: Sequence[list[int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return ids and type ids of texts with the special tokens around them.

        Args:
            texts: Their token ids, one text or two as the template has.
        """
        ids: list[int] = []
        type_ids: list[int] = []
        for token, kind in self.pieces:
            if token < _FIRST_ID:
                ids.append(token)
                type_ids.append(kind)
            else:
                text = texts[token - _FIRST_ID]
                ids += text
                type_ids += [kind] * len(text)
        return tuple(ids), tuple(type_ids)


class _Tokens(NamedTuple):
    """The tokens of one text: the ids of the first ``max_tokens``, and how many there are."""

    ids: list[int]
    total: int


class Encoder:
    """Turns responses into token ids; the response keeps its tokens before the context does.

    Args:
        tokenizer_file: A ``tokenizer.json``.
        max_tokens: Longest sequence, special tokens counted.

    Marks such as ``[SEP]`` that a learner typed are read as plain text.
    """

    def __init__(self, tokenizer_file: Path, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        self._alone = Template.of(self._tokenizer, texts=1)
        self._pair = Template.of(self._tokenizer, texts=2)

    @property
    def room(self) -> int:
        """How many tokens are left for the texts of a row that has a context."""
        return self.max_tokens - self._pair.added

    def encode(self, rows: Sequence[Mapping[str, str]]) -> list[Encoded]:
        """Encode the inputs of several responses; ``result[i]`` is that of ``rows[i]`` whatever the others are."""
        pairs = [model_texts(row) for row in rows]
        context = iter(self._read([first for first, second in pairs if second is not None]))
        responses = self._read([first if second is None else second for first, second in pairs])
        return [
            self._join(None if second is None else next(context), response)
            for (_, second), response in zip(pairs, responses, strict=True)
        ]

    def _read(self, texts: list[str]) -> list[_Tokens]:
        if sum(map(len, texts)) < _LONG:
            return [self._tokens(self._tokenizer.encode(text, add_special_tokens=False)) for text in texts]
        return [
            self._tokens(encoding)
            for some in _in_pieces(texts)
            for encoding in self._tokenizer.encode_batch(some, add_special_tokens=False)
        ]

    # The tokenizer's own `truncate` and `post_process` give the same ids, but make an encoding of every piece that is
    # cut off, and join each with the other text.
    def _tokens(self, encoding: Encoding) -> _Tokens:
        return _Tokens(encoding.ids[: self.max_tokens], len(encoding))

    def _join(self, context: _Tokens | None, response: _Tokens) -> Encoded:
        template = self._alone if context is None else self._pair
        room = self.max_tokens - template.added
        texts = [response.ids[:room]]
        if context is not None:
            texts.insert(0, context.ids[: room - len(texts[0])])
        return Encoded(*template.filled(texts), response.total, response.total > room)


def _in_pieces(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield the texts in order, as many at a time as have `_AT_ONCE` characters together."""
    some: list[str] = []
    characters = 0
    for text in texts:
        if some and characters + len(text) > _AT_ONCE:
            yield some
            some, characters = [], 0
        some.append(text)
        characters += len(text)
    yield some
