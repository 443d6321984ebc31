"""Who really answered: the model and fingerprint that endpoints name in their answers, behind the name that was asked.

Voice    answers that name the same model and fingerprint

A provider may put another model behind a name at any time; answers from before and after are then not of one teacher.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Voice:
    """Answers of a cache that come from the same model as far as the endpoint says.

    Attributes:
        base_url: The endpoint's address.
        model: The model that was asked for.
        answered_as: The model that the answers name; None where they name none.
        fingerprint: Their ``system_fingerprint``; None likewise.
        answers: How many.
        first: The day of the first of them, such as 2025-01-31; the day it was kept where the answer has no date.
        last: The day of the last.
    """

    base_url: str
    model: str
    answered_as: str | None
    fingerprint: str | None
    answers: int
    first: str
    last: str

    @property
    def told(self) -> str:
        """The voice in one line."""
        name = self.answered_as or "no name"
        fingerprint = f", {self.fingerprint}" if self.fingerprint else ""
        days = self.first if self.first == self.last else f"{self.first} to {self.last}"
        return f"{self.answers:,} by {name}{fingerprint} ({days})"


def changed(voices: Sequence[Voice]) -> list[str]:
    """Return a line for every model at an address whose answers do not all come from one voice."""
    by_model: defaultdict[tuple[str, str], list[Voice]] = defaultdict(list)
    for voice in voices:
        by_model[voice.base_url, voice.model].append(voice)
    return [
        f"note: the answers of {model} at {base_url} are not all of one model: "
        + "; ".join(voice.told for voice in sorted(heard, key=lambda each: each.first))
        for (base_url, model), heard in by_model.items()
        if len(heard) > 1
    ]
