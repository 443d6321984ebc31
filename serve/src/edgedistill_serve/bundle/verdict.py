"""The verdict of a bundle: what the comparison with human codes of locked test rows says about its use."""

from collections.abc import Collection, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

VerdictStatus: TypeAlias = Literal[
    "validated", "validated for some labels", "validated with human review", "inconclusive", "not validated"
]
ScoreVerdict: TypeAlias = Literal["validated", "not validated"]


class BundleVerdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether test rows show that a bundle may be used, by the rules of the report (docs/report.md).

    Attributes:
        status: ``validated``; ``validated for some labels``; ``validated with human review`` of the responses that the
            decision rule selects; ``inconclusive`` if the test rows do not settle it; ``not validated`` if they show
            too little agreement, or were never scored.
        headline: The verdict as a sentence.
        reason: The figures behind it, as sentences.
        labels: The labels that the verdict covers; empty unless the status begins with ``validated``.
    """

    status: VerdictStatus
    headline: str
    reason: str = ""
    labels: tuple[str, ...] = ()

    @property
    def is_validated(self) -> bool:
        """Whether test rows support the use of the bundle, if only for some labels or with human review."""
        return self.status.startswith("validated")

    def of_score(self, labels: Sequence[str], names: Collection[str]) -> ScoreVerdict:
        """Return whether the verdict covers a score.

        Args:
            labels: The labels of the score.
            names: All labels of the task. A score without a label says something about each of them.
        """
        covered = self.is_validated and all(name in self.labels for name in labels or names)
        return "validated" if covered else "not validated"


NOT_VALIDATED: Final = BundleVerdict(
    "not validated", "Not validated: the bundle has no comparison with human codes of test rows."
)
"""The verdict of a bundle that states none, such as an older one."""


def describe_verdict(verdict: BundleVerdict | None) -> str:
    """Return a verdict in sentences that begin with its status."""
    found = verdict or NOT_VALIDATED
    covered = f" Covered: {', '.join(found.labels)}." if found.status == "validated for some labels" else ""
    status = found.status.capitalize()
    begins = "" if found.headline.startswith(f"{status}:") else f"{status}. "
    return " ".join(f"{begins}{found.headline}{covered} {found.reason}".split())
