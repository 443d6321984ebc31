"""What a run claims beyond agreement, in sentences of its methods section.

guarantee_sentences()         the promise about accepted responses, its evidence and its scope
novelty_sentences()           when a response is unlike the training texts, at which false-alarm rate
estimate_sentences()          what `edgedistill estimate` found, by which method
learning_curve_sentences()    what more human codes would bring
"""

from collections.abc import Iterator

from edgedistill.agreement import Estimate
from edgedistill.decisions.learning_curve import SizePoint
from edgedistill.estimates.results import (
    DSL,
    HUMAN_ONLY,
    NAIVE,
    PPI,
    ROGAN_GLADEN,
    EstimateTable,
    MethodEstimate,
)
from edgedistill.project.evaluation import ReviewSection
from edgedistill.project.schema import Project
from edgedistill.report.formatting import count, estimate, figure, percent, percent_estimate, pluralize, rows, setting
from edgedistill.report.inputs import ReportInputs
from edgedistill.report.paper_markup import cite, plain, table_reference
from edgedistill.report.verdict import listed
from edgedistill_export.novelty import expected_alarms, least_rows
from edgedistill_serve.bundle.guarantee import Guarantee
from edgedistill_serve.bundle.manifest import REVIEW_ALL

_SCOPES = {
    "responses": "It holds for responses like the validation rows.",
    "validated questions": "It holds for responses to the {questions} of the validation rows and to no other.",
    "new questions": "It holds for responses to new questions, too, if these are like the {questions} validated.",
}
_UNITS = {"learners": "learner", "questions": "question"}
_METHODS = {PPI: ("angelopoulos2023",), DSL: ("egami2023",), ROGAN_GLADEN: ("rogan1978",)}


def guarantee_sentences(inputs: ReportInputs) -> Iterator[str]:
    """Yield what the decision rule promises, and on which evidence; nothing without the aim `at_most_wrong`."""
    review = inputs.served.review
    aim = review.aim
    if aim is None or aim.aim != "at_most_wrong" or aim.share is None:
        return
    wanted = f"at most {percent(aim.share)} differ from the human code{_where(aim.per_label, aim.groups)}"
    certain = f" with {percent(aim.confidence)} confidence" if aim.confidence else ""
    yield (
        f"The decision rule was to promise that of the responses accepted without a person {wanted},{certain}. Numbers "
        "of the most confident validation rows, stated before their codes were looked at, were tested from few to many "
        f"until the first failure (fixed-sequence testing {cite('angelopoulos2021')})."
    )
    found = review.guarantee
    if found is None:
        yield f"This could not be promised. {' '.join(plain(note) for note in review.notes)}".rstrip()
        return
    graphs = f" with the scores of the {listed(list(found.graphs))} graph{'s' * (len(found.graphs) > 1)}"
    yield (
        f"On {rows(found.rows)} of the validation split{graphs if found.graphs else ''} the rule accepts "
        f"{count(found.accepted)}, of which {count(found.wrong)} {'differs' if found.wrong == 1 else 'differ'} from "
        f"the human code; the upper {percent(found.confidence)} confidence limit of that share is "
        f"{percent(found.bound)} ({table_reference('guarantee')})."
    )
    yield _independent(found)
    if found.compared > 1:
        yield (
            f"{count(found.compared)} students were compared on the same rows, and the level of the tests was divided "
            "by their number."
        )
    for what, parts in (("label", found.labels), (plain(found.group_column), found.groups)):
        if parts:
            each = [
                f"{plain(name)} {count(part.wrong)} of {count(part.accepted)} (limit {percent(part.bound)})"
                for name, part in parts.items()
            ]
            yield f"By {what}, accepted rows that differ are {listed(each)}."
    lacking = [plain(name) for name in inputs.served.labels if found.labels and name not in found.labels]
    if lacking:
        yield f"Responses with the label {listed(lacking)} always go to a person."
    yield _SCOPES[found.scope].format(questions=pluralize(found.questions, "question"))


def _where(per_label: bool, groups: str | None) -> str:
    parts = [*(["for each label"] if per_label else []), *([f"in each group of {plain(groups)}"] if groups else [])]
    return f" ({' and '.join(parts)})" if parts else ""


def _independent(found: Guarantee) -> str:
    """Return which test was used, and why."""
    if found.unit == "rows":
        return (
            "The tests are exact binomial ones; rows with the same tokens were counted both as rows and as one text, "
            "and both counts had to show the bound."
        )
    kinds = [_UNITS[kind] for kind in found.unit.split(" and ")]
    return (
        f"Rows of one {' or one '.join(kinds)} were not taken as independent: errors were summed by "
        f"{' and by '.join(kinds)} ({count(found.units)} with an accepted row) and their mean bounded as by Hoeffding "
        f"{cite('hoeffding1963')} and Bentkus {cite('bentkus2004')}, which holds for any dependence among them."
    )


