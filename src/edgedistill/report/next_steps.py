"""What to do next, with numbers: the box of the report, and what a run says at its end."""

from collections.abc import Iterator

from edgedistill.agreement import Estimate
from edgedistill.agreement.sample_size import rows_for_lower_limit
from edgedistill.decisions.guarantee import least_rows
from edgedistill.evaluation.types import Evaluation, GateTeacher
from edgedistill.report.formatting import count, estimate, interval, percent, pluralize, setting
from edgedistill.report.inputs import ReportInputs
from edgedistill.report.rules import MIN_GROUPS, MIN_LABEL_ROWS, MIN_TEST_ROWS, REQUIRED_F1
from edgedistill.report.verdict import Requirement, Verdict, VerdictAnswer
from edgedistill_export.novelty import LEAST_TEXTS
from edgedistill_serve.bundle.manifest import REVIEW_ALL

MOST_STEPS = 6
TRAIN_AGAIN = (
    "Set student.preset: thorough (more epochs), and code or label more rows; student.kind: frozen needs the fewest."
)
"""What to change if a student gives all rows one label."""
_PROMISED_SHARE, _PROMISED_LEVEL = 0.05, 0.05
_APPROXIMATION = "Intervals are taken to narrow with the square root of the rows."


def next_steps(inputs: ReportInputs, decision: Verdict) -> tuple[str, ...]:
    """Return what would change the verdict or make it surer, the most useful first; a sentence or two each.

    Args:
        inputs: The run folder.
        decision: Its verdict.
    """
    evaluation = inputs.served
    if decision.only_label:  # a model that was not trained is not tried, coded for, or compared with people
        return tuple(_training(inputs, evaluation, decision))
    steps = [
        *_novelty(evaluation),
        *_training(inputs, evaluation, decision),
        *_more_rows(evaluation, decision),
        *_labels(evaluation, decision),
        *_gate(inputs),
        *_more_codes(inputs),
        *_rule(evaluation),
        *_coders(evaluation),
        *_use(inputs, decision),
    ]
    return tuple(steps[:MOST_STEPS])


def _novelty(evaluation: Evaluation) -> Iterator[str]:
    """What to change where nothing is accepted, because too few texts are known to say what is unlike them."""
    if evaluation.review.rule.max_novelty == REVIEW_ALL:
        yield (
            f"Code more rows: with fewer than {LEAST_TEXTS} different train texts, or no readable validation row, "
            "responses unlike them cannot be recognized, and every response goes to a person. To accept responses "
            "nevertheless: review: {novelty: {false_alarms: null}}."
        )


def _training(inputs: ReportInputs, evaluation: Evaluation, decision: Verdict) -> Iterator[str]:
    """What to change where training the student brought nothing."""
    rows = (inputs.run_log.stages.get("mix") or {}).get("rows")
    trained = f" It was trained on {pluralize(rows, 'row')}." if isinstance(rows, int) else ""
    if decision.only_label:
        yield f"Train again: every response got the label {decision.only_label}.{trained} {TRAIN_AGAIN}"
        return
    for compared in evaluation.comparisons:
        gained = compared.differences.get("kappa")
        if compared.first == "frozen encoder" and gained and not gained.value > 0:
            yield (
                "Change the training, or make the model smaller: a classifier on the frozen encoder agrees with the "
                f"human codes as well as the fine-tuned model.{trained} Set student.preset: thorough, code or label "
                "more rows, or let student.sizes: [nano, frozen, 6] choose."
            )


def _more_rows(evaluation: Evaluation, decision: Verdict) -> Iterator[str]:
    """How many test rows would settle the verdict."""
    agreement, required = evaluation.decisive, decision.required_kappa
    if decision.only_label or decision.answer is VerdictAnswer.YES or agreement.kappa is None:
        return
    kappa, rows = agreement.kappa, agreement.rows
    now = f"{pluralize(rows, 'test row')} leave {interval(kappa)}"
    needed = rows_for_lower_limit(kappa, rows, required)
    if needed is not None and needed > rows:
        yield (
            f"Code more test rows: {now}; at this {evaluation.kappa} about {count(max(needed, MIN_TEST_ROWS))} would "
            f"reach {setting(required)}. {_APPROXIMATION} Draw new rows: on "
            "rows that you have already inspected, agreement is too high."
        )
    elif needed is not None and rows < MIN_TEST_ROWS:
        yield f"Code at least {MIN_TEST_ROWS - rows} more test rows: {now}, and {MIN_TEST_ROWS} are required."
    elif needed is not None and agreement.groups is not None and agreement.groups < MIN_GROUPS:
        yield f"Code test rows of at least {MIN_GROUPS - agreement.groups} more groups, such as learners."
    elif needed is None and kappa.value <= required:
        yield (
            f"Improve the model, not the number of test rows: at a {evaluation.kappa} of {estimate(kappa)} more rows "
            f"would not bring the lower limit to {setting(required)}. Sharpen the codebook where coders disagree, code "
            "or label more train rows, or let a larger student.assistant teach."
        )


