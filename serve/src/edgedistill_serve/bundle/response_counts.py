"""Counts of scored responses, without texts and ids, as a journal writes them, and a bundle keeps of validation rows.

The cuts are fixed, so that counts of any two weeks, processes and bundles can be added and compared.
"""

from bisect import bisect_left
from collections.abc import Sequence

import msgspec

CUTS: dict[str, tuple[float, ...]] = {
    "probability": (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99),
    "novelty": (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0),
    "tokens": (2, 4, 8, 12, 16, 24, 32, 64),
}
"""For each number of a score, the largest value of every bin but the last one."""


class ResponseCounts(msgspec.Struct):
    """Counts of responses that were scored; it is added to.

    Attributes:
        rows: Number of responses.
        labels: Responses by label; for a multilabel task by set of labels, as in ``asks;praises``.
        reasons: Reviewed responses by reason.
        probability: Responses by `Score.probability`, in the bins of `CUTS`.
        novelty: The same by novelty; all 0 if it is not measured.
        tokens: The same by length in tokens.
        sums: Sums of the three numbers, in the order of `CUTS`.
    """

    rows: int = 0
    labels: dict[str, int] = msgspec.field(default_factory=dict)
    reasons: dict[str, int] = msgspec.field(default_factory=dict)
    probability: list[int] = msgspec.field(default_factory=lambda: _no_bins("probability"))
    novelty: list[int] = msgspec.field(default_factory=lambda: _no_bins("novelty"))
    tokens: list[int] = msgspec.field(default_factory=lambda: _no_bins("tokens"))
    sums: list[float] = msgspec.field(default_factory=lambda: [0.0] * len(CUTS))

    @property
    def reviewed(self) -> int:
        """Number of responses with the decision ``review``."""
        return sum(self.reasons.values())

    def count(self, label: str, probability: float, reason: str | None, tokens: int, novelty: float | None) -> None:
        """Count one response. Its numbers are those of a `Score`."""
        self.rows += 1
        self.labels[label] = self.labels.get(label, 0) + 1
        if reason is not None:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
        self.probability[bisect_left(CUTS["probability"], probability)] += 1
        self.tokens[bisect_left(CUTS["tokens"], tokens)] += 1
        self.sums[0] += probability
        self.sums[2] += tokens
        if novelty is not None:
            self.novelty[bisect_left(CUTS["novelty"], novelty)] += 1
            self.sums[1] += novelty

    def add(self, other: "ResponseCounts") -> None:
        """Add the counts of other responses."""
        self.rows += other.rows
        for mine, theirs in ((self.labels, other.labels), (self.reasons, other.reasons)):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count
        self.probability = _added(self.probability, other.probability)
        self.novelty = _added(self.novelty, other.novelty)
        self.tokens = _added(self.tokens, other.tokens)
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]

    def fault(self) -> str | None:
        """Return what is wrong with counts that were read from a file; None if nothing is."""
        bins = {name: getattr(self, name) for name in CUTS}
        counts = [
            self.rows,
            *self.labels.values(),
            *self.reasons.values(),
            *(n for each in bins.values() for n in each),
        ]
        if min(counts) < 0:
            return "a count is negative"
        if wrong := [name for name, each in bins.items() if len(each) != len(CUTS[name]) + 1]:
            return f"{wrong[0]} has {len(bins[wrong[0]])} bins, not {len(CUTS[wrong[0]]) + 1}"
        if sum(self.labels.values()) != self.rows or self.reviewed > self.rows:
            return "the counts do not add up to rows"
        if {sum(self.probability), sum(self.tokens)} != {self.rows} or sum(self.novelty) not in (0, self.rows):
            return "the bins do not add up to rows"
        return "there are not three sums" if len(self.sums) != len(CUTS) else None


def _no_bins(name: str) -> list[int]:
    return [0] * (len(CUTS[name]) + 1)


def _added(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)]
