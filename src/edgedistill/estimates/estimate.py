"""estimate(): shares, means, differences between groups and regression coefficients, by every method."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from scipy import stats

from edgedistill.agreement.prevalence import Prevalence, prevalence
from edgedistill.errors import ArgumentError, DataError
from edgedistill.estimates.codes import Codes, ColumnNames, cell_texts, read_codes
from edgedistill.estimates.estimators import (
    Fit,
    Places,
    Rows,
    Values,
    cross_fit,
    difference_of,
    fit_dsl,
    fit_human,
    fit_naive,
    fit_ppi,
    rescale,
    student_interval,
    wilson_interval,
)
from edgedistill.estimates.results import (
    DSL,
    HUMAN_ONLY,
    METHODS,
    NAIVE,
    PPI,
    ROGAN_GLADEN,
    EstimateTable,
    MethodEstimate,
)
from edgedistill_serve.errors import first_line
from edgedistill_serve.task.task import Task as ScoredTask
from edgedistill_serve.task.task import quote_columns, quote_label

if TYPE_CHECKING:  # pandas is loaded where a DataFrame is made
    from pandas import DataFrame

Model: TypeAlias = Literal["ols", "logistic"]
SCORE = "score"
"""Name of the ordinal score in formulas."""
SMALLEST: Mapping[str, int] = {HUMAN_ONLY: 10, ROGAN_GLADEN: 25, PPI: 25, DSL: 25}
"""Human-coded rows (or clusters of them) that a method needs for each estimate."""
SMALLEST_IN_REGRESSIONS: Mapping[str, int] = {PPI: 200}
"""The same for a regression with covariates: with fewer codes, PPI++ held the truth in 91 to 92 % of the samples where
unusual rows have unusual errors (docs/estimates.md)."""
PER_COEFFICIENT = 10
"""Further rows that a regression needs for each coefficient but the first."""
_RESAMPLES = 1000


def estimate(
    machine: "DataFrame",
    human: "DataFrame | None" = None,
    *,
    task: ScoredTask | None = None,
    machine_column: str = "label",
    human_column: str = "label",
    id_column: str = "id",
    clusters: str | None = None,
    by: str | None = None,
    reference: str | None = None,
    formula: str | None = None,
    model: Model = "ols",
    scores: Mapping[str, float] | None = None,
    trained: Collection[str] = (),
    random_state: int = 0,
) -> EstimateTable:
    """Estimate what people would have found, had they coded all responses that the machine coded.

    Machine codes of all responses are corrected by human codes of a random sample of them; docs/estimates.md describes
    the methods, their assumptions, and when not to use them. Without ``formula``, the estimands are the share of each
    label and, with scores, the mean score.

    Args:
        machine: A row per response: machine label, id, and the columns that other arguments name. The columns
            ``probability_LABEL`` of `edgedistill-serve grade` are used if all are there, and rows whose ``split`` is
            train or validation count as rows on which the model was trained.
        human: A row per human-coded response: id, human label, and optionally ``inclusion_probability``, in (0, 1];
            without it, the rows are taken for a simple random sample. None: the human labels are a column of
            ``machine``, empty in rows that no person coded.
        task: Labels and kind; None: nominal, with the labels that the machine used.
        machine_column: Machine label.
        human_column: Human label.
        id_column: Id of the responses.
        clusters: Column with the cluster of each response, such as its learner.
        by: Column with groups: estimates for each, and differences from the reference group.
        reference: The reference group; None: the first one in sorted order.
        formula: A regression of the machine-coded outcome on columns of ``machine``, such as ``"score ~ condition"`` or
            ``"process ~ condition + grade"``: the outcome is the score, or whether the named label was assigned.
        model: ``ols`` or ``logistic``, for ``formula``.
        scores: Score of each label; None: for ordinal tasks 0, 1, … from the lowest to the highest label.
        trained: Ids of responses on whose human codes the model was trained or selected.
        random_state: Seed of the folds of DSL and the resamples of Rogan-Gladen.

    Raises:
        ArgumentError: An argument is invalid.
        DataError: The tables cannot be used: a label is unknown, an id a duplicate, an inclusion probability invalid,
            or there are too few human codes for any method.

    Example:
        ed.estimate(graded, coded, clusters="student_id", by="condition")
    """
    if by is not None and formula is not None:
        raise ArgumentError("by and formula cannot be combined", hint=f"Add the group to the formula: ... ~ {by}.")
    if model not in ("ols", "logistic"):
        raise ArgumentError(f"unknown model {model!r}; use ols or logistic")
    columns = ColumnNames(machine_column, human_column, id_column, clusters, by)
    codes = read_codes(machine, human, columns, task, trained=trained)
    values = _scores(codes.task, scores)
    study = _Estimation(codes, values, random_state)
    if formula is None:
        lines = list(study.by_group(by, reference) if by else study.overall())
    else:
        lines = list(study.regression(formula, model, columns))
    if all(line.value is None for line in lines if line.method in (HUMAN_ONLY, PPI, DSL)):
        raise DataError(
            f"too few human codes: {study.coded} rows"
            + (f" in {study.coded_clusters} clusters" if codes.clustered else "")
            + f"; {next(line.note for line in lines if line.method == HUMAN_ONLY)}",
            hint="Have more rows coded.",
        )
    return EstimateTable(
        rows=len(codes.frame),
        human_codes=study.coded,
        clusters=study.coded_clusters if codes.clustered else None,
        primary=primary_method(codes, formula),
        estimates=tuple(lines),
        notes=(*codes.notes, *study.notes),
        formula=formula,
        model=model if formula else None,
    )


def primary_method(codes: Codes, formula: str | None) -> str:
    """Return the method to report: the design decides, so that nobody picks the narrowest interval."""
    return PPI if codes.equal and not codes.clustered and formula is None else DSL


def _scores(task: ScoredTask, given: Mapping[str, float] | None) -> Values | None:
    """The score of each label, or None if they have none."""
    if given is None:
        return np.arange(len(task.names), dtype=np.float64) if task.kind == "ordinal" else None
    if task.kind == "multilabel":
        raise ArgumentError("the labels of a multilabel task have no scores")
    if unknown := [name for name in given if name not in task.names]:
        raise ArgumentError(
            f"scores has the unknown label {quote_label(unknown[0])}", hint=f"The labels are {', '.join(task.names)}."
        )
    if missing := [name for name in task.names if name not in given]:
        raise ArgumentError(f"scores lacks the label {quote_label(missing[0])}", hint="Give every label a score.")
    try:
        found = np.array([float(given[name]) for name in task.names])
    except (TypeError, ValueError):
        raise ArgumentError("scores must be numbers") from None
    if not np.isfinite(found).all() or np.ptp(found) == 0:
        raise ArgumentError("scores must be finite numbers that are not all equal")
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    """An outcome by machine and people.

    Attributes:
        name: For the tables.
        weights: Weight of each label's indicator in the outcome: a unit vector for a label, else the scores.
        step: Size of a disagreement of one label.
        label: The label whose share it is; None for scores.
    """

    name: str
    weights: Values
    step: float
    label: str | None


class _Estimation:
    """Estimates from some codes."""

    def __init__(self, codes: Codes, scores: Values | None, seed: int) -> None:
        self.codes = codes
        self.scores = scores
        self.seed = seed
        self.notes: list[str] = []
        self._prevalences: dict[object, Prevalence] = {}
        self.coded = int(codes.coded.sum())
        self.coded_clusters = len(np.unique(codes.clusters[codes.coded]))
        self.outcomes = self._outcomes()

    def _outcomes(self) -> list[_Outcome]:
        names = self.codes.task.names
        found = [
            _Outcome(f"share of {name}", unit, 1.0, name) for name, unit in zip(names, np.eye(len(names)), strict=True)
        ]
        if self.scores is not None:
            step = float(np.ptp(self.scores)) / (len(names) - 1)
            found.append(_Outcome("mean score", self.scores, step, None))
        return found

    def overall(self) -> Iterator[MethodEstimate]:
        """Shares and means of all responses."""
        everything = np.arange(len(self.codes.frame))
        for outcome, fits in self._means(everything, self._predictions(self._features())):
            yield from self._mean_lines(outcome, "", fits, everything)

    def by_group(self, by: str, reference: str | None) -> Iterator[MethodEstimate]:
        """Shares and means of each group, and their differences from the reference group."""
        cells = cell_texts(list(self.codes.frame[by]))
        names = np.array(cells)
        if without := int((names == "").sum()):
            self.notes.append(f"{without} rows have no {by} and are in no group")
        groups = sorted(set(cells) - {""})
        if reference is not None and reference not in groups:
            raise ArgumentError(f"there is no group {reference!r}", hint=f"The groups are {', '.join(groups[:20])}.")
        if len(groups) < 2:
            raise DataError(f"the column {by!r} has {len(groups)} group(s)", hint="A comparison needs at least two.")
        base = reference or groups[0]
        dummies = np.column_stack([names == group for group in groups]).astype(np.float64)
        predicted = self._predictions(np.column_stack([self._features(), dummies]))
        fits = {group: dict(self._by_name(np.flatnonzero(names == group), predicted)) for group in groups}
        for outcome in self.outcomes:
            for group in groups:
                rows = np.flatnonzero(names == group)
                yield from self._mean_lines(outcome, group, fits[group][outcome.name], rows)
            for group in groups:
                if group != base:
                    pair = fits[group][outcome.name], fits[base][outcome.name]
                    yield from self._difference_lines(outcome, f"{group} - {base}", *pair)

    def _by_name(self, rows: Places, predicted: Values) -> Iterator[tuple[str, "_Fits"]]:
        return ((outcome.name, fits) for outcome, fits in self._means(rows, predicted))

    def regression(self, formula: str, model: Model, columns: ColumnNames) -> Iterator[MethodEstimate]:
        """Coefficients of a model whose outcome was coded by machine and people."""
        outcome, design, names, used = self._formula(formula, model, columns)
        predicted = self._predictions(np.column_stack([self._features(), np.where(np.isnan(design), 0, design)]))
        scale = np.sqrt((design[used] ** 2).mean(axis=0))
        scale[scale == 0] = 1.0
        rows = self._rows(outcome, used, design / scale, logistic=model == "logistic")
        needed = PER_COEFFICIENT * (len(names) - 1)
        fits = self._fit(rows, outcome, used, predicted, needed)
        fits = _Fits(fits.coded, {method: rescale(fit, scale) for method, fit in fits.fits.items()}, fits.notes)
        for place, name in enumerate(names):
            yield from self._lines(name, "", fits, place, methods=(NAIVE, HUMAN_ONLY, PPI, DSL))

    def _formula(
        self, formula: str, model: Model, columns: ColumnNames
    ) -> tuple[_Outcome, Values, Sequence[str], Places]:
        left, tilde, right = formula.partition("~")
        name = left.strip().strip("`").strip()
        if not tilde or not name or not right.strip():
            raise ArgumentError(f"{formula!r} is not a formula", hint='Example: "score ~ condition + grade".')
        outcome = self._outcome_of(name, model)
        design, names, used = design_matrix(right, self.codes.frame, self._machine_coded(columns))
        if len(used) < len(self.codes.frame):
            lost = len(self.codes.frame) - len(used)
            self.notes.append(f"{lost} rows lack a covariate of the formula and were not counted")
        if not self.codes.coded[used].any():
            raise DataError("no human-coded row has all covariates of the formula")
        return outcome, design, names, used

    def _outcome_of(self, name: str, model: Model) -> _Outcome:
        if name in self.codes.task.names:
            return next(outcome for outcome in self.outcomes if outcome.label == name)
        if name != SCORE:
            raise ArgumentError(
                f"the outcome {quote_label(name)} is not coded by the machine",
                hint=f"The outcome is {SCORE} or one of the labels {', '.join(self.codes.task.names)}. For other "
                "outcomes no correction is needed.",
            )
        if self.scores is None:
            raise ArgumentError("the labels have no scores", hint="Give scores, or a label as the outcome.")
        if model == "logistic":
            raise ArgumentError("a logistic model needs a label as its outcome, not the score")
        return self.outcomes[-1]

    def _machine_coded(self, columns: ColumnNames) -> frozenset[str]:
        """Names that stand for machine codes, in formulas."""
        of_grade = ("probability", "decision", "reason", *(f"probability_{name}" for name in self.codes.task.names))
        labels = [name for name in self.codes.task.names if name not in self.codes.frame.columns]
        score = [SCORE] if SCORE not in self.codes.frame.columns else []
        return frozenset((columns.machine, columns.human, *of_grade, *labels, *score))

    def _features(self) -> Values:
        """What DSL predicts human codes from: the machine's labels and probabilities."""
        parts = [self.codes.machine]
        if self.codes.probabilities is not None:
            parts.append(self.codes.probabilities)
        return np.column_stack(parts)

    def _predictions(self, features: Values) -> Values:
        codes = self.codes
        human = np.where(codes.coded[:, None], codes.human, 0.0)
        return cross_fit(features, human, codes.weights, codes.clusters, np.random.default_rng(self.seed))

    def _rows(self, outcome: _Outcome, used: Places, design: Values, *, logistic: bool = False) -> Rows:
        codes = self.codes
        human = codes.human[used] @ outcome.weights
        known = codes.known[used]
        return Rows(
            design=design[used],
            machine=np.where(known, human, codes.machine[used] @ outcome.weights),
            human=human,
            weights=codes.weights[used],
            known=known,
            clusters=codes.clusters[used],
            cluster_count=int(codes.clusters.max()) + 1,
            step=outcome.step,
            logistic=logistic,
        )

    def _means(self, rows: Places, predicted: Values) -> Iterator[tuple[_Outcome, "_Fits"]]:
        ones = np.ones((len(self.codes.frame), 1))
        for outcome in self.outcomes:
            yield outcome, self._fit(self._rows(outcome, rows, ones), outcome, rows, predicted, 0)

    def _fit(self, rows: Rows, outcome: _Outcome, used: Places, predicted: Values, more: int) -> "_Fits":
        coded = self.codes.coded[used]
        units = len(np.unique(self.codes.clusters[used][coded]))
        unit = "clusters with human codes" if self.codes.clustered else "human codes"
        fits: dict[str, Fit] = {}
        notes: dict[str, str] = {}
        if len(np.unique(rows.clusters)) > 1:
            fits[NAIVE] = fit_naive(replace(rows, machine=self.codes.machine[used] @ outcome.weights))
        else:
            notes[NAIVE] = "needs more than one cluster" if self.codes.clustered else "needs more than one response"
        for method, fit in (
            (HUMAN_ONLY, fit_human),
            (PPI, fit_ppi),
            (DSL, lambda each: fit_dsl(each, predicted[used] @ outcome.weights)),
        ):
            needed = max(SMALLEST[method] + more, SMALLEST_IN_REGRESSIONS.get(method, 0) if more else 0)
            if units < needed:
                notes[method] = f"needs {needed} {unit}; there are {units}"
                continue
            try:
                fits[method] = fit(rows)
            except DataError as error:
                notes[method] = error.what
        return _Fits(int(coded.sum()), fits, notes)

    def _mean_lines(self, outcome: _Outcome, group: str, fits: "_Fits", rows: Places) -> Iterator[MethodEstimate]:
        limits = (0.0, 1.0) if outcome.label else (float(outcome.weights.min()), float(outcome.weights.max()))
        methods = METHODS if outcome.label else tuple(name for name in METHODS if name != ROGAN_GLADEN)
        yield from self._lines(
            outcome.name, group, fits, 0, methods=methods, limits=limits, label=outcome.label, rows=rows
        )

    def _difference_lines(
        self, outcome: _Outcome, name: str, group: "_Fits", base: "_Fits"
    ) -> Iterator[MethodEstimate]:
        both = {
            method: difference_of(fit, base.fits[method]) for method, fit in group.fits.items() if method in base.fits
        }
        fits = _Fits(group.coded + base.coded, both, {**base.notes, **group.notes})
        limit = 1.0 if outcome.label else float(np.ptp(outcome.weights))
        yield from self._lines(
            outcome.name, name, fits, 0, methods=(NAIVE, HUMAN_ONLY, PPI, DSL), limits=(-limit, limit)
        )

    def _lines(
        self,
        estimand: str,
        group: str,
        fits: "_Fits",
        place: int,
        *,
        methods: Sequence[str],
        limits: tuple[float, float] = (-np.inf, np.inf),
        label: str | None = None,
        rows: Places | None = None,
    ) -> Iterator[MethodEstimate]:
        """A line per method for one coefficient."""
        human = fits.fits.get(HUMAN_ONLY)
        for method in methods:
            line = MethodEstimate(estimand, group, method, human_codes=0 if method == NAIVE else fits.coded)
            if method == ROGAN_GLADEN and label is not None and rows is not None:
                line = self._rogan_gladen(line, label, rows)
            elif fit := fits.fits.get(method):
                is_share = method == HUMAN_ONLY and label is not None
                low, high = wilson_interval(fit, fits.coded) if is_share else student_interval(fit, place, limits)
                line = replace(
                    line,
                    value=float(np.clip(fit.values[place], *limits)),
                    standard_error=float(np.sqrt(fit.variance[place])),
                    low=low,
                    high=high,
                    machine_weight=float(fit.machine_weights[place]) if method == PPI else None,
                )
            else:
                line = replace(line, note=fits.notes[method])
            if human and line.standard_error and method not in (NAIVE, HUMAN_ONLY):
                worth = fits.coded * float(human.variance[place]) / line.standard_error**2
                line = replace(line, effective_human_codes=worth)
            yield line

    def _rogan_gladen(self, line: MethodEstimate, label: str, rows: Places) -> MethodEstimate:
        """The share of a label corrected by error rates, which are estimated on the human-coded rows."""
        if not self.codes.equal:
            return replace(line, note="needs equal inclusion probabilities")
        if line.human_codes < SMALLEST[ROGAN_GLADEN]:
            return replace(line, note=f"needs {SMALLEST[ROGAN_GLADEN]} human codes; there are {line.human_codes}")
        key = tuple(rows[[0, -1]].tolist()), len(rows)
        if key not in self._prevalences:
            self._prevalences[key] = self._prevalence(rows)
        found = self._prevalences[key]
        if found.corrected is None or label not in found.corrected:
            return replace(line, note=found.fails or "the error rates cannot be estimated")
        each = found.corrected[label]
        error = (each.high - each.low) / (2 * float(stats.norm.ppf(0.975)))
        return replace(line, value=each.value, standard_error=error, low=each.low, high=each.high)

    def _prevalence(self, rows: Places) -> Prevalence:
        codes = self.codes
        coded = [row for row in rows.tolist() if codes.weights[row] > 0]
        human = [(row, code) for row in rows.tolist() if (code := codes.human_codes[row]) is not None]
        with_code = {row for row, _ in human}
        return prevalence(
            [codes.machine_codes[row] for row in rows.tolist() if row not in with_code],
            [code for row, code in human if codes.weights[row] > 0],
            [codes.machine_codes[row] for row in coded],
            codes.task,
            known=[code for _, code in human],
            groups=[str(codes.clusters[row]) for row in coded] if codes.clustered else None,
            resamples=_RESAMPLES,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Fits:
    """One outcome fitted by every method that can.

    Attributes:
        coded: Human-coded rows.
        fits: By method.
        notes: Why a method has no fit, by method.
    """

    coded: int
    fits: Mapping[str, Fit]
    notes: Mapping[str, str]


def design_matrix(
    right: str, frame: "DataFrame", machine_coded: Collection[str] = ()
) -> tuple[Values, Sequence[str], Places]:
    """Return the covariates of a formula.

    Args:
        right: The right side of the formula, in the grammar of formulaic.
        frame: The columns.
        machine_coded: Names that stand for machine codes, which cannot be covariates.

    Returns:
        Covariates of all rows, NaN in rows that lack one, (rows, coefficients); their names; and the complete rows.

    Raises:
        ArgumentError: The formula is invalid, or names a machine code or a column that does not exist.
    """
    from formulaic import Formula
    from formulaic.errors import FormulaicError

    try:
        formula = Formula(right)
        names = sorted(str(name) for name in formula.required_variables)
        if coded := [name for name in names if name in machine_coded]:
            raise ArgumentError(
                f"{quote_label(coded[0])} is coded by the machine and cannot be a covariate",
                hint="Only outcomes are corrected; errors in a covariate bias every coefficient in other ways.",
            )
        if missing := [name for name in names if name not in frame.columns]:
            raise ArgumentError(
                f"there is no column {quote_label(missing[0])}; the columns are {quote_columns(frame.columns)}"
            )
        matrix = formula.get_model_matrix(frame, context={})
    except FormulaicError as error:
        raise ArgumentError(f"the formula cannot be evaluated: {first_line(error)}", where=right.strip()) from None
    if getattr(matrix, "ndim", 0) != 2 or not matrix.shape[1]:
        raise ArgumentError("the formula has no single set of covariates", where=right.strip())
    used = matrix.index.to_numpy(np.int64)
    design = np.full((len(frame), matrix.shape[1]), np.nan)
    design[used] = matrix.to_numpy(np.float64)
    if not np.isfinite(design[used]).all():
        raise ArgumentError("a covariate is infinite", where=right.strip())
    return design, [str(name) for name in matrix.columns], used
