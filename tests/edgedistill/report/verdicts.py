"""Evaluations with figures set by hand, for tests of single rules."""

import json
from dataclasses import replace
from functools import cache

import msgspec

from edgedistill.agreement import Estimate
from edgedistill.evaluation.types import Evaluation, Gate

from .runs import evaluation_of, gate_of


@cache
def _made(kind):
    values, _ = evaluation_of(kind=kind)
    return json.dumps(values)


def evaluation(kind="nominal", **changes):
    """An evaluation of 120 test rows that everything speaks for, with changes."""
    made = msgspec.json.decode(_made(kind), type=Evaluation)
    steady = replace(made, agreement=made.agreement | {"student": student()}, subgroups=())
    return replace(steady, **changes)


def student(low=0.7, high=0.9, *, rows=120, groups=None, labels=None, kappa=True):
    """The student's agreement: κ with these ends, and by label its support and the ends of its F1."""
    base = msgspec.json.decode(_made("nominal"), type=Evaluation).student
    of_label = {"process": (40, 0.7, 0.9), "outcome": (40, 0.7, 0.9), "none": (40, 0.7, 0.9)} | (labels or {})
    per_label = {
        name: replace(
            base.per_label[name],
            support=support,
            f1=None if f1_low is None else (f1_low + f1_high) / 2,
            intervals={} if f1_low is None else {"f1": (f1_low, f1_high)},
        )
        for name, (support, f1_low, f1_high) in of_label.items()
    }
    found = Estimate((low + high) / 2, low, high) if kappa else None
    return replace(base, rows=rows, kappa=found, groups=groups, per_label=per_label)


def with_student(found, **changes):
    """The evaluation with another student."""
    made = evaluation(**changes)
    return replace(made, rows=found.rows, agreement=made.agreement | {"student": found})


def gate(**given):
    """A gate as its file tells it."""
    return msgspec.convert(gate_of(**given), type=Gate)
