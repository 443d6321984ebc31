"""One response on the page, in a real Chromium with no network."""

import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.bundle.manifest import ReviewRule

from .tiny_page import CONTEXT, make_page
from .using import GRADED, SCORED, TEXT, choose, score, shown


def test_int8_gives_pythons_probabilities_too(visit, serve, tmp_path):
    bundle, written = make_page(tmp_path, precision="int8")
    page = visit(serve(written.folder).url)
    score(page, TEXT)
    expected = Scorer(bundle).score([TEXT])[0]
    assert page.text("#verdict .label").startswith(expected.label)
    figure = float(page.text("#verdict small").removesuffix(" %")) / 100
    assert figure == pytest.approx(expected.probability, abs=0.02)


def test_a_score_is_shown_with_its_label_every_probability_and_the_codebook(page, praise):
    score(page, TEXT)
    expected = Scorer(praise[0]).score([TEXT])[0]
    assert page.text("#verdict .label") == f"{expected.label} {shown(expected.probability)}"
    rows = page.run("return [...document.querySelectorAll('#bars tr')].map(row => row.innerText.split(/\\s*\\n\\s*/))")
    found = {row[0].strip(): row[-1].strip() for row in rows}
    assert found == {label: shown(share) for label, share in expected.probabilities.items()}
    assert page.text("#bars-caption") == "Calibrated probabilities"
    assert page.run("return [...document.querySelectorAll('#definitions dd')].map(each => each.innerText)") == [
        "Praises what was done.",
        "Praises the result.",
        "The codebook has no definition for this label.",
    ]


def test_blank_and_truncated_responses_say_so(page):
    score(page, " ")
    assert page.text("#verdict .why") == "The response is blank."
    score(page, "you worked hard " * 30)
    assert "has 90 tokens, more than the model can read. Only its beginning was scored" in page.text("#verdict .why")


def test_a_score_below_its_labels_threshold_goes_to_a_person(visit, serve, tmp_path):
    review = ReviewRule(thresholds={"process": 1.0, "outcome": 1.0, "person": 1.0})
    bundle, written = make_page(tmp_path, review=review)
    page = visit(serve(written.folder).url)
    score(page, TEXT)
    label = Scorer(bundle).score([TEXT])[0].label
    assert page.text("#verdict .chip") == "Review by a person"
    assert page.text("#verdict .why").endswith(f"is below the threshold of 100.0 % for “{label}”.")


def test_a_score_beside_a_changed_text_is_called_old_and_clear_takes_both_away(page):
    score(page, TEXT)
    page.type("#response", "!")
    assert page.text("#verdict .stale") == "The text has changed since it was scored. Score it again."
    page.click("#clear")
    assert page.run("return document.getElementById('response').value") == ""
    assert not page.run(f"return {SCORED}")


def test_a_task_with_a_question_asks_for_it_in_the_form_and_in_a_file(visit, serve, tmp_path):
    bundle, written = make_page(tmp_path, inputs=(*CONTEXT, "response"))
    page = visit(serve(written.folder).url)
    for name, text in CONTEXT.items():
        page.type(f"#{name}", text)
    score(page, TEXT)
    expected = Scorer(bundle).score([CONTEXT | {"response": TEXT}])[0]
    assert page.text("#verdict .label") == f"{expected.label} {shown(expected.probability)}"
    file = tmp_path / "answers.csv"
    file.write_text(f"Question;solution;text\n{CONTEXT['question']};{CONTEXT['reference_answer']};{TEXT}\n")
    choose(page, file)
    assert page.run("return document.getElementById('column-question').value") == "Question"
    page.click("#grade")
    assert page.text("#table-problem") == "Choose the column with the reference answer."
    assert page.run("return document.activeElement.id") == "column-reference_answer"
    page.type("#column-reference_answer", "solution")
    page.type("#column-response", "text")
    page.click("#grade")
    page.until(GRADED)
    assert page.text("#rows td:nth-child(3)") == expected.label
    assert page.text("#rows td:nth-child(4)") == shown(expected.probability)
