"""Takes out what no student should learn from: unusable texts, repetitions, and what resembles a locked row.

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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgedistill.generation.similarity import similar_pairs
from edgedistill.generation.types import Near, Reason, Removed, Sample
from edgedistill.records.coding import folded
from edgedistill.records.types import CodedResponse, TestRows, TrainRows, ValidationRows


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
        earlier = first.setdefault((*sample.context, folded(sample.text)), sample)
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
