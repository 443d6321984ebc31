"""Progress of long work: reported to a callback, and shown as bars in a terminal or a notebook."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

OnProgress: TypeAlias = Callable[[str, int, int], None]
"""Called with a description, the number of finished steps and the total."""

_REFRESH_SECONDS = 0.2


@contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[OnProgress]:
    """Show a progress bar per task until the block ends; in a notebook the bars remain visible.

    Nothing is shown if standard error is neither a terminal nor a notebook.

    Example:
        with progress_bars() as on_progress:
            teacher.label(responses, on_progress=on_progress)

    Args:
        quiet: Show nothing.
    """
    console = Console(stderr=True)
    if console.is_jupyter and not quiet:
        bars = _NotebookBars()
        yield bars.advance
        bars.show()
        return
    terminal = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )
    tasks: dict[str, TaskID] = {}

    def advance(what: str, done: int, of: int) -> None:
        if what not in tasks:
            tasks[what] = terminal.add_task(what, total=of)
        terminal.update(tasks[what], completed=done, total=of)

    with terminal:
        yield advance


class _NotebookBars:
    """Bars in HTML, which need no widgets; rich's own need ipywidgets."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[int, int]] = {}
        self._output: Any = None
        self._shown = 0.0

    def advance(self, what: str, done: int, of: int) -> None:
        self._tasks[what] = (done, of)
        if time.monotonic() - self._shown >= _REFRESH_SECONDS:
            self.show()

    def show(self) -> None:
        from IPython.display import HTML, display  # installed wherever there is a notebook

        self._shown = time.monotonic()
        bars = HTML(
            "".join(
                f"<div>{escape(what)} <progress value='{done}' max='{max(of, 1)}'></progress> {done}/{of}</div>"
                for what, (done, of) in self._tasks.items()
            )
        )
        if self._output is None:
            self._output = display(bars, display_id=True)
        else:
            self._output.update(bars)
