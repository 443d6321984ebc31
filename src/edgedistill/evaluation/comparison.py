"""Two bundles on the same coded rows: the types of a comparison, and what it says.

BundleComparison      the result of `edgedistill.evaluation.compare_bundles`
decide                better, worse or undecided: `RULE`
describe_comparison   what a person should read of it
read_comparison       reads `comparison.json`
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from edgedistill.agreement import Agreement, Comparison, Estimate, agreement_html, agreement_table
from edgedistill.displays import plain_text
from edgedistill.errors import RunError
from edgedistill.evaluation.files import decode_version, stage_hint
from edgedistill.evaluation.types import AcceptedErrors, EvaluatedBundle

COMPARISON = "comparison.json"
"""The file of a comparison, in the run folder or where `--out` says."""
COMPARISON_VERSION = 1
"""`schema_version` of a `comparison.json`."""
ComparedVerdict: TypeAlias = Literal["better", "worse", "undecided", "same"]
RULE = (
    "The new bundle is better if the whole 95 % interval of the paired difference in kappa is above 0, worse if all of "
    "it is below 0, and otherwise it is undecided. No other figure decides."
)
OLD, NEW = "old", "new"


@dataclass(frozen=True, slots=True)
class LearnedCounts:
    """Rows of the file that a bundle learned from.

    Attributes:
        known: Whether it is known which rows it learned from; if not, there are no other figures.
        trained: Rows that are left out because it was trained on them.
        selected: Rows that are left out because they selected its epoch, calibration, thresholds or decision rule.
        same: Compared rows with the text of such a row, by another id.
    """

    known: bool
    trained: int = 0
    selected: int = 0
    same: int = 0


@dataclass(frozen=True, slots=True)
class ChangedLabel:
    """Rows whose label changed from one to another.

    Attributes:
        old: The label of the old bundle.
        new: That of the new one.
        rows: Number of rows.
        old_right: On how many of them the old bundle has the human code.
        new_right: On how many the new one has.
    """

    old: str
    new: str
    rows: int
    old_right: int
    new_right: int


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A row whose label changed: its id, its human code, and both labels."""

    id: str
    human: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class ComparedDecisions:
    """What the bundles' decision rules do with the rows; each difference is the new bundle minus the old one.

    Attributes:
        accepted: By bundle, the number of accepted rows.
        share_accepted: Difference of the share of accepted rows.
        errors: By bundle, how many of the accepted rows are wrong.
        accepted_wrong: Difference of the share of all rows that are accepted and wrong; below 0, the new bundle lets
            fewer errors through.
    """

    accepted: Mapping[str, int]
    share_accepted: Estimate | None
    errors: Mapping[str, AcceptedErrors]
    accepted_wrong: Estimate | None


@dataclass(frozen=True, slots=True)
class ComparedPart:
    """The rows with one value of a column.

    Attributes:
        value: The value.
        rows: Number of rows.
        suppressed: Whether they are too few, or of a single cluster; there are no figures then.
        only_old_right: Rows on which only the old bundle has the human code.
        only_new_right: Rows on which only the new one has.
        accuracy: Difference of the accuracy, new minus old.
        kappa: Difference of kappa.
        verdict: By `RULE`, for these rows alone.
    """

    value: str
    rows: int
    suppressed: bool
    only_old_right: int
    only_new_right: int
    accuracy: Estimate | None
    kappa: Estimate | None
    verdict: ComparedVerdict


@dataclass(frozen=True, slots=True)
class ComparedParts:
    """The parts of a column: questions, or groups.

    Attributes:
        column: Its name.
        smallest: Values of fewer rows have no figures.
        rows_without: Rows without a value.
        parts: Sorted by value.
        by_chance: How many parts would be called better or worse by chance on average if none had changed: 5 % of
            those with figures.
    """

    column: str
    smallest: int
    rows_without: int
    parts: tuple[ComparedPart, ...]
    by_chance: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BundleComparison:
    """Two bundles on the same coded rows. Its repr is a table of both, and the verdict.

    Attributes:
        schema_version: `COMPARISON_VERSION`.
        old: The bundle in use.
        new: The one that may replace it.
        file: Name of the file.
        sha256: Of the file, or of the cells of a DataFrame; empty for a project's test rows.
        kind: ``nominal``, ``ordinal`` or ``multilabel``.
        labels: In codebook order.
        read: Rows of the file; ``read == rows + sum(set_aside.values())``.
        rows: Rows that are compared.
        set_aside: Number of the other rows, by reason.
        learned: By bundle, the rows that it learned from.
        verdict: ``better``, ``worse`` or ``undecided``, by the rule; ``same``: both are the same bundle.
        rule: `RULE`.
        agreement: By bundle, the agreement with the human codes.
        paired: On the same resamples: differences (new minus old), counts of rows that only one codes correctly,
            McNemar's test.
        decisions: The decision rules.
        changes: Changed labels, the most frequent first.
        changed_rows: Every row whose label changed.
        questions: Differences for each question; None if the bundles read no question.
        groups: Differences for each value of the named columns.
        notes: What a reader must know.
    """

    schema_version: int
    old: EvaluatedBundle
    new: EvaluatedBundle
    file: str
    sha256: str
    kind: str
    labels: tuple[str, ...]
    read: int
    rows: int
    set_aside: Mapping[str, int]
    learned: Mapping[str, LearnedCounts]
    verdict: ComparedVerdict
    rule: str
    agreement: Mapping[str, Agreement]
    paired: Comparison
    decisions: ComparedDecisions
    changes: tuple[ChangedLabel, ...]
    changed_rows: tuple[ChangedRow, ...]
    questions: ComparedParts | None
    groups: tuple[ComparedParts, ...]
    notes: tuple[str, ...]

    @property
    def kappa(self) -> Estimate | None:
        """The difference in kappa, which decides."""
        return self.paired.differences["kappa"]

    def __repr__(self) -> str:
        return f"{plain_text(agreement_table(self.agreement))}\n{describe_verdict(self)}"

    def _repr_html_(self) -> str:
        return f"{agreement_html(self.agreement)}<p>{describe_verdict(self)}</p>"


