"""The coding page in Chromium, served by the real command."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from ...processes import PROGRAMS, Process
from ...serve.server.page.browser import Browser


class Page:
    """A running `edgedistill code`, with its link."""

    def __init__(self, file: Path, *options: object) -> None:
        self.process = Process(PROGRAMS / "edgedistill", "code", file, *options)
        line = self.process.stdout.readline()
        assert line.startswith("Coding page: "), line + "".join(self.process.communicate())
        self.link = line.split()[-1]
        self.url, _, self.token = self.link.partition("/#")
        self.port = self.url.rsplit(":", 1)[1]

    def post(self, action: str, *, token: str | None = None, headers=None, **fields) -> httpx.Response:
        """Send what the page sends."""
        sent = {"Authorization": f"Bearer {self.token if token is None else token}", **(headers or {})}
        return httpx.post(f"{self.url}/api/{action}", json=fields, headers=sent, trust_env=False)

    def end(self) -> tuple[str, str]:
        """End it as with Ctrl+C, and return what it printed."""
        self.process.send_signal(signal.SIGINT)
        printed = self.process.communicate()
        assert self.process.wait() == 0, printed
        return printed


@pytest.fixture
def serve() -> Iterator[Callable[..., Page]]:
    """Start `edgedistill code`; what still runs at the end of the test is killed."""
    with ExitStack() as running:

        def start(file: Path, *options: object) -> Page:
            page = Page(file, *options)
            running.callback(page.process.communicate)
            running.callback(page.process.kill)
            return page

        yield start


@contextmanager
def opened(folder: Path) -> Iterator[Browser]:
    browser = Browser(folder)
    try:
        yield browser
    finally:
        browser.close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Browser]:
    with opened(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture(scope="session")
def second_browser(tmp_path_factory) -> Iterator[Browser]:
    """Another person's browser."""
    with opened(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


def visit(browser: Browser, link: str, coder: str = "") -> Browser:
    """Open a link in a new tab's state, at the size of a desk, and log in."""
    browser.resize(1280, 900)
    browser.open("about:blank")
    browser.open(link)
    browser.run("sessionStorage.removeItem('coder'); localStorage.clear()")
    browser.complaints()
    browser.until("document.getElementById('where').textContent !== 'Waiting for the program…'")
    if coder:
        enter(browser, coder)
    return browser


def enter(browser: Browser, coder: str) -> None:
    browser.until("!document.getElementById('enter').hidden")
    browser.run(
        "[...document.querySelectorAll('#names button')].find(it => it.textContent.startsWith(arguments[0])).click()",
        f"{coder} ",
    )
    browser.until("!document.getElementById('work').hidden")


def at(browser: Browser, row: int) -> None:
    """Wait until the page shows this row of the list."""
    browser.until(
        "!document.getElementById('work').hidden"
        " && document.getElementById('row-heading').textContent.startsWith(`Row ${arguments[0]} of`)",
        row,
    )
