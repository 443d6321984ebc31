"""The overlap baseline: nine numbers that compare a response with its reference answers, in a logistic regression.

It knows nothing of the questions, so that it says what a comparison with the reference alone achieves on questions that
nobody trained on (a student that learns the questions by heart can be worse there). The numbers are those that short
answer grading has used since Mohler et al. (2011, ACL) and Sultan et al. (2016, NAACL): overlap of words in both
directions, of word pairs and of character trigrams, cosines of sentence vectors, negation and length. Where there are
several reference answers, each similarity is that of the most similar one.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from edgedistill.data.types import MixtureRow, ValidationRows
from edgedistill.errors import RunError
from edgedistill.student.data import check_rows
from edgedistill.student.frozen import (
    Floats,
    FrozenHead,
    FrozenPredictions,
    Vectors,
    embedder,
    fit_heads,
    probabilities_of_logits,
    read_frozen,
)
from edgedistill_serve.task.label_decoding import LabelDecoder
from edgedistill_serve.task.task import Task, reference_answers, task_inputs

FEATURES = (
    "reference words in the response",
    "response words in the reference",
    "reference words beyond the question in the response",
    "word pairs in common",
    "character trigrams in common",
    "cosine with the reference",
    "cosine with the question",
    "negation on one side only",
    "length ratio",
)
"""The nine numbers, in the order of the columns. All but the last are in [0, 1], or [-1, 1] for cosines."""

_WORD = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|[^\\W_]+(?:'[^\\W_]+)?")
"""A word; scripts without spaces are read by character."""
_NEGATIONS = frozenset(
    [
        "no",
        "not",
        "never",
        "none",
        "nothing",
        "nobody",
        "nowhere",
        "neither",
        "nor",
        "without",
        "cannot",
        "cant",
        "dont",
        "doesnt",
        "didnt",
        "isnt",
        "arent",
        "wasnt",
        "werent",
        "wont",
        "wouldnt",
        "shouldnt",
        "couldnt",
        "hasnt",
        "havent",
        "hadnt",
        "nicht",
        "nie",
        "kein",
        "keine",
        "keinen",
        "keiner",
        "keinem",
        "ohne",
        "ne",
        "pas",
        "jamais",
        "aucun",
        "sans",
        "nunca",
        "ningun",
        "sin",
        "non",
        "mai",
        "nessuno",
        "niet",
        "geen",
    ]
)


@dataclass(frozen=True, slots=True)
class _Words:
    """A text as words, pairs of neighbouring words and character trigrams; ``negated``: an odd number of times."""

    count: int
    words: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    trigrams: frozenset[str]
    negated: bool

    @classmethod
    def of(cls, text: str) -> "_Words":
        folded = unicodedata.normalize("NFKC", text).replace("\u2019", "'").casefold()
        words = _WORD.findall(folded)
        spaced = f" {' '.join(words)} "
        trigrams = frozenset(spaced[place : place + 3] for place in range(len(spaced) - 2))
        negations = sum(word.replace("'", "") in _NEGATIONS or word.endswith("n't") for word in words)
        return cls(len(words), frozenset(words), frozenset(pairwise(words)), trigrams, negations % 2 == 1)


def has_references(task: Task) -> bool:
    """Whether the task's responses come with a reference answer, which the baseline needs."""
    return "reference_answer" in task.inputs


