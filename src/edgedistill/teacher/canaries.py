"""Whether a teacher's answers have changed: a canary set, and an exact test of new votes against stored ones.

A teacher that samples does not give the same answer twice, and neither does one at temperature 0 whose provider batches
requests. So new votes are not expected to equal the stored ones. If the model is the same, then for each response it
is by chance which of its votes are the stored ones: given all votes, every choice of as many of them is equally likely
(an exact permutation test within strata; Lehmann & Romano 2005, ch. 15.2). The test statistic is the number of pairs of
a stored and a new vote that differ. The teacher's own noise is part of the distribution: it raises no alarm.

Looks at one canary set share its stored votes, and nobody knows how many there will be. The k-th look has the level
alpha / (k (k + 1)); they sum to alpha, so that by Bonferroni's inequality the probability of any false alarm is at most
alpha, however many looks there are and however they depend on each other.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edgedistill.agreement import Estimate

NO_ANSWER = "(no answer)"
"""The vote of a teacher that refuses, or answers with no label."""


CANARY_VERSION = 1
"""`schema_version` of `canary.json` and of the lines of `history.jsonl`."""
WatchVerdict: TypeAlias = Literal["no change shown", "answers changed", "model renamed"]


@dataclass(frozen=True, slots=True)
class Canary:
    """A response of the canary set.

    Attributes:
        id: Its id.
        key: Of its first request: codebook, examples, text, model, address and parameters.
        label: The label of most votes, by which the set is stratified.
        votes: The stored votes.
    """

    id: str
    key: str
    label: str
    votes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CanarySet:
    """Responses whose answers are watched.

    Attributes:
        schema_version: `CANARY_VERSION`.
        number: From 1; each renewed set has the next number.
        drawn: The day.
        seed: Of the draw.
        teacher: Its name in the project.
        model: The requested model.
        base_url: The endpoint's address.
        codebook: Digests of the instructions and definitions.
        false_alarms: The probability of any false alarm, over all looks at this set.
        served_models: The models that the stored answers name, with the number of answers.
        fingerprints: Their ``system_fingerprint``, likewise.
        rows: The responses.
    """

    schema_version: int
    number: int
    drawn: str
    seed: int
    teacher: str
    model: str
    base_url: str
    codebook: Mapping[str, str]
    false_alarms: float
    served_models: Mapping[str, int]
    fingerprints: Mapping[str, int]
    rows: tuple[Canary, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a canary set.

    Attributes:
        schema_version: `CANARY_VERSION`.
        set: Number of the set.
        look: Number of the look, from 1.
        date: The day.
        teacher: The teacher's name.
        rows: Responses that were asked again.
        lost: Responses of the set that are no longer in the data, or whose prompt has changed.
        votes: New votes.
        missing: New votes that are missing because the endpoint was not reached.
        no_answer: New votes that are a refusal or no label.
        equal: Mean share of equal pairs of a stored and a new vote of a response, in [0, 1].
        equal_before: The same among the stored votes: the teacher's noise then; None with one vote.
        equal_now: The same among the new votes.
        p: Exact p-value of the hypothesis that nothing changed (`changed_p`).
        level: The look's share of the false-alarm rate; the answers changed if ``p`` is not above it.
        kappa: κ of the label of most new votes with that of most stored ones; None if it is undefined.
        shares: By label, the mean share of the stored and of the new votes.
        new_models: Models that the answers name, and the stored ones do not.
        new_fingerprints: Fingerprints, likewise.
        verdict: ``answers changed``, ``model renamed`` (the endpoint names another model, and its answers show no
            change), or ``no change shown``.
        notes: What a reader must know.
        requests: Requests that were sent.
        nano_dollars: What they cost; None without prices.
    """

    schema_version: int
    set: int
    look: int
    date: str
    teacher: str
    rows: int
    lost: int
    votes: int
    missing: int
    no_answer: int
    equal: float | None
    equal_before: float | None
    equal_now: float | None
    p: float
    level: float
    kappa: Estimate | None
    shares: Mapping[str, tuple[float, float]]
    new_models: Mapping[str, int]
    new_fingerprints: Mapping[str, int]
    verdict: WatchVerdict
    notes: tuple[str, ...]
    requests: int
    nano_dollars: int | None


