"""A file of responses on the page, in a real Chromium with no network."""

import csv
import io
import random

import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.grading.grade import grade

from .using import GRADED, TEXT, choose, score

READ = ("unknown_share", "context_tokens", "context_tokens_lost")
ROWS = 500
WORDS = "you worked hard on this great job smart the answer is because why Größe naïve ½ 日本 🙂 isn't e-mail"


def responses() -> list[str]:
    """Five hundred responses: words of the vocabulary and others, blank and overlong ones, and what spreadsheets do."""
    draw = random.Random(5)
    words = WORDS.split()
    fixed = [
        "",
        "   ",
        "\u00a0",
        "[SEP] [CLS]",
        "👍 👍 great",
        "<p>&nbsp;</p>",
        'he said "yes"',
        "two\r\nlines",
        "a;b,c\td",
        "you worked " * 60,
        TEXT,
        TEXT,
    ]
    return fixed + [" ".join(draw.choices(words, k=draw.randint(1, 12))) for _ in range(ROWS - len(fixed))]


def test_five_hundred_rows_of_a_file_get_pythons_labels_probabilities_and_decisions(page, praise, saved, tmp_path):
    source, target = tmp_path / "responses.csv", tmp_path / "python.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "response"), *enumerate(responses())])
    grade(Scorer(praise[0]), source, target)
    choose(page, source)
    assert page.text("#grade") == f"Score {ROWS} rows"
    page.click("#grade")
    page.until(GRADED)
    ours = list(csv.DictReader(io.StringIO(saved().decode(), newline="")))
    python = list(csv.DictReader(io.StringIO(target.read_bytes().decode(), newline="")))
    assert len(ours) == len(python) == ROWS
    assert list(ours[0]) == list(python[0])
    for same in ("id", "response", "label", "decision", "reason", "truncated", "tokens", "error"):
        assert [row[same] for row in ours] == [row[same] for row in python], same
    for near in (*READ, *(name for name in python[0] if name.startswith("probability"))):
        assert [float(row[near]) for row in ours] == pytest.approx([float(row[near]) for row in python], abs=1e-5)
    assert len({row["label"] for row in ours}) == 3
    assert {row["reason"] for row in ours} == {"", "blank", "truncated", "unreadable"}
    assert page.text("#summary").startswith(f"{ROWS} rows read, {ROWS} scored, ")


def test_a_long_file_shows_progress_leaves_the_page_usable_and_can_be_stopped(page, tmp_path):
    file = tmp_path / "long.csv"
    file.write_text("response\n" + "".join(f"you worked hard {number}\n" for number in range(60_000)))
    choose(page, file)
    page.click("#grade")
    page.until("document.getElementById('rows-progress').value > 0")
    assert page.run("return document.activeElement.id") == "stop"
    score(page, TEXT)
    before = page.run("return document.getElementById('rows-progress').value")
    page.until(f"document.getElementById('rows-progress').value > {before}")
    page.click("#stop")
    page.until("document.getElementById('summary').textContent === 'Stopped. No scores were saved.'")
    assert not page.run(f"return {GRADED}")


def test_a_file_that_is_malformed_is_refused_with_its_row(page, tmp_path):
    file = tmp_path / "torn.csv"
    file.write_text("id,response\n1,good\n2,good,more\n")
    choose(page, file)
    message = "torn.csv: row 3: the row has 3 fields, the header has 2."
    assert page.text("#table-problem").startswith(message)


def test_cells_that_look_like_formulas_are_disarmed_and_counted(page, saved, tmp_path):
    file = tmp_path / "formulas.csv"
    file.write_text("note,response\n=1+1,@you worked\n-5,+great job\n")
    choose(page, file)
    page.click("#grade")
    page.until(GRADED)
    assert page.text("#graded-notes").startswith("3 cells look like formulas.")
    rows = list(csv.reader(io.StringIO(saved().decode())))
    assert [row[:2] for row in rows[1:]] == [["'\t=1+1", "'\t@you worked"], ["-5", "'\t+great job"]]


def test_only_rows_for_a_person_are_shown_where_that_is_wanted(page, tmp_path):
    file = tmp_path / "some.csv"
    file.write_text("id,response\n1,great job\n2,\n3,you worked hard\n")
    choose(page, file)
    page.click("#grade")
    page.until(GRADED)
    page.click("#only-review")
    seen = "[...document.querySelectorAll('#rows tr')].filter(row => row.checkVisibility()).map(row => row.innerText)"
    rows = page.run(f"return {seen}")
    assert len(rows) == 1
    assert rows[0].split()[0] == "3"
    assert "The response is blank." in rows[0]


def test_a_response_that_looks_like_markup_stays_text(page, tmp_path):
    file = tmp_path / "markup.csv"
    file.write_text("response,id\n<img src=x onerror=document.title=1><b>hard</b>,1\n")
    choose(page, file)
    page.click("#grade")
    page.until(GRADED)
    assert page.text("#rows td") == "<img src=x onerror=document.title=1><b>hard</b>"
    assert page.run("return document.querySelectorAll('#rows img, #rows b').length") == 0
