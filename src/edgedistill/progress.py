"""Progress of long work: reported to a callback, and shown as bars in a terminal or a notebook, or as plain lines."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any, TypeAlias

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

OnProgress: TypeAlias = Callable[[str, int, int], None]
"""Called with a description, the number of finished steps and the total."""

_REFRESH_SECONDS = 0.2
FIRST_LINE_SECONDS = 10.0
"""A task that takes less writes no plain line."""
_LINE_SECONDS = 30.0
_LEAST_SHARE = 0.02
"""A smaller part of the work predicts nothing about the rest."""


def describe_time_left(done: int, of: int, seconds: float) -> str:
    """Return how long a task still takes, such as ``about 2 min left``; empty if that is not known yet.

    Args:
        done: Finished steps.
        of: All steps, taken to last equally long.
        seconds: Since the first of them began.
    """
    if not 0 < done < of or done < _LEAST_SHARE * of:
        return ""
    left = seconds * (of - done) / done
    if left >= 5400:
        return f"about {left / 3600:.1f} h left"
    if left >= 90:
        return f"about {left / 60:.0f} min left"
    return f"about {max(1, round(left / 5) * 5 if left >= 10 else round(left))} s left"


@contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[OnProgress]:
    """Show a progress bar per task, with the time left, until the block ends; in a notebook the bars remain visible.

    Where standard error is neither a terminal nor a notebook, a task that takes longer than ten seconds writes a plain
    line there from time to time.

    Example:
        with progress_bars() as on_progress:
            teacher.label(responses, on_progress=on_progress)

    Args:
        quiet: Show nothing.
    """
    console = Console(stderr=True)
    if quiet:
        yield lambda *_: None
    elif console.is_jupyter:
        bars = _NotebookBars()
        yield bars.advance
        bars.show()
    elif console.is_terminal:
        yield from _terminal_bars(console)
    else:
        yield PlainLines().advance


def _terminal_bars(console: Console) -> Iterator[OnProgress]:
    terminal = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _TimeLeftColumn(),
        console=console,
        transient=True,
    )
    tasks: dict[str, Any] = {}

    def advance(what: str, done: int, of: int) -> None:
        if what not in tasks:
            tasks[what] = terminal.add_task(what, total=of)
        terminal.update(tasks[what], completed=done, total=of)

    with terminal:
        yield advance


class _TimeLeftColumn(ProgressColumn):
    """The time left, from all steps so far."""

    def render(self, task: Task) -> Text:
        return Text(describe_time_left(int(task.completed), int(task.total or 0), task.elapsed or 0.0))


@dataclass(slots=True)
class _Started:
    """When a task began, from how many steps, and when its last line was written."""

    since: float
    first: int
    written: float | None = None


class PlainLines:
    """Writes progress as plain lines, each flushed, so that they can be read in a log file or behind a pipe.

    Args:
        write: Writes a line; by default, to standard error.
        now: A clock in seconds.
    """

    def __init__(self, write: Callable[[str], object] | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._write, self._now = write or _write_line, now
        self._tasks: dict[str, _Started] = {}

    def advance(self, what: str, done: int, of: int) -> None:
        """Write a line if the task has taken long enough since the last one, or ends after others were written."""
        now = self._now()
        task = self._tasks.setdefault(what, _Started(now, done))
        if done >= of:
            del self._tasks[what]
            if task.written is not None:
                self._write(f"{what}: {done:,} of {of:,}, done in {_duration(now - task.since)}")
            return
        wait = FIRST_LINE_SECONDS if task.written is None else _LINE_SECONDS
        if now - (task.since if task.written is None else task.written) < wait:
            return
        task.written = now
        left = describe_time_left(done - task.first, of - task.first, now - task.since)
        self._write(f"{what}: {done:,} of {of:,}{f', {left}' if left else ''}")


def _write_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


class _NotebookBars:
    """Bars in HTML, which need no widgets; rich's own need ipywidgets."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[int, int]] = {}
        self._since: dict[str, float] = {}
        self._output: Any = None
        self._shown = 0.0

    def advance(self, what: str, done: int, of: int) -> None:
        self._tasks[what] = (done, of)
        self._since.setdefault(what, time.monotonic())
        if time.monotonic() - self._shown >= _REFRESH_SECONDS:
            self.show()

    def show(self) -> None:
        from IPython.display import HTML, display  # installed wherever there is a notebook

        self._shown = time.monotonic()
        bars = HTML("".join(self._bar(what, done, of) for what, (done, of) in self._tasks.items()))
        if self._output is None:
            self._output = display(bars, display_id=True)
        else:
            self._output.update(bars)

    def _bar(self, what: str, done: int, of: int) -> str:
        left = describe_time_left(done, of, self._shown - self._since[what])
        bar = f"<progress value='{done}' max='{max(of, 1)}'></progress>"
        return f"<div>{escape(what)} {bar} {done}/{of} {left}</div>"
