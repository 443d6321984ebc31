"""Class shares of many responses, corrected for how often the classifier that coded them errs.

A classifier that confuses labels counts them wrongly even over a million responses. Where its error rates are known
from coded rows, the counts can be corrected: the observed shares are the true shares times the rates, q = Mᵀ p with
M[i][j] the share of reference label i that is coded j, so p solves that system. For two labels this is Rogan & Gladen's
estimator (1978, doi:10.1093/oxfordjournals.aje.a112510): p = (q + specificity - 1) / (sensitivity + specificity - 1).
Responses whose code is known are counted with it: (known counts + corrected counts of the others) / all.

The interval comes from a Bayesian bootstrap of the responses and of the coded rows (`bayesian_resample_cells`), the
rows of a group weighted alike. Each label's count, and each cell of a reference label, gets an additional gamma weight
with a mean of 1 / labels, so that shares and error rates are draws from the posterior under a Dirichlet(1 / labels)
prior, which is Jeffreys' prior for two labels (Berger, Bernardo & Sun 2015, doi:10.1214/14-BA935). Without it, ten rows
without an error would imply an error rate of exactly 0.

It fails, and says so, where the rates say nothing: a label has no coded row, all coded rows belong to one group, or the
classifier tells labels apart no better than chance (M cannot be inverted). It is wrong, and cannot say so, where the
rates of the coded rows are not those of the responses: other questions, other learners, or rows that the classifier was
trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from edgedistill.agreement.bootstrap import bayesian_resample_cells, interval_estimate
from edgedistill.agreement.confusion import Counts, Values, check_groups, check_lengths, confusion_matrix, encode_labels
from edgedistill.agreement.multilabel import encode_label_sets
from edgedistill.agreement.types import Estimate
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Task

_LARGEST_CONDITION = 1e6
_FEWEST_SOLVED = 0.9


@dataclass(frozen=True, slots=True)
class Prevalence:
    """The shares of the labels among many responses.

    Attributes:
        rows: Responses that were counted.
        error_rates_from: Coded rows that the error rates come from.
        method: ``Rogan-Gladen`` for two labels and for each label of a multilabel task, else ``confusion matrix
            inverted``.
        observed: By label the share of the known codes and the classifier's; its interval is of the counting alone.
        corrected: By label the corrected share; its interval is of the counting and of the error rates. None where the
            correction fails; of a multilabel task, labels for which it fails are left out.
        clipped: Whether a corrected share of the responses that the classifier coded fell outside [0, 1]; it is then
            moved to the edge. The shares sum to 1, but for a multilabel task.
        fails: Why there is no correction, or of which labels there is none, else None.
        known: Responses that were counted with a code that is known; the classifier coded the others.
    """

    rows: int
    error_rates_from: int
    method: str
    observed: Mapping[str, Estimate]
    corrected: Mapping[str, Estimate] | None
    clipped: bool
    fails: str | None
    known: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, numbers and None, ready for JSON; the keys are the attributes' names."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """Shares of a few labels: those of a task, or of a multilabel task whether one label holds.

    Attributes:
        names: The labels.
        known: Responses by the code that is known, (labels,).
        scored: The other responses by the classifier's label, (labels,).
        reference: Per coded row the label that counts as right.
        coded: Per coded row the classifier's.
    """

    names: Sequence[str]
    known: Counts
    scored: Counts
    reference: Counts
    coded: Counts


def prevalence(
    scored: Sequence[str],
    reference: Sequence[str],
    coded: Sequence[str],
    task: Task,
    *,
    known: Sequence[str] = (),
    groups: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Prevalence:
    """Correct a classifier's labels for its error rates; of a multilabel task each label by itself.

    The 95 % interval is the percentile interval of the resamples that the module describes.

    Args:
        scored: The classifier's label per response.
        reference: The label per coded row that counts as right; at least one row.
        coded: The classifier's label per coded row.
        task: Its labels are the only ones in all of these.
        known: The codes of further responses, which are known.
        groups: What each coded row belongs to; the rows of a group count alike. None: every row stands for itself.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: No responses; as `agreement` says.
    """
    check_lengths(reference, coded=coded)
    check_groups(len(reference), groups, resamples)
    if not scored and not known:
        raise DataError("there are no responses whose shares could be told")
    found = [
        _prevalence(case, groups, resamples, np.random.default_rng(seed))
        for case in _cases(scored, known, reference, coded, task)
    ]
    return _together(task.names, found) if task.kind == "multilabel" else found[0]


def _cases(
    scored: Sequence[str], known: Sequence[str], reference: Sequence[str], coded: Sequence[str], task: Task
) -> list[_Case]:
    codings = {"scored": scored, "known": known, "reference": reference, "coded": coded}
    if task.kind != "multilabel":
        places = {name: encode_labels(coding, task, name) for name, coding in codings.items()}
        return [_case(task.names, **places)]
    held = {name: encode_label_sets(coding, task, name).astype(np.int64) for name, coding in codings.items()}
    return [
        _case((f"not {label}", label), **{name: of[:, place] for name, of in held.items()})
        for place, label in enumerate(task.names)
    ]


def _case(names: Sequence[str], scored: Counts, known: Counts, reference: Counts, coded: Counts) -> _Case:
    known, scored = (np.bincount(each, minlength=len(names)) for each in (known, scored))
    return _Case(names, known, scored, reference, coded)


def _together(labels: Sequence[str], found: Sequence[Prevalence]) -> Prevalence:
    """What is told of a multilabel task, from what is of each of its labels."""
    by_label = dict(zip(labels, found, strict=True))
    corrected = {label: each.corrected[label] for label, each in by_label.items() if each.corrected}
    return replace(
        found[0],
        observed={label: each.observed[label] for label, each in by_label.items()},
        corrected=corrected or None,
        clipped=any(each.clipped for each in found),
        fails="; ".join(f"{label}: {each.fails}" for label, each in by_label.items() if each.fails) or None,
    )


def _prevalence(case: _Case, groups: Sequence[str] | None, resamples: int, rng: np.random.Generator) -> Prevalence:
    labels = len(case.names)
    known, scored = (_counts(each, resamples, rng) for each in (case.known, case.scored))
    corrected, clipped, fails = _corrected(case, known, scored, groups, rng)
    return Prevalence(
        rows=int(case.known.sum() + case.scored.sum()),
        error_rates_from=len(case.reference),
        method="Rogan-Gladen" if labels == 2 else "confusion matrix inverted",
        observed=_told(case.names, known + scored),
        corrected=corrected,
        clipped=clipped,
        fails=fails,
        known=int(case.known.sum()),
    )


def _counts(own: Counts, resamples: int, rng: np.random.Generator) -> Values:
    """Return counts of labels (1 + resamples, labels): their own, then as they may be."""
    mass = 1 / len(own) if own.any() else 0
    return np.concatenate([own[None], rng.gamma(own + mass, size=(resamples, len(own)))])


def _corrected(
    case: _Case, known: Values, scored: Values, groups: Sequence[str] | None, rng: np.random.Generator
) -> tuple[dict[str, Estimate] | None, bool, str | None]:
    """Correct counts (1 + resamples, labels), of which the first are the responses' own."""
    labels = len(case.names)
    if not case.scored.any():
        return _told(case.names, known), False, None
    counts = confusion_matrix(case.reference, case.coded, labels)
    support = counts.sum(axis=1)
    if absent := [name for name, rows in zip(case.names, support, strict=True) if not rows]:
        return None, False, f"no coded row has the label {', '.join(absent)}, so its error rates are unknown"
    if groups is not None and len(set(groups)) == 1:
        return None, False, "all coded rows belong to one group, which says nothing of the error rates on others"
    rates = counts / support[:, None]
    if not _tells_apart(rates[None])[0]:
        return None, False, "the coded rows do not show that the classifier tells the labels apart better than chance"
    redrawn = _redrawn(case, groups, len(scored) - 1, rng)
    usable = _tells_apart(redrawn)
    if usable.mean() < _FEWEST_SOLVED:
        return None, False, "too few coded rows: many resamples of them cannot tell the labels apart"
    kept = np.concatenate([[True], usable])
    solved = _solved(np.concatenate([rates[None], redrawn[usable]]), scored[kept])
    clipped = bool((solved[0] < 0).any())
    return _told(case.names, known[kept] + _inside(solved)), clipped, None


