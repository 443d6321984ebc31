"""What was measured in a browser is written into the bundle: its provenance and its card."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from edgedistill_export.verify.parity import ConversionStep
from edgedistill_serve.bundle.loading import Bundle, write_bundle

_CARD = "README.md"
_HEADING = "\n## In a browser\n"


def record_browser_step(bundle: Bundle, step: ConversionStep, locked: Sequence[Mapping[str, Any]]) -> Bundle:
    """Write a bundle again with the step to the browser, in place of an earlier one; its version changes.

    Args:
        bundle: As it was loaded.
        step: On validation rows.
        locked: The step on locked rows, as `edgedistill.pipeline.fidelity` gives it.

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
    files[_CARD] = f"{kept}\n{_HEADING}\n{_told(step, locked)}\n".encode()
    draft = msgspec.structs.replace(manifest, provenance={**manifest.provenance, "export": export})
    return write_bundle(bundle.folder, draft, files)


def _told(step: ConversionStep, locked: Sequence[Mapping[str, Any]]) -> str:
    flips = f"{step.flips} of {step.rows} validation rows"
    on_test = "".join(f", {each['flips']} of {each['rows']} test rows" for each in locked)
    return (
        "The web page's scripts scored each row alone with onnxruntime-web (WebAssembly). The code changes for\n"
        f"{flips}{on_test}. Largest probability change on validation rows:\n"
        f"{step.max_probability_difference:.2g}. All rows have the same tokens as in Python."
    )
