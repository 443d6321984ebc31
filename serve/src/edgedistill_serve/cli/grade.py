"""`edgedistill-serve grade`."""

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.manifest import Manifest
from edgedistill_serve.bundle.verdict import describe_verdict
from edgedistill_serve.cli.terminal import BUNDLE, JSON, PUBLIC_KEY, THREADS, ProgressLine, as_text, one_line, write
from edgedistill_serve.grading.column_names import parse_columns
from edgedistill_serve.grading.dialects import check_delimiter, check_encoding
from edgedistill_serve.grading.grade import PART_ROWS, GradingCounts, GradingStopped
from edgedistill_serve.grading.grade import grade as grade_table
from edgedistill_serve.grading.graded_journal import GradedJournal
from edgedistill_serve.grading.header_rows import HEADER_FIRST, HeaderRows
from edgedistill_serve.grading.ray_engine import Workers, grade_on_ray
from edgedistill_serve.grading.storage import STANDARD
from edgedistill_serve.grading.table_formats import WRITTEN
from edgedistill_serve.scoring.scorer import Scorer

STOPPING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU") if hasattr(signal, name))
"""Signals after which `grade` finishes its part in hand and stops; SIGHUP when its terminal is closed."""
_LOG_SECONDS = 30.0
_FORMAT = click.Choice(WRITTEN)


def _checked(check: Callable[[str], str]) -> Callable[[Any, Any, str | None], str | None]:
    return lambda _context, _option, given: None if given is None else check(given)


