"""Isolation of the server: no outgoing connections, no files, no privileges, and no texts in its output."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from .conftest import COMMAND

AS_NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all,+dac_read_search"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search", COMMAND),
)
"""Starts the server as a user without write permission anywhere."""
CANARY = "zebraphone"
NOBODY = 65534
CALLERS_OF_LLMS = {"anthropic", "httpx", "huggingface_hub", "litellm", "openai", "requests", "transformers", "torch"}
IMPORTED = {
    "anyio", "click", "cython_runtime", "edgedistill_serve", "httptools", "msgspec", "numpy",
    "onnxruntime", "prometheus_client", "sniffio", "starlette", "tokenizers", "typing_extensions",
}  # fmt: skip
WATCHED = """
import os, sys
def hook(event, arguments):
    if event == "subprocess.Popen" and "isolated_check" in str(arguments[1]):
        return  # this server's own child, which checks a bundle
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.gethostbyname", "subprocess.Popen"):
        os.write(2, f"CALLED {event} {arguments[1:]!r}\\n".encode())
    if event == "socket.getaddrinfo" and arguments[0] != "127.0.0.1":
        os.write(2, f"CALLED {event} {arguments!r}\\n".encode())
sys.addaudithook(hook)
from edgedistill_serve.cli.main import main
main()
"""
LISTED = """
import json, sys
before = set(sys.modules)
import edgedistill_serve.cli.main, edgedistill_serve.server.process, edgedistill_serve.scoring.scorer
from edgedistill_serve.scoring.onnxruntime_install import import_onnxruntime
import_onnxruntime()
names = {name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(json.dumps(sorted(name for name in names if not name.startswith("_"))))
"""


def exercise(server) -> list[int]:
    """Ask in every form, well and badly, with a text that must be found nowhere."""
    headers = {"X-API-Key": CANARY, "User-Agent": CANARY, "Origin": f"https://{CANARY}.example"}
    with server.new_client(headers=headers) as client:
        answers = [
            client.post("/v1/score", json={"response": CANARY}),
            client.post("/v1/score", json={"responses": [CANARY, f"{CANARY} poisonous", " "]}),
            client.post("/v1/score", json={"response": f"{CANARY} poisonous"}),
            client.post("/v1/score", json={CANARY: CANARY}),
            client.post("/v1/score", json={"response": "x", "model": CANARY}),
            client.post("/v1/score", content=CANARY.encode()),
            client.post(
                "/v1/score/bulk", content=f'"{CANARY}"\n{CANARY}\n{{"{CANARY}": 1}}\n"poisonous {CANARY}"'.encode()
            ),
            client.post("/v1/explain", json={"response": f"{CANARY} job"}),
            client.post("/predict", json={"inputs": CANARY}),
            client.post("/predict", json={"inputs": {CANARY: CANARY}}),
            client.post("/v2/models/praise/infer", json={"inputs": [{"name": CANARY, "datatype": CANARY}]}),
            client.get(f"/v2/models/{CANARY}"),
            client.get(f"/{CANARY}?{CANARY}={CANARY}"),
            client.request(CANARY.upper(), "/v1/score"),
        ]
    with server.connect() as raw:
        raw.sendall(f"{CANARY}\r\n\r\n".encode())
        raw.recv(4096)
    return [answer.status_code for answer in answers]


def everything_told(server) -> str:
    message = server.client.get("/metrics").text + server.client.get("/readyz").text
    return message + server.log.read_text()


def test_no_output_of_the_server_contains_a_text(start, bundle):
    with start(str(bundle.folder)) as server:
        statuses = exercise(server)
        message = everything_told(server)
    printed = server.log.read_text()
    assert statuses == [200, 200, 500, 422, 404, 400, 200, 200, 200, 422, 422, 404, 404, 400]
    assert "POST /v1/score 200" in printed
    assert re.search(CANARY, message + printed, re.IGNORECASE) is None


def test_the_server_calls_nobody(start, bundle):
    watched = (sys.executable, "-c", WATCHED)
    with start(str(bundle.folder), before=watched) as server:
        exercise(server)
    assert "CALLED" not in server.log.read_text()


def test_the_runtime_keeps_no_id_of_the_machine_and_nothing_to_send(start, bundle, tmp_path):
    # Native code, which no audit hook sees; in CI it would be quiet by itself.
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    with start(str(bundle.folder), env=environment) as server:
        exercise(server)
        assert "ORT_DISABLE_TELEMETRY" not in Path(f"/proc/{server.process.pid}/environ").read_text()
    assert list(tmp_path.rglob("*")) == []


def test_the_server_scores_without_any_network(start, bundle, tmp_path):
    possible = subprocess.run(["unshare", "-n", "true"], capture_output=True, text=True)
    assert possible.returncode == 0, f"this test makes a network namespace, which needs root: {possible.stderr}"
    cut_off = ("unshare", "-n", COMMAND)
    with start(str(bundle.folder), "--uds", str(tmp_path / "socket"), before=cut_off) as server:
        inside = ["nsenter", "-t", str(server.process.pid), "-n", "cat", "/proc/net/dev"]
        devices = subprocess.run(inside, capture_output=True, text=True, check=True).stdout
        assert re.findall(r"(\w+):", devices) == ["lo"]
        assert server.client.post("/v1/score", json={"response": "great job"}).status_code == 200


def test_it_runs_as_nobody_from_a_folder_that_nobody_can_write(start, bundle):
    assert os.geteuid() == 0, "this test starts the server as another user, which needs root"
    with tempfile.TemporaryDirectory() as place:
        folder = shutil.copytree(bundle.folder, Path(place) / "bundle")
        for path in (Path(place), *Path(place).rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = sorted(Path(place).rglob("*"))
        with start(str(folder), before=AS_NOBODY, cwd=place, env={"HOME": "/nowhere"}) as server:
            status = Path(f"/proc/{server.process.pid}/status").read_text()
            assert re.search(rf"^Uid:\t{NOBODY}\t{NOBODY}", status, re.MULTILINE)
            assert server.client.post("/v1/score", json={"response": "great job"}).status_code == 200
        assert sorted(Path(place).rglob("*")) == before
        Path(place).chmod(0o755)


@pytest.fixture(scope="module")
def imported():
    ended = subprocess.run([sys.executable, "-c", LISTED], capture_output=True, text=True, check=True)
    return set(json.loads(ended.stdout))


def test_nothing_that_could_call_an_llm_is_imported(imported):
    assert imported & CALLERS_OF_LLMS == set()


def test_what_is_imported_is_what_is_listed_here(imported):
    assert imported <= IMPORTED
