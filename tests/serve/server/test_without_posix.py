"""The server starts, scores and drains without what Windows does not have.

The tests run on other systems, with the names removed from Python's modules, in the server and in its children.
"""

import os
import signal
import socket
import subprocess
import sys

import pytest

from edgedistill_serve import CannotListen
from edgedistill_serve.server.transport.sockets_and_tls import Address, open_listener, raise_connection_limit

from ...without_posix import REMOVED
from .conftest import COMMAND


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(REMOVED)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def test_a_server_scores_and_drains_without_the_names_of_posix(start, bundle, environment):
    with start(str(bundle.folder), "--watch", env=environment) as server:
        assert "REMOVED" in server.log.read_text()
        assert server.client.post("/v1/score", json={"response": "great job"}).json()["label"]
        assert server.client.get("/readyz").json()["status"] == "ready"
        assert "faults" not in server.client.get("/readyz").json()
        assert server.metric("edgedistill_ready") == 1
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0
        log = server.log.read_text()
        assert "Traceback" not in log
        assert "Error" not in log


@pytest.mark.parametrize("command", [("info",), ("verify",), ("score",), ("serve", "--help")])
def test_other_commands_run_too(bundle, environment, command):
    name, *options = command
    text = ["great job"] if name == "score" else []
    ended = subprocess.run(
        [COMMAND, name, str(bundle.folder), *text, *options], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "REMOVED" in ended.stderr


def test_a_unix_socket_where_there_are_none_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.delattr(socket, "AF_UNIX")
    with (
        pytest.raises(CannotListen, match=r"this system has no Unix sockets. Use --host and --port"),
        open_listener(Address(uds=tmp_path / "socket")),
    ):
        pass


def test_without_a_limit_of_open_files_all_connections_are_possible(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert raise_connection_limit(100_000) == 100_000


def test_an_address_is_exclusive_where_reuse_would_let_two_servers_listen_on_it(monkeypatch):
    """On Windows, SO_REUSEADDR shares the port with any other program."""
    given = []
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", -5, raising=False)
    monkeypatch.setattr(socket.socket, "setsockopt", lambda _, level, option, value: given.append((option, value)))
    with open_listener(Address(port=0)):
        assert given == [(-5, 1)]


def test_ctrl_break_drains_where_it_exists(monkeypatch):
    from edgedistill_serve.server import process

    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)
    assert process.stop_signals() == (signal.SIGINT, signal.SIGTERM, 21)
