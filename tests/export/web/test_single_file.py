"""A page of one file, opened by a double click: the scores of Python, and no network at all."""

import csv
import io
import re
from dataclasses import replace

import pytest

from edgedistill_export import export_bundle
from edgedistill_export.errors import WebFailed
from edgedistill_export.web import load_vendored, write_single
from edgedistill_export.web.classic_script import classic_script
from edgedistill_serve import Scorer
from edgedistill_serve.grading.grade import grade

from ..exporting import plan_of
from ..test_nano import save_nano
from ..tiny import PRAISE, rows_for
from .test_files import responses
from .tiny_page import CONTEXT, make_bundle
from .using import GRADED, TEXT, choose, score, shown

ROWS = 150
"""So many that a page scores them with several copies of the model."""


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    """A bundle whose graph runs in WebAssembly, and its page."""
    folder = tmp_path_factory.mktemp("single")
    bundle = make_bundle(folder / "bundle")
    return bundle, write_single(bundle, folder / "page.html")


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    """A bundle of a nano student, and its page."""
    folder = tmp_path_factory.mktemp("nano")
    rows = rows_for(PRAISE)
    plan = replace(plan_of(PRAISE, "int8"), thresholds={})
    bundle = export_bundle(save_nano(folder / "student", PRAISE), folder / "bundle", plan, rows).bundle
    return bundle, write_single(bundle, folder / "page.html")


@pytest.fixture(params=["transformer", "nano"])
def pair(request):
    return request.getfixturevalue(request.param)


def address(written, language: str = "") -> str:
    return written.file.as_uri() + (f"#{language}" if language else "")


def test_a_double_click_gives_pythons_scores_without_any_request(pair, visit, proxy, saved, tmp_path):
    bundle, written = pair
    proxy.asked.clear()
    page = visit(address(written))
    page.complaints()
    assert page.text("#fault") == ""
    score(page, TEXT)
    (expected,) = Scorer(bundle).score([TEXT])
    assert page.text("#verdict .label") == f"{expected.label} {shown(expected.probability)}"
    source, target = tmp_path / "responses.csv", tmp_path / "python.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "response"), *enumerate(responses()[:ROWS])])
    grade(Scorer(bundle), source, target)
    choose(page, source)
    page.click("#grade")
    page.until(GRADED)
    ours = list(csv.DictReader(io.StringIO(saved().decode(), newline="")))
    python = list(csv.DictReader(io.StringIO(target.read_bytes().decode(), newline="")))
    for same in ("id", "response", "label", "decision", "reason", "truncated", "tokens", "error"):
        assert [row[same] for row in ours] == [row[same] for row in python], same
    for near in (name for name in python[0] if name.startswith("probability")):
        assert [float(row[near]) for row in ours] == pytest.approx([float(row[near]) for row in python], abs=1e-5)
    assert page.complaints() == []
    assert [line for line in proxy.asked if "google" not in line] == []
    fetched = page.run("return performance.getEntriesByType('resource').map(each => each.name)")
    assert [each for each in fetched if not each.startswith(("blob:", "data:"))] == []


def test_the_policy_allows_its_own_scripts_and_no_connection(transformer, visit):
    page = visit(address(transformer[1]))
    policy = page.run("return document.querySelector('meta[http-equiv]').content")
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy
    page.complaints()
    page.run(
        "const script = document.createElement('script'); script.text = 'document.title = 1';"
        "document.body.append(script); fetch('http://127.0.0.1:9/').catch(() => 0);"
        "const image = new Image(); image.src = 'http://127.0.0.1:9/x.png'; document.body.append(image)"
    )
    assert page.run("return document.title") == "praise: score responses"
    breaches = [each for each in page.complaints() if "Content Security Policy" in each]
    assert [any(word in each for each in breaches) for word in ("inline script", "127.0.0.1:9/'", "x.png")] == [
        True
    ] * 3


def test_the_file_says_that_it_needs_no_network_in_the_readers_language(transformer, visit):
    page = visit(address(transformer[1], "es"))
    page.until("document.documentElement.lang === 'es'")
    assert page.text("#offline") == "Esta página es un solo archivo: funciona sin red."


