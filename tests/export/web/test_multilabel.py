"""A page of a multilabel bundle: Python's labels, sigmoids, confidences and decisions, without a network."""

import csv
import io

import pytest

from edgedistill_export.web import browser_scores
from edgedistill_serve import Scorer
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.grading.grade import grade

from .tiny_page import make_bundle, make_page
from .using import GRADED, choose, score

THRESHOLDS = {"process": 0.7, "outcome": 0.2, "person": 0.55}
MOVES = {
    "kind": "multilabel",
    "thresholds": THRESHOLDS,
    "temperature": 2.0,
    "review": ReviewRule(least_certainty=0.53),
}
WORDS = ("you", "worked", "hard", "on", "this", "great", "job", "smart", "the", "answer", "is", "because", "why")
TEXTS = [" ".join(WORDS[(place * 5 + step) % len(WORDS)] for step in range(1 + place % 7)) for place in range(100)]


def test_the_page_s_scripts_give_pythons_scores(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", **MOVES)
    rows = [{"response": text} for text in (*TEXTS, "", "you worked " * 60)]
    expected, found = Scorer(bundle).score(rows), browser_scores(bundle, rows)
    assert {len(one.labels) for one in expected} == {0, 1, 2, 3}
    assert {one.reason for one in expected} == {None, "blank", "truncated", "below threshold"}
    for one, other in zip(expected, found, strict=True):
        assert (other.label, other.decision, other.reason) == (one.label, one.decision, one.reason)
        assert other.probability == pytest.approx(one.probability, abs=1e-5)
        assert list(other.probabilities.values()) == pytest.approx(list(one.probabilities.values()), abs=1e-5)


def test_a_response_and_a_file_are_shown_with_every_label_that_holds(visit, serve, saved, tmp_path):
    bundle, written = make_page(tmp_path, **MOVES)
    page = visit(serve(written.folder).url)
    (one,) = Scorer(bundle).score(["you worked hard on this"])
    score(page, "you worked hard on this")
    assert len(one.labels) == 2
    assert page.text("#verdict .label") == f"{', '.join(one.labels)} at least {100 * one.probability:.1f} % certain"
    assert page.run("return document.querySelectorAll('#bars tr.first').length") == 2
    assert page.run("return document.querySelector('#definitions dd').innerText").endswith(" Assigned from 70.0 %.")
    source, target = tmp_path / "responses.csv", tmp_path / "python.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "response"), *enumerate(TEXTS)])
    grade(Scorer(bundle), source, target)
    choose(page, source)
    page.click("#grade")
    page.until(GRADED)
    ours = list(csv.DictReader(io.StringIO(saved().decode(), newline="")))
    python = list(csv.DictReader(io.StringIO(target.read_text("utf-8"), newline="")))
    assert [(row["label"], row["decision"]) for row in ours] == [(row["label"], row["decision"]) for row in python]
    held = [label for row in python for label in row["label"].split(";")]
    counts = dict(each.rsplit(" ", 1) for each in page.text("#summary").rstrip(".").split(". ")[1].split(", "))
    assert counts == {label: str(held.count(label)) for label in held}
