"""The example's notebook runs offline from a DataFrame to a score over HTTP."""

import json
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

PRAISE = Path(__file__).parents[3] / "examples" / "praise"
NOTEBOOK = PRAISE / "praise.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A copy of the notebook that has run beside copies of the files that it reads."""
    folder = tmp_path_factory.mktemp("praise")
    for name in ("human.csv", "teacher-cache.jsonl"):
        shutil.copy(PRAISE / name, folder / name)
    # A quarter of the responses teaches the student enough for a test.
    responses = pd.read_csv(PRAISE / "responses.csv")
    responses[responses.index.isin(range(0, len(responses), 4)) | responses.response.isna()].to_csv(
        folder / "responses.csv", index=False
    )
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return notebook, folder


def shown(notebook, start):
    """What the code cell that begins so shows, by MIME type."""
    (cell,) = (cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.startswith(start))
    return cell.outputs[-1]["data"]


@pytest.mark.timeout(600)
def test_the_notebook_gets_from_a_frame_to_a_score_over_http(executed):
    notebook, _ = executed
    answer = shown(notebook, "import json")["text/plain"]
    assert "'label': 'process'" in answer
    assert "'probabilities'" in answer


def test_gate_agreement_and_bundle_show_themselves_as_tables(executed):
    notebook, folder = executed
    assert "gate: kappa at least 0.6" in shown(notebook, "teacher =")["text/html"]
    assert "<th>Cohen&#x27;s kappa</th>" in shown(notebook, "columns =")["text/html"]
    assert "<th>bundle</th><td>praise, version" in shown(notebook, "bundle =")["text/html"]
    manifest = json.loads((folder / "bundle" / "bundle.json").read_text())
    assert manifest["metrics"]["student"]["accuracy"]["value"] > 0.6


def test_responses_are_labelled_or_set_aside_with_a_reason(executed):
    notebook, _ = executed
    assert "share_process" in shown(notebook, "labelled =")["text/html"]
    assert "blank response" in shown(notebook, "labelled.set_aside_reason")["text/plain"]


def test_the_notebook_is_kept_without_outputs_and_needs_no_project_file():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells)
    assert ".yaml" not in NOTEBOOK.read_text()
