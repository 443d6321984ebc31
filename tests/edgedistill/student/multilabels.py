"""A multilabel toy task: each keyword in the text is a label."""

import random

from edgedistill.data.types import CodedResponse, MixtureRow, Response, ValidationRows
from edgedistill_serve.task.task import Label, Task, join_labels, split_labels

from .conftest import FILLERS, KEYWORDS

MULTILABEL = Task(kind="multilabel", labels=tuple(map(Label, KEYWORDS)), inputs=("response",))


def sets(rows, seed):
    """(code, text) pairs: each keyword is in the text at random."""
    rng = random.Random(seed)
    for _ in range(rows):
        held = [name for name, share in zip(KEYWORDS, (0.5, 0.4, 0.25), strict=True) if rng.random() < share]
        words = [*rng.choices(FILLERS, k=rng.randint(2, 10)), *(KEYWORDS[name] for name in held)]
        rng.shuffle(words)
        yield join_labels(held, MULTILABEL), " ".join(words)


def mixture_of_sets(rows=192, seed=1):
    return [
        MixtureRow(f"m{row}", {"response": text}, code, "human", dict.fromkeys(split_labels(code, MULTILABEL), 1.0))
        for row, (code, text) in enumerate(sets(rows, seed))
    ]


def validation_of_sets(rows=40, seed=2):
    return ValidationRows(
        tuple(
            CodedResponse(Response(f"v{row}", {"response": text}, "human.csv", row + 2), code)
            for row, (code, text) in enumerate(sets(rows, seed))
        )
    )
