"""What the figures cannot show: sentences for the report's section on limits."""

from collections.abc import Iterator

from edgedistill.report.accounts import mixture_table
from edgedistill.report.evaluation import Evaluation
from edgedistill.report.material import Material
from edgedistill.report.numbers import interval, percent, rows, several
from edgedistill.report.rules import FEWEST_LABEL_ROWS


def limits(material: Material) -> tuple[str, ...]:
    """Return what a reader must not conclude from the report, a sentence each."""
    return (*_of_the_rows(material.evaluation), *_of_the_student(material), *_of_studies(material))


def _of_the_rows(evaluation: Evaluation) -> Iterator[str]:
    student = evaluation.student
    yield (
        f"All figures come from {rows(evaluation.rows)}. As many others would give other "
        f"figures: κ lies between the ends of {interval(student.kappa) or 'its interval'} with 95\u202f% confidence, "
        "which says more than the single number."
    )
    yield (
        "They hold for responses like these: the same questions, instructions and kind of learners. Responses of "
        "another school, year, language or age may be coded worse; a sample coded by people would show it."
    )
    if student.groups is None:
        yield (
            "The intervals take every row for independent. Where one learner wrote several of the responses, they are "
            "too narrow (data.group_by names the column with the learners)."
        )
    elif student.groups == 1:
        yield "All rows come from one group, so that nothing shows how the model does on others: no interval is known."
    else:
        yield f"Rows come from {several(student.groups, 'group')}, which the intervals take into account."
    texts = evaluation.test_texts_also_in_train_or_validation
    if texts:
        yield f"{texts} test rows repeat a text that the model learnt from or was chosen by; figures flatter by that."
    small = [name for name, found in student.per_label.items() if found.support < FEWEST_LABEL_ROWS]
    if small:
        yield f"Too few test rows to say anything of: {', '.join(small)} (fewer than {FEWEST_LABEL_ROWS})."
    yield (
        "The human codes count as right. Where a human coder erred and the model did not, the model is charged with "
        "the mistake; where both err alike, nobody is."
    )
    if not evaluation.subgroups:
        yield (
            "Whether the model serves all groups of learners alike was not examined (evaluation.subgroups names the "
            "columns)."
        )
    yield (
        "Validation rows chose the training's best epoch, the calibration and the review rule; test rows chose "
        "nothing. If figures of this report lead to another model, these test rows have chosen too."
    )


def _of_the_student(material: Material) -> Iterator[str]:
    table = mixture_table(material.journal, material.evaluation.counted)
    if table and table.by_machine:
        yield (
            f"{percent(table.by_machine)} of the training rows carry a label that a language model gave: what it "
            "systematically gets wrong, the student learns."
        )
    if material.evaluation.calibration.method == "none":
        yield "The model's probabilities are not calibrated: 0.9 does not mean right in nine of ten cases."
    yield "The model supports a person's judgement of a response; it is not meant to decide about a learner alone."


def _of_studies(material: Material) -> Iterator[str]:
    if leaks := {run.leak for run in material.study if run.leak}:
        yield f"Figures of the study follow a published protocol as it was published: {'; '.join(sorted(leaks))}."