def _redrawn(case: _Case, groups: Sequence[str] | None, resamples: int, rng: np.random.Generator) -> Values:
    """Return error rates (resamples, labels, labels) as they may be, given the coded rows."""
    labels = len(case.names)
    cells = case.reference * labels + case.coded
    drawn = bayesian_resample_cells(cells, labels**2, groups, resamples, rng).reshape(-1, labels, labels)
    mass = drawn + rng.gamma(1 / labels, size=drawn.shape)
    return np.asarray(mass / mass.sum(axis=2, keepdims=True), dtype=np.float64)


def _tells_apart(rates: Values) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether each matrix of rates (n, labels, labels) can be inverted, and is no worse than chance."""
    return np.asarray((np.linalg.det(rates) > 0) & (np.linalg.cond(rates) < _LARGEST_CONDITION))


def _solved(rates: Values, scored: Values) -> Values:
    """Return the true counts (n, labels) that rates (n, labels, labels) turn into the scored ones."""
    return np.asarray(np.linalg.solve(rates.swapaxes(1, 2), scored[:, :, None])[:, :, 0], dtype=np.float64)


def _inside(solved: Values) -> Values:
    """Move counts below 0 to 0, and lessen the others so that the sum stays."""
    above = np.maximum(solved, 0)
    return np.asarray(above * solved.sum(axis=1, keepdims=True) / above.sum(axis=1, keepdims=True), dtype=np.float64)


def _told(names: Sequence[str], counts: Values) -> dict[str, Estimate]:
    """From counts (1 + resamples, labels), of which the first are the figures themselves, to shares."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    found = {name: interval_estimate(float(shares[0, place]), shares[1:, place]) for place, name in enumerate(names)}
    # Of a label that never occurs the mass alone is drawn, always above 0: Jeffreys' interval then begins at 0, and
    # ends at 1 of one that always does (Brown, Cai & DasGupta 2001, doi:10.1214/ss/1009213286).
    return {
        name: Estimate(each.value, min(each.low, each.value), max(each.high, each.value))
        for name, each in found.items()
    }
