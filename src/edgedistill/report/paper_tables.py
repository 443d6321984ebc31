"""The tables of a paper: every figure of a run's test rows, of the gate, of the export, and where the rows went.

paper_tables()    the tables that a run has; one that it does not have is left out
"""

from collections.abc import Iterable, Iterator, Mapping

from edgedistill.agreement import Agreement, Estimate, LabelAgreement
from edgedistill.decisions import RuleOutcome
from edgedistill.estimates.results import MethodEstimate
from edgedistill.evaluation.types import NamedComparison
from edgedistill.report.formatting import percent, setting
from edgedistill.report.inputs import ReportInputs
from edgedistill.report.paper_markup import Cell, PaperTable, plain
from edgedistill.report.sections import mixture_table, summarize_trials

_AGREEMENT = {"accuracy": "Accuracy", "kappa": "\u03ba", "macro_f1": "Macro-F1", "mcc": "MCC", "alpha": "\u03b1"}
_ESTIMATES = frozenset(
    {
        *_AGREEMENT,
        *("precision", "recall", "f1", "kappa_lost", "flip_rate", "share_accepted", "of_reviewed", "reached"),
        *("advantage", "coder_advantage"),
        *("difference", "log_loss", "brier", "ece", "observed", "corrected"),
        *("accuracy_of_flagged", "accuracy_of_others", "estimate", "gain"),
    }
)
_INTERVALS = "95\u202f% confidence intervals in brackets."


def paper_tables(inputs: ReportInputs) -> tuple[PaperTable, ...]:
    """Return the tables of a paper about a run, in the order in which its methods mention them.

    Every number is that of the run's files: of the served graph where an export measured it, else of the student in
    PyTorch. A row's id and text are in none of them.
    """
    tables = (
        _codebook(inputs),
        _data_flow(inputs),
        _inter_coder(inputs),
        _alt_test(inputs),
        _gate(inputs),
        _training_rows(inputs),
        _search(inputs),
        _agreement(inputs),
        _per_label(inputs),
        _confusion(inputs),
        _comparisons(inputs),
        _subgroups(inputs),
        _calibration(inputs),
        _decision_rule(inputs),
        _guarantee(inputs),
        _novelty(inputs),
        _fidelity(inputs),
        _label_shares(inputs),
        _estimates(inputs),
        _learning_curve(inputs),
    )
    return tuple(table for table in tables if table.rows)


def _table(
    name: str, caption: str, columns: Mapping[str, str], rows: Iterable[tuple[Cell, ...]], printed: int | None = None
) -> PaperTable:
    return PaperTable(name, caption, tuple(columns.items()), tuple(rows), printed, _ESTIMATES & columns.keys())


def _codebook(inputs: ReportInputs) -> PaperTable:
    columns = {"label": "Label", "definition": "Definition"}
    return _table(
        "codebook",
        "Labels and their definitions.",
        columns,
        ((plain(a), plain(b)) for a, b in inputs.definitions.items()),
    )


def _data_flow(inputs: ReportInputs) -> PaperTable:
    def rows() -> Iterator[tuple[Cell, ...]]:
        for each in inputs.run_log.rows:
            yield each.file, "read", "", each.read
            for outcome, counts in (("used", each.used), ("set aside", each.set_aside)):
                for what, number in counts.items():
                    yield each.file, outcome, plain(what), number

    columns = {"file": "File", "outcome": "Outcome", "what": "Use or reason", "rows": "Rows"}
    return _table("data_flow", "Rows read, used and set aside.", columns, rows())


def _inter_coder(inputs: ReportInputs) -> PaperTable:
    found = inputs.served.human_agreement

    def rows() -> Iterator[tuple[Cell, ...]]:
        for pair in found.pairs if found else ():
            each = pair.agreement
            figures = (each.accuracy, each.kappa, each.alpha) if each else (None,) * 3
            yield plain(pair.first), plain(pair.second), pair.rows, *figures

    columns = {
        "first": "Coder",
        "second": "Coder",
        "rows": "Rows",
        **{name: _AGREEMENT[name] for name in ("accuracy", "kappa", "alpha")},
    }
    return _table(
        "inter_coder", f"Agreement between human coders on the test rows that both coded. {_INTERVALS}", columns, rows()
    )