@click.command(epilog="Example: edgedistill-serve grade bundle responses.csv graded.csv")
@BUNDLE
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option("--force", is_flag=True, help="Replace an existing OUT.")
@click.option("--restart", is_flag=True, help="Delete the parts of an earlier grading, and begin again.")
@click.option("--strict", is_flag=True, help="Stop at a row that cannot be read, instead of OUT.rejected.csv.")
@click.option("--prefix", default="", help="Prefix of every added column name.")
@click.option(
    "--delimiter",
    callback=_checked(check_delimiter),
    help='Delimiter of CSV and TSV input, such as ";" or "tab". By default, it is detected.',
)
@click.option(
    "--encoding",
    callback=_checked(check_encoding),
    help="Encoding of text input, such as cp1252. By default, it is detected.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="INPUT=NAME",
    help='The column of an input, such as response="2. Explain…"; a name may be shortened by an ellipsis.',
)
@click.option("--html", is_flag=True, help="The texts are HTML: score what it shows, without tags such as <p>.")
@click.option("--header-row", type=click.IntRange(1), default=1, show_default=True, help="Row of the column names.")
@click.option(
    "--first-row", type=click.IntRange(2), help="First row of responses. By default, the one after the header."
)
@click.option("--sheet", help="Sheet of an xlsx file. By default, the first one that has the columns of the inputs.")
@click.option("--from", "read_format", type=_FORMAT, help="Format of IN, if its suffix does not name it.")
@click.option("--to", "write_format", type=_FORMAT, help="Format of OUT, if its suffix does not name it.")
@click.option(
    "--part-rows", type=click.IntRange(1, 2**20), default=PART_ROWS, show_default=True, help="Rows of a part."
)
@click.option("--journal", type=click.Path(path_type=Path), help="Folder for counts of the scores, without texts.")
@click.option(
    "--audit-share",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Share of the ids that the journal has, drawn at random for people to code.",
)
@click.option("--id-column", default="id", show_default=True, help="With --audit-share: column of ids.")
@click.option(
    "--item-column",
    default="item",
    show_default=True,
    help="With --journal: column of items, for a task without a question.",
)
@click.option(
    "--engine",
    type=click.Choice(("local", "ray")),
    default="local",
    help="local: on this machine; ray: on a Ray cluster.",
)
@click.option(
    "--workers", type=click.IntRange(1), help="With --engine ray: number of workers; by default, as many as fit."
)
@click.option(
    "--worker-gpus", type=click.FloatRange(0, 8), help="With --engine ray: GPUs of each worker; by default, none."
)
@THREADS
@PUBLIC_KEY
@JSON
def grade(
    bundle: Path,
    source: str,
    target: str,
    *,
    columns: tuple[str, ...],
    header_row: int,
    first_row: int | None,
    sheet: str | None,
    journal: Path | None,
    audit_share: float,
    id_column: str,
    item_column: str,
    engine: str,
    workers: int | None,
    worker_gpus: float | None,
    threads: int | None,
    public_key: Path | None,
    json: bool,
    **given: Any,
) -> None:
    """Score every row of the table IN, and write the table OUT.

    The suffixes select the formats: CSV, TSV, JSONL or Parquet, also with .gz or .zst. IN can be a folder, a pattern
    such as "terms/*.csv", an address such as s3://bucket/key, or - for stdin; OUT can be an address, - for stdout, or
    a folder of parts if it ends in a slash. OUT has all rows and columns of IN, in order, and the new columns label,
    probability, probability_LABEL for every label, decision, reason, truncated, tokens and error, which has the reason
    why a row could not be scored. Rows that cannot be read are in OUT.rejected.csv.

    A grading that ends early keeps its whole parts in OUT.parts; the same command goes on after them.

    With --engine ray, IN and OUT are Parquet, every worker has one scoring thread or --threads, and the cluster is that
    of RAY_ADDRESS, or one on this machine.
    """
    # Before Arrow is imported: its own allocator keeps freed memory, a tenth of the peak, and is no faster here.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    loaded = Bundle.load(bundle, public_key=public_key)
    options: dict[str, Any] = {"overwrite": given.pop("force"), **given}
    options["columns"] = parse_columns(columns, loaded.task.inputs)
    options["header"] = HeaderRows(header_row, first_row, sheet)
    if journal is None and (audit_share or id_column != "id" or item_column != "item"):
        raise click.UsageError("--audit-share, --id-column and --item-column need --journal")
    if journal is not None:
        of_journal = {"id_column": id_column, "item_column": item_column}
        options["journal"] = GradedJournal.open(journal, audit_share=audit_share, **of_journal)
    if engine == "ray":
        options = _without_options_of_text(options)
        run: Callable[..., GradingCounts] = partial(
            grade_on_ray, loaded, source, target, Workers(workers, threads or 1, worker_gpus or 0.0)
        )
    else:
        if workers is not None or worker_gpus is not None:
            raise click.UsageError("--workers and --worker-gpus are for --engine ray")
        scorer = Scorer(loaded, threads=threads)
        run = partial(grade_table, scorer, source, target)
    report = _Report(json=json)
    with _Signals() as signals:
        try:
            counts = run(**options, progress=report.progress, note=report.note, stop=signals.received)
        except GradingStopped as error:
            report.clear()
            sys.stderr.write(f"stopped: {one_line(error.hint)}\n")
            sys.exit(128 + signals.number)
        except (KeyboardInterrupt, SystemExit):
            report.clear()
            sys.stderr.write("stopped\n")
            raise
    report.clear()
    summary = _summary(loaded.manifest, counts, report, target, json=json)
    write(summary) if target != STANDARD else report.note(summary)


def _summary(manifest: Manifest, counts: GradingCounts, report: "_Report", target: str, *, json: bool) -> Any:
    """Return what is said at the end; before it, why the bundle is not validated."""
    seconds, status = report.seconds, manifest.known_verdict.status
    if json:
        found = {"model": manifest.name, "version": manifest.version, "verdict": status, **counts.as_dict()}
        return {**found, "seconds": round(seconds, 3), "out": target}
    if status != "validated":
        report.note(describe_verdict(manifest.verdict))
    return f"{target}: {_format_counts(counts)}, in {seconds:.1f} s; verdict of the bundle: {status}"


