"""The command line: `edgedistill-serve serve | grade | score | verify | info`."""

import logging
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from edgedistill_serve.bundle import Bundle
from edgedistill_serve.errors import EdgeDistillError
from edgedistill_serve.grade import Graded
from edgedistill_serve.grade import grade as grade_table
from edgedistill_serve.scorer import Scorer

app = typer.Typer(
    help="Score open responses with an EdgeDistill bundle: no LLM, no network.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Responses scored at a time; as many as there are cores unless said.")
]


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and its exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        app()
    except EdgeDistillError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(error.exit_code)


@app.command(epilog="Example: edgedistill-serve serve bundle --port 8000")
def serve(
    bundles: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE", help="One or more bundle folders.", show_default=False)
    ],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8000,
    max_body_bytes: Annotated[int, typer.Option(min=1, help="Longest body of a request.")] = 4 * 1024 * 1024,
    max_items: Annotated[int, typer.Option(min=1, help="Most responses in one request.")] = 1000,
    queue: Annotated[int, typer.Option(min=1, help="Most responses that wait, over all requests.")] = 4000,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Serve bundles over HTTP until SIGTERM or Ctrl-C, which drain it."""
    from edgedistill_serve.http.service import Limits
    from edgedistill_serve.http.serving import serve as serve_bundles

    if queue < max_items:
        raise typer.BadParameter(f"--queue {queue} has no room for --max-items {max_items}")
    _log_requests(as_json=json)
    serve_bundles(
        bundles,
        host=host,
        port=port,
        limits=Limits(max_body_bytes, max_items, queue),
        threads=threads,
        listening=lambda url: _write({"event": "listening", "url": url} if json else f"listening on {url}"),
    )


@app.command(epilog="Example: edgedistill-serve grade bundle responses.csv graded.csv")
def grade(
    bundle: BundleFolder,
    source: Annotated[Path, typer.Argument(metavar="IN", help="Table: CSV, TSV, JSONL, Parquet.", show_default=False)],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Table to write, by suffix.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace OUT where it is there.")] = False,
    prefix: Annotated[str, typer.Option(help="Begins the name of every added column.")] = "",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Score every row of a file into another file.

    OUT has every row and column of IN, in order, then: label, probability, probability_LABEL for every label, decision,
    reason, truncated, tokens, and error, which says why a row could not be scored.
    """
    scorer = Scorer(Bundle.load(bundle), threads=threads)
    started = time.perf_counter()
    with _progress(quiet=json) as progress:
        task = progress.add_task("", total=None)
        counts = grade_table(
            scorer,
            source,
            target,
            overwrite=force,
            prefix=prefix,
            progress=lambda counts: progress.update(task, description=_counted(counts)),
        )
    seconds = time.perf_counter() - started
    if json:
        _write({**_identity(scorer.bundle), **counts.as_dict(), "seconds": round(seconds, 3), "out": str(target)})
    else:
        _write(f"{target}: {_counted(counts)}, in {seconds:.1f} s")


@app.command(epilog='Example: edgedistill-serve score bundle "You worked hard on this."')
def score(
    bundle: BundleFolder,
    response: Annotated[str, typer.Argument(metavar="TEXT", help="The response.", show_default=False)],
    question: Annotated[str | None, typer.Option(help="The question, where the task has one.")] = None,
    reference_answer: Annotated[str | None, typer.Option(help="The reference answer, where the task has one.")] = None,
    json: Json = False,
) -> None:
    """Score one response, for a look."""
    given = {"question": question, "reference_answer": reference_answer, "response": response}
    scorer = Scorer(Bundle.load(bundle), threads=1)
    (found,) = scorer.score([{name: text for name, text in given.items() if text is not None}])
    if json:
        _write({**_identity(scorer.bundle), **msgspec.structs.asdict(found)})
        return
    because = f" ({found.reason})" if found.reason else ""
    _write(f"{found.label}, {found.decision}{because}")
    _write_table(("label", "probability"), [(name, f"{p:.4f}") for name, p in found.probabilities.items()])


@app.command(epilog="Example: edgedistill-serve verify bundle")
def verify(bundle: BundleFolder, json: Json = False) -> None:
    """Check a bundle's files, and its golden scores on this CPU."""
    loaded = Bundle.load(bundle)
    scorer = Scorer(loaded, threads=1)
    files, check = loaded.manifest.files, scorer.check
    if json:
        self_check = {
            "precision": check.precision,
            "rows": check.rows,
            "difference": check.difference,
            "tolerance": check.tolerance,
        }
        counted = {"files": len(files), "bytes": sum(entry.bytes for entry in files.values())}
        _write({**_identity(loaded), **counted, "self_check": self_check, "notes": scorer.notes})
        return
    _write(f"{loaded.manifest.name}, version {loaded.manifest.version}: the bundle is whole")
    _write_table(
        ("checked", "found"),
        [
            ("schema version", str(loaded.manifest.schema_version)),
            ("paths", "all inside the folder, no links"),
            ("size and SHA-256", f"as written, {len(files)} files"),
            ("golden responses", f"{check.rows}, scored with {check.precision} on this CPU"),
            ("largest difference", f"{check.difference:.2g} of a probability, {check.tolerance:.2g} is accepted"),
        ],
    )


@app.command(epilog="Example: edgedistill-serve info bundle --json")
def info(bundle: BundleFolder, json: Json = False) -> None:
    """Say what a bundle scores and where it comes from."""
    manifest = Bundle.load(bundle).manifest
    if json:
        _write(manifest)
        return
    thresholds = ", ".join(f"{label} {least:g}" for label, least in manifest.review.thresholds.items())
    _write_table(
        ("", manifest.name),
        [
            ("version", manifest.version),
            ("task", f"{manifest.task.kind}: {', '.join(manifest.task.names)}"),
            ("inputs", ", ".join(manifest.task.inputs)),
            ("longest sequence", f"{manifest.max_tokens} tokens"),
            ("precision", manifest.precision),
            ("temperature", f"{manifest.temperature:g}"),
            ("thresholds", thresholds or "none"),
            *((f"metrics: {name}", _as_text(value)) for name, value in manifest.metrics.items()),
            *((f"provenance: {name}", _as_text(value)) for name, value in manifest.provenance.items()),
        ],
    )


def _identity(bundle: Bundle) -> dict[str, str]:
    return {"model": bundle.manifest.name, "version": bundle.manifest.version}


def _counted(counts: Graded) -> str:
    return (
        f"{counts.read} rows read, {counts.scored} scored ({counts.review} to review), "
        f"{counts.errors} could not be scored"
    )


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _write(content: Any) -> None:
    typer.echo(_as_text(content))


def _write_table(header: tuple[str, str], rows: list[tuple[str, str]]) -> None:
    table = Table(*header, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False, soft_wrap=True).print(table)


def _progress(*, quiet: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self.formatTime(record), "level": record.levelname.lower(), "message": record.getMessage()}
        return msgspec.json.encode(line).decode()


def _log_requests(*, as_json: bool) -> None:
    (handler,) = logging.getLogger().handlers
    handler.setFormatter(_JsonLines() if as_json else logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger("edgedistill_serve").setLevel(logging.INFO)
