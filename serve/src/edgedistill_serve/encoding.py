"""From texts to token ids, the same way in training, checking and scoring."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from edgedistill_serve.task import texts_of

_LONG = 4_000
"""From so many characters on the tokenizer's own threads are worth waking: they let other Python threads go on."""


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

    @property
    def room(self) -> int:
        """How many tokens are left for the texts of a row that has a context."""
        return self.max_tokens - int(self._tokenizer.num_special_tokens_to_add(True))

    def encode(self, rows: Sequence[Mapping[str, str]]) -> list[Encoded]:
        """Encode the inputs of several responses; ``result[i]`` is that of ``rows[i]`` whatever the others are."""
        pairs = [texts_of(row) for row in rows]
        context = iter(self._encodings([first for first, second in pairs if second is not None]))
        responses = self._encodings([first if second is None else second for first, second in pairs])
        return [
            self._join(None if second is None else next(context), response)
            for (_, second), response in zip(pairs, responses, strict=True)
        ]

    def _encodings(self, texts: list[str]) -> list[Encoding]:
        if sum(map(len, texts)) < _LONG:
            return [self._tokenizer.encode(text, add_special_tokens=False) for text in texts]
        encodings: list[Encoding] = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return encodings

    def _join(self, context: Encoding | None, response: Encoding) -> Encoded:
        room = self.max_tokens - self._tokenizer.num_special_tokens_to_add(context is not None)
        tokens = len(response)
        response.truncate(room)
        if context is None:
            joined = self._tokenizer.post_process(response)
        else:
            context.truncate(room - len(response))
            joined = self._tokenizer.post_process(context, response)
        return Encoded(tuple(joined.ids), tuple(joined.type_ids), tokens, tokens > room)
