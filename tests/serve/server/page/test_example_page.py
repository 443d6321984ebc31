"""The page of `examples/javascript`, opened as its README says: another origin, and a server that asks for a key."""

from pathlib import Path

import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.server.middleware.api_keys import create_key

from ....local_server import serving_folder

REPOSITORY = Path(__file__).parents[4]
ELEMENT = "document.querySelector('edgedistill-score').shadowRoot"
MESSAGE = "document.querySelector('#message').textContent"
ANSWERS = ("great job", "you worked hard on this")


@pytest.fixture(scope="module")
def origin():
    """The repository, served as by `python -m http.server`."""
    with serving_folder(REPOSITORY) as address:
        yield address


@pytest.fixture
def page(browser, origin):
    """Return a function that opens the page for a server."""

    def visit(url):
        browser.resize(1280, 900)
        browser.prefer(reduced_motion="reduce")
        browser.open(f"{origin}/examples/javascript/")
        browser.until("document.querySelectorAll('#connection option').length === 2")
        browser.complaints()
        enter(browser, "server", url)
        return browser

    return visit


def enter(browser, name, text):
    browser.run(
        "const field = document.querySelector('#connection').elements[arguments[0]]; field.value = arguments[1];"
        "field.dispatchEvent(new Event('change', { bubbles: true }));",
        name,
        text,
    )


def score_class(browser):
    browser.run("document.querySelector('#class').elements.answers.value = arguments[0]", "\n".join(ANSWERS))
    browser.click("#class button")
    browser.until(f"{MESSAGE} && {MESSAGE} !== 'Scoring…'")
    return browser.run(f"return {MESSAGE}")


def test_one_answer_and_a_class_are_scored_with_a_key_from_another_origin(page, start, answers, origin, tmp_path):
    key = create_key("page")
    (tmp_path / "keys").write_text(key.entry.line())
    with start(str(answers.folder), "--keys", str(tmp_path / "keys"), "--allow-origin", origin) as server:
        browser = page(server.url)
        assert score_class(browser) == "The server asks for a key: `edgedistill-serve key new page` makes one."
        enter(browser, "key", key.key)
        context = browser.run(
            "const { question, reference_answer } = (await import('./page.js')).QUESTIONS[0];"
            "return { question, reference_answer };"
        )
        wanted = Scorer(answers).score([{**context, "response": text} for text in ANSWERS])
        assert score_class(browser) == "2 answers, 2 for a person"  # the bundle is not validated
        rows = browser.run(
            "return [...document.querySelectorAll('tbody tr')].map(row => [...row.cells].map(each => each.textContent))"
        )
        assert [row[:2] for row in rows] == [[text, score.label] for text, score in zip(ANSWERS, wanted, strict=True)]
        browser.run("document.querySelector('edgedistill-score').value = arguments[0]", ANSWERS[0])
        browser.run(f"{ELEMENT}.querySelector('button').click()")
        browser.until(f"{ELEMENT}.querySelector('.decision')")
        assert browser.run(f"return {ELEMENT}.querySelector('strong').textContent") == wanted[0].label
        browser.resize(360, 740)
        assert browser.run("return document.documentElement.scrollWidth") <= 360
        assert key.key not in browser.run("return document.documentElement.outerHTML + JSON.stringify(localStorage)")


def test_a_server_that_does_not_run_or_does_not_allow_the_page_is_said_with_the_option(page, start, answers, origin):
    wanted = f"Is the server running, and was it started with --allow-origin {origin}?"
    assert wanted in score_class(page("http://127.0.0.1:9"))
    with start(str(answers.folder)) as server:
        assert score_class(page(server.url)) == f"No answer from {server.url}. {wanted}"
