"""Screens synthetic responses: unusable texts, repetitions, and near-duplicates of validation or test rows.

What is the same and what is nearly the same, `edgedistill.data.twins` says.

screen(samples, …) -> ScreeningResult
├── kept       the remaining samples, and the train row that each nearly repeats, if any
└── removed    every other sample, with the reason and what it repeats

What is compared:

- Within the samples, an exact repetition has the same question, whatever its label; a near repetition has the same
  label too. A text that differs by one word may be correct where the other is wrong ("is connected", "is not
  connected"), and such pairs teach most.
- Validation and test rows are compared with all samples of every question and label: no sample that resembles a row of
  the evaluation may be used for training.
- A sample that nearly repeats a train row of the same question is reported and kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from edgedistill.data.twins import find_similar_pairs, same_row, same_text
from edgedistill.data.types import CodedResponse, TestRows, TrainRows, ValidationRows
from edgedistill.generation.types import NearestRow, RemovalReason, RemovedSample, Sample
from edgedistill_serve.task.visible_text import is_blank


@dataclass(frozen=True, slots=True)
class ScreeningResult:
    """The result of screening: each sample is in `kept` or in `removed`.

    Attributes:
        kept: The remaining samples, in their order.
        near_train: The train row that a remaining sample nearly repeats, by the sample's id.
        removed: The other samples, in the order of the checks.
    """

    kept: tuple[Sample, ...]
    near_train: Mapping[str, NearestRow]
    removed: tuple[RemovedSample, ...]


def screen(
    samples: Sequence[Sample],
    train: TrainRows,
    validation: ValidationRows,
    test: TestRows,
    *,
    max_characters: int,
    near: float,
) -> ScreeningResult:
    """Screen samples, with the checks in the order of `RemovalReason`.

    Args:
        samples: The teacher's samples.
        train: Human rows that the samples may resemble.
        validation: Human rows that no sample may resemble.
        test: Likewise.
        max_characters: A longer text is removed.
        near: Similarity in (0, 1] from which a text counts as a near repetition; see `find_similar_pairs`.
    """
    removed: list[RemovedSample] = []
    kept = _remove(samples, [_check_text(sample, max_characters) for sample in samples], removed)
    kept = _remove(kept, _find_repetitions(kept), removed)
    kept = _remove(kept, _find_near_repetitions(kept, near), removed)
    for rows, reason in ((validation, RemovalReason.NEAR_VALIDATION), (test, RemovalReason.NEAR_TEST)):
        nearest = _find_nearest(kept, list(rows), near)
        kept = _remove(kept, [_check_nearest(sample, nearest, reason) for sample in kept], removed)
    same_question = _find_nearest(kept, list(train), near, any_question=False)
    return ScreeningResult(tuple(kept), same_question, tuple(removed))


def _remove(
    samples: Sequence[Sample], verdicts: Sequence[RemovedSample | None], removed: list[RemovedSample]
) -> list[Sample]:
    """Return the samples with the verdict None; add the other verdicts to `removed`."""
    removed += [verdict for verdict in verdicts if verdict]
    return [sample for sample, verdict in zip(samples, verdicts, strict=True) if verdict is None]


def _check_text(sample: Sample, max_characters: int) -> RemovedSample | None:
    if is_blank(sample.text) or not same_text(sample.text):
        return RemovedSample(sample, RemovalReason.BLANK)
    if any("\ud800" <= character <= "\udfff" for character in sample.text):
        return RemovedSample(sample, RemovalReason.NO_TEXT)
    if len(sample.text) > max_characters:
        return RemovedSample(sample, RemovalReason.LONG, f"{len(sample.text)} characters")
    return None


def _find_repetitions(samples: Sequence[Sample]) -> list[RemovedSample | None]:
    first: dict[tuple[str, ...], Sample] = {}
    verdicts: list[RemovedSample | None] = []
    for sample in samples:
        earlier = first.setdefault(same_row(sample.inputs), sample)
        same = earlier is sample
        detail = "" if earlier.label == sample.label else f"written for the label {earlier.label!r} there"
        verdicts.append(None if same else RemovedSample(sample, RemovalReason.REPEATS, detail, earlier.id, 1.0))
    return verdicts


def _find_near_repetitions(samples: Sequence[Sample], near: float) -> list[RemovedSample | None]:
    """Remove a sample if it is near an earlier one that remains."""
    verdicts: list[RemovedSample | None] = [None] * len(samples)
    for group in _group_indices(samples):
        texts = [samples[index].text for index in group]
        for later, earlier, similarity in find_similar_pairs(texts, texts, near):
            one, other = group[later], group[earlier]
            if earlier < later and verdicts[one] is None and verdicts[other] is None:
                verdicts[one] = RemovedSample(
                    samples[one], RemovalReason.NEARLY_REPEATS, repeats=samples[other].id, similarity=similarity
                )
    return verdicts


def _group_indices(samples: Sequence[Sample]) -> Iterable[list[int]]:
    """Return the indices of the samples with the same context and label."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault((*_key(sample.context), sample.label), []).append(index)
    return groups.values()


def _find_nearest(
    samples: Sequence[Sample], rows: Sequence[CodedResponse], near: float, *, any_question: bool = True
) -> dict[str, NearestRow]:
    """Return the most similar row of each sample that is near a row, by the sample's id."""
    nearest: dict[str, NearestRow] = {}
    texts, others = [sample.text for sample in samples], [row.response.text for row in rows]
    first = {same_text(text): index for index, text in reversed(list(enumerate(others)))}
    same = ((index, first[key], 1.0) for index, text in enumerate(texts) if (key := same_text(text)) in first)
    for index, other, similarity in chain(same, find_similar_pairs(texts, others, near)):
        sample, row = samples[index], rows[other]
        if not any_question and _key(_context(row)) != _key(sample.context):
            continue
        if sample.id not in nearest or similarity > nearest[sample.id].similarity:
            nearest[sample.id] = NearestRow(row.response.id, similarity, row.label)
    return nearest


def _key(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(same_text, texts))


def _context(row: CodedResponse) -> tuple[str, ...]:
    return tuple(text for name, text in row.response.inputs.items() if name != "response")


def _check_nearest(sample: Sample, nearest: Mapping[str, NearestRow], reason: RemovalReason) -> RemovedSample | None:
    row = nearest.get(sample.id)
    return RemovedSample(sample, reason, repeats=row.id, similarity=row.similarity) if row else None
