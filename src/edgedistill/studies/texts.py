"""Which texts count as one, and a sentence on where the rows of a file went."""

from collections import Counter
from collections.abc import Iterable, Mapping

from edgedistill.records.coding import folded


def whole(inputs: Mapping[str, str]) -> tuple[str, ...]:
    """Return every input folded: the same answer to another question is another text."""
    return tuple(folded(text) for text in inputs.values())


def account(where: str, rows: str, read: int, used: int, reasons: Iterable[str]) -> str:
    """Return where rows went.

    Args:
        where: The file, or what the rows are for.
        rows: What they are called.
        read: How many there were.
        used: How many of them are used.
        reasons: Why each of the others is not.
    """
    aside = "".join(f" + {n} set aside ({reason})" for reason, n in Counter(reasons).items())
    return f"{where}: {read} {rows} read = {used} used{aside}"
