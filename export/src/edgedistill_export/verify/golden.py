"""The golden rows, which the self-check scores when a bundle is loaded on another machine.

By default no learner's text is among them: they are neutral sentences (`golden_texts`), the codebook's own labels and
definitions, texts of the teacher that repeat no learner, and tokens of the vocabulary. They are chosen so that the
check covers the graph: all labels, rows near the decision boundary, every length up to the longest, and as many rows of
the embedding table as fit.
"""

import random
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import cycle

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from edgedistill_export.authors import TEACHER, Author, private_words, without_traces, words
from edgedistill_export.verify.golden_texts import CONTEXTS, SENTENCES
from edgedistill_export.verify.parity import Logits
from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.manifest import Golden, GoldenRow, Precision
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.task.label_decoding import LabelDecoder
from edgedistill_serve.task.task import Task

MAX_ROWS = 32
"""A self-check with this number of rows takes well under a second with a small student."""

TOLERANCE: dict[Precision, float] = {"fp32": 0.001, "int8": 0.02}
"""The tolerance for probabilities on another processor.

Another processor sums floats in a different order, which changes probabilities by about 1e-6 in fp32; in int8 such a
difference can move an activation to the next of 256 integers, so the tolerance is wider. Saturating arithmetic exceeds
both by far.
"""

NOVELTY_TOLERANCE: dict[Precision, float] = {"fp32": 0.001, "int8": 0.02}
"""The tolerance for the novelty on another processor, as a share of it."""

_LENGTHS = (0.25, 0.5, 1.0, 1.5)
"""Lengths of rows as a part of the longest sequence; the last one is truncated."""
_MOST_TEACHER_TEXTS = 64
_VOCABULARY_ROWS = 12
_VOCABULARY_TOKENS = 40
_COMPOSED = 256
"""Number of texts that are composed of others: among many, some are near the decision boundary."""
_TOKEN_ROWS = 5
"""Number of golden rows that are chosen for their tokens."""


def written_rows(
    task: Task,
    encoder: Encoder,
    tokenizer_file: bytes,
    rows: Sequence[Mapping[str, str]] = (),
    authors: Sequence[Author] = (),
) -> tuple[list[dict[str, str]], int]:
    """Write candidates for golden rows that contain no learner's text.

    Args:
        task: The scored task; its labels and definitions are candidates too.
        encoder: Encodes rows.
        tokenizer_file: The content of the ``tokenizer.json``.
        rows: The inputs of every known row. Those of the teacher are candidates if they repeat no learner's.
        authors: The author of each row.

    Returns:
        The inputs of the candidates, and how many of the first ones every bundle should have: one of each length, and
        an empty response.
    """
    teacher = [row["response"] for row, author in zip(rows, authors, strict=False) if author == TEACHER]
    codebook = [text for label in task.labels for text in (label.name, label.definition) if text]
    lengths = (_of_length(encoder, round(part * encoder.max_tokens)) for part in _LENGTHS)
    structural = list(dict.fromkeys(["", *lengths]))
    texts = [
        *structural,
        *SENTENCES,
        *codebook,
        *without_traces(teacher, rows, authors)[:_MOST_TEACHER_TEXTS],
        *_of_vocabulary(tokenizer_file, private_words(rows, authors)),
        *_composed([*SENTENCES, *codebook * 8]),
    ]
    return with_contexts(list(dict.fromkeys(texts)), task), len(structural)


def with_contexts(texts: Sequence[str], task: Task) -> list[dict[str, str]]:
    """Return rows of a task with these responses, and with contexts in turn where the task has them."""
    return [
        {name: text if name == "response" else context[name] for name in task.inputs}
        for text, context in zip(texts, cycle(CONTEXTS))
    ]


def _composed(texts: Sequence[str]) -> Iterator[str]:
    """Yield texts that consist of some of the given ones."""
    draw = random.Random(0)  # noqa: S311  # not for cryptography
    for _ in range(_COMPOSED):
        yield " ".join(draw.sample(texts, k=draw.randint(1, 5)))


def _of_length(encoder: Encoder, tokens: int) -> str:
    """Return sentences with about this number of tokens."""
    text: list[str] = []
    sentences = cycle(SENTENCES[:33])  # of one script, so that the lengths are similar for every tokenizer
    while encoder.encode([{"response": " ".join(text)}])[0].tokens < tokens:
        text.append(next(sentences))
    return " ".join(text)


