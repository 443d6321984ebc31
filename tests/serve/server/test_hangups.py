"""A SIGHUP during the start does not end the server, and is handled later."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest

from edgedistill_serve.bundle.signing import create_key_pair, sign_bundle
from edgedistill_serve.server.middleware.api_keys import create_key

from .conftest import COMMAND

PATIENCE = 60
SCORE = {"response": "great job", "model": "praise"}
HUNG_UP_WHILE_IT_IMPORTS = """
import os, signal, sys

def hang_up(event, given):
    if event == "import" and given[0] == "edgedistill_serve.server.process":
        os.kill(os.getpid(), signal.SIGHUP)

sys.addaudithook(hang_up)
from edgedistill_serve.cli.main import main
main()
"""


@contextmanager
def serving(*arguments: str) -> Iterator[subprocess.Popen]:
    """Start a server, and do not wait for it."""
    command = [COMMAND, "serve", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def client_of(process: subprocess.Popen, **headers: str) -> Iterator[httpx.Client]:
    """Give a client of a server, once that is ready."""
    line = process.stdout.readline()
    assert "://" in line, process.wait(PATIENCE)
    with httpx.Client(base_url=line.split()[-1], headers=headers, timeout=PATIENCE) as client:
        until(lambda: client.get("/readyz").status_code == 200, process)
        yield client


def until(true: Callable[[], bool], process: subprocess.Popen) -> None:
    patience = time.monotonic() + PATIENCE
    while not true():
        assert process.poll() is None
        assert time.monotonic() < patience
        time.sleep(0.02)


def put(path: Path, content: bytes | None) -> None:
    """Put a file into its place, or with None a pipe, at which whoever opens it waits."""
    new = path.with_suffix(".new")
    if content is None:
        os.mkfifo(new, 0o644)
    else:
        new.write_bytes(content)
    new.replace(path)


@contextmanager
def waiting_at(path: Path, process: subprocess.Popen) -> Iterator[IO[bytes]]:
    """Give the end of a pipe to write into, once the server waits at the other."""
    ends: list[int] = []

    def opened() -> bool:
        try:
            ends.append(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody waits
            return False
        return True

    until(opened, process)
    with os.fdopen(ends[0], "wb") as pipe:
        yield pipe


@pytest.fixture
def maker(tmp_path) -> Path:
    create_key_pair(tmp_path / "maker")
    return tmp_path / "maker"


def test_before_anything_is_read_it_is_of_no_matter(bundle, tmp_path):
    arguments = ["serve", str(bundle.folder), "--port", "0", "--keys", str(tmp_path / "nowhere")]
    command = [sys.executable, "-c", HUNG_UP_WHILE_IT_IMPORTS, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("the key file cannot be read")) == (2, 1)


def test_while_the_keys_are_read_for_the_first_time_they_are_read_again(bundle, tmp_path):
    before, after = create_key("before"), create_key("after")
    keys = tmp_path / "keys"
    put(keys, None)
    with serving(str(bundle.folder), "--keys", str(keys)) as process:
        with waiting_at(keys, process) as pipe:
            put(keys, after.entry.line().encode())
            process.send_signal(signal.SIGHUP)
            pipe.write(before.entry.line().encode())
        with client_of(process, Authorization=f"Bearer {after.key}") as client:
            until(lambda: client.post("/v1/score", json=SCORE).status_code == 200, process)
            assert client.get("/v1/models", headers={"Authorization": f"Bearer {before.key}"}).status_code == 401


def test_a_bundle_that_changes_during_the_start_is_served_later(make_bundle, tmp_path, maker):
    def signed(name: str, **given) -> tuple[Path, str]:
        bundle = make_bundle(tmp_path / name, name=name, **given)
        sign_bundle(bundle.folder, maker)
        return bundle.folder, bundle.manifest.version

    first, _ = signed("praise")
    second, _ = signed("second")
    key = tmp_path / "key"
    public = maker.with_name("maker.pub").read_bytes()
    put(key, None)
    with serving(str(first), str(second), "--public-key", str(key)) as process:
        with waiting_at(key, process) as pipe:
            put(key, None)
            pipe.write(public)
        with waiting_at(key, process) as pipe:  # the first bundle is loaded
            _, version = signed("praise", temperature=2.0)
            put(key, public)
            process.send_signal(signal.SIGHUP)
            pipe.write(public)
        with client_of(process) as client:
            until(lambda: client.post("/v1/score", json=SCORE).json()["version"] == version, process)
