"""A page's own scripts score rows under Node, with the same WebAssembly that a browser runs."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.resources import as_file
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from edgedistill_export.errors import ExportFailed, WebFailed
from edgedistill_export.verify.parity import ConversionStep
from edgedistill_export.web.writing import PAGE, write_web
from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.scoring.graph_choice import load_encoder
from edgedistill_serve.scoring.score import Score
from edgedistill_serve.task.task import task_inputs

_SECONDS = 3600


class _Read(Score, frozen=True):
    """A score, and the token ids that it is of."""

    ids: tuple[int, ...]


class _Answer(msgspec.Struct, frozen=True):
    """The scores, or why there are none."""

    scores: list[_Read] = []
    refused: str | None = None


def browser_scores(bundle: Bundle, rows: Sequence[Mapping[str, str]]) -> list[Score]:
    """Score rows as the page of a bundle does; ``result[i]`` is that of ``rows[i]``.

    Raises:
        WebFailed: The page cannot be written, or there is no Node to run it.
        ExportFailed: The page refuses to score: it does not give the bundle's golden scores, or reads a row as other
            tokens than Python does.
    """
    node = shutil.which("node")
    if node is None:
        raise WebFailed("there is no Node to run the page with", hint="Install Node 20 or newer.")
    with TemporaryDirectory(prefix="edgedistill-web-") as work, as_file(PAGE) as scripts:
        page = write_web(bundle, Path(work) / "page")
        ended = subprocess.run(  # noqa: S603  # our own script
            [node, str(scripts / "score_rows.mjs"), str(page.folder)],
            input=msgspec.json.encode([dict(row) for row in rows]),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    name = bundle.manifest.name
    if ended.returncode:
        last = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise WebFailed(
            f"Node cannot run the page ({' '.join(last)[:200]})", where=name, hint="Install Node 20 or newer."
        )
    answer = msgspec.json.decode(ended.stdout, type=_Answer)
    if answer.refused is not None:
        raise ExportFailed(
            f"the page does not score: {answer.refused}", where=name, hint="No page was written. Serve fp32 instead."
        )
    found = answer.scores
    _expect_same_tokens(bundle, rows, found)
    return list(found)


def browser_step(served: str, native: Sequence[Score], browser: Sequence[Score]) -> ConversionStep:
    """Compare the scores of the same rows, at least one.

    Args:
        served: The form that both score with, such as ``int8``.
        native: As onnxruntime gives them here.
        browser: As the page gives them.
    """
    pairs = list(zip(native, browser, strict=True))
    flips = sum(one.label != other.label for one, other in pairs)
    largest = max(
        abs(share - other.probabilities[label]) for one, other in pairs for label, share in one.probabilities.items()
    )
    return ConversionStep(served, f"{served} in the browser", len(pairs), flips, flips / len(pairs), largest)


def _expect_same_tokens(bundle: Bundle, rows: Sequence[Mapping[str, str]], found: Sequence[_Read]) -> None:
    expected = load_encoder(bundle).encode([task_inputs(row, bundle.task) for row in rows])
    for number, (one, other) in enumerate(zip(expected, found, strict=True), start=1):
        if one.ids != other.ids:
            raise ExportFailed(
                f"the page reads row {number} as other tokens than Python does",
                where=bundle.manifest.name,
                hint="No page was written. Report this with the backbone's name.",
            )
