"""A bundle with a Unigram vocabulary: every door gives the same score of German, Arabic, Thai and Chinese responses."""

import csv

import httpx
import pytest

from edgedistill_export import ExportPlan, export_bundle
from edgedistill_export.web.browser_check import browser_scores
from edgedistill_serve.grading.grade import grade
from edgedistill_serve.scoring.scorer import Scorer

from ..serve.server.conftest import Server
from .tiny import E5, IN_LANGUAGES, PRAISE, rows_for, save_student

ROWS = [*rows_for(PRAISE)[:6], *({"response": text} for text in IN_LANGUAGES)]
TEXTS = (
    *IN_LANGUAGES,
    "gute Idee\nweiß nicht",
    "Idee 灯亮了 แล้ว رائع",
    "</s> gute Idee <s>",
    "Стратегия хорошая",
    "👍🏽👍🏽",
    "\u0e31\u0e31",
)
"""Of the languages, mixed, with special tokens typed, and of characters that the vocabulary does not have."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("languages")
    student = save_student(folder / "student", PRAISE, E5)
    authors = ["a"] * len(ROWS)
    plan = ExportPlan(
        *("praise", PRAISE, 64, "int8", 1.0),
        vocabulary="cut",
        common=50,
        authors=authors,
        seen=ROWS,
        seen_authors=["b"] * len(ROWS),
    )
    exported = export_bundle(student, folder / "bundle", plan, ROWS)
    assert exported.vocabulary.pieces < exported.vocabulary.pieces_before
    assert exported.bundle.manifest.precision == "int8"
    return exported.bundle


@pytest.fixture(scope="module")
def scores(bundle):
    return Scorer(bundle, threads=1).score(TEXTS)


def test_graded_files_have_the_scores_of_the_scorer(bundle, scores, tmp_path):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    with source.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["response"], *([text] for text in TEXTS)])
    grade(Scorer(bundle, threads=1), source, target)
    with target.open(encoding="utf-8", newline="") as stream:
        graded = list(csv.DictReader(stream))
    assert [(row["response"], row["label"], row["decision"]) for row in graded] == [
        (text, score.label, score.decision) for text, score in zip(TEXTS, scores, strict=True)
    ]


def test_the_page_has_the_tokens_and_decisions_of_the_scorer(bundle, scores):
    found = browser_scores(bundle, [{"response": text} for text in TEXTS])  # refuses other tokens
    assert [(score.label, score.decision, score.reason) for score in found] == [
        (score.label, score.decision, score.reason) for score in scores
    ]
    for one, other in zip(found, scores, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=0.01)


def test_the_server_has_the_scores_of_the_scorer_and_words_without_spaces(bundle, scores, tmp_path):
    server = Server(tmp_path, str(bundle.folder))
    try:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
            found = client.post("/v1/score", json={"responses": list(TEXTS)}).json()["scores"]
            explained = client.post("/v1/explain", json={"response": "ดีมาก 灯亮了"}).json()
    finally:
        server.stop()
    assert [each["probabilities"] for each in found] == [score.probabilities for score in scores]
    assert [word["word"] for word in explained["words"]] == ["ดี", "มา", "ก", "灯", "亮", "了"]


def test_characters_that_the_vocabulary_does_not_have_send_a_response_to_a_person(scores):
    reason = {text: score.reason for text, score in zip(TEXTS, scores, strict=True)}
    assert reason["Стратегия хорошая"] == "unreadable"
    assert "unreadable" not in {reason[text] for text in IN_LANGUAGES}
