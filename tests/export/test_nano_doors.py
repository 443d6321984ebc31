"""A nano student's bundle behind every door: the same labels over HTTP, in graded files and by the clients."""

import csv
import json

import httpx
import pyarrow.csv
import pyarrow.parquet
import pytest

from edgedistill_export import export_bundle
from edgedistill_serve import Scorer
from edgedistill_serve.client import Client
from edgedistill_serve.task.task import task_inputs

from ..processes import run
from ..serve.server.conftest import Server
from .exporting import plan_of
from .test_nano import save_nano
from .tiny import GRADING, rows_for

ROWS = [task_inputs(row, GRADING) for row in rows_for(GRADING)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    return export_bundle(
        save_nano(folder / "student", GRADING), folder / "bundle", plan_of(GRADING, "int8"), ROWS
    ).bundle


@pytest.fixture(scope="module")
def labels(bundle):
    return [score.label for score in Scorer(bundle).score(ROWS)]


@pytest.fixture(scope="module")
def server(bundle, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"), str(bundle.folder))
    yield server
    server.stop()


def test_one_row_several_rows_and_a_stream_have_the_labels_of_the_scorer(server, labels):
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        alone = [client.post("/v1/score", json=row).json()["label"] for row in ROWS]
        together = client.post("/v1/score", json={"responses": ROWS}).json()["scores"]
        lines = "".join(json.dumps(row) + "\n" for row in ROWS)
        streamed = client.post("/v1/score/bulk", content=lines, headers={"Content-Type": "application/x-ndjson"})
        metrics = client.get("/metrics").text
    assert alone == labels
    assert [score["label"] for score in together] == labels
    assert [json.loads(line)["label"] for line in streamed.text.splitlines()] == labels
    assert "scores_total" in metrics


def test_the_python_client_has_the_labels_of_the_scorer(server, labels):
    with Client(server.url) as client:
        assert client.score(ROWS[0]).score.label == labels[0]
        assert [scored.score.label for scored in client.score_many(ROWS)] == labels


def test_graded_csv_and_parquet_have_the_labels_of_the_scorer(bundle, labels, tmp_path):
    with (tmp_path / "in.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(ROWS[0], "string"), strings_can_be_null=False)
    pyarrow.parquet.write_table(
        pyarrow.csv.read_csv(tmp_path / "in.csv", convert_options=text), tmp_path / "in.parquet"
    )
    for suffix in ("csv", "parquet"):
        given = (bundle.folder, tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}")
        assert run("edgedistill-serve", "grade", *map(str, given), cwd=tmp_path).returncode == 0
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["label"] for row in csv.DictReader(stream)] == labels
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").column("label").to_pylist() == labels


def test_info_and_verify_read_the_bundle(bundle, tmp_path):
    shown = run("edgedistill-serve", "info", str(bundle.folder), "--json", cwd=tmp_path)
    assert json.loads(shown.stdout)["precision"] == "int8"
    assert run("edgedistill-serve", "verify", str(bundle.folder), cwd=tmp_path).returncode == 0