def _without_options_of_text(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `grade_on_ray`, which reads and writes Parquet."""
    of_text = {name: options.pop(name) for name in ("delimiter", "encoding", "read_format", "write_format", "strict")}
    if any(of_text.values()):
        raise click.UsageError("--delimiter, --encoding, --from, --to and --strict are not for --engine ray")
    if options.pop("header") != HEADER_FIRST or options.pop("columns") or options.pop("html"):
        raise click.UsageError(
            "--column, --html, --header-row, --first-row and --sheet are not for --engine ray; rename the columns in "
            "the files"
        )
    return options


class _Signals:
    """Remembers the first signal that asks to stop; a second one stops at once."""

    def __init__(self) -> None:
        self.number = 0
        # nohup ignores SIGHUP, as shall we.
        self._handled = [each for each in STOPPING if signal.getsignal(each) is not signal.SIG_IGN]

    def __enter__(self) -> "_Signals":
        for each in self._handled:
            signal.signal(each, self._receive)
        return self

    def __exit__(self, *_error: object) -> None:
        for each in self._handled:
            signal.signal(each, signal.SIG_DFL)

    def _receive(self, number: int, _frame: object) -> None:
        if self.number:
            sys.exit(128 + number)
        self.number = number

    def received(self) -> bool:
        """Return whether there was a signal."""
        return self.number != 0


class _Report:
    """Progress on stderr: a line that is overwritten on a terminal, single lines in a log, or JSON."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._line = ProgressLine(quiet=json)
        self._started = self._reported = time.monotonic()
        self._first: GradingCounts | None = None
        self._first_share = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the grading began."""
        return time.monotonic() - self._started

    def note(self, text: Any) -> None:
        """Write a message for the user."""
        self._line.clear()
        if self._json:
            self._event({"event": "note", "message": text} if isinstance(text, str) else text)
        else:
            sys.stderr.write(f"{one_line(text)}\n")

    def clear(self) -> None:
        """Clear the line."""
        self._line.clear()

    def progress(self, counts: GradingCounts, share: float | None) -> None:
        """Show counts, rows per second, and the time that is left."""
        if self._first is None:  # rows of earlier gradings, and the first batch, say nothing about the speed
            self._first, self._first_share, self._began = counts, share or 0.0, time.monotonic()
        if self._line.is_shown:
            self._line.show(self._text(counts, share))
        elif time.monotonic() - self._reported >= _LOG_SECONDS:
            self._reported = time.monotonic()
            if self._json:
                speed, left = self._speed(counts, share)
                self._event(
                    {
                        "event": "progress",
                        **counts.as_dict(),
                        "share_read": share,
                        "rows_per_second": speed,
                        "seconds_left": left,
                    }
                )
            else:
                sys.stderr.write(f"{self._text(counts, share)}\n")

    def _text(self, counts: GradingCounts, share: float | None) -> str:
        speed, left = self._speed(counts, share)
        shown = _format_counts(counts)
        if speed is not None:
            shown += f", {speed:.0f} rows/s"
        return shown if left is None else f"{shown}, {_format_seconds(left)} left"

    def _speed(self, counts: GradingCounts, share: float | None) -> tuple[float | None, float | None]:
        seconds = time.monotonic() - self._began
        if self._first is None or counts.read == self._first.read or seconds <= 0:
            return None, None
        speed = (counts.read - self._first.read) / seconds
        if share is None or share <= self._first_share:
            return round(speed, 1), None
        return round(speed, 1), round((1 - share) * seconds / (share - self._first_share), 1)

    def _event(self, content: Any) -> None:
        sys.stderr.write(f"{as_text(content)}\n")
        sys.stderr.flush()


def _format_seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _format_counts(counts: GradingCounts) -> str:
    rejected = f", {counts.rejected} could not be read" if counts.rejected else ""
    return (
        f"{counts.read} rows read, {counts.scored} scored ({counts.review} to review), "
        f"{counts.errors} could not be scored{rejected}"
    )
