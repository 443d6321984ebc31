"""How agreement grows with the number of human-coded train rows, and what more of them may bring.

Students are trained on nested random subsets of the train rows and compared with the human codes of the validation
rows. Two laws are extrapolated, because four sizes cannot tell which holds: an inverse power law,
κ(n) = a - b n^-c, which levels off (Figueroa et al. 2012, doi:10.1186/1472-6947-12-8; Viering & Loog 2023,
arXiv:2103.10948), and the straight line in log n through the last three sizes, which goes on. A prediction is their
mean, its interval that of both laws' resamples together: subsets and validation rows are resampled. All subsets of the
full size are the same rows, so how much one training set differs from another is estimated from the smaller sizes
(with a finite population correction) and added to the present κ and, once more, to a future one. Nothing is predicted
beyond three times the rows.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from edgedistill.agreement import Estimate
from edgedistill.agreement.bootstrap import TAILS, Rows
from edgedistill.agreement.confusion import Values, encode_labels, kappas
from edgedistill.agreement.multilabel import encode_label_sets
from edgedistill.data.types import CodedResponse, labels_in
from edgedistill.errors import ArgumentError, RunError
from edgedistill_serve.task.task import Task

PARTS = (8, 4, 2, 1)
"""The sizes of the subsets: the train rows divided by these."""
FACTORS = (1.5, 2.0, 3.0)
"""What is predicted: so many times the train rows."""
LEARNING_CURVE_FILE = "learning_curve.json"
LEARNING_CURVE_VERSION = 1

CURVE_CODES_FILE = "learning_curve_codes.json"
"""The students' codes of the validation rows, from which the curve can be computed again: by number of train rows a
list of codings, each a code by a row's id."""
_FEWEST_ROWS = 10
_EXPONENTS = np.linspace(0.1, 1.5, 29)
_RESAMPLES = 400
_FLAT = 0.02
"""A rise of κ by less than this over the last doubling does not matter to anybody."""
WIDEST = 0.3
"""A predicted gain whose interval is wider says nothing."""

Student: TypeAlias = Literal["frozen", "fine-tuned"]
STUDENTS: tuple[Student, ...] = ("frozen", "fine-tuned")
Outlook: TypeAlias = Literal["rising", "flat", "uncertain", "not extrapolated"]


@dataclass(frozen=True, slots=True)
class SizePoint:
    """Agreement of students that were trained on subsets of one size.

    Attributes:
        rows: Train rows.
        kappas: κ on validation rows by seed.
        mean: Their mean, with a 95 % interval over subsets and validation rows.
    """

    rows: int
    kappas: tuple[float, ...]
    mean: Estimate


@dataclass(frozen=True, slots=True)
class CurvePrediction:
    """What the fitted curve predicts.

    Attributes:
        factor: How many times the present train rows.
        rows: Number of train rows.
        kappa: κ on rows like the validation rows, with a 95 % interval.
        gain: κ less that of the present rows, likewise.
    """

    factor: float
    rows: int
    kappa: Estimate
    gain: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurve:
    """The content of `learning_curve.json`.

    Attributes:
        schema_version: `LEARNING_CURVE_VERSION`.
        student: ``frozen`` or ``fine-tuned``.
        kappa_name: Which κ it is.
        validation_rows: Number of validation rows.
        points: By size, ascending.
        asymptote: a, the κ of infinitely many rows; None if no curve was fitted.
        scale: b.
        exponent: c.
        last_doubling: κ with all rows less κ with half of them, with its interval; None without both sizes.
        predictions: Empty if the curve is not extrapolated.
        outlook: ``rising``, ``flat``, ``uncertain``, or ``not extrapolated``.
        reason: The outlook in a sentence.
        data: SHA-256 of the rows it was computed from.
    """

    schema_version: int
    student: Student
    kappa_name: str
    validation_rows: int
    points: tuple[SizePoint, ...]
    asymptote: float | None
    scale: float | None
    exponent: float | None
    last_doubling: Estimate | None
    predictions: tuple[CurvePrediction, ...]
    outlook: Outlook
    reason: str
    data: str = ""

    def summary(self) -> list[str]:
        """Return the curve in sentences."""
        kind = {"frozen": "frozen-encoder student", "fine-tuned": "fine-tuned student"}[self.student]
        points = ", ".join(f"{point.rows} rows {_interval(point.mean)}" for point in self.points)
        lines = [
            f"{self.kappa_name} of the {kind} on {self.validation_rows} validation rows by human train rows: {points}",
            self.reason,
        ]
        return lines + [
            f"with {each.rows} train rows ({each.factor:g} times as many) {self.kappa_name} is expected at "
            f"{_interval(each.kappa)}, {each.gain.value:+.2f} [{each.gain.low:+.2f}, {each.gain.high:+.2f}]"
            for each in self.predictions
        ]


