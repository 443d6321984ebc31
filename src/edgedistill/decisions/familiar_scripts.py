"""Cheap signs that a text is unlike the training texts: other scripts, or almost no letters.

They need no vector of the text, so that they work where the novelty has no limit (docs/novelty.md).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgedistill_serve.task.scripts import Letters

MIN_LETTERS = 0.5
"""The smallest share of a response's visible characters that must be letters of the training texts' scripts."""
RARE = 0.01
"""Share of the texts up to which a script is foreign to them, and up to which they may have too few letters."""
LEAST_TEXTS = 30
"""Texts below which nothing is said about scripts."""


@dataclass(frozen=True, slots=True)
class FamiliarScripts:
    """The scripts of the training texts.

    Attributes:
        names: Names in `edgedistill_serve.task.scripts.SCRIPTS`; empty if responses are not judged by their letters.
        min_letters: The smallest accepted share of letters of these scripts; 0 accepts every response.
    """

    names: tuple[str, ...] = ()
    min_letters: float = 0.0


def familiar_scripts(texts: Sequence[Letters]) -> FamiliarScripts:
    """Return the scripts that texts are written in, and the share of their letters that a response must have.

    Args:
        texts: What training and validation texts consist of.

    Returns:
        Nothing if there are fewer than `LEAST_TEXTS` texts, or if more than `RARE` of them have too few letters
        themselves, as answers to arithmetic problems do.
    """
    if len(texts) < LEAST_TEXTS:
        return FamiliarScripts()
    counts = Counter(name for text in texts for name in text.by_script)
    names = tuple(sorted(name for name, count in counts.items() if count > RARE * len(texts)))
    below = sum(not text.share(names) >= MIN_LETTERS for text in texts)
    return FamiliarScripts(names, MIN_LETTERS) if names and below <= RARE * len(texts) else FamiliarScripts()