def _alt_test(inputs: ReportInputs) -> PaperTable:
    human_agreement = inputs.served.human_agreement
    tests = {f"teacher {each.teacher}": each.alt_test for each in (inputs.gate.teachers if inputs.gate else ())}
    tests["model"] = human_agreement.alt_test if human_agreement else None
    columns = {"machine": "Machine", "coder": "Coder", "rows": "Rows", "advantage": "Advantage of the machine"}
    columns |= {"coder_advantage": "Advantage of the coder", "p": "p", "beaten": "Beaten"}
    rows: Iterable[tuple[Cell, ...]] = (
        (plain(name), plain(each.coder), each.rows, each.advantage, each.coder_advantage, each.p, each.beaten)
        for name, found in tests.items()
        for each in (found.coders if found else ())
    )
    caption = (
        "Alternative annotator test: teachers on the validation rows, the model on the test rows, each against every "
        f"human coder. {_INTERVALS}"
    )
    return _table("alt_test", caption, columns, rows)


def _gate(inputs: ReportInputs) -> PaperTable:
    columns = {
        "teacher": "Teacher",
        "metric": "Metric",
        "reached": "Reached",
        "required": "Required",
        "rows": "Rows",
        "different_rows": "Different",
        "coded": "Coded",
        "passed": "Passed",
        "used": "Used",
    }
    gate = inputs.gate
    rows: Iterable[tuple[Cell, ...]] = (
        (
            *(plain(each.teacher), each.metric, each.reached, setting(each.at_least), each.rows, each.different_rows),
            *(each.coded, each.passed, bool(gate and each.teacher in gate.used)),
        )
        for each in (gate.teachers if gate else ())
    )
    caption = (
        "Teachers against the human codes of the validation rows. The lower limit of the 95\u202f% confidence interval "
        "must reach the required value; a row without a code counts as coded wrongly."
    )
    return _table("gate", caption, columns, rows)


def _training_rows(inputs: ReportInputs) -> PaperTable:
    found = mixture_table(inputs.run_log, inputs.evaluation.counted)
    labels = [plain(name) for name in found.labels] if found else []
    rows: Iterable[tuple[Cell, ...]] = (
        ((source, found.rows_per_source[source], *counts) for source, counts in found.counts.items()) if found else ()
    )
    return PaperTable(
        "training_rows",
        "Training rows by the source of their label.",
        (("source", "Source"), ("rows", "Rows"), *((name, name) for name in labels)),
        tuple(rows),
    )


def _search(inputs: ReportInputs) -> PaperTable:
    trials = summarize_trials(inputs.trials, inputs.run_log)
    names = tuple(trials[0].settings) if trials else ()
    columns = {
        "trial": "Trial",
        **{name: name.replace("_", " ") for name in names},
        "best_epoch": "Best epoch",
        "macro_f1": "Macro-F1",
        "selected": "Selected",
    }
    rows: Iterable[tuple[Cell, ...]] = (
        (each.number, *each.settings.values(), each.best_epoch or None, each.macro_f1, each.selected) for each in trials
    )
    return _table("search", "Trials of the search, compared on validation rows.", columns, rows)


def _agreement(inputs: ReportInputs) -> PaperTable:
    rows: Iterable[tuple[Cell, ...]] = (
        (plain(name), each.rows, *(getattr(each, figure) for figure in _AGREEMENT))
        for name, each in inputs.columns.items()
    )
    kappa = next(iter(inputs.columns.values())).kappa_name
    return _table(
        "agreement",
        f"Agreement with the human codes of the test rows; \u03ba is {kappa}. {_INTERVALS}",
        {"coding": "Coding", "rows": "Rows", **_AGREEMENT},
        rows,
    )


def _per_label(inputs: ReportInputs) -> PaperTable:
    def rows() -> Iterator[tuple[Cell, ...]]:
        for name, each in inputs.columns.items():
            for label, figures in each.per_label.items():
                values = (_of_label(figures, figure) for figure in ("precision", "recall", "f1"))
                yield plain(name), plain(label), figures.support, *values

    columns = {
        "coding": "Coding",
        "label": "Label",
        "support": "Support",
        "precision": "Precision",
        "recall": "Recall",
        "f1": "F1",
    }
    model = next(iter(inputs.columns.values()))
    return _table(
        "per_label",
        f"Precision, recall and F1 of each label on the test rows. {_INTERVALS}",
        columns,
        rows(),
        printed=len(model.per_label),
    )


def _of_label(label: LabelAgreement, name: str) -> Estimate | None:
    value, ends = getattr(label, name), label.intervals.get(name)
    return None if value is None or ends is None else Estimate(value, *ends)


def _confusion(inputs: ReportInputs) -> PaperTable:
    if inputs.evaluation.is_multilabel:
        columns = [("coding", "Coding"), ("label", "Label"), ("both", "Both"), ("only_human", "Only human")]
        columns += [("only_coding", "Only this coding"), ("neither", "Neither")]
        rows = [row for name, each in inputs.columns.items() for row in _label_tables(name, each)]
        caption = "Test rows by whether the human code and the coding have each label."
    else:
        labels = [plain(name) for name in inputs.evaluation.labels]
        columns = [("coding", "Coding"), ("human", "Human code"), *((name, name) for name in labels)]
        rows = [
            (plain(name), label, *counts)
            for name, each in inputs.columns.items()
            for label, counts in zip(labels, each.confusion, strict=True)
        ]
        caption = "Test rows by human code (rows) and assigned label (columns)."
    return PaperTable("confusion", caption, tuple(columns), tuple(rows), printed=len(inputs.evaluation.labels))


