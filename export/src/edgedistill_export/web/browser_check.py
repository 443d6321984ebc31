"""Score rows with a page's scripts in Node, with the WebAssembly of a browser, and record the result in the bundle."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.resources import as_file
from typing import Any

import msgspec
import numpy as np

from edgedistill_export.errors import ExportFailed, WebFailed
from edgedistill_export.temporary import temporary_folder
from edgedistill_export.verify.parity import ConversionStep
from edgedistill_export.web.writing import PAGE, write_web
from edgedistill_serve.bundle.loading import Bundle, write_bundle
from edgedistill_serve.scoring.graph_choice import load_encoder
from edgedistill_serve.scoring.score import Score
from edgedistill_serve.task.task import task_inputs

_TIMEOUT_SECONDS = 3600
_CARD = "README.md"
_HEADING = "\n## In a browser\n"


class _TokenizedScore(Score, frozen=True):
    """A score, and the token ids of its response."""

    ids: tuple[int, ...] = ()


class _NodeOutput(msgspec.Struct, frozen=True):
    """The scores, or the reason why the page refused to score."""

    scores: list[_TokenizedScore] = []
    refused: str | None = None


def browser_scores(bundle: Bundle, rows: Sequence[Mapping[str, str]]) -> list[Score]:
    """Score rows with the page of a bundle; ``result[i]`` belongs to ``rows[i]``.

    Raises:
        WebFailed: The page cannot be written, or Node is missing or fails.
        ExportFailed: The page does not reproduce the bundle's golden scores, or its tokens of a row differ from those
            in Python.
    """
    node = shutil.which("node")
    if node is None:
        raise WebFailed("Node is not installed, which runs the page", hint="Install Node 20 or newer.")
    with temporary_folder("web") as work, as_file(PAGE) as scripts:
        page = write_web(bundle, work / "page")
        answer = _answer([node, str(scripts / "score_rows.mjs"), str(page.folder)], rows)
    name = bundle.manifest.name
    if isinstance(answer, str):
        raise WebFailed(f"Node cannot run the page ({answer[:200]})", where=name, hint="Install Node 20 or newer.")
    if answer.refused is not None:
        raise ExportFailed(
            f"the page refuses to score: {answer.refused}", where=name, hint="No page was written. Serve fp32 instead."
        )
    # JavaScript puts keys such as "2" and "10" before others, in numeric order.
    found = [
        msgspec.structs.replace(score, probabilities={name: score.probabilities[name] for name in bundle.task.names})
        for score in answer.scores
    ]
    _expect_same_tokens(bundle, rows, found)
    return [*found]


def _answer(command: Sequence[str], rows: Sequence[Mapping[str, str]]) -> _NodeOutput | str:
    """Return what a command answers to rows on its standard input, or why it does not."""
    try:
        ended = subprocess.run(  # noqa: S603  # our own script
            command,
            input=msgspec.json.encode([dict(row) for row in rows]),
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        if ended.returncode:
            return " ".join(ended.stderr.decode(errors="replace").strip().splitlines()[-1:])
        return msgspec.json.decode(ended.stdout, type=_NodeOutput)
    except subprocess.TimeoutExpired:
        return f"it does not end within {_TIMEOUT_SECONDS:g} s"
    except msgspec.DecodeError:
        return "its answer is no JSON of the page"
    except OSError as error:
        return str(error.strerror)


def browser_step(served: str, native: Sequence[Score], browser: Sequence[Score]) -> ConversionStep:
    """Compare the scores of the same rows, at least one.

    Args:
        served: The stage that both score with, such as ``int8``.
        native: Scores of onnxruntime in Python.
        browser: Scores of the page.
    """
    pairs = list(zip(native, browser, strict=True))
    flips = sum(one.label != other.label for one, other in pairs)
    changes = [
        abs(share - other.probabilities[label]) for one, other in pairs for label, share in one.probabilities.items()
    ]
    largest = float(np.max(changes))  # not a number if one of them is not
    return ConversionStep(served, f"{served} in the browser", len(pairs), flips, flips / len(pairs), largest)


def _expect_same_tokens(bundle: Bundle, rows: Sequence[Mapping[str, str]], found: Sequence[_TokenizedScore]) -> None:
    expected = load_encoder(bundle).encode([task_inputs(row, bundle.task) for row in rows])
    for number, (one, other) in enumerate(zip(expected, found, strict=True), start=1):
        if one.ids != other.ids:
            raise ExportFailed(
                f"the page's tokens of row {number} differ from those in Python",
                where=bundle.manifest.name,
                hint="No page was written. Report a bug with the backbone's name.",
            )


def record_browser_step(bundle: Bundle, step: ConversionStep, locked: Sequence[Mapping[str, Any]]) -> Bundle:
    """Write the browser step into a bundle's provenance and card, replacing an earlier one; its version changes.

    Args:
        bundle: The loaded bundle.
        step: The step on validation rows.
        locked: The step on locked rows, as computed by `edgedistill.pipeline.fidelity`.

    Raises:
        BundleError: The bundle cannot be written.
    """
    manifest = bundle.manifest
    export = dict(manifest.provenance.get("export", {}))
    before = [each for each in export.get("steps_on_test_rows", ()) if each["after"] != step.after]
    export["steps_on_test_rows"] = [*before, *locked]
    export["browser"] = msgspec.to_builtins(step)
    card = (bundle.folder / _CARD).read_text(encoding="utf-8") if _CARD in manifest.files else ""
    kept = card.split(_HEADING)[0].rstrip("\n")
    files: dict[str, Any] = {name: bundle.folder / name for name in manifest.files}
    files[_CARD] = f"{kept}\n{_HEADING}\n{_format_section(step, locked)}\n".encode()
    draft = msgspec.structs.replace(manifest, provenance={**manifest.provenance, "export": export})
    return write_bundle(bundle.folder, draft, files)


def _format_section(step: ConversionStep, locked: Sequence[Mapping[str, Any]]) -> str:
    flips = f"{step.flips} of {step.rows} validation rows"
    on_test = "".join(f", {each['flips']} of {each['rows']} test rows" for each in locked)
    return (
        "The web page's scripts scored each row alone with onnxruntime-web (WebAssembly). The code changes for\n"
        f"{flips}{on_test}. Largest probability change on validation rows:\n"
        f"{step.max_probability_difference:.2g}. All rows have the same tokens as in Python."
    )
