"""The page of a server in Chromium, before and after a score."""

from collections.abc import Callable

import msgspec
import pytest

from edgedistill_serve import Bundle, Label, Task
from edgedistill_serve.bundle.loading import write_bundle
from edgedistill_serve.bundle.manifest import ReviewRule

from .browser import Browser
from .teaching import EXPLAINED, SCORED, TEXT

DEFINITIONS = {"process": "Praises what was done.", "outcome": "Praises the result.", "person": ""}


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def visit(browser) -> Callable[[str], Browser]:
    """Open a server's page at the size of a desk, with no preferences, and wait until it knows the models."""

    def visit(url: str) -> Browser:
        browser.resize(1280, 900)
        browser.prefer()
        browser.open(url)
        browser.complaints()
        browser.until("document.querySelectorAll('#definitions dt').length > 0")
        return browser

    return visit


def coded(bundle: Bundle, folder, **changes) -> Bundle:
    """Write a bundle again with a codebook that defines its labels."""
    labels = tuple(Label(name, definition) for name, definition in DEFINITIONS.items())
    task = Task(bundle.task.kind, labels, bundle.task.inputs)
    files = {name: bundle.folder / name for name in bundle.manifest.files}
    return write_bundle(folder, msgspec.structs.replace(bundle.manifest, task=task, **changes), files)


@pytest.fixture(scope="module")
def praise(bundle, tmp_path_factory) -> Bundle:
    review = ReviewRule(thresholds={"process": 1.0, "outcome": 1.0, "person": 1.0})
    return coded(bundle, tmp_path_factory.mktemp("page") / "praise", temperature=2.0, review=review)


@pytest.fixture(scope="module")
def answers(answers_bundle, tmp_path_factory) -> Bundle:
    return coded(answers_bundle, tmp_path_factory.mktemp("page") / "answers")


@pytest.fixture(scope="module")
def server(start, praise):
    with start(str(praise.folder)) as server:
        yield server


@pytest.fixture(scope="module")
def server_of_two(start, praise, answers):
    with start(str(praise.folder), str(answers.folder)) as server:
        yield server


@pytest.fixture
def page(visit, server):
    return visit(server.url)


@pytest.fixture
def scored(page):
    page.type("#response", TEXT)
    page.click("#score")
    page.until(SCORED)
    return page


@pytest.fixture
def explained(scored):
    scored.click("#explain")
    scored.until(EXPLAINED)
    return scored
