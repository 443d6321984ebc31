"""How far long work is: told to a callback, and shown as bars in a terminal or a notebook."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

OnProgress: TypeAlias = Callable[[str, int, int], None]
"""Called while work goes on: what is done, how much of it is done, how much there is."""


@contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[OnProgress]:
    """Show a bar for each piece of work that is told of.

    Nothing is shown where standard error is not a terminal, nor in a notebook without ipywidgets, with which
    rich draws.

    Example:
        with progress_bars() as on_progress:
            teacher.label(responses, on_progress=on_progress)

    Args:
        quiet: Show nothing.
    """
    console = Console(stderr=True)
    able = find_spec("ipywidgets") is not None if console.is_jupyter else console.is_terminal
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=quiet or not able,
    )
    tasks: dict[str, TaskID] = {}

    def advance(what: str, done: int, of: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=of)
        bars.update(tasks[what], completed=done, total=of)

    with bars:
        yield advance
