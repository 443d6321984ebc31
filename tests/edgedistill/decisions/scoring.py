"""Scores of a simulated student."""

from dataclasses import replace

import numpy as np

from edgedistill.decisions import TestScores, ValidationScores
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.task.task import Label, Task

TASK = Task("nominal", (Label("a"), Label("b"), Label("c")), ("response",))


def read_of(place, *, cut=False):
    """The tokens of a row, unlike those of the others."""
    return Encoded((1, 3 + place), (0, 0), 400 if cut else 1, cut)


def scores_of(logits, codes, kind=ValidationScores, *, cut=(), groups=None, task=TASK, thresholds=()):
    """Scores of rows with these logits and human codes; those with an index in ``cut`` are truncated."""
    return kind(
        task=task,
        ids=tuple(f"r{place}" for place in range(len(codes))),
        codes=tuple(codes),
        logits=np.array(logits, dtype=np.float64),
        encoded=tuple(read_of(place, cut=place in cut) for place in range(len(codes))),
        groups=groups,
        thresholds=thresholds,
    )


def drawn(rows, *, sharpened=1.0, spread=2.2, seed=0, kind=ValidationScores, cut=()):
    """Human codes drawn from a student's probabilities, which are then sharpened to make it overconfident."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 3)) * spread
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    codes = (shares.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return scores_of(logits * sharpened, [TASK.names[code] for code in codes], kind, cut=cut)


def locked(rows, **given):
    """The same as test rows."""
    return drawn(rows, kind=TestScores, **given)


def tied(rows, *, seed=0, task=TASK, grouped=False, cut=(), kind=ValidationScores):
    """Rows with five levels of confidence; the more confident, the more often they are correct."""
    rng = np.random.default_rng(seed)
    labels, levels = rng.integers(3, size=rows), rng.integers(5, size=rows)
    codes = np.where(rng.random(rows) < 0.4 + 0.15 * levels, labels, rng.integers(3, size=rows))
    groups = tuple(f"g{member}" for member in rng.integers(max(2, rows // 4), size=rows)) if grouped else None
    logits = (np.eye(3)[labels] - 0.5) * levels[:, None]
    thresholds = (0.5, 0.5, 0.5) if task.kind == "multilabel" else ()
    names = [TASK.names[code] for code in codes]
    return scores_of(logits, names, kind, cut=cut, groups=groups, task=task, thresholds=thresholds)


def reordered(scores, order):
    """The same rows in another order."""
    values = {name: tuple(getattr(scores, name)[place] for place in order) for name in ("ids", "codes", "encoded")}
    groups = scores.groups and tuple(scores.groups[place] for place in order)
    return replace(scores, **values, groups=groups, logits=scores.logits[order])