def read_learning_curve(file: Path) -> LearningCurve | None:
    """Read `learning_curve.json`; None if there is none.

    Raises:
        RunError: It is damaged or of another version.
    """
    if not file.exists():
        return None
    try:
        curve = msgspec.json.decode(file.read_bytes(), type=LearningCurve)
        if curve.schema_version == LEARNING_CURVE_VERSION:
            return curve
    except (OSError, msgspec.MsgspecError):
        pass
    raise RunError(
        "is damaged or of another version",
        where=str(file),
        hint="`edgedistill review curve PROJECT` writes it again.",
    )


def curve_data(train: Iterable[CodedResponse], validation: Iterable[CodedResponse]) -> str:
    """Return the SHA-256 of the rows that a learning curve is computed from."""
    rows = [[[row.response.id, row.label, dict(row.response.inputs)] for row in rows] for rows in (train, validation)]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def subset_sizes(rows: int, task: Task) -> tuple[int, ...]:
    """Return the sizes of the nested subsets, ascending; those too small to train on are left out."""
    least = max(_FEWEST_ROWS, 2 * len(task.names))
    return tuple(sorted({rows // part for part in PARTS if rows // part >= least or part == 1}))


def nested_order(codes: Sequence[str], task: Task, seed: int) -> list[int]:
    """Return row indices of which every beginning is a random subset with the labels in proportion.

    Args:
        codes: The human code of each row; for a multilabel task a row counts for its first label.
        task: The task.
        seed: Of the shuffling.
    """
    rng = np.random.default_rng(seed)
    ranks = np.zeros(len(codes))
    names = np.array([labels_in(code, task)[0] for code in codes])
    for name in dict.fromkeys(names.tolist()):
        places = np.flatnonzero(names == name)
        ranks[places] = (rng.permutation(len(places)) + rng.random(len(places))) / len(places)
    return [int(place) for place in np.argsort(ranks, kind="stable")]


def learning_curve(
    human: Sequence[str],
    codings: Mapping[int, Sequence[Sequence[str]]],
    task: Task,
    *,
    student: Student = "frozen",
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> LearningCurve:
    """Fit a learning curve.

    Args:
        human: The human code of each validation row.
        codings: By number of train rows, the student's codes of the validation rows for each seed; the same number of
            seeds for every size.
        task: The task.
        student: Which student it is.
        groups: The group of each validation row; None: rows are independent.
        seed: Of the resampling.

    Raises:
        ArgumentError: There is no size, or the numbers of seeds differ.
    """
    sizes = sorted(codings)
    if not sizes or len({len(codings[size]) for size in sizes}) != 1:
        raise ArgumentError("a learning curve needs the same number of seeds for every size")
    rows = Rows.of(len(human), groups)
    weights = np.concatenate([np.ones((1, rows.count)), *rows.draw_rows(_RESAMPLES, np.random.default_rng([seed, 0]))])
    found = np.array([[_weighted_kappas(human, coding, task, weights) for coding in codings[size]] for size in sizes])
    observed = found[:, :, 0]  # (sizes, seeds)
    rng = np.random.default_rng([seed, 1])
    seeds = rng.integers(found.shape[1], size=(_RESAMPLES, len(sizes), found.shape[1]))
    # Each size's seeds are resampled on their own, though subsets are nested: that widens the intervals of differences.
    resampled = np.array(
        [[found[size, seeds[draw, size], draw + 1].mean() for size in range(len(sizes))] for draw in range(_RESAMPLES)]
    )
    means = observed.mean(axis=1)
    noise = _training_noise(sizes, observed, rng)
    known, resampled[:, -1] = resampled[:, -1].copy(), resampled[:, -1] + noise[0]
    points = tuple(
        SizePoint(size, tuple(observed[place].tolist()), _estimate(means[place], resampled[:, place]))
        for place, size in enumerate(sizes)
    )
    doubling = _last_doubling(sizes, means, resampled)
    fitted, predictions = _extrapolate(np.array(sizes, dtype=np.float64), means, resampled, known, noise[1])
    outlook, reason = _outlook(points, doubling, predictions)
    kept = outlook != "not extrapolated"
    return LearningCurve(
        schema_version=LEARNING_CURVE_VERSION,
        student=student,
        kappa_name={"ordinal": "quadratic weighted κ", "multilabel": "mean κ over labels"}.get(task.kind, "κ"),
        validation_rows=len(human),
        points=points,
        asymptote=fitted[0] if kept else None,
        scale=fitted[1] if kept else None,
        exponent=fitted[2] if kept else None,
        last_doubling=doubling,
        predictions=_usable(predictions) if kept else (),
        outlook=outlook,
        reason=reason,
    )


def _weighted_kappas(human: Sequence[str], coded: Sequence[str], task: Task, weights: Values) -> Values:
    """Return κ for each row of weights (draws, rows); 0 where it is undefined."""
    if task.kind == "multilabel":
        truth, predicted = encode_label_sets(human, task, "human"), encode_label_sets(coded, task, "student")
        cells = 2 * truth.astype(np.int64) + predicted  # (rows, labels)
        tables = np.stack([weights @ (cells == cell) for cell in range(4)], axis=-1)  # (draws, labels, 4)
        found = kappas(tables.reshape(-1, 2, 2), quadratic=False).reshape(len(weights), -1)
        return np.asarray(np.nan_to_num(found).mean(axis=1), dtype=np.float64)
    labels = len(task.names)
    cell = encode_labels(human, task, "human") * labels + encode_labels(coded, task, "student")
    tables = weights @ (cell[:, None] == np.arange(labels**2))
    return np.asarray(
        np.nan_to_num(kappas(tables.reshape(-1, labels, labels), quadratic=task.kind == "ordinal")), dtype=np.float64
    )


def _training_noise(sizes: Sequence[int], observed: Values, rng: np.random.Generator) -> Values:
    """Return draws of what one training set of the full size adds to the mean κ of all, (2, resamples).

    The variance among subsets of a size, corrected for the part of the rows that two of them share, is taken to fall
    in inverse proportion to the size.

    Args:
        sizes: Ascending.
        observed: κ, (sizes, seeds).
        rng: Random state.
    """
    parts = [size / sizes[-1] for size in sizes[:-1]]
    smaller = [observed[place].var(ddof=1) / (1 - part) * part for place, part in enumerate(parts)][-2:]
    if not smaller or observed.shape[1] < 2:
        return np.zeros((2, _RESAMPLES))
    degrees = len(smaller) * (observed.shape[1] - 1)
    return np.asarray(rng.standard_t(degrees, size=(2, _RESAMPLES)) * np.sqrt(np.mean(smaller)), dtype=np.float64)


def _estimate(value: float, draws: Values) -> Estimate:
    low, high = np.quantile(draws, TAILS).tolist()
    return Estimate(float(value), min(low, float(value)), max(high, float(value)))


def _last_doubling(sizes: Sequence[int], means: Values, resampled: Values) -> Estimate | None:
    if len(sizes) < 2:
        return None
    return _estimate(means[-1] - means[-2], resampled[:, -1] - resampled[:, -2])


def fit_power_law(sizes: Values, kappas_by_size: Values) -> tuple[Values, Values, Values]:
    """Fit κ(n) = a - b n^-c by least squares, with b ≥ 0, a ≤ 1 and c from 0.1 to 1.5.

    Args:
        sizes: Shape (S,), at least three different ones.
        kappas_by_size: Shape (draws, S).

    Returns:
        a, b and c, each of shape (draws,).
    """
    draws = len(kappas_by_size)
    best = np.full(draws, np.inf)
    a, b, c = (np.zeros(draws) for _ in range(3))
    mean = kappas_by_size.mean(axis=1)
    for exponent in _EXPONENTS:
        basis = -(sizes**-exponent)
        centred = basis - basis.mean()
        slope = np.maximum((kappas_by_size * centred).sum(axis=1) / (centred**2).sum(), 0)
        level = mean - slope * basis.mean()
        above = level > 1  # then a is 1 and b is fitted alone
        slope = np.where(above, np.maximum(((kappas_by_size - 1) * basis).sum(axis=1) / (basis**2).sum(), 0), slope)
        level = np.minimum(level, 1)
        error = ((kappas_by_size - (level[:, None] + slope[:, None] * basis)) ** 2).sum(axis=1)
        better = error < best - 1e-15
        best = np.where(better, error, best)
        a, b, c = (np.where(better, new, old) for new, old in ((level, a), (slope, b), (exponent, c)))
    return a, b, c


def _extrapolate(
    sizes: Values, means: Values, resampled: Values, known: Values, future: Values
) -> tuple[tuple[float, float, float], tuple[CurvePrediction, ...]]:
    """Return the power law and the predictions.

    Args:
        sizes: Shape (sizes,).
        means: Mean κ by size.
        resampled: Shape (resamples, sizes).
        known: Resampled κ of the present train rows, whichever others there might have been, (resamples,).
        future: What another training set of the present size adds to the mean κ, (resamples,).
    """
    if len(sizes) < 3:
        return (0.0, 0.0, 0.0), ()
    values = np.concatenate([means[None], resampled])
    a, b, c = fit_power_law(sizes, values)
    logs = np.log(sizes[-3:])
    slope = (values[:, -3:] * (logs - logs.mean())).sum(axis=1) / ((logs - logs.mean()) ** 2).sum()
    predictions = []
    for factor in FACTORS:
        rows = factor * sizes[-1]
        levelling_off, going_on = b * (sizes[-1] ** -c - rows**-c), slope * np.log(factor)
        gain = np.stack([levelling_off, going_on])
        kappa = values[:, -1] + gain
        kappa[:, 1:] += future / np.sqrt(factor)
        gain = kappa - np.concatenate([means[-1:], known])
        kappa = np.clip(kappa, -1, 1)
        predictions.append(
            CurvePrediction(
                factor,
                round(rows),
                _estimate(kappa[:, 0].mean(), kappa[:, 1:].ravel()),
                _estimate(gain[:, 0].mean(), gain[:, 1:].ravel()),
            )
        )
    return (float(a[0]), float(b[0]), float(c[0])), tuple(predictions)


def _usable(predictions: Sequence[CurvePrediction]) -> tuple[CurvePrediction, ...]:
    return tuple(each for each in predictions if each.gain.high - each.gain.low <= WIDEST)


def _outlook(
    points: Sequence[SizePoint], doubling: Estimate | None, predictions: Sequence[CurvePrediction]
) -> tuple[Outlook, str]:
    last, no = points[-1], "the curve cannot be extrapolated"
    if not predictions or doubling is None:
        sizes = "1 size" if len(points) == 1 else f"{len(points)} sizes"
        return "not extrapolated", f"{no} from {sizes}: {last.rows} human train rows are too few for smaller subsets"
    if last.mean.low <= 0:
        return "not extrapolated", f"{no}: with all train rows the student may be no better than chance"
    if not (usable := _usable(predictions)):
        first = predictions[0]
        reason = (
            f"{no}: with {first.factor:g} times the rows κ may change by anything from {first.gain.low:+.2f} to "
            f"{first.gain.high:+.2f}; more train or validation rows would narrow this"
        )
        return "not extrapolated", reason
    rise = (
        f"the last doubling of the train rows brought {doubling.value:+.2f} [{doubling.low:+.2f}, {doubling.high:+.2f}]"
    )
    if len(usable) < len(predictions):
        rise += f"; beyond {usable[-1].rows} rows nothing can be predicted"
    if doubling.high < _FLAT:
        return "flat", f"the curve is flat: {rise}; more train codes are not expected to help this student"
    if doubling.low > 0:
        return "rising", f"the curve rises: {rise}"
    return "uncertain", f"the rows do not show whether the curve still rises: {rise}"