def _of_vocabulary(tokenizer_file: bytes, private: Set[str]) -> Iterator[str]:
    """Yield texts of tokens from the whole vocabulary, without those of private words."""
    tokenizer = Tokenizer.from_buffer(tokenizer_file)
    vocabulary = tokenizer.get_vocab()
    ids = sorted(number for token, number in vocabulary.items() if private.isdisjoint(words(token)))
    spread = ids[:: max(1, len(ids) // (_VOCABULARY_ROWS * _VOCABULARY_TOKENS))]
    random.Random(0).shuffle(spread)  # noqa: S311  # not for cryptography
    for start in range(0, len(spread), _VOCABULARY_TOKENS):
        if text := tokenizer.decode(spread[start : start + _VOCABULARY_TOKENS], skip_special_tokens=True).strip():
            yield text


def build_golden(
    rows: Sequence[Mapping[str, str]],
    logits: Mapping[Precision, Logits],
    chosen: Sequence[int],
    novelty: Mapping[Precision, Sequence[float] | npt.NDArray[np.float64]] | None = None,
) -> Golden:
    """Return golden rows with the tolerances of the self-check.

    Args:
        rows: The inputs of the candidates.
        logits: The finite logits of each candidate scored alone, by precision (fp32 is required).
        chosen: Indices of the rows to take, from `choose_written_rows` or `choose_golden_rows`.
        novelty: The novelty of each candidate by precision; None or empty if the graphs compute none.

    Returns:
        The rows with the logits of each graph as expected values, and the tolerances `TOLERANCE`.
    """

    def of(precision: Precision, row: int) -> tuple[float, ...]:
        return tuple(map(float, logits[precision][row]))

    novelties = novelty or {}
    others = [precision for precision in logits if precision != "fp32"]
    return Golden(
        rows=tuple(
            GoldenRow(
                dict(rows[row]),
                of("fp32", row),
                {precision: of(precision, row) for precision in others},
                {precision: float(found[row]) for precision, found in novelties.items()},
            )
            for row in chosen
        ),
        tolerance={precision: TOLERANCE[precision] for precision in logits},
        novelty_tolerance={precision: NOVELTY_TOLERANCE[precision] for precision in novelties},
    )


def choose_written_rows(
    logits: Logits, tokens: Sequence[Sequence[int]], decoder: LabelDecoder, required: int, most: int = MAX_ROWS
) -> list[int]:
    """Choose rows for the self-check: the required ones, those with the most new tokens, and those near the boundary.

    The last ones have the smallest `LabelDecoder.margins` of each predicted label (for a multilabel task, set of
    labels) in turn: there a small error of the graph moves a probability the most.

    Args:
        logits: The fp32 logits of the candidates, shape (rows, labels).
        tokens: The token ids of each candidate.
        decoder: Decodes the logits.
        required: Number of the first rows that are always taken.
        most: Number of rows to choose, more than ``required`` and the rows that are chosen for their tokens.

    Returns:
        Row indices in ascending order.
    """
    chosen = list(range(min(required, len(logits))))
    seen = {token for row in chosen for token in tokens[row]}
    for _ in range(min(_TOKEN_ROWS, len(logits) - len(chosen))):
        row = max((row for row in range(len(logits)) if row not in chosen), key=lambda row: len({*tokens[row]} - seen))
        chosen.append(row)
        seen.update(tokens[row])
    rest = np.setdiff1d(np.arange(len(logits)), chosen)
    turn = _turns(decoder.margins(logits), decoder.label_mask(logits))
    return sorted([*chosen, *rest[np.lexsort((rest, turn[rest]))][: most - len(chosen)].tolist()])


def choose_golden_rows(logits: Logits, decoder: LabelDecoder, most: int = MAX_ROWS) -> list[int]:
    """Choose rows for the self-check: half near the decision boundary, the others balanced over the labels.

    Rows near the boundary have the smallest `LabelDecoder.margins`; there a small error changes the label. The others
    are chosen round-robin over the predicted labels (for a multilabel task, sets of labels), largest margin first.

    Args:
        logits: Shape (rows, labels), at least two labels.
        decoder: Decodes the logits.
        most: Number of rows to choose.

    Returns:
        Row indices in ascending order; all rows if there are no more than ``most``.
    """
    if len(logits) <= most:
        return list(range(len(logits)))
    margin = decoder.margins(logits)
    near = np.argsort(margin, kind="stable")[: most // 2]
    rest = np.setdiff1d(np.arange(len(logits)), near)
    turn = _turns(-margin[rest], decoder.label_mask(logits[rest]))
    spread = rest[np.lexsort((rest, turn))][: most - len(near)]
    return sorted(int(i) for i in (*near, *spread))


def _turns(order: npt.NDArray[np.floating], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return each row's place among the rows with the same labels, in ascending ``order``."""
    _, label = np.unique(mask, axis=0, return_inverse=True)
    turn = np.empty(len(order), dtype=np.int64)
    for name in np.unique(label):
        rows = np.flatnonzero(label == name)
        turn[rows[np.argsort(order[rows], kind="stable")]] = np.arange(len(rows))
    return turn


def responses_in(bundle: Bundle) -> int:
    """Return how many golden rows of a bundle are learners' responses; those of older bundles all are."""
    written = (bundle.manifest.provenance.get("export") or {}).get("golden_rows") == "written"
    return 0 if written else len(bundle.golden.rows)


def missing_labels(logits: Logits, decoder: LabelDecoder) -> list[str]:
    """Return the labels that no row gets."""
    found = np.atleast_1d(decoder.label_mask(logits).any(axis=0))
    return [name for name, is_found in zip(decoder.task.names, found, strict=True) if not is_found]