def _labels(evaluation: Evaluation, decision: Verdict) -> Iterator[str]:
    """How many test rows the labels need that are inconclusive."""
    if decision.only_label or evaluation.kind == "ordinal":
        return
    parts = []
    for each in decision.labels:
        found = evaluation.decisive.per_label[each.label]
        if each.requirement is not Requirement.INCONCLUSIVE:
            continue
        ends = found.intervals.get("f1")
        needed = None
        if found.f1 is not None and ends is not None:
            needed = rows_for_lower_limit(Estimate(found.f1, *ends), found.support, REQUIRED_F1)
        if needed is not None:
            parts.append(f"{each.label} about {count(max(needed, MIN_LABEL_ROWS))} (now {count(found.support)})")
        elif found.support < MIN_LABEL_ROWS:
            parts.append(f"{each.label} at least {MIN_LABEL_ROWS} (now {count(found.support)})")
    if parts:
        yield f"Code test rows of labels that are inconclusive, at their F1: {', '.join(parts)}."


def _gate(inputs: ReportInputs) -> Iterator[str]:
    """How many validation rows would let a teacher pass that was accepted by hand."""
    for each in inputs.gate.teachers if inputs.gate else ():
        if each.passed:
            continue
        needed = rows_for_lower_limit(each.reached, each.rows, each.at_least)
        if needed is not None and needed > each.rows:
            yield (
                f"Code more validation rows: {_gate_rows(each)}; at this {_metric(each)} about {count(needed)} would "
                f"reach {setting(each.at_least)}. {_APPROXIMATION}"
            )
        elif each.accepted:
            yield (
                f"Improve the codebook or the teacher {each.teacher}, and run the gate again: it was accepted although "
                "it failed."
            )


def _gate_rows(teacher: GateTeacher) -> str:
    rows = pluralize(teacher.rows, "validation row")
    return f"{rows} leave {interval(teacher.reached)} for the teacher {teacher.teacher}"


def _metric(teacher: GateTeacher) -> str:
    return {"kappa": "κ", "macro_f1": "macro-F1"}.get(teacher.metric, teacher.metric)


def _more_codes(inputs: ReportInputs) -> Iterator[str]:
    """What more human-coded train rows are expected to bring."""
    curve, project = inputs.learning_curve, inputs.project_file
    if curve is None or not inputs.learning_curve_is_current:
        yield f"Measure whether more human-coded train rows would help: `edgedistill review curve {project}`."
        return
    doubled = next((each for each in curve.predictions if each.factor == 2), None)
    if curve.outlook == "rising" and doubled:
        yield (
            f"Code more train rows: with {count(doubled.rows)}, twice as many, {curve.kappa_name} is expected at "
            f"{estimate(doubled.kappa)}. `edgedistill review next {project} --out to-code.csv` draws them."
        )
    elif curve.outlook == "flat":
        yield "Do not code more train rows for this model: its learning curve is flat. Improve labels or the codebook."


def _rule(evaluation: Evaluation) -> Iterator[str]:
    """What a promise about accepted responses would need."""
    review = evaluation.review
    if review.aim is not None and review.aim.aim != "least_probability":
        return
    needed = least_rows(_PROMISED_SHARE, _PROMISED_LEVEL)
    yield (
        f"State how many wrong codes you accept, such as review: {{aim: at_most_wrong, share: {_PROMISED_SHARE:g}}} "
        f"({percent(_PROMISED_SHARE)}); that takes at least {needed} accepted validation rows without an error, and "
        f"there are {count(review.validation.rows)} validation rows."
    )


def _coders(evaluation: Evaluation) -> Iterator[str]:
    if evaluation.human_agreement is None:
        yield (
            f"Let a second person code the {pluralize(evaluation.rows, 'test row')}, and name both columns in "
            "evaluation.coders: then the model is compared with people."
        )


def _use(inputs: ReportInputs, decision: Verdict) -> Iterator[str]:
    """How to put a model to use that may be used."""
    if decision.answer not in (VerdictAnswer.YES, VerdictAnswer.SOME_LABELS, VerdictAnswer.WITH_REVIEW):
        return
    if inputs.fidelity is None:
        yield f"Export the model: `edgedistill export {inputs.project_file}`."
        return
    yield (
        "Use the bundle with `edgedistill-serve serve BUNDLE --journal FOLDER`. Each term, "
        "`edgedistill monitor BUNDLE FOLDER` shows whether responses and labels still resemble those seen here."
    )
