"""The options that say how a stage's open questions get to the teacher."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.cli.terminal import Terminal

if TYPE_CHECKING:  # the teacher's modules need not be loaded for `--help`
    from edgedistill.teacher import Way

EstimateOnly = Annotated[
    bool, typer.Option("--estimate", help="Say what asking would take, from a few prompts; ask nothing.")
]
InBatches = Annotated[
    bool, typer.Option("--batch", help="Ask through the provider's Batch API; a run that is stopped goes on.")
]
BatchOut = Annotated[
    Path | None, typer.Option("--batch-out", metavar="FILE", help="Write the open requests as a Batch API file.")
]
BatchIn = Annotated[
    list[Path] | None, typer.Option("--batch-in", metavar="FILE", help="Take answers from a Batch API results file.")
]


@dataclass(frozen=True, slots=True)
class AskingOptions:
    """How the teacher is asked, as the command line says it; at most one of them.

    Attributes:
        estimate: Ask nothing, tell what asking would take.
        batch: Ask through the Batch API.
        out: Write the requests to this file.
        results: Take the answers from these files.
    """

    estimate: bool = False
    batch: bool = False
    out: Path | None = None
    results: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if sum(map(bool, (self.estimate, self.batch, self.out, self.results))) > 1:
            raise typer.BadParameter("--estimate, --batch, --batch-out and --batch-in go one at a time")

    def way(self, terminal: Terminal) -> "Callable[[str], Way] | None":
        """Return what is done about a teacher's questions, by its name; None to ask them one by one."""
        if not (self.estimate or self.batch or self.out or self.results):
            return None
        return lambda teacher: self._way(terminal, teacher)

    def _way(self, terminal: Terminal, teacher: str) -> "Way":
        from edgedistill.teacher import EstimateOnly, FromFile, InBatches, ToFile

        say = terminal.say
        if self.estimate:
            return EstimateOnly(teacher)
        if self.out:
            return ToFile(self.out.with_stem(f"{self.out.stem}-{teacher}") if teacher else self.out)
        if self.results:
            return FromFile(self.results, say)
        return InBatches(say, announce=lambda estimate: say(estimate.told))