def changed_p(stored: Sequence[Sequence[str]], fresh: Sequence[Sequence[str]]) -> float:
    """Return the exact p-value of the hypothesis that the stored and the new votes are of one teacher.

    Small if they differ more than the votes of each response differ among themselves. With one stored and one new vote
    of a response nothing is known of the noise, and the response does not count.

    Args:
        stored: The stored votes of each response.
        fresh: The new ones of the same responses, in the same order.

    Returns:
        In (0, 1]; 1 if no response has a vote on each side.

    Example:
        changed_p([["a", "a", "a"]] * 5, [["b", "b", "b"]] * 5)  # 1e-05: for each response 1 of 20 choices, or 2
    """
    observed, distribution = 0, np.ones(1)
    for before, now in zip(stored, fresh, strict=True):
        if not (before and now):
            continue
        counts = tuple(sorted(Counter([*before, *now]).values()))
        distribution = np.convolve(distribution, _pairs(counts, len(now)))
        observed += sum(one != other for one in before for other in now)
    return min(float(distribution[observed:].sum()), 1.0) if len(distribution) > 1 else 1.0


@lru_cache(maxsize=4096)
def _pairs(counts: tuple[int, ...], fresh: int) -> npt.NDArray[np.float64]:
    """Return the distribution of the number of differing pairs of one response.

    Args:
        counts: How many of its votes have each label.
        fresh: How many of all votes are the new ones.
    """
    states: dict[tuple[int, int], int] = {(0, 0): 1}  # new votes so far, equal pairs so far: number of choices
    for count in counts:
        following: Counter[tuple[int, int]] = Counter()
        for (taken, equal), ways in states.items():
            for more in range(min(count, fresh - taken) + 1):
                following[taken + more, equal + more * (count - more)] += ways * math.comb(count, more)
        states = following
    total = fresh * (sum(counts) - fresh)
    distribution = np.zeros(total + 1)
    for (taken, equal), ways in states.items():
        if taken == fresh:
            distribution[total - equal] += ways
    return distribution / math.comb(sum(counts), fresh)


def level(false_alarms: float, look: int) -> float:
    """Return the level of a look, from 1; over all looks the levels sum to ``false_alarms``."""
    return false_alarms / (look * (look + 1))


def equal_pairs(one: Sequence[Sequence[str]], other: Sequence[Sequence[str]] | None = None) -> float | None:
    """Return the mean share of equal pairs of votes on a response, in [0, 1]; None if no response has a pair.

    Args:
        one: The votes of each response.
        other: Other votes of the same responses, with which they are compared; None: with one another.
    """
    if other is None:
        shares = [_share_within(votes) for votes in one if len(votes) > 1]
    else:
        shares = [
            sum(a == b for a in before for b in now) / (len(before) * len(now))
            for before, now in zip(one, other, strict=True)
            if before and now
        ]
    return sum(shares) / len(shares) if shares else None


def _share_within(votes: Sequence[str]) -> float:
    equal = sum(math.comb(count, 2) for count in Counter(votes).values())
    return equal / math.comb(len(votes), 2)


def describe_look(look: Look) -> list[str]:
    """Return what a person should read of a look, a line each; the verdict comes first."""
    verdicts = {
        "answers changed": f"{look.teacher} answers differently: p = {look.p:.2g}, not above this look's level of "
        f"{look.level:.2g}",
        "model renamed": f"{look.teacher} names another model than before ({', '.join(look.new_models)}); its answers "
        f"show no change (p = {look.p:.2g})",
        "no change shown": f"no change of {look.teacher} is shown: p = {look.p:.2g}, above this look's level of "
        f"{look.level:.2g}",
    }

    def percent(value: float | None) -> str:
        return "not known" if value is None else f"{value:.1%}"

    lines = [
        verdicts[look.verdict],
        (
            f"look {look.look} at set {look.set}: {look.votes} new votes on {look.rows} responses, {look.no_answer} of "
            "them without a label"
        ),
        (
            f"equal pairs of votes: old with new {percent(look.equal)}; among the old {percent(look.equal_before)}, "
            f"among the new {percent(look.equal_now)} (the teacher's own noise)"
        ),
    ]
    if look.kappa:
        kappa = look.kappa
        lines.append(f"labels of most votes, old with new: kappa {kappa.value:.3f} [{kappa.low:.3f}, {kappa.high:.3f}]")
    lines += [
        f"  {label}: {before:.1%} of the votes before, {now:.1%} now"
        for label, (before, now) in look.shares.items()
        if before or now
    ]
    for name, values in (("model", look.new_models), ("system_fingerprint", look.new_fingerprints)):
        if values:
            lines.append(f"{name} not seen before: {', '.join(f'{value} ({n})' for value, n in values.items())}")
    return [*lines, *(f"note: {note}" for note in look.notes)]
