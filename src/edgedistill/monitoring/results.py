"""What `monitor` finds; all types are frozen, and become JSON by `as_dict`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

MONITOR_VERSION = 1
"""`monitor_version` of `monitor.json`."""

Quantity: TypeAlias = Literal["label", "review", "probability", "novelty", "tokens"]
QUANTITIES: tuple[Quantity, ...] = ("label", "review", "probability", "novelty", "tokens")


@dataclass(frozen=True, slots=True)
class Interval:
    """A share with a confidence interval, all in [0, 1]."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Alarm:
    """A quantity that is no longer as in its reference.

    Attributes:
        item: The item; empty for all responses.
        quantity: What changed.
        what: The share that shows it best, such as ``label outcome`` or ``probability at most 0.7``.
        reference: That share in the reference.
        allowed: The shares that the reference allows, lowest and highest.
        now: The share since the change, with a confidence interval that holds at all times.
        since: Monday of the week in which the change most probably began.
        found: Monday of the first week in which the evidence was enough.
        compared_with: ``validation rows``, or the item's ``first weeks``.
    """

    item: str
    quantity: Quantity
    what: str
    reference: float
    allowed: tuple[float, float]
    now: Interval
    since: str
    found: str
    compared_with: str


@dataclass(frozen=True, slots=True)
class WeekFigures:
    """One week of an item, or of all responses. Intervals are 95 % ones of this week alone (Wilson 1927).

    Attributes:
        week: Its Monday.
        item: The item; empty for all responses.
        rows: Number of responses.
        labels: Share of each label.
        review: Share of reviews.
        reasons: Number of reviews by reason.
        means: Mean probability, novelty and tokens.
    """

    week: str
    item: str
    rows: int
    labels: Mapping[str, Interval]
    review: Interval
    reasons: Mapping[str, int]
    means: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class WatchedItem:
    """What an item is compared with.

    Attributes:
        item: The item; empty for all responses.
        rows: Responses in the journal.
        compared_with: ``validation rows``, ``first weeks``, or ``nothing yet``.
        reference_rows: Their number.
        evidence: For each quantity, the decimal logarithm of the evidence of a change, and that of an alarm.
        allowed: For each share that is tested, the lowest and the highest that the reference allows.
    """

    item: str
    rows: int
    compared_with: str
    reference_rows: int
    evidence: Mapping[str, tuple[float, float]]
    allowed: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class PromiseNow:
    """The promise of the bundle, tested with codes of the audit slice.

    Attributes:
        of: ``all`` accepted responses, or a label.
        promised: The largest promised share of wrong codes.
        accepted: Coded responses that were accepted.
        wrong: How many of them differ from the human code.
        share: Their share, with a confidence interval that holds at all times; None without codes.
        outcome: ``certified again``, ``withdrawn``, or ``not enough codes``.
        more: How many more codes would be expected to decide; None if no number of practical size would, or if it is
            decided.
    """

    of: str
    promised: float
    accepted: int
    wrong: int
    share: Interval | None
    outcome: Literal["certified again", "withdrawn", "not enough codes"]
    more: int | None


@dataclass(frozen=True, slots=True)
class CodedNow:
    """What codes of the audit slice say.

    Attributes:
        drawn: Responses in the audit slice.
        coded: How many of them have a code.
        used: How many count: all, unless the inclusion probabilities differ.
        kappa: κ between codes and labels; None if it is undefined.
        kappa_name: Which κ.
        kappa_at_release: That of the test rows; None if the bundle does not have it.
        difference: Now minus then, with its 95 % interval; None if either is missing.
        kappa_of_accepted: κ of the accepted responses.
        outcome: ``lower``, ``higher``, or ``not shown``.
        promises: Each part of the promise; empty if the bundle promises nothing.
        notes: What a reader must know.
    """

    drawn: int
    coded: int
    used: int
    kappa: Interval | None
    kappa_name: str
    kappa_at_release: Interval | None
    difference: Interval | None
    kappa_of_accepted: Interval | None
    outcome: Literal["lower", "higher", "not shown"]
    promises: tuple[PromiseNow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MonitorReport:
    """What `monitor` finds. Its repr is the report in words.

    Attributes:
        monitor_version: `MONITOR_VERSION`.
        model: Name of the bundle.
        version: Its version.
        rows: Responses in the journal that this bundle scored.
        weeks: Mondays of the first and the last week.
        false_alarms: The probability that a bundle in use that nothing happens to ever has an alarm, at most.
        tolerance: The difference of a share that is no alarm.
        alarms: What changed, all responses first.
        watched: What is compared with what, all responses first.
        by_week: The figures of each week and item.
        reference: The same figures of the validation rows.
        audit: Number of responses with an id, and number of drawn ones.
        codes: What human codes say; None without them.
        notes: What a reader must know.
    """

    monitor_version: int = MONITOR_VERSION
    model: str
    version: str
    rows: int
    weeks: tuple[str, str]
    false_alarms: float
    tolerance: float
    alarms: tuple[Alarm, ...]
    watched: tuple[WatchedItem, ...]
    by_week: tuple[WeekFigures, ...]
    reference: Mapping[str, Any]
    audit: Mapping[str, int]
    codes: CodedNow | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def is_alarm(self) -> bool:
        """Whether a person must act: something changed, κ is lower, or the promise is withdrawn."""
        codes = self.codes
        lower = codes is not None and (
            codes.outcome == "lower" or any(each.outcome == "withdrawn" for each in codes.promises)
        )
        return bool(self.alarms) or lower

    def as_dict(self) -> dict[str, Any]:
        """Return plain dictionaries and lists, for JSON."""
        return {**asdict(self), "is_alarm": self.is_alarm}

    def __repr__(self) -> str:
        from edgedistill.monitoring.text import describe_report

        return "\n".join(describe_report(self))

    def _repr_html_(self) -> str:
        from edgedistill.monitoring.text import html_body

        return html_body(self)
