"""The chain's last hop: from the file that is served to the same file in a browser."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from edgedistill.pipeline.fidelity import chain_on, write_chain
from edgedistill.pipeline.run import Run
from edgedistill_export import ExportFailed
from edgedistill_export.web import browser_hop, browser_scores, record_browser_hop
from edgedistill_serve import Bundle, Score, Scorer

_FORMS = {"int8": "int8", "fp32": "ONNX fp32"}


Scores: TypeAlias = Callable[[Bundle, Sequence[Mapping[str, str]]], list[Score]]


def check_browser(run: Run, scores: Scores = browser_scores) -> dict[str, Any]:
    """Score validation and test rows as the page does, and add the hop to `chain.json`, `bundle.json` and the card.

    Args:
        run: Its export is done.
        scores: Scores rows as the page does.

    Returns:
        The hop ``on_validation_rows`` and ``on_test_rows``.

    Raises:
        ExportFailed: The page changes the label of more validation rows than the project allows, or cannot score as
            Python does; the bundle is as it was.
        WebFailed: The page cannot be written or run.
    """
    bundle = Bundle.load(run.folder / "bundle")
    validation, test = run.records.splits.validation, run.records.splits.test
    rows = [dict(response.inputs) for response in (*validation.responses, *test.responses)]
    run.advance("export: the browser scores", 0, len(rows))
    native, browser = Scorer(bundle).score(rows), scores(bundle, rows)
    run.advance("export: the browser scores", len(rows), len(rows))
    seen, served = len(validation), _FORMS[bundle.manifest.precision]
    hop = browser_hop(served, native[:seen], browser[:seen])
    allowed = run.project.export.max_flip_rate
    if hop.flip_rate > allowed:
        raise ExportFailed(
            f"the browser changes the label of {hop.flips} of {hop.rows} validation rows ({hop.flip_rate:.2%}; "
            f"export.max_flip_rate allows {allowed:.2%})",
            where=bundle.manifest.name,
            hint="No page was written. Serve fp32, or another int8 recipe: edgedistill export --tune.",
        )
    locked = chain_on(test, run.project.task.task)(
        {
            hop.before: [score.label for score in native[seen:]],
            hop.after: [score.label for score in browser[seen:]],
        }
    )
    record_browser_hop(bundle, hop, locked)
    earlier = [each for each in run.folder.read_json("chain.json") if each["after"] != hop.after]
    _note(run, [*earlier, *locked])
    return {"on_validation_rows": asdict(hop), "on_test_rows": locked}


def _note(run: Run, chain_on_test_rows: list[dict[str, Any]]) -> None:
    """Write the longer chain, and note that what the export wrote was changed on purpose."""
    write_chain(run.folder, chain_on_test_rows)
    entry = run.folder.journal["stages"]["export"]
    outputs = tuple(entry.pop("outputs"))
    run.folder.note_stage("export", entry | {"chain_on_test_rows": chain_on_test_rows}, outputs)