@pytest.mark.parametrize(
    ("gone", "lacking"),
    [
        ("delete window.DecompressionStream", "DecompressionStream"),
        ("delete Array.prototype.at; delete Object.hasOwn", "Array.prototype.at, Object.hasOwn"),
        ("WebAssembly.validate = () => false", "WebAssembly SIMD"),
    ],
)
def test_an_old_browser_is_told_what_it_lacks_and_what_helps(transformer, browser, gone, lacking):
    browser.open("about:blank")
    script = browser.chromium("Page.addScriptToEvaluateOnNewDocument", source=gone)["identifier"]
    try:
        browser.open(address(transformer[1]))
        browser.until("!document.getElementById('unopened').hidden")
        assert browser.text("#unopened") == (
            f"This browser is too old for this page: it lacks {lacking}. Update it, or open the page in a newer "
            "browser: at least Chrome 94, Edge 94, Firefox 114, Safari 16.4."
        )
        assert not browser.run("return document.querySelector('main').checkVisibility()")
    finally:
        browser.chromium("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
        browser.complaints()


def test_a_browser_that_cannot_read_the_scripts_is_told_to_update_too(transformer, browser, tmp_path):
    text = transformer[1].file.read_text("utf-8")
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', text)[0]
    broken = tmp_path / "newer.html"
    broken.write_text(
        text.replace(policy, "").replace('"use strict";\n(() => {', "newer syntax;\n(() => {", 1), "utf-8"
    )
    browser.open(broken.as_uri())
    browser.until("!document.getElementById('unopened').hidden")
    assert browser.text("#unopened").startswith("The page's scripts did not start (Uncaught SyntaxError")
    assert browser.text("#unopened").endswith(
        "Update the browser, copy the page again, or let the server send .mjs files as text/javascript."
    )
    browser.complaints()


def test_a_file_that_was_not_copied_whole_or_was_damaged_says_so(transformer, browser, visit, tmp_path):
    content = transformer[1].file.read_bytes()
    short = tmp_path / "short.html"
    short.write_bytes(content[: len(content) - 5000])
    browser.open(short.as_uri())
    browser.until("!document.getElementById('unopened').hidden")
    assert browser.text("#unopened") == "This file was not copied whole: its end is missing. Copy it again."
    place = content.index(b'data-path="model/tokenizer.json"') + 400
    damaged = tmp_path / "damaged.html"
    damaged.write_bytes(content[:place] + (b"A" if content[place : place + 1] != b"A" else b"B") + content[place + 1 :])
    page = visit(damaged.as_uri())
    assert page.text("#fault") == "model/tokenizer.json is incomplete or damaged in this file. Copy the file again."
    page.complaints()


def test_the_same_bundle_gives_the_same_file(transformer, tmp_path):
    bundle, written = transformer
    assert write_single(bundle, tmp_path / "again.html").file.read_bytes() == written.file.read_bytes()
    assert written.bytes == written.file.stat().st_size


def test_a_page_replaces_a_page_and_nothing_else(transformer, tmp_path):
    thesis = tmp_path / "thesis.html"
    thesis.write_text("mine")
    with pytest.raises(WebFailed, match=r"thesis\.html: already exists and is not a page of one file"):
        write_single(transformer[0], thesis)
    assert thesis.read_text() == "mine"
    page = tmp_path / "page.html"
    page.write_bytes(transformer[1].file.read_bytes() + b"old")
    write_single(transformer[0], page)
    assert page.read_bytes() == transformer[1].file.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.html", "page.html"}


def test_the_page_of_a_nano_student_has_no_webassembly_and_is_small(nano, transformer):
    assert b'data-path="vendor/' not in nano[1].file.read_bytes()
    assert nano[1].bytes < 1_000_000 < transformer[1].bytes


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ('export * from "./a.mjs";', "not supported"),
        ('import a from "./a.mjs";', "not supported"),
        ("const at = import.meta.resolve('x');", "not supported"),
        ('import { a } from "./b.mjs";', r"is missing, for page/a\.mjs → page/b\.mjs"),
        ('import { a } from "./a.mjs";', r"needs itself, for page/a\.mjs → page/a\.mjs"),
        ('const text = "</script>";', "ends? of a script|the end of a script"),
    ],
)
def test_a_script_that_cannot_be_put_into_one_file_is_an_error_when_the_page_is_written(source, fault):
    with pytest.raises(WebFailed, match=fault):
        classic_script({"page/a.mjs": source})


def test_a_task_with_a_question_works_from_a_file_too(visit, tmp_path):
    bundle = make_bundle(tmp_path / "bundle", inputs=(*CONTEXT, "response"))
    page = visit(write_single(bundle, tmp_path / "page.html", load_vendored()).file.as_uri())
    for name, text in CONTEXT.items():
        page.type(f"#{name}", text)
    score(page, TEXT)
    (expected,) = Scorer(bundle).score([CONTEXT | {"response": TEXT}])
    assert page.text("#verdict .label") == f"{expected.label} {shown(expected.probability)}"
