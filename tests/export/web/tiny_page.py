"""Pages around a tiny graph, made in memory: every part of the bundle can be another."""

import atexit
import json
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from edgedistill_export.web import WebPage, load_vendored, write_web
from edgedistill_export.web.writing import page_scripts
from edgedistill_serve.bundle.loading import Bundle, write_bundle
from edgedistill_serve.bundle.manifest import MODEL_FILES, Golden, GoldenRow, Manifest, ReviewRule
from edgedistill_serve.bundle.verdict import BundleVerdict
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.redaction import Redaction
from edgedistill_serve.task.task import Kind, Label, Task, task_inputs, truncation_of

TESTS = Path(__file__).parents[2]
TINY = TESTS / "serve" / "bundles" / "schema-1"
LABELS = (Label("process", "Praises what was done."), Label("outcome", "Praises the result."), Label("person"))
TEXTS = ("you worked hard on this", "great job", "you are so smart", "the answer is 42", "why because why")
CONTEXT = {"question": "why is it", "reference_answer": "because of this"}


def make_bundle(
    folder: Path,
    *,
    kind: Kind = "nominal",
    labels: Sequence[Label] = LABELS,
    inputs: Sequence[str] = ("response",),
    redact: Redaction | None = None,
    tokenizer: Path = TINY / "tokenizer.json",
    off: float = 0.0,
    **changes: Any,
) -> Bundle:
    """Write a bundle.

    Args:
        folder: Where it shall lie.
        kind: Of its task.
        labels: Of its task, three.
        inputs: Of its task.
        redact: Of its task.
        tokenizer: Another ``tokenizer.json``; its ids must be in the tiny graph where rows are scored.
        off: Added to the first golden logit of every row, as if this machine erred by so much.
        changes: Of its manifest.
    """
    said: dict[str, Any] = {
        "precision": "fp32",
        "max_tokens": 48,
        "temperature": 2.0,
        "verdict": BundleVerdict("validated", "Yes.", labels=tuple(label.name for label in labels)),
        "review": ReviewRule(scripts=("Cyrillic", "Han", "Latin"), min_letters=0.1),
        **changes,
    }
    task = Task(kind, tuple(labels), tuple(inputs), redact)
    said = {"truncation": truncation_of(task), **said}
    draft: Manifest = msgspec.structs.replace(Bundle.load(TINY).manifest, task=task, **said)
    graph = TINY / MODEL_FILES[draft.precision]
    rows = [{name: CONTEXT.get(name, "effort counts") for name in inputs[:-1]} | {"response": text} for text in TEXTS]
    encoded = Encoder(TINY / "tokenizer.json", draft.max_tokens, draft.truncation).encode(
        [task_inputs(row, task) for row in rows]
    )
    session = Session(graph)
    logits = [session.logits(read).tolist() for read in encoded]
    golden = Golden(
        tuple(GoldenRow(row, (first + off, *others)) for row, (first, *others) in zip(rows, logits, strict=True)),
        {draft.precision: 0.02},
    )
    files = {
        "config.json": b"{}",
        "README.md": b"# Tiny\n",
        "tokenizer.json": tokenizer,
        "golden.json": msgspec.json.encode(golden),
        MODEL_FILES[draft.precision]: graph,
    }
    return write_bundle(folder, draft, files)


def make_page(folder: Path, **changes: Any) -> tuple[Bundle, WebPage]:
    """Write a bundle and its page into a folder's `bundle` and `page`."""
    bundle = make_bundle(folder / "bundle", **changes)
    return bundle, write_web(bundle, folder / "page")


@cache
def scripts() -> Path:
    """Return a folder with the scripts of a page as they are written, without a model."""
    kept = tempfile.TemporaryDirectory()
    atexit.register(kept.cleanup)
    folder = Path(kept.name)
    npm = {f"vendor/{name}": content for name, content in load_vendored().files.items() if name.endswith(".mjs")}
    for name, content in {**dict(page_scripts()), **npm}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def under_node(task: str, **given: Any) -> Any:
    """Run a part of the page under Node; see `tests/js/page_parts.mjs`."""
    ended = subprocess.run(
        ["node", "page_parts.mjs", str(scripts())],
        input=json.dumps({"task": task, **given}),
        capture_output=True,
        text=True,
        cwd=TESTS / "js",
        timeout=120,
    )
    assert ended.returncode == 0, f"{ended.stderr}\n`make web` fetches what this needs"
    return json.loads(ended.stdout)
