"""The command line: `edgedistill-serve serve | grade | score | verify | info | key | bundle | key-pair`."""

import logging
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from edgedistill_serve.bundle.guarantee import describe_guarantee
from edgedistill_serve.bundle.loading import Bundle, Signature
from edgedistill_serve.bundle.manifest import NEVER_ACCEPTED, describe_letters, describe_novelty
from edgedistill_serve.bundle.verdict import describe_verdict
from edgedistill_serve.cli.bundle import bundle_group, key_pair
from edgedistill_serve.cli.grade import grade
from edgedistill_serve.cli.serve import key, serve
from edgedistill_serve.cli.terminal import (
    BUNDLE,
    JSON,
    PUBLIC_KEY,
    end_with,
    one_line,
    prepare_streams,
    summarise,
    write,
    write_table,
)
from edgedistill_serve.errors import EdgeDistillError
from edgedistill_serve.scoring.graph_choice import SelfCheck
from edgedistill_serve.scoring.scorer import Scorer
from edgedistill_serve.task.contexts import describe_contexts


@click.group(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edgedistill-serve", message="%(version)s")
@click.pass_context
def app(context: click.Context) -> None:
    """Score open responses with an EdgeDistill bundle, without an LLM and without network access."""
    if context.invoked_subcommand == serve.name and hasattr(signal, "SIGHUP"):  # not on Windows
        # SIGHUP means that keys or bundles have changed. Nothing has been read yet, so it can be ignored.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


app.add_command(serve)
app.add_command(grade)
app.add_command(key)
app.add_command(bundle_group)
app.add_command(key_pair)


def main() -> None:
    """Run the command line. An `EdgeDistillError` is written as one line to stderr and sets the exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    prepare_streams()
    try:
        app()
    except EdgeDistillError as error:
        sys.stderr.write(f"error: {one_line(error)}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        end_with(error, "error")


@app.command(epilog='Example: edgedistill-serve score bundle "You worked hard on this."')
@BUNDLE
@click.argument("response", metavar="TEXT")
@click.option("--question", help="The question, if the task has one.")
@click.option("--reference-answer", help="The reference answer, if the task has one; several: one a line.")
@click.option("--rubric", help="The rubric, if the task has one.")
@PUBLIC_KEY
@JSON
def score(
    bundle: Path,
    response: str,
    *,
    question: str | None,
    reference_answer: str | None,
    rubric: str | None,
    public_key: Path | None,
    json: bool,
) -> None:
    """Score one response, TEXT."""
    inputs = {"question": question, "reference_answer": reference_answer, "rubric": rubric, "response": response}
    scorer = Scorer(Bundle.load(bundle, public_key=public_key), threads=1)
    (result,) = scorer.score([{name: text for name, text in inputs.items() if text is not None}])
    if json:
        write({**_identity(scorer.bundle), **msgspec.structs.asdict(result)})
        return
    reason = f" ({result.reason})" if result.reason else ""
    write(f"{result.label}, {result.decision}{reason}, {result.verdict}")
    if result.unknown_share > 0:
        write(f"{result.unknown_share:.0%} of the response is unknown to the model")
    if result.novelty is not None:
        write(f"{result.novelty:.2f} times the typical distance from the training texts")
    if result.context_truncated:
        lost, all_tokens = result.context_tokens_lost, result.context_tokens
        write(f"the model did not read {lost} of the {all_tokens} tokens before the response")
    write_table([("label", "probability"), *((name, f"{p:.4f}") for name, p in result.probabilities.items())])


@app.command(epilog="Example: edgedistill-serve verify bundle")
@BUNDLE
@PUBLIC_KEY
@JSON
def verify(bundle: Path, *, public_key: Path | None, json: bool) -> None:
    """Check the files, the signature and the golden scores of a bundle on this machine."""
    loaded = Bundle.load(bundle, public_key=public_key)
    scorer = Scorer(loaded, threads=1)
    files, check = loaded.manifest.files, scorer.check
    if json:
        self_check = {
            "precision": check.precision,
            "rows": check.rows,
            "difference": check.difference,
            "tolerance": check.tolerance,
            "novelty_difference": check.novelty_difference,
            "novelty_tolerance": check.novelty_tolerance,
        }
        sizes = {"files": len(files), "bytes": sum(entry.bytes for entry in files.values())}
        signature = {"signature": loaded.signature, "unlisted": loaded.unlisted}
        write({**_identity(loaded), **sizes, **signature, "self_check": self_check, "notes": scorer.notes})
        return
    write(f"{loaded.manifest.name}, version {loaded.manifest.version}: the bundle is intact")
    write_table(
        [
            ("check", "result"),
            ("schema version", str(loaded.manifest.schema_version)),
            ("paths", "all inside the folder, no links"),
            ("size and SHA-256", f"correct, {len(files)} files"),
            ("signature", _SIGNATURES[loaded.signature]),
            ("files not listed", f"ignored: {', '.join(loaded.unlisted)}" if loaded.unlisted else "none"),
            ("golden responses", f"{check.rows}, scored with {check.precision} on this machine"),
            ("largest difference", f"{check.difference:.2g} in probability, {check.tolerance:.2g} is accepted"),
            *_novelty_check(check),
        ],
    )


@app.command(epilog="Example: edgedistill-serve info bundle --json")
@BUNDLE
@PUBLIC_KEY
@JSON
def info(bundle: Path, *, public_key: Path | None, json: bool) -> None:
    """Show the task, the settings and the provenance of a bundle."""
    manifest = Bundle.load(bundle, public_key=public_key).manifest
    if json:
        write(manifest)
        return
    review = _format_thresholds(manifest.review.thresholds) or _format_threshold(manifest.review.least_certainty)
    contexts = describe_contexts(manifest.contexts, manifest.task, reviewed=manifest.review.new_question)
    thresholds = [("assigned from", _format_thresholds(manifest.thresholds))] if manifest.thresholds else []
    write_table(
        [
            ("", manifest.name),
            ("version", manifest.version),
            ("task", f"{manifest.task.kind}: {', '.join(manifest.task.names)}"),
            ("inputs", ", ".join(manifest.task.inputs)),
            ("longest sequence", f"{manifest.max_tokens} tokens"),
            *([("not read", cut)] if (cut := _describe_truncated(manifest.provenance)) else []),
            ("precision", manifest.precision),
            ("temperature", f"{manifest.temperature:g}"),
            *thresholds,
            ("accepted from", review),
            (
                "readable",
                f"up to {manifest.review.max_unknown_share:.0%} unknown to the vocabulary; others are reviewed",
            ),
            ("questions", contexts),
            ("novelty", describe_novelty(manifest.novelty, manifest.review.max_novelty)),
            *([("letters", letters)] if (letters := describe_letters(manifest.review)) else []),
            ("promise", describe_guarantee(manifest.guarantee)),
            ("verdict", describe_verdict(manifest.verdict)),
            *((f"metrics: {name}", summarise(value)) for name, value in manifest.metrics.items()),
            *((f"provenance: {name}", summarise(value)) for name, value in manifest.provenance.items()),
        ],
    )


def _describe_truncated(provenance: Mapping[str, Any]) -> str:
    """Return in how many validation and test rows each input lost tokens; empty where it is not recorded."""
    found = []
    for split, counts in (provenance.get("truncated") or {}).items():
        rows = counts.get("rows")
        cut = [f"{name.replace('_', ' ')} in {count}" for name, count in counts.items() if name != "rows"]
        found.append(
            f"of {rows} {split} rows, part of the {', '.join(cut)}" if cut else f"of {rows} {split} rows, nothing"
        )
    return "; ".join(found)


_SIGNATURES: dict[Signature, str] = {
    "none": "none",
    "not checked": "present; verify it with --public-key",
    "valid": "valid with the given public key",
}


def _novelty_check(check: SelfCheck) -> list[tuple[str, str]]:
    if check.novelty_difference is None or check.novelty_tolerance is None:
        return []
    return [("of the novelty", f"{check.novelty_difference:.2g} of it, {check.novelty_tolerance:.2g} is accepted")]


def _format_thresholds(thresholds: Mapping[str, float]) -> str:
    return ", ".join(f"{label} {_format_threshold(threshold)}" for label, threshold in thresholds.items())


def _format_threshold(threshold: float) -> str:
    return "never" if threshold == NEVER_ACCEPTED else f"{threshold:g}" if threshold else "none"


def _identity(bundle: Bundle) -> dict[str, str]:
    return {"model": bundle.manifest.name, "version": bundle.manifest.version}
