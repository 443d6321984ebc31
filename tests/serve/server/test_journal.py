"""`serve --journal` counts the responses of every protocol, and none of its own explanations."""

import json
import subprocess

import pytest

from edgedistill_serve.journal.reading import read_journal

from .conftest import COMMAND

SECRET = "zebraphone"


@pytest.fixture(scope="module")
def found(start, bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("journal")
    with start(str(bundle.folder), "--journal", str(folder), "--audit-share", "1") as server:
        client = server.client
        client.post("/v1/score", json={"response": SECRET, "id": "r-1", "item": "q1"})
        client.post("/v1/score", json={"responses": ["great job", {"response": "great job", "id": 2, "item": "q1"}]})
        lines = [json.dumps({"response": SECRET, "id": f"b-{n}"}) for n in range(3)] + ["{"]
        client.post("/v1/score/bulk", content="\n".join(lines))
        client.post("/v1/explain", json={"response": "great job", "id": "e-1"})
        client.post("/predict", json={"inputs": "great job"})
        tensor = {"name": "response", "shape": [1], "datatype": "BYTES", "data": ["great job"]}
        client.post("/v2/models/praise/infer", json={"inputs": [tensor]})
        client.post("/v1/score", json={"response": "poisonous", "id": "p-1"})
        log = server.log
    text = "".join(path.read_text() for path in folder.glob("*.jsonl"))
    return read_journal([folder], "praise", bundle.manifest.version), text, log.read_text()


def test_each_scored_response_is_counted_once(found):
    assert found[0].rows == 8
    assert sum(counts.rows for (_, item), counts in found[0].cells.items() if item == "q1") == 2


def test_ids_are_those_of_the_requests(found):
    assert set(found[0].audited) == {"r-1", "2", "b-0", "b-1", "b-2"}


def test_no_text_is_in_the_journal_or_the_log(found):
    assert SECRET not in found[1] + found[2]


def test_a_share_without_a_journal_and_a_folder_that_is_a_file_are_refused(bundle, tmp_path):
    command = [COMMAND, "serve", "--port", "0", str(bundle.folder)]
    ended = subprocess.run([*command, "--audit-share", "0.1"], capture_output=True, text=True, timeout=60)
    assert "--audit-share needs --journal" in ended.stderr
    (tmp_path / "file").touch()
    ended = subprocess.run([*command, "--journal", str(tmp_path / "file")], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "the journal cannot be written" in ended.stderr


def test_workers_write_files_of_their_own_and_count_each_response_once(start, bundle, tmp_path):
    with start(str(bundle.folder), "--workers", "2", "--journal", str(tmp_path), "--audit-share", "1") as server:
        for number in range(24):
            with server.new_client() as client:
                content = {"response": "great job", "id": f"r{number % 12}"}
                assert client.post("/v1/score", json=content).status_code == 200
    content = read_journal([tmp_path], "praise", bundle.manifest.version)
    assert (content.rows, content.with_id, len(content.audited)) == (24, 24, 12)
    assert (content.torn, content.damaged) == (0, [])
    assert 1 <= content.files <= 2