def _label_tables(name: str, agreement: Agreement) -> Iterator[tuple[Cell, ...]]:
    for label, figures in agreement.per_label.items():
        if figures.table:
            (neither, coded), (human, both) = figures.table
            yield plain(name), plain(label), both, human, coded, neither


def _comparisons(inputs: ReportInputs) -> PaperTable:
    beside = inputs.served.human_agreement.beside_humans if inputs.served.human_agreement else ()

    def rows(found: Iterable[NamedComparison], default: str) -> Iterator[tuple[Cell, ...]]:
        for each in found:
            reference = plain(each.reference) or default
            counts = (each.rows, each.only_first_right, each.only_second_right)
            p = each.mcnemar.mid_p if each.mcnemar else None
            for figure, difference in each.differences.items():
                yield reference, plain(each.first), plain(each.second), *counts, figure, difference, p

    columns = {
        "reference": "Reference",
        "first": "First",
        "second": "Second",
        "rows": "Rows",
        "only_first_right": "Only first",
        "only_second_right": "Only second",
        "figure": "Figure",
        "difference": "Second - first",
        "mcnemar_mid_p": "McNemar mid-p",
    }
    return _table(
        "comparisons",
        f"Paired comparisons on the test rows: the second coding less the first. {_INTERVALS}",
        columns,
        [*rows(inputs.evaluation.comparisons, "human codes"), *rows(beside, "human codes")],
    )


def _subgroups(inputs: ReportInputs) -> PaperTable:
    def rows() -> Iterator[tuple[Cell, ...]]:
        for table in inputs.served.subgroups:
            for each in table.groups:
                start = (plain(table.column), plain(table.coding), plain(each.value), each.rows)
                yield *start, each.accuracy, each.kappa, "too few rows" if each.suppressed else ""

    columns = {"column": "Column", "coding": "Coding", "group": "Group", "rows": "Rows"}
    columns |= {"accuracy": "Accuracy", "kappa": "\u03ba", "note": ""}
    return _table("subgroups", f"Agreement with the human codes in groups of learners. {_INTERVALS}", columns, rows())


def _calibration(inputs: ReportInputs) -> PaperTable:
    calibration = inputs.evaluation.calibration

    def rows() -> Iterator[tuple[Cell, ...]]:
        for split in ("validation", "test"):
            for when in ("before", "after"):
                quality = getattr(getattr(calibration, split), when)
                yield split, when, quality.log_loss, quality.brier, quality.ece

    columns = {"split": "Rows", "calibration": "Calibration", "log_loss": "Log loss", "brier": "Brier score"}
    return _table(
        "calibration",
        f"Probabilities of the student before and after calibration. {_INTERVALS}",
        {**columns, "ece": "ECE"},
        rows(),
    )


def _decision_rule(inputs: ReportInputs) -> PaperTable:
    review = inputs.served.review

    def rows() -> Iterator[tuple[Cell, ...]]:
        for split, outcome in (("validation", review.validation), ("test", review.test)):
            yield split, outcome.rows, outcome.accepted, outcome.share_accepted, *_accepted(outcome)

    columns = {
        "split": "Rows",
        "rows": "Number",
        "accepted": "Accepted",
        "share_accepted": "Share accepted",
        "kappa": "\u03ba of accepted",
        "accuracy": "Accuracy of accepted",
        "of_reviewed": "Accuracy of the others",
    }
    return _table("decision_rule", f"Effect of the decision rule. {_INTERVALS}", columns, rows())


def _accepted(outcome: RuleOutcome) -> tuple[Cell, ...]:
    accepted, others = outcome.agreement, outcome.agreement_of_reviewed
    return (
        accepted.kappa if accepted else None,
        accepted.accuracy if accepted else None,
        others.accuracy if others else None,
    )


def _guarantee(inputs: ReportInputs) -> PaperTable:
    found = inputs.served.review.guarantee

    def rows() -> Iterator[tuple[Cell, ...]]:
        if found:
            promise = (setting(found.share), setting(found.confidence))
            yield "all", "", found.accepted, found.wrong, found.bound, *promise
            for name, part in found.labels.items():
                yield "label", plain(name), part.accepted, part.wrong, part.bound, *promise
            for name, part in found.groups.items():
                yield plain(found.group_column), plain(name), part.accepted, part.wrong, part.bound, *promise

    columns = {"of": "Rows", "name": "", "accepted": "Accepted", "wrong": "Wrong", "bound": "Upper limit"}
    columns |= {"share": "Promised", "confidence": "Confidence"}
    return _table(
        "guarantee",
        "Evidence for the promise of the decision rule: validation rows that it accepts, how many of them differ from "
        "the human code, and the upper confidence limit of that share.",
        columns,
        rows(),
    )


