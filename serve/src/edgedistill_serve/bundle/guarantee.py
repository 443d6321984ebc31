"""What a bundle promises of the responses that its decision rule accepts, and that promise in words."""

import math
from typing import Literal, TypeAlias

import msgspec

Unit: TypeAlias = Literal["rows", "learners", "questions", "learners and questions"]
Scope: TypeAlias = Literal["responses", "validated questions", "new questions"]


class GuaranteedPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The evidence for a label or a group of learners.

    Attributes:
        accepted: Validation rows that the rule accepts.
        wrong: How many of them differ from the human code.
        bound: Upper confidence limit of the share of wrong codes, in [0, 1].
    """

    accepted: int
    wrong: int
    bound: float


class Guarantee(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """At most a share of the accepted responses is wrong: differs from the human code, or code set.

    Attributes:
        share: The promised share, in (0, 1).
        confidence: The probability, over draws of validation rows, with which the promise is kept, in (0, 1).
        rows: Validation rows on which the rule was chosen, those included that always go to a person.
        accepted: How many of them the rule accepts.
        wrong: How many of these differ from the human code.
        bound: Upper confidence limit of the share of wrong codes; at most `share`.
        unit: What was counted as independent.
        units: Number of independent units with an accepted row; the smaller one if there are two kinds.
        scope: The responses that the promise is about: ``responses`` like the validation rows if the task has no
            question, responses to the ``validated questions``, or to ``new questions``, too.
        questions: Number of questions of the validation rows; 0 if the task has no question.
        compared: Number of students that were compared on the same rows; the confidence limit allows for it.
        graphs: The graphs of the bundle whose scores were tested.
        labels: For a promise that holds for each label, the evidence by label; a label that is missing is never
            accepted. Empty if the promise is about all labels together.
        group_column: For a promise that holds in each group of learners, the column of the groups; else empty.
        groups: The evidence by group.
    """

    share: float
    confidence: float
    rows: int
    accepted: int
    wrong: int
    bound: float
    unit: Unit
    units: int
    scope: Scope
    questions: int = 0
    compared: int = 1
    graphs: tuple[Literal["int8", "fp32"], ...] = ()
    labels: dict[str, GuaranteedPart] = {}
    group_column: str = ""
    groups: dict[str, GuaranteedPart] = {}


def least_p_value(part: GuaranteedPart, share: float) -> float:
    """Return the probability of at most this many errors among independent rows of which a share is wrong.

    Rows that are not independent show less, so that no promise with a smaller level follows from these numbers.

    Args:
        part: Its numbers, with ``0 <= wrong <= accepted <= 1e9``.
        share: The share of wrong codes, in (0, 1).
    """
    rows, wrong = part.accepted, part.wrong
    if not wrong < share * rows:
        return 1.0
    logarithm = math.lgamma(rows + 1) - math.lgamma(wrong + 1) - math.lgamma(rows - wrong + 1)
    term = math.exp(logarithm + wrong * math.log(share) + (rows - wrong) * math.log1p(-share))
    total = 0.0
    for errors in range(wrong, -1, -1):  # the terms fall faster than those of a geometric series
        total += term
        term *= errors * (1 - share) / ((rows - errors + 1) * share)
        if term <= 1e-12 * total:
            break
    return min(total, 1.0)


def describe_guarantee(guarantee: Guarantee | None, precision: str | None = None) -> str:
    """Return what is promised, on what evidence, and what is not, as sentences.

    Args:
        guarantee: That of the bundle; None if nothing is promised.
        precision: The graph in use; None for the one that the bundle serves.
    """
    if guarantee is None:
        return "No share of wrong codes among the accepted responses is promised."
    if precision is not None and precision not in guarantee.graphs:
        return (
            f"Nothing is promised here: this processor uses the {precision} graph, and the promise of the bundle is "
            f"about the scores of {' and '.join(guarantee.graphs)}."
        )
    return " ".join((_promise(guarantee), _evidence(guarantee), _scope(guarantee), _limits(guarantee)))


def _promise(given: Guarantee) -> str:
    whole = f"at most {100 * given.share:.3g} % differ from the human code"
    each = [
        *(["for each label"] if given.labels else []),
        *([f"in each group of {given.group_column!r}"] if given.group_column else []),
    ]
    where = f", {' and '.join(each)}" if each else ""
    confidence = f"with {100 * given.confidence:.3g} % confidence"
    return f"Of the responses accepted without a person, {whole}{where}, {confidence}."


def _evidence(given: Guarantee) -> str:
    graphs = f" with the scores of {' and of '.join(given.graphs)}" if given.graphs else ""
    text = (
        f"The rule was chosen on {_count(given.rows, 'validation row')}{graphs}: it accepts {given.accepted} of them, "
        f"of which {given.wrong} {'is' if given.wrong == 1 else 'are'} wrong (upper limit {100 * given.bound:.2g} %)."
    )
    if given.unit != "rows":
        text += f" What counts as independent: {given.unit} ({given.units})."
    if given.compared > 1:
        text += f" The limit allows for {given.compared} students compared on the same rows."
    return text


def _scope(given: Guarantee) -> str:
    if given.scope == "responses":
        return "It holds for responses like the validation rows."
    questions = _count(given.questions, "question")
    if given.scope == "validated questions":
        return (
            f"It holds for responses like the validation rows to their {questions}; a response to any other question "
            "goes to a person."
        )
    return f"It holds for new questions like the {questions} of the validation rows, which were not trained on."


def _limits(given: Guarantee) -> str:
    parts = [
        *([] if given.labels else ["a single label"]),
        *([] if given.group_column else ["a single group of learners"]),
        "another codebook",
        "another population",
    ]
    return f"It says nothing about {', '.join(parts[:-1])} or {parts[-1]}."


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"
