"""The page at `/` with a multilabel model: assigned labels, thresholds, and certainty."""

import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.task.label_decoding import certainty

from ...conftest import THRESHOLDS

SEVERAL, NONE = "you worked hard on this", "great job"
SCORED = "document.querySelector('#verdict .label')"
CHOOSE = """
const choice = document.getElementById('words-label');
choice.value = arguments[0];
choice.dispatchEvent(new Event('change'));
"""
EXPLAINED = "!document.getElementById('words-details').hidden"


@pytest.fixture(scope="module")
def moves(make_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "moves"
    rule = ReviewRule(least_certainty=0.99)
    return make_bundle(folder, kind="multilabel", thresholds=THRESHOLDS, temperature=4.0, review=rule)


@pytest.fixture(scope="module")
def server(start, moves):
    with start(str(moves.folder)) as server:
        yield server


@pytest.fixture
def page(visit, server):
    return visit(server.url)


def score(page, text):
    page.run("document.getElementById('response').value = ''")
    page.type("#response", text)
    page.click("#score")
    page.until(f"{SCORED} && !document.querySelector('.stale')")


def least_sure(found):
    return min(THRESHOLDS, key=lambda name: certainty(found.probabilities[name], THRESHOLDS[name]))


def test_every_assigned_label_is_named_and_marked(page, moves):
    (found,) = Scorer(moves).score([SEVERAL])
    score(page, SEVERAL)
    assert len(found.labels) == 2
    assert page.text("#verdict .label") == f"{', '.join(found.labels)} at least {100 * found.probability:.1f} % certain"
    marked = page.run("return [...document.querySelectorAll('#bars tr.first th')].map(each => each.innerText.trim())")
    chosen = page.run("return [...document.querySelectorAll('dt.chosen')].map(each => each.innerText)")
    assert marked == chosen == list(found.labels)


def test_a_response_without_assigned_labels_says_so(page):
    score(page, NONE)
    assert page.text("#verdict .label").startswith("No label applies ")
    assert page.run("return document.querySelectorAll('#bars tr.first').length") == 0


def test_the_label_with_the_smallest_certainty_is_named_for_a_review(page, moves):
    (found,) = Scorer(moves).score([SEVERAL])
    score(page, SEVERAL)
    assert page.text("#verdict .why") == (
        f"The decision on “{least_sure(found)}” has a certainty of {100 * found.probability:.1f} %, "
        "below the threshold of 99.0 %."
    )


def test_the_codebook_and_the_bars_show_the_thresholds(page):
    score(page, SEVERAL)
    message = page.run("return [...document.querySelectorAll('#definitions dd')].map(each => each.innerText)")
    assert [each.split(".", 1)[1] for each in message] == [
        " Assigned from 60.0 %.",
        " Assigned from 68.0 %.",
        " Assigned from 91.0 %.",
    ]
    places = page.run(
        "return [...document.querySelectorAll('.least')].map(each => { const track = "
        "each.parentElement.getBoundingClientRect(), mark = each.getBoundingClientRect();"
        "return (mark.left + 1 - track.left) / track.width; })"
    )
    assert places == pytest.approx(list(THRESHOLDS.values()), abs=0.01)
    assert page.text("#bars-caption") == "Probability of each label, calibrated; the mark is its threshold"


def test_word_effects_are_shown_for_the_least_certain_label_first(page, moves, server):
    (found,) = Scorer(moves).score([SEVERAL])
    score(page, SEVERAL)
    page.click("#explain")
    page.until(EXPLAINED)
    assert page.run("return document.getElementById('words-label').value") == least_sure(found)
    assert page.role_and_name("#words-label") == ("combobox", "Label")
    words = server.client.post("/v1/explain", json={"response": SEVERAL}).json()["words"]
    for name in THRESHOLDS:
        page.run(CHOOSE, name)
        strongest = max(words, key=lambda word: abs(word["changes"][name]))
        page.until(f"document.getElementById('words-summary').textContent.includes('“{name}”')")
        assert page.text("#words-rows th") == strongest["word"]