def novelty_sentences(inputs: ReportInputs, project: Project) -> Iterator[str]:
    """Yield how responses unlike the training texts are recognized; nothing if novelty was not measured."""
    section = (project.review or ReviewSection()).novelty
    outcome, fit = inputs.served.review.test, inputs.bundle.novelty if inputs.bundle and inputs.is_served else None
    if inputs.served.review.rule.max_novelty == REVIEW_ALL:
        yield (
            "Too few training or validation texts were known to recognize responses unlike them, so that every "
            "response goes to a person."
        )
        return
    if section is None or (fit is None and outcome.novelty is None):
        return
    vectors = f"{count(fit.training_rows)} training texts" if fit else "the training texts"
    measure = (
        "How unlike the training texts a response is was measured by the distance of its pooled vector from a normal "
        f"distribution fitted to the vectors of {vectors} {cite('tipping1999')}"
    )
    if outcome.novelty is None or section.false_alarms is None:
        yield f"{measure}, but no response goes to a person for it."
        return
    validation = inputs.served.review.validation
    flagged, counted = (fit.flagged, fit.validation_rows) if fit else (None, 0)
    if fit is None and validation.novelty:
        flagged, counted = validation.novelty.flagged, validation.rows
    alarms = fit.false_alarms if fit and fit.false_alarms else expected_alarms(validation.rows, section.false_alarms)
    few = (
        f"; the project asks for {percent(section.false_alarms)}, which takes {least_rows(section.false_alarms)} rows, "
        "so that the most novel one sets the limit"
        if alarms > section.false_alarms
        else ""
    )
    of_validation = f"{count(flagged)} of {rows(counted)} of the validation split and " if flagged is not None else ""
    yield (
        f"{measure}. The limit, {figure(outcome.novelty.limit)} times the typical distance, was chosen on the "
        f"validation rows such that of responses like them at most {percent(alarms)} are expected beyond it "
        f"(false alarms{few}); {of_validation}{count(outcome.novelty.flagged)} of {rows(outcome.rows)} of the test "
        f"split are ({table_reference('novelty')})."
    )


def estimate_sentences(table: EstimateTable | None) -> Iterator[str]:
    """Yield what was estimated from machine codes and human codes; nothing if nothing was."""
    if table is None:
        return
    clusters = f" in {pluralize(table.clusters, 'cluster')}" if table.clusters is not None else ""
    what = f"Coefficients of the {_model(table)} {plain(table.formula)}" if table.formula else "Label shares"
    if not table.formula and any(each.estimand == "mean score" for each in table.estimates):
        what += " and mean scores"
    if not table.formula and any(each.group for each in table.estimates):
        what += " and their differences between groups"
    yield (
        f"{what} were estimated from machine codes of {pluralize(table.rows, 'response')}, corrected by human codes of "
        f"{count(table.human_codes)} of them{clusters}, by {_method(table.primary)}; the design, not the data, decides "
        f"on this method. {_others(table)} ({table_reference('estimates')})."
    )
    for each in table.estimates:
        if each.method == table.primary and each.value is not None:
            yield f"{_named(each)[:1].upper()}{_named(each)[1:]}: {estimated(each)}."
    if any(each.value is None for each in table.estimates if each.method == table.primary):
        yield f"Where {table.primary} has no estimate, the human-only one is to be reported."
    for note in table.notes:
        yield f"{plain(note)[:1].upper()}{plain(note)[1:]}."


def estimated(each: MethodEstimate) -> str:
    """Return an estimate with its interval and what it is worth."""
    if each.value is None or each.low is None or each.high is None:
        return "no estimate"
    worth = each.effective_human_codes
    more = f", as precise as {count(round(worth))} human codes alone" if worth is not None else ""
    interval = Estimate(each.value, each.low, each.high)
    return f"{percent_estimate(interval) if _is_share(each) else estimate(interval)}{more}"


def _is_share(each: MethodEstimate) -> bool:
    return each.estimand.startswith("share of ") and " - " not in each.group


def _named(each: MethodEstimate) -> str:
    return plain(f"{each.estimand}, {each.group}" if each.group else each.estimand)


def _model(table: EstimateTable) -> str:
    return {"ols": "least-squares regression", "logistic": "logistic regression"}.get(table.model or "", "regression")


def _method(name: str) -> str:
    keys = _METHODS.get(name)
    return f"{name} {cite(*keys)}" if keys else name


def _others(table: EstimateTable) -> str:
    methods = dict.fromkeys(each.method for each in table.estimates)
    others = [
        {
            NAIVE: "naive estimates, which take machine codes for human codes",
            HUMAN_ONLY: "those from human codes alone",
        }.get(name, _method(name))
        for name in methods
        if name != table.primary
    ]
    return f"Beside it stand {listed(others)}"


def learning_curve_sentences(inputs: ReportInputs) -> Iterator[str]:
    """Yield how agreement grows with human-coded training rows; nothing if `review curve` was not run on these rows."""
    curve = inputs.learning_curve
    if curve is None or not inputs.learning_curve_is_current:
        return
    kind = {
        "frozen": "Linear classifiers on the frozen encoder, which are not the student of this paper,",
        "fine-tuned": "Students with the first settings of the search",
    }[curve.student]
    name = plain(curve.kappa_name)
    points = listed([_point(name, each) for each in curve.points])
    yield (
        f"{kind} were trained on nested random subsets of the human-coded training rows "
        f"({pluralize(len(curve.points[0].kappas), 'subset')} of each size) and compared with the human codes of "
        f"{rows(curve.validation_rows)} of the validation split: {points} "
        f"({table_reference('learning_curve')})."
    )
    if curve.last_doubling:
        yield f"The last doubling changed {name} by {estimate(curve.last_doubling)}."
    if not curve.predictions:
        yield "Larger numbers of rows were not predicted."
    for each in curve.predictions:
        yield (
            f"With {rows(each.rows)}, {setting(each.factor)} times as many, {name} is expected at "
            f"{estimate(each.kappa)}."
        )


def _point(name: str, each: SizePoint) -> str:
    return f"{name} {estimate(each.mean)} with {rows(each.rows)}"
