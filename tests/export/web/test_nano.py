"""The page of a nano student: it scores in plain JavaScript, as Python does."""

import json
import subprocess
from dataclasses import replace

import pytest

from edgedistill_export import export_bundle
from edgedistill_export.web import browser_scores, write_web
from edgedistill_serve import Scorer
from edgedistill_serve.task.task import task_inputs

from ..exporting import plan_of
from ..test_nano import save_nano
from ..tiny import GRADING, MOVES, PRAISE, TEXTS, rows_for
from .tiny_page import TESTS

WORDS = " ".join(TEXTS[:8]).split()
KNOWN = [" ".join(WORDS[place % 40 : place % 40 + 2 + place % 7]) for place in range(80)]


@pytest.fixture(scope="module", params=[(PRAISE, "int8"), (GRADING, "int8"), (MOVES, "fp32")], ids=lambda each: each[1])
def bundle(request, tmp_path_factory):
    task, precision = request.param
    folder = tmp_path_factory.mktemp("nano")
    rows = [task_inputs(row, task) for row in rows_for(task)]
    plan = replace(
        plan_of(task, precision),
        thresholds=dict.fromkeys(task.names, 0.5) if task.kind == "multilabel" else {},
        novelty_rows=[{**rows[0], "response": text} for text in KNOWN],
    )
    return export_bundle(save_nano(folder / "student", task), folder / "bundle", plan, rows).bundle


def test_the_scores_of_node_are_those_of_python(bundle):
    rows = [task_inputs(row, bundle.task) for row in rows_for(bundle.task)]
    native, browser = Scorer(bundle).score(rows), browser_scores(bundle, rows)
    for one, other in zip(native, browser, strict=True):
        assert (other.label, other.decision, other.reason) == (one.label, one.decision, one.reason)
        assert other.probabilities == pytest.approx(one.probabilities, abs=1e-5)
        assert other.novelty == pytest.approx(one.novelty, rel=1e-3)
    assert bundle.manifest.novelty is not None


def test_the_page_has_no_webassembly_and_no_graph(bundle, tmp_path):
    page = write_web(bundle, tmp_path / "page")
    names = {str(file.relative_to(page.folder)) for file in page.folder.rglob("*") if file.is_file()}
    assert "model/nano.safetensors" in names
    assert not [name for name in names if name.endswith((".wasm", ".onnx")) or "ort" in name.split("/")[-1][:3]]
    assert page.bytes < 3_000_000


def test_the_module_needs_no_other(tmp_path, bundle):
    page = write_web(bundle, tmp_path / "page")
    code = (page.folder / "page" / "nano.mjs").read_text("utf-8")
    assert "import" not in code
    script = (
        "import { readFile } from 'node:fs/promises';"
        f"import {{ NanoGraph }} from '{(TESTS.parent / 'export/src/edgedistill_export/web/page/nano.mjs').as_uri()}';"
        f"const file = await readFile('{page.folder / 'model' / 'nano.safetensors'}');"
        "const graph = new NanoGraph(new Uint8Array(file).buffer);"
        "console.log(JSON.stringify(graph.run({ ids: [2, 7, 8, 3], typeIds: [0, 0, 1, 1] })));"
    )
    ended = subprocess.run(["node", "--input-type=module", "-e", script], capture_output=True, check=True, text=True)
    assert len(json.loads(ended.stdout)["logits"]) == len(bundle.task.labels)
