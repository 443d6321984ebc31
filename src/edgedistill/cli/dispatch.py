"""The options that choose how requests reach the teacher: one by one, as a batch, as files, or not at all."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.cli.terminal import Terminal

if TYPE_CHECKING:  # `--help` does not load the teacher's modules
    from edgedistill.teacher import DispatchMode

EstimateOption = Annotated[
    bool, typer.Option("--estimate", help="Estimate requests, tokens and cost from a few prompts; send nothing.")
]
BatchOption = Annotated[
    bool, typer.Option("--batch", help="Use the provider's Batch API; run again to continue a stopped run.")
]
BatchOutOption = Annotated[
    Path | None,
    typer.Option("--batch-out", metavar="FILE", help="Write the missing requests to a Batch API file; send nothing."),
]
BatchInOption = Annotated[
    list[Path] | None,
    typer.Option("--batch-in", metavar="FILE", help="Read the answers from a Batch API results file."),
]


@dataclass(frozen=True, slots=True)
class DispatchOptions:
    """How requests reach the teacher, from the command line; at most one of the four is set.

    Attributes:
        estimate: Print an estimate and send nothing.
        batch: Use the Batch API.
        out: Write the requests to this file.
        results: Read the answers from these files.

    Raises:
        typer.BadParameter: More than one is set.
    """

    estimate: bool = False
    batch: bool = False
    out: Path | None = None
    results: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if sum(map(bool, (self.estimate, self.batch, self.out, self.results))) > 1:
            raise typer.BadParameter("use only one of --estimate, --batch, --batch-out and --batch-in")

    def dispatch(self, terminal: Terminal) -> "Callable[[str], DispatchMode] | None":
        """Return a function from a teacher's name to its dispatch mode; None to send requests one by one."""
        if not (self.estimate or self.batch or self.out or self.results):
            return None
        return lambda teacher: self._mode(terminal, teacher)

    def _mode(self, terminal: Terminal, teacher: str) -> "DispatchMode":
        from edgedistill.teacher import EstimateOnly, ReadBatchFile, SubmitBatches, WriteBatchFile

        if self.estimate:
            return EstimateOnly(teacher)
        if self.out:
            return WriteBatchFile(self.out.with_stem(f"{self.out.stem}-{teacher}") if teacher else self.out)
        if self.results:
            return ReadBatchFile(self.results, terminal.say)
        return SubmitBatches(terminal.say, on_estimate=lambda estimate: terminal.say(estimate.summary))
