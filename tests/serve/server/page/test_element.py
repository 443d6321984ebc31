"""The web component `<edgedistill-score>` in a real Chromium, on a page of another origin, with a real server."""

from pathlib import Path

import pytest

from edgedistill_serve import Scorer

from ....local_server import Files, serving_folder
from .teaching import TEXT, shown
from .test_docs import AXE

SOURCES = Path(__file__).parents[4] / "clients/js/src"
HOST = "document.querySelector('edgedistill-score')"
ROOT = f"{HOST}.shadowRoot"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src *"
"""A page of its own may forbid inline styles and scripts."""
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A course</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="course.css">
<script type="module" src="course.js"></script></head>
<body><main><h1>A course</h1></main></body></html>"""
SCRIPT = """
import "./src/element.js";
import { Client } from "./src/client.js";
window.Client = Client;
window.events = [];
for (const name of ["edgedistill-score", "edgedistill-error"]) {
  document.addEventListener(name, ({ type, detail }) => window.events.push([type, detail.score?.label ?? detail.name]));
}
"""


class Course(Files):
    """The pages of a platform: the sources of the package, and a page with a strict policy."""

    def end_headers(self) -> None:
        """Send the policy with every answer."""
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    (folder / "index.html").write_text(PAGE)
    (folder / "course.js").write_text(SCRIPT)
    (folder / "course.css").write_text(
        ":root { background: Canvas; color: CanvasText; color-scheme: light dark; }\n"
        "edgedistill-score::part(button) { background: rgb(1, 2, 3); }\n"
    )
    (folder / "src").symlink_to(SOURCES)
    with serving_folder(folder, Course) as address:
        yield address


@pytest.fixture(scope="module")
def scoring(start, praise, answers, course):
    with start(str(praise.folder), str(answers.folder), "--allow-origin", course) as server:
        yield server


@pytest.fixture
def page(browser, course, scoring):
    """Return a function that puts the element into the course, with attributes, and waits for its model."""

    def place(**attributes: str):
        browser.resize(1280, 900)
        browser.prefer(reduced_motion="reduce")
        browser.open(course)
        browser.until("typeof window.Client === 'function'")
        browser.complaints()
        browser.run(
            "const element = document.createElement('edgedistill-score');"
            "for (const [name, value] of Object.entries(arguments[0])) element.setAttribute(name, value);"
            "document.querySelector('main').append(element);",
            {"server": scoring.url, "model": "praise", **attributes},
        )
        browser.until(f"{ROOT}.querySelector('button').textContent === 'Score'")
        return browser

    return place


def text(page, selector: str) -> str:
    return page.run(f"return {ROOT}.querySelector(arguments[0])?.innerText", selector)


def score(page) -> str:
    page.run(f"{ROOT}.querySelector('button').click()")
    page.until(f"{ROOT}.querySelector('.decision') || {ROOT}.querySelector('.problem').textContent")
    return text(page, "[role=status]")


def test_a_response_is_typed_and_scored_by_keyboard_and_its_score_is_an_event(page, praise):
    (wanted,) = Scorer(praise).score([TEXT])
    page = page()
    page.press("tab")
    page.keys(TEXT)
    page.press("control", "enter")
    page.until(f"{ROOT}.querySelector('.decision')")
    said = text(page, "[role=status]")
    assert said.startswith(f"{wanted.label} {shown(wanted.probability).replace(' ', '')}")
    assert "Review by a person" in said
    assert "not certain enough" in said
    rows = page.run(f"return [...{ROOT}.querySelectorAll('tbody tr')].map(each => each.innerText.trim().split(/\\s+/))")
    assert rows == [[name, shown(share).replace(" ", "")] for name, share in wanted.probabilities.items()]
    assert page.run("return window.events") == [["edgedistill-score", wanted.label]]
    assert page.run(f"return {HOST}.result.score.probability") == wanted.probability
    assert page.complaints() == []


def test_inputs_that_the_page_does_not_give_are_asked_for(page, answers):
    page = page(model="answers", question="why")
    page.until(f"!{ROOT}.getElementById('reference_answer').parentElement.hidden")
    assert page.run(f"return {ROOT}.getElementById('question').parentElement.hidden")
    page.run(f"{ROOT}.getElementById('reference_answer').value = 'because'; {HOST}.value = arguments[0]", TEXT)
    row = {"question": "why", "reference_answer": "because", "response": TEXT}
    assert score(page).startswith(Scorer(answers).score([row])[0].label)


def test_a_changed_text_has_no_score(page):
    page = page()
    page.run(f"{HOST}.value = 'great job'")
    score(page)
    page.run(f"{ROOT}.getElementById('response').focus()")
    page.keys("!")
    assert text(page, "[role=status]") == ""
    assert page.run(f"return {HOST}.result") is None


@pytest.mark.parametrize(
    ("verdict", "decision", "shows"),
    [
        ("validated", "accept", "Accepted"),
        ("not validated", "accept", "Not validated"),
        (None, "accept", "Not validated"),
        ("validated", "review", "Review by a person"),
    ],
)
def test_only_what_test_rows_support_is_shown_as_accepted(page, verdict, decision, shows):
    page = page()
    answer = {"label": "a", "probability": 0.9995, "probabilities": {"a": 0.9995, "b": 0.0005}, "decision": decision}
    answer |= {"reason": "blank" if decision == "review" else None, **({"verdict": verdict} if verdict else {})}
    page.run(
        f"const [score] = arguments; {HOST}.client = {{ model: 'x', "
        "models: async () => [{ name: 'x', inputs: ['response'], labels: ['b', 'a'] }], "
        "score: async () => ({ model: 'x', version: '1', score }) };",
        answer,
    )
    said = score(page)
    assert said.splitlines()[0] == f"a > 99.9% {shows}"
    rows = page.run(f"return [...{ROOT}.querySelectorAll('tbody th')].map(each => each.textContent)")
    assert rows == ["b", "a"]  # in codebook order


def test_texts_and_styles_are_those_of_the_page(page):
    page = page()
    page.run(
        "document.documentElement.lang = 'de';"
        f"{HOST}.texts = {{ score: 'Bewerten', response: 'Antwort', blank: 'Leer.' }};"
    )
    assert text(page, "button") == "Bewerten"
    assert page.run(f"return getComputedStyle({ROOT}.querySelector('button')).backgroundColor") == "rgb(1, 2, 3)"
    said = score(page)
    assert "Leer." in said
    assert "," in said.split("%")[0]  # a decimal comma


def test_a_server_that_does_not_allow_the_page_is_a_problem_that_is_said(page, start, praise):
    with start(str(praise.folder)) as server:
        page = page()
        page.run(
            f"{HOST}.client = new Client(arguments[0], {{ retries: {{ tries: 1 }} }}); {HOST}.value = 'x'", server.url
        )
        score(page)
        assert text(page, ".problem") == "The server cannot be reached."
        assert page.run("return window.events") == [["edgedistill-error", "Unreachable"]]
        assert any("CORS" in each for each in page.complaints())
        assert "--allow-origin" in server.log.read_text()


def test_markup_stays_text(page):
    page = page()
    page.run(
        "const score = { label: '<img src=x>', probability: 1, decision: 'review', reason: '<b>x</b>' };"
        "score.probabilities = { '<img src=x>': 1 };"
        f"{HOST}.client = {{ models: async () => [], score: async () => ({{ score }}) }};"
    )
    assert score(page).startswith("<img src=x>")
    assert page.run(f"return {ROOT}.querySelectorAll('img, b').length") == 0


def test_the_last_of_two_quick_scores_is_shown(page):
    page = page()
    page.run(
        "let calls = 0;"
        "const score = (inputs, { signal }) => new Promise((resolve, reject) => {"
        "  const label = String(++calls);"
        "  const found = { label, probability: 1, probabilities: { [label]: 1 }, decision: 'review' };"
        "  signal.addEventListener('abort', () => reject(signal.reason));"
        "  setTimeout(() => resolve({ score: found }), 50);"
        "});"
        f"{HOST}.client = {{ models: async () => [], score }};"
        f"{HOST}.score().catch(() => {{}}); setTimeout(() => {HOST}.score(), 10);"
    )
    page.until(f"{ROOT}.querySelector('.decision')")
    assert text(page, "strong") == "2"
    assert page.run("return window.events") == [["edgedistill-score", "2"]]
    assert not page.run(f"return {ROOT}.querySelector('form').hasAttribute('aria-busy')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_breach_of_wcag_22(page, scheme):
    page = page(model="answers")
    page.prefer(color_scheme=scheme, reduced_motion="reduce")
    grounds = page.run("return getComputedStyle(document.documentElement).backgroundColor")
    assert (grounds == "rgb(255, 255, 255)") == (scheme == "light")
    page.until(f"!{ROOT}.getElementById('question').parentElement.hidden")
    page.run(f"{HOST}.value = 'great job'")
    score(page)
    page.run(f"{ROOT}.querySelector('.problem').textContent = 'The server is busy.'")
    assert AXE.exists(), "`make web` fetches axe-core"
    page.run(AXE.read_text("utf-8"))
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = page.run("return axe.run({ runOnly: arguments[0] })", tags)
    assert len(found["passes"]) > 15
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
    page.resize(320, 740)
    assert page.run("return document.documentElement.scrollWidth") <= 320