def overlap_features(
    rows: Sequence[Mapping[str, str]], task: Task, embed: Callable[[Sequence[Mapping[str, str]]], Vectors]
) -> Floats:
    """Compute the nine numbers (`FEATURES`) of rows.

    Args:
        rows: The task's inputs of each row.
        task: A task with reference answers.
        embed: From texts, as the input ``response``, to vectors of length 1, (rows, width); see `embedder`. A text is
            embedded once.

    Returns:
        An array of shape (rows, 9).
    """
    read = [task_inputs(row, task) for row in rows]
    references = [reference_answers(row) for row in read]
    questions = [row.get("question", "") for row in read]
    every = [row["response"] for row in read] + [text for texts in references for text in texts] + questions
    texts = list(dict.fromkeys(every))
    vectors = dict(zip(texts, embed([{"response": text} for text in texts]), strict=True)) if texts else {}
    words = {text: _Words.of(text) for text in texts}
    found = [
        _features(row["response"], of_row, question, words, vectors)
        for row, of_row, question in zip(read, references, questions, strict=True)
    ]
    return np.array(found, dtype=np.float32).reshape(len(rows), len(FEATURES))


def _features(
    response: str,
    references: Sequence[str],
    question: str,
    words: Mapping[str, _Words],
    vectors: Mapping[str, Vectors],
) -> list[float]:
    given, asked = words[response], words[question].words
    vector = vectors[response]
    cosines = [float(vector @ vectors[text]) for text in references]
    each = [words[text] for text in references]
    nearest = each[int(np.argmax(cosines))]
    return [
        max(_share(one.words, given.words) for one in each),
        max(_share(given.words, one.words) for one in each),
        max(_share(one.words - asked, given.words) for one in each),
        max(_dice(one.pairs, given.pairs) for one in each),
        max(_dice(one.trigrams, given.trigrams) for one in each),
        max(cosines),
        float(vector @ vectors[question]) if question else 0.0,
        float(nearest.negated != given.negated),
        math.log((given.count + 1) / (nearest.count + 1)),
    ]


def _share(of: frozenset[str], within: frozenset[str]) -> float:
    return len(of & within) / len(of) if of else 0.0


def _dice(one: frozenset[object], other: frozenset[object]) -> float:
    both = len(one) + len(other)
    return 2 * len(one & other) / both if both else 0.0


def fit_overlap(
    mixture: Sequence[MixtureRow], validation: ValidationRows, task: Task, max_tokens: int, backbone: Path
) -> FrozenHead:
    """Fit the logistic regression on the nine numbers, with the penalty that the validation rows choose.

    Args:
        mixture: Training rows; ``label`` is the target.
        validation: Human-coded rows for the choice of the penalty.
        task: A task with reference answers; its labels, in their order, are the classes.
        max_tokens: Longer texts are truncated to this length before they are embedded.
        backbone: A folder as `backbone_folder` returns it; its sentence vectors give the cosines.

    Raises:
        TrainingFailed: The training or validation rows are not usable, or the backbone cannot be loaded.
    """
    check_rows(mixture, validation, task)
    rows = [*(row.inputs for row in mixture), *(row.response.inputs for row in validation)]
    features = overlap_features(rows, task, embedder(backbone, max_tokens))
    return fit_heads(
        {"overlap": features[: len(mixture)]},
        [row.label for row in mixture],
        {"overlap": features[len(mixture) :]},
        validation.labels,
        task,
        poolings=("overlap",),
    )[0]


def predict_overlap(file: Path, backbone: Path, task: Task, rows: Sequence[Mapping[str, str]]) -> FrozenPredictions:
    """Predict the labels of rows with the overlap baseline.

    Args:
        file: The classifier, written by `write_frozen`.
        backbone: The folder that it was fitted with.
        task: Its labels and inputs.
        rows: The task's inputs of each row.

    Raises:
        RunError: The classifier cannot be read, or is another one.
        TrainingFailed: The backbone cannot be loaded.
    """
    head, max_tokens = read_frozen(file, task)
    if head.pooling != "overlap" or head.weights.shape[1] != len(FEATURES):
        raise RunError("is not an overlap baseline", where=str(file), hint="Train again.")
    logits = head.logits(overlap_features(rows, task, embedder(backbone, max_tokens)))
    return FrozenPredictions(
        LabelDecoder(task, 1.0, head.thresholds).labels(logits), probabilities_of_logits(logits, task)
    )