def _novelty(inputs: ReportInputs) -> PaperTable:
    review = inputs.served.review
    fit = inputs.bundle.novelty if inputs.bundle and inputs.is_served else None

    def rows() -> Iterator[tuple[Cell, ...]]:
        if review.test.novelty is None:
            return
        if fit:  # the limit of the served graph was chosen on the readable validation rows
            yield "validation", fit.validation_rows, fit.flagged, review.test.novelty.limit, None, None
        elif review.validation.novelty:
            yield "validation", *_unlike(review.validation)
        yield "test", *_unlike(review.test)

    columns = {"split": "Split", "rows": "Rows", "flagged": "Unlike training texts", "limit": "Limit"}
    columns |= {"accuracy_of_flagged": "Accuracy of these", "accuracy_of_others": "Accuracy of the others"}
    rate = f", at most {percent(fit.false_alarms)} false alarms" if fit and fit.false_alarms else ""
    return _table(
        "novelty",
        f"Responses unlike the training texts: those beyond the limit of novelty, chosen on validation rows{rate}. "
        f"{_INTERVALS}",
        columns,
        rows(),
    )


def _unlike(outcome: RuleOutcome) -> tuple[Cell, ...]:
    found = outcome.novelty
    if found is None:
        return outcome.rows, None, None, None, None
    parts = (found.agreement_of_flagged, found.agreement_of_others)
    return outcome.rows, found.flagged, found.limit, *(each.accuracy if each else None for each in parts)


def _estimates(inputs: ReportInputs) -> PaperTable:
    found = inputs.estimates
    rows: Iterable[tuple[Cell, ...]] = (
        (
            *(plain(each.estimand), plain(each.group), each.method, bool(found and each.method == found.primary)),
            _interval(each),
            *(each.standard_error, each.human_codes, each.effective_human_codes, each.machine_weight),
            plain(each.note),
        )
        for each in (found.estimates if found else ())
    )
    columns = {"estimand": "Estimand", "group": "Group", "method": "Method", "reported": "To report"}
    columns |= {"estimate": "Estimate", "standard_error": "SE", "human_codes": "Human codes"}
    columns |= {"effective_human_codes": "Worth codes", "machine_weight": "Weight", "note": "Note"}
    return _table("estimates", f"Estimates from machine codes and human codes. {_INTERVALS}", columns, rows)


def _interval(each: MethodEstimate) -> Estimate | None:
    if each.value is None or each.low is None or each.high is None:
        return None
    return Estimate(each.value, each.low, each.high)


def _learning_curve(inputs: ReportInputs) -> PaperTable:
    curve = inputs.learning_curve if inputs.learning_curve_is_current else None

    def rows() -> Iterator[tuple[Cell, ...]]:
        for point in curve.points if curve else ():
            yield "measured", point.rows, len(point.kappas), point.mean, None
        for each in curve.predictions if curve else ():
            yield "predicted", each.rows, None, each.kappa, each.gain

    columns = {"kind": "", "rows": "Training rows", "subsets": "Subsets", "kappa": "\u03ba", "gain": "Gain"}
    return _table(
        "learning_curve",
        f"Agreement on the validation rows by the number of human-coded training rows. {_INTERVALS}",
        columns,
        rows(),
    )


def _fidelity(inputs: ReportInputs) -> PaperTable:
    columns = {"before": "From", "after": "To", "rows": "Rows", "flips": "Labels changed"}
    columns |= {"flip_rate": "Share changed", "kappa_lost": "\u03ba lost"}
    rows: Iterable[tuple[Cell, ...]] = (
        (plain(each.before), plain(each.after), each.rows, each.flips, each.flip_rate, each.kappa_lost)
        for each in inputs.steps
    )
    return _table("fidelity", f"What each step changes on the test rows. {_INTERVALS}", columns, rows)


def _label_shares(inputs: ReportInputs) -> PaperTable:
    found = inputs.evaluation.prevalence

    def rows() -> Iterator[tuple[Cell, ...]]:
        for label, observed in found.observed.items() if found else ():
            yield plain(label), observed, (found.corrected or {}).get(label) if found else None

    columns = {"label": "Label", "observed": "Observed", "corrected": "Corrected"}
    caption = f"Shares of the labels among the responses of the population. {_INTERVALS}"
    return _table("label_shares", caption, columns, rows())
