"""Which human-coded responses the teacher is shown as examples."""

import hashlib
from collections.abc import Sequence

from edgedistill.errors import ProjectFileError
from edgedistill.records.types import CodedResponse, TrainRows


def choose_examples(rows: TrainRows, labels: Sequence[str], few_shot: int) -> tuple[CodedResponse, ...]:
    """Return the examples, as many of each label as of any other, give or take one.

    Within a label the rows with the smallest SHA-256 of their id are taken. Other rows come and go without changing
    the choice, unless one of them has a smaller hash, so prompts that were paid for mostly stay the same.

    Args:
        rows: Human-coded train rows; no other split may be shown to the teacher.
        labels: The codebook's labels; where ``few_shot`` is no multiple of their number, the first get one more.
        few_shot: How many examples, 0 or more.

    Returns:
        The examples, the labels taking turns in codebook order.

    Raises:
        ProjectFileError: A label has fewer train rows than examples are wanted of it.
    """
    chosen: list[list[CodedResponse]] = []
    for place, label in enumerate(labels):
        of_label = sorted((row for row in rows if row.label == label), key=lambda row: _rank(row.response.id))
        wanted = few_shot // len(labels) + (place < few_shot % len(labels))
        if wanted > len(of_label):
            raise ProjectFileError(
                f"{few_shot} examples need {wanted} train rows of the label {label!r}, and there are {len(of_label)}",
                where="teacher.few_shot",
                mend="Lower few_shot, or code more responses of this label.",
            )
        chosen.append(of_label[:wanted])
    rounds = max((len(of_label) for of_label in chosen), default=0)
    return tuple(of_label[turn] for turn in range(rounds) for of_label in chosen if turn < len(of_label))


def _rank(ident: str) -> str:
    return hashlib.sha256(ident.encode("utf-8", "surrogatepass")).hexdigest()
