"""A page handed out by Python's own file server, opened in a real Chromium that can reach nothing else."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ...serve.server.page.browser import Browser
from .tiny_page import make_page

READY = "!document.querySelector('main').hidden || document.getElementById('fault').textContent"
KEPT = "document.getElementById('offline').textContent.startsWith('Stored')"


class FileServer:
    """`python -m http.server`, as somebody with a USB stick starts it.

    Args:
        folder: What it hands out.
        log: Where it writes what it was asked for.
        port: Where it listens; a free one unless said otherwise.
    """

    def __init__(self, folder: Path, log: Path, port: int = 0) -> None:
        self.log = log
        command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "-d", str(folder), str(port)]
        with log.open("ab") as asked:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=asked, text=True)
        self.port = int(self.process.stdout.readline().split(" port ")[1].split()[0])
        self.url = f"http://127.0.0.1:{self.port}/"

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(60)
        self.process.stdout.close()


class ClosedProxy:
    """Stands between Chromium and every other machine: notes who is asked for, and lets nobody through."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._refuse, daemon=True).start()

    def _refuse(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(300).decode(errors="replace").split("\r\n")[0])

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture(scope="session")
def proxy() -> Iterator[ClosedProxy]:
    proxy = ClosedProxy()
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory, proxy) -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as environment:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            environment.setenv(name, proxy.url)
        browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def serve(tmp_path_factory) -> Iterator[Callable[..., FileServer]]:
    servers: list[FileServer] = []

    def start(folder: Path, **settings) -> FileServer:
        servers.append(FileServer(folder, tmp_path_factory.mktemp("log") / "asked", **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def praise(tmp_path_factory):
    """The page of a task that reads a response alone, and its bundle."""
    return make_page(tmp_path_factory.mktemp("praise"))


@pytest.fixture(scope="session")
def server(serve, praise) -> FileServer:
    return serve(praise[1].folder)


@pytest.fixture
def visit(browser) -> Callable[[str], Browser]:
    """Open a page at the size of a desk, without motion, and wait until it can score or says why not."""

    def visit(url: str) -> Browser:
        browser.resize(1280, 900)
        browser.prefer(reduced_motion="reduce")
        browser.open(url)
        browser.until(READY)
        return browser

    return visit


@pytest.fixture
def page(visit, server) -> Browser:
    browser = visit(server.url)
    browser.complaints()
    return browser


@pytest.fixture
def saved(browser, tmp_path) -> Callable[[], bytes]:
    """Save the scored table as a person does, and return its bytes."""
    folder = tmp_path / "saved"
    folder.mkdir()

    def save() -> bytes:
        browser.chromium("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        browser.click("#download")
        until = time.monotonic() + 60
        while not (files := [each for each in folder.iterdir() if each.suffix == ".csv"]):
            assert time.monotonic() < until, "nothing was saved"
            time.sleep(0.03)
        return files[0].read_bytes()

    return save
