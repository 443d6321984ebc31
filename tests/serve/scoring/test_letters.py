"""A response in another script than the training texts, or almost without letters, goes to a person."""

import csv
import json

import pytest

from edgedistill_serve import Bundle, BundleError, Scorer
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.grading.grade import grade

RULE = ReviewRule(scripts=("Latin",), min_letters=0.5, max_unknown_share=1.0)
UNLIKE = (
    "Я не знаю почему",
    "δεν ξέρω",
    "不知道",
    "لا أعرف",
    "12345",
    "?",
    "3.14 = 3.14",
    "ok: не знаю почему",
    "\U0001d432\U0001d428\U0001d42e",
)
LIKE = ("you worked hard on this", "a+b", "Größe", "no.", "ok: 2 of three :)", "pi is π")


@pytest.fixture(scope="module")
def bundle(make_bundle, tmp_path_factory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("letters") / "praise", review=RULE)


def test_texts_of_other_scripts_and_without_letters_are_unlike_the_training_texts(bundle):
    scores = Scorer(bundle, threads=1).score([*UNLIKE, *LIKE])
    assert [score.reason for score in scores] == ["unlike training"] * len(UNLIKE) + [None] * len(LIKE)


def test_a_blank_text_keeps_the_reason_that_says_more(bundle):
    assert Scorer(bundle, threads=1).score(["<p>&nbsp;</p>"])[0].reason == "blank"


def test_a_graded_table_has_the_reason(bundle, tmp_path):
    with (tmp_path / "in.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["response"], ["Я не знаю"], ["you did it"]])
    grade(Scorer(bundle, threads=1), tmp_path / "in.csv", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as stream:
        assert [row["reason"] for row in csv.DictReader(stream)] == ["unlike training", ""]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"scripts": ["Klingon"]}, "review.scripts: 'Klingon' is not the name of a script"),
        ({"scripts": []}, "review.min_letters"),
        ({"min_letters": 1.5}, "review.min_letters"),
    ],
)
def test_a_rule_that_names_no_script_is_refused(bundle, tmp_path, changes, fault):
    content = json.loads((bundle.folder / "bundle.json").read_text())
    content["review"] |= changes
    original = (bundle.folder / "bundle.json").read_bytes()
    (bundle.folder / "bundle.json").write_text(json.dumps(content))
    try:
        with pytest.raises(BundleError) as raised:
            Bundle.load(bundle.folder)
    finally:
        (bundle.folder / "bundle.json").write_bytes(original)
    assert fault in str(raised.value)
