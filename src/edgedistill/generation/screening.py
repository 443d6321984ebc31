"""Screens synthetic responses: unusable texts, repetitions, and near-duplicates of validation or test rows.

The share of the trigrams of two texts that both have (Broder 1997), by one sparse matrix product per block of texts.
MinHash estimates this figure; for the thousands of short texts of a project the exact one takes no longer. See
docs/decisions for the measurement.

screen(samples, …) -> Screened
├── kept       the samples that are left, each with the train row that it nearly repeats, if any
└── removed    every other sample, why, and what it repeats

What is compared with what:

- Within the samples, an exact repetition is one to the same question, whatever its label; a near one has the same
  label too. A text that differs by one word may be right where the other is wrong ("is connected", "is not
  connected"), and such pairs teach most.
- A validation or test row is compared with every sample, whatever question and label: nothing that resembles a row
  which judges the student may train it.
- A train row to the same question that is nearly repeated is told and changes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from edgedistill.data.tables import normalize_text
from edgedistill.data.types import CodedResponse, TestRows, TrainRows, ValidationRows
from edgedistill.generation.types import Near, Reason, Removed, Sample

_BLOCK = 512  # texts compared with all others at a time: bounds the memory of one product


def similar_pairs(texts: Sequence[str], others: Sequence[str], at_least: float) -> Iterator[tuple[int, int, float]]:
    """Yield every pair of a text and another one that are similar enough.

    Case, white space and Unicode composition do not count; a space stands before and after each text, so that first
    and last words count like others.

    Args:
        texts: n texts.
        others: m texts; may be `texts` itself, every text then being similar to itself.
        at_least: Similarity in (0, 1].

    Yields:
        Position in `texts`, position in `others`, similarity; ordered by the first, then the second.
    """
    if not texts or not others:
        return
    trigrams = CountVectorizer(analyzer=_trigrams, binary=True).fit([*texts, *others])
    left, right = trigrams.transform(texts), trigrams.transform(others)
    left_sizes, right_sizes = (np.asarray(matrix.sum(axis=1)).ravel() for matrix in (left, right))
    for start in range(0, len(texts), _BLOCK):
        shared = (left[start : start + _BLOCK] @ right.T).tocoo()
        rows, columns = shared.row + start, shared.col
        similarity = shared.data / (left_sizes[rows] + right_sizes[columns] - shared.data)
        found = np.flatnonzero(similarity >= at_least)
        for place in sorted(found, key=lambda place: (rows[place], columns[place])):
            yield int(rows[place]), int(columns[place]), float(similarity[place])


def _trigrams(text: str) -> set[str]:
    padded = f" {normalize_text(text)} "
    return {padded[start : start + 3] for start in range(max(1, len(padded) - 2))}


@dataclass(frozen=True, slots=True)
class Screened:
    """What became of samples: each is in one of the two.

    Attributes:
        kept: The samples that are left, in their order.
        near_train: Of those, by id, the train row that each nearly repeats.
        removed: The others, in the order of the steps.
    """

    kept: tuple[Sample, ...]
    near_train: Mapping[str, Near]
    removed: tuple[Removed, ...]


def screen(
    samples: Sequence[Sample],
    train: TrainRows,
    validation: ValidationRows,
    test: TestRows,
    *,
    max_characters: int,
    near: float,
) -> Screened:
    """Screen samples, in the order of the steps of `Reason`.

    Args:
        samples: What the teacher wrote.
        train: Human rows that the samples may resemble.
        validation: Human rows that no sample may resemble.
        test: Likewise.
        max_characters: A longer text is removed.
        near: Similarity in (0, 1] from which two texts count as one; see `similar_pairs`.
    """
    removed: list[Removed] = []
    kept = _without(samples, [_unusable(sample, max_characters) for sample in samples], removed)
    kept = _without(kept, _repetitions(kept), removed)
    kept = _without(kept, _near_repetitions(kept, near), removed)
    for rows, reason in ((validation, Reason.NEAR_VALIDATION), (test, Reason.NEAR_TEST)):
        found = _nearest(kept, list(rows), near)
        kept = _without(kept, [_near_row(sample, found, reason) for sample in kept], removed)
    same_question = _nearest(kept, list(train), near, any_question=False)
    return Screened(tuple(kept), same_question, tuple(removed))


def _without(samples: Sequence[Sample], found: Iterable[Removed | None], removed: list[Removed]) -> list[Sample]:
    """The samples about which nothing was found; what was found is added to `removed`."""
    verdicts = list(found)
    removed += [verdict for verdict in verdicts if verdict]
    return [sample for sample, verdict in zip(samples, verdicts, strict=True) if verdict is None]


def _unusable(sample: Sample, max_characters: int) -> Removed | None:
    if not sample.text.strip():
        return Removed(sample, Reason.BLANK)
    if any("\ud800" <= character <= "\udfff" for character in sample.text):
        return Removed(sample, Reason.NO_TEXT)
    if len(sample.text) > max_characters:
        return Removed(sample, Reason.LONG, f"{len(sample.text)} characters")
    return None


def _repetitions(samples: Sequence[Sample]) -> list[Removed | None]:
    first: dict[tuple[str, ...], Sample] = {}
    verdicts: list[Removed | None] = []
    for sample in samples:
        earlier = first.setdefault((*sample.context, normalize_text(sample.text)), sample)
        same = earlier is sample
        detail = "" if earlier.label == sample.label else f"written for the label {earlier.label!r} there"
        verdicts.append(None if same else Removed(sample, Reason.REPEATS, detail, earlier.id, 1.0))
    return verdicts


def _near_repetitions(samples: Sequence[Sample], near: float) -> list[Removed | None]:
    """A sample goes where it is near an earlier one that stays."""
    verdicts: list[Removed | None] = [None] * len(samples)
    for places in _places_by_kind(samples):
        texts = [samples[place].text for place in places]
        for later, earlier, similarity in similar_pairs(texts, texts, near):
            one, other = places[later], places[earlier]
            if earlier < later and verdicts[one] is None and verdicts[other] is None:
                verdicts[one] = Removed(
                    samples[one], Reason.NEARLY_REPEATS, repeats=samples[other].id, similarity=similarity
                )
    return verdicts


def _places_by_kind(samples: Sequence[Sample]) -> Iterable[list[int]]:
    places: dict[tuple[str, ...], list[int]] = {}
    for place, sample in enumerate(samples):
        places.setdefault((*sample.context, sample.label), []).append(place)
    return places.values()


def _nearest(
    samples: Sequence[Sample], rows: Sequence[CodedResponse], near: float, *, any_question: bool = True
) -> dict[str, Near]:
    """For every sample that is near a row, the row that it is nearest to."""
    found: dict[str, Near] = {}
    texts, others = [sample.text for sample in samples], [row.response.text for row in rows]
    for place, other, similarity in similar_pairs(texts, others, near):
        sample, row = samples[place], rows[other]
        if not any_question and _context(row) != sample.context:
            continue
        if sample.id not in found or similarity > found[sample.id].similarity:
            found[sample.id] = Near(row.response.id, similarity, row.label)
    return found


def _context(row: CodedResponse) -> tuple[str, ...]:
    return tuple(text for name, text in row.response.inputs.items() if name != "response")


def _near_row(sample: Sample, found: Mapping[str, Near], reason: Reason) -> Removed | None:
    row = found.get(sample.id)
    return Removed(sample, reason, repeats=row.id, similarity=row.similarity) if row else None
