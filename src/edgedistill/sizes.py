"""Students of several sizes as they are reported: names, figures on the validation rows, and the choice.

`edgedistill.student.sizes` measures them.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgedistill.agreement import Estimate
from edgedistill.errors import RunError
from edgedistill.project.student import Size
from edgedistill_serve.bundle.manifest import Precision

SIZES_FILE = "sizes.json"
"""The figures and the choice, in a run folder."""


def size_name(size: Size) -> str:
    """Return the name of a size in files and tables, such as ``3 layers``."""
    return f"{size} {'layer' if size == 1 else 'layers'}" if isinstance(size, int) else size


def size_folder(size: Size) -> str:
    """Return the name of a size's folder, such as ``layers-3``."""
    return f"layers-{size}" if isinstance(size, int) else size


def size_coding(name: str) -> str:
    """Return the name of a size's coding of the test rows in an evaluation, such as ``student of 3 layers``."""
    return f"student of {name}" if name[0].isdigit() else f"{name} student"


@dataclass(frozen=True, slots=True)
class SizeFigures:
    """The figures of a student of one size.

    Attributes:
        name: As `size_name` returns it.
        bytes: Of the graph that would be served, and its tokenizer.
        precision: Of that graph.
        texts_per_second: Texts per second of processor time, from text to logits, one at a time on one thread: the
            median of rounds in which all sizes took turns.
        cpu_seconds_per_1000: Processor time of 1,000 responses, in seconds.
        kappa: Agreement with the human codes of the validation rows; None if it is undefined.
        kappa_lost: κ of the best minus κ of this size on the same rows, with a paired 95 % interval; None if undefined.
        not_worse: Whether the upper end of that interval is at most the margin.
    """

    name: str
    bytes: int
    precision: Precision
    texts_per_second: float
    cpu_seconds_per_1000: float
    kappa: Estimate | None
    kappa_lost: Estimate | None
    not_worse: bool


@dataclass(frozen=True, slots=True)
class SizeChoice:
    """The sizes, and which of them is evaluated and exported.

    Attributes:
        sizes: In ascending order of bytes.
        margin: The κ that the smallest may lose.
        best: Name of the size with the highest κ on validation rows.
        picked: Name of the smallest size that is not worse than the best.
        picked_folder: Its folder, as `size_folder` returns it.
        rows: Number of validation rows.
    """

    sizes: tuple[SizeFigures, ...]
    margin: float
    best: str
    picked: str
    picked_folder: str
    rows: int

    @property
    def note(self) -> str:
        """The choice in a sentence or two."""
        by_name = {size.name: size for size in self.sizes}
        picked, rows = by_name[self.picked], f"the {self.rows} validation rows"
        if self.picked != self.best:
            lost = picked.kappa_lost
            interval = f" (it loses {lost.value:.3f}, {lost.low:.3f} to {lost.high:.3f})" if lost else ""
            return (
                f"{self.picked} is the smallest size that is not worse than the best, {self.best}, by more than "
                f"{self.margin:g} κ on {rows}{interval}; it is evaluated and exported."
            )
        if picked is self.sizes[0]:
            return f"{self.picked} is the smallest size and has the highest κ on {rows}; it is evaluated and exported."
        return (
            f"{self.picked} has the highest κ on {rows}, and no smaller size was shown to be not worse by more than "
            f"{self.margin:g}; it is evaluated and exported. More validation rows narrow the intervals."
        )

    @property
    def other_notes(self) -> tuple[str, ...]:
        """What to change where a student that needs no training of the backbone is as good as those that do."""
        value = {size.name: kappa_value(size.kappa) for size in self.sizes}
        trained = max((value[name] for name in value if name[0].isdigit()), default=math.inf)
        as_good = [name for name in ("nano", "frozen") if value.get(name, -math.inf) >= trained]
        if not as_good:
            return ()
        verb = "agree" if len(as_good) > 1 else "agrees"
        note = (
            f"{' and '.join(as_good)} {verb} with the human codes of the validation rows as well as the fine-tuned "
            "students: fine-tuning did not pay off. Train longer (student.preset: thorough), or code or label more "
            "rows."
        )
        return (note,)


def kappa_value(kappa: Estimate | None) -> float:
    """Return a κ of which more is better; an undefined one is the least of all."""
    return -math.inf if kappa is None or math.isnan(kappa.value) else kappa.value


def read_sizes(file: Path, hint: str) -> SizeChoice:
    """Read `sizes.json`.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=SizeChoice)
    except (OSError, msgspec.MsgspecError):
        raise RunError("is missing or damaged", where=str(file), hint=hint) from None
