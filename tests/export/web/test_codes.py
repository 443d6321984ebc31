"""A person codes the rows for human review on the page, and `edgedistill review merge` takes them; a class counted."""

import csv
import io
import json
import time

import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.bundle.manifest import ReviewRule

from ...e2e.lessons import command, responses
from .tiny_page import CONTEXT, make_page
from .using import GRADED, choose

PROJECT = """\
name: lesson
task:
  instructions: Code the praise.
  labels: [{name: process}, {name: outcome}, {name: person}]
data: {human: human.csv, reviewed: reviewed.csv, split: {train: 0.6, validation: 0.2, test: 0.2}}
"""
RULE = ReviewRule(thresholds={"process": 1.0, "outcome": 1.0, "person": 1.0})
LEAVE = (
    "const event = new Event('beforeunload', { cancelable: true }); dispatchEvent(event); return event.defaultPrevented"
)
GERMAN = (
    "const field = document.getElementById('language'); field.value = 'de'; field.dispatchEvent(new Event('change'))"
)
CELLS = (
    "return [...document.querySelectorAll(arguments[0])].map((row) => [...row.children].map((cell) => cell.innerText))"
)
CODE = (
    "const fields = [...document.querySelectorAll('#rows select')];"
    "arguments[0].forEach((code, at) => { fields[at].value = code; fields[at].dispatchEvent(new Event('change')); });"
)


@pytest.fixture(scope="module")
def url(serve, tmp_path_factory):
    """A page that sends every response to a person."""
    return serve(make_page(tmp_path_factory.mktemp("strict"), review=RULE)[1].folder).url


@pytest.fixture
def saved_codes(browser, tmp_path):
    """Save the codes as a person does; return the file."""
    folder = tmp_path / "saved"
    folder.mkdir()

    def save():
        browser.chromium("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        browser.click("#save-codes")
        until = time.monotonic() + 60
        while not (found := list(folder.glob("*.csv"))):
            assert time.monotonic() < until, "nothing was saved"
            time.sleep(0.03)
        return found[0]

    return save


def graded(page, path, text: str):
    path.write_text(text, "utf-8")
    choose(page, path)
    page.click("#grade")
    page.until(GRADED)


def test_codes_of_review_rows_are_saved_and_merged_into_a_project(visit, url, saved_codes, tmp_path):
    page = visit(url)
    graded(page, tmp_path / "class.csv", "response,name\nbrand new praise,Ada\n=1+1 worked,Bo\nyou rule,Cy\n")
    assert page.text("#coded") == "0 of 3 rows for human review have your code."
    assert page.run("return document.getElementById('save-codes').disabled")
    page.run(CODE, ["outcome", "process", ""])
    assert page.text("#coded") == "2 of 3 rows for human review have your code."
    file = saved_codes()
    assert file.name == "class-codes.csv"
    rows = list(csv.DictReader(io.StringIO(file.read_text("utf-8-sig"))))
    assert list(rows[0]) == ["id", "response", "suggested_label", "probability", "reason", "human_code"]
    assert [(row["response"], row["human_code"]) for row in rows] == [
        ("brand new praise", "outcome"),
        ("'\t=1+1 worked", "process"),
    ]
    assert "Ada" not in file.read_text("utf-8")

    lesson = [("id", "response", "label"), *responses(0, 30)]
    (tmp_path / "human.csv").write_text("\n".join(",".join(f'"{cell}"' for cell in row) for row in lesson))
    (tmp_path / "project.yaml").write_text(PROJECT)
    command("edgedistill", "review", "merge", tmp_path / "project.yaml", file, "--responses", file)
    merged = list(csv.DictReader(io.StringIO((tmp_path / "reviewed.csv").read_text("utf-8"))))
    assert [(row["id"], row["response"], row["label"]) for row in merged] == [
        (row["id"], row["response"], row["human_code"]) for row in rows
    ]


def test_codes_stay_when_the_language_or_the_rows_shown_change_and_leaving_them_unsaved_asks(
    visit, url, saved_codes, tmp_path
):
    page = visit(url)
    graded(page, tmp_path / "class.csv", "id,response\n7,one praise\n8,two praise\n")
    page.run(CODE, ["person"])
    page.click("#only-review")
    page.run(GERMAN)
    page.until("document.documentElement.lang === 'de'")
    assert page.run("return document.querySelector('#rows select').value") == "person"
    assert page.text("#coded") == "1 von 2 Zeilen zur Prüfung haben Ihren Code."
    assert page.run(LEAVE)
    assert next(csv.DictReader(io.StringIO(saved_codes().read_text("utf-8-sig"))))["id"] == "7"
    assert not page.run(LEAVE)


def test_several_labels_or_none_are_coded_by_checkboxes(visit, serve, saved_codes, tmp_path):
    rule = {"thresholds": {"process": 0.7, "outcome": 0.2, "person": 0.55}, "review": ReviewRule(least_certainty=1.0)}
    page = visit(serve(make_page(tmp_path, kind="multilabel", **rule)[1].folder).url)
    graded(page, tmp_path / "moves.csv", "id,response\n1,great job\n2,you worked\n")
    for row, box in ((1, 1), (1, 4), (1, 2), (1, 3), (2, 4)):
        page.click(f"#rows tr:nth-child({row}) .codes label:nth-of-type({box}) input")
    rows = list(csv.DictReader(io.StringIO(saved_codes().read_text("utf-8-sig"))))
    assert [row["human_code"] for row in rows] == ["outcome;person", "none"]


def test_the_summary_counts_labels_reviews_and_questions(visit, serve, tmp_path):
    bundle, written = make_page(tmp_path, inputs=(*CONTEXT, "response"))
    page = visit(serve(written.folder).url)
    texts = ["you worked hard", "great job", "you are so smart", "", "the answer"]
    rows = [CONTEXT | {"question": f"why {place % 2}", "response": text} for place, text in enumerate(texts)]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    graded(page, tmp_path / "class.csv", file.getvalue())
    scores = Scorer(bundle).score(rows)
    labels = [score.label for score in scores]
    reviews = [score.decision == "review" for score in scores]
    assert page.run(CELLS, "#labels tr") == [
        *([name, str(labels.count(name)), f"{20 * labels.count(name):.1f} %"] for name in bundle.task.names),
        ["For human review", str(sum(reviews)), f"{20 * sum(reviews):.1f} %"],
    ]
    expected = []
    for parity in (0, 1):
        own = [place for place in range(5) if place % 2 == parity]
        counts = [str(sum(labels[place] == name for place in own)) for name in bundle.task.names]
        share = sum(reviews[place] for place in own) / len(own)
        expected.append([f"why {parity}", str(len(own)), *counts, f"{100 * share:.1f} %"])
    assert page.run(CELLS, "#questions tr") == expected


def test_each_row_without_an_id_gets_one_of_its_own(visit, url, saved_codes, tmp_path):
    page = visit(url)
    graded(page, tmp_path / "class.csv", "response,class\nsame,7a\nsame,7b\nother,7b\n")
    page.run(CODE, ["person", "person", "outcome"])
    ids = [row["id"] for row in csv.DictReader(io.StringIO(saved_codes().read_text("utf-8-sig")))]
    assert len(set(ids)) == 3
    assert json.dumps(ids).count("row-") == 3