def decide(difference: Estimate | None) -> ComparedVerdict:
    """Apply `RULE` to a difference in kappa; one that is undefined, or not a number, decides nothing."""
    if difference is None:
        return "undecided"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "undecided"


def read_comparison(file: Path) -> BundleComparison:
    """Read `comparison.json`.

    Args:
        file: The file.

    Raises:
        RunError: It is missing, damaged, or of another version.
    """
    hint = stage_hint("compare")
    if not file.exists():
        raise RunError("compare is not done: the bundles have not been compared", where=str(file), hint=hint)
    return decode_version(file, BundleComparison, COMPARISON_VERSION, hint)


def count_rows(number: int) -> str:
    """Return ``1 row``, ``7 rows``."""
    return f"{number} row{'s' * (number != 1)}"


def describe_verdict(found: BundleComparison) -> str:
    """Return the verdict in one sentence, with the difference that decides."""
    if found.verdict == "same":
        return f"Both are the same bundle, version {found.new.version}."
    figure = "undefined" if found.kappa is None else _signed(found.kappa)
    name = found.agreement[NEW].kappa_name
    said = {
        "better": f"The new bundle is better: the difference in {name} is {figure}",
        "worse": f"The new bundle is worse: the difference in {name} is {figure}",
        "undecided": f"It is undecided which bundle is better: the difference in {name} is {figure}",
    }[found.verdict]
    if found.verdict == "undecided" and found.kappa is not None:
        said += (
            f"; these rows exclude a loss of more than {max(-found.kappa.low, 0):.3f} and a gain of more than "
            f"{max(found.kappa.high, 0):.3f}"
        )
    return f"{said}."


def describe_comparison(found: BundleComparison) -> Iterator[str]:
    """Yield what a person should read of a comparison besides its tables, a line each; the verdict comes first."""
    yield describe_verdict(found)
    aside = ", ".join(f"{count} {reason}" for reason, count in found.set_aside.items())
    more = f" + {sum(found.set_aside.values())} set aside ({aside})" if aside else ""
    yield f"{found.file}: {found.read} rows read = {found.rows} compared{more}"
    for name, title in (("accuracy", "accuracy"), ("macro_f1", "macro-F1"), ("kappa", "kappa")):
        yield f"difference in {title}, new minus old: {_shown(found.paired.differences[name])}"
    paired = found.paired
    test = f"; McNemar's mid-p {paired.mcnemar.mid_p:.3f}" if paired.mcnemar else ""
    yield (
        f"right in both {paired.both_right}, only in the old bundle {paired.only_first_right}, only in the new one "
        f"{paired.only_second_right}, in neither {paired.neither_right}{test}"
    )
    decisions = found.decisions
    yield (
        f"accepted without a person: {decisions.accepted[OLD]} by the old bundle, {decisions.accepted[NEW]} by the new "
        f"one; difference of the share {_shown(decisions.share_accepted)}"
    )
    yield (
        f"accepted and wrong: {decisions.errors[OLD].wrong} by the old bundle, {decisions.errors[NEW].wrong} by the "
        f"new one; difference of the share of all rows {_shown(decisions.accepted_wrong)}"
    )
    yield f"changed labels: {count_rows(len(found.changed_rows))}"
    for change in found.changes:
        yield (
            f"  {change.old} became {change.new}: {count_rows(change.rows)}, right before {change.old_right}, now "
            f"{change.new_right}"
        )
    for note in found.notes:
        yield note if note.startswith("warning: ") else f"note: {note}"
    yield f"rule: {found.rule}"


def _shown(estimate: Estimate | None) -> str:
    return "undefined" if estimate is None else _signed(estimate)


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"
