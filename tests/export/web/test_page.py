"""The page in a real Chromium with no network: by mouse, by keyboard alone, on a phone, in the dark, on paper."""

import csv
import io
import random
from pathlib import Path

import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.grade import grade
from edgedistill_serve.manifest import ReviewRule

from .conftest import KEPT, READY
from .tiny_page import CONTEXT, make_page

TEXT = "you worked hard on this because the answer is great"
SCORED = "document.querySelector('#verdict .label')"
COLUMNS = "!document.getElementById('columns').hidden || document.getElementById('table-problem').textContent"
GRADED = "!document.getElementById('graded').hidden"
AXE = Path(__file__).parents[3] / "export" / "node_modules" / "axe-core" / "axe.min.js"
ROWS = 500
WORDS = "you worked hard on this great job smart the answer is because why Größe naïve ½ 日本 🙂 isn't e-mail"


def score(page, text: str) -> None:
    page.run("document.getElementById('response').value = arguments[0]", text)
    page.click("#score")
    page.until(f"{SCORED} && !document.getElementById('form').ariaBusy")


def choose(page, path: Path) -> None:
    page.type("#file", str(path))
    page.until(COLUMNS)


def shown(share: float) -> str:
    return f"{100 * share:.1f} %"


def responses() -> list[str]:
    """Five hundred responses: words of the vocabulary and others, blank and overlong ones, and what spreadsheets do."""
    draw = random.Random(5)
    words = WORDS.split()
    fixed = [
        "",
        "   ",
        "\u00a0",
        "[SEP] [CLS]",
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
    for near in (name for name in python[0] if name.startswith("probability")):
        assert [float(row[near]) for row in ours] == pytest.approx([float(row[near]) for row in python], abs=1e-5)
    assert len({row["label"] for row in ours}) == 3
    assert {row["reason"] for row in ours} == {"", "blank", "truncated"}
    assert page.text("#summary").startswith(f"{ROWS} rows read, {ROWS} scored, ")


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
    assert page.text("#verdict .why") == "There is nothing to read in this response."
    score(page, "you worked hard " * 30)
    assert "only its beginning, of 90 tokens, was judged" in page.text("#verdict .why")


def test_a_score_below_its_labels_threshold_goes_to_a_person(visit, serve, tmp_path):
    review = ReviewRule(thresholds={"process": 1.0, "outcome": 1.0, "person": 1.0})
    bundle, written = make_page(tmp_path, review=review)
    page = visit(serve(written.folder).url)
    score(page, TEXT)
    label = Scorer(bundle).score([TEXT])[0].label
    assert page.text("#verdict .chip") == "For a person to review"
    assert page.text("#verdict .why").endswith(f"is below the 100.0 % that “{label}” needs.")


def test_a_score_beside_a_changed_text_is_called_old_and_clear_takes_both_away(page):
    score(page, TEXT)
    page.type("#response", "!")
    assert page.text("#verdict .stale") == "The text has changed since. Score it again."
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
    assert page.text("#table-problem") == "Which column holds the reference answer?"
    assert page.run("return document.activeElement.id") == "column-reference_answer"
    page.type("#column-reference_answer", "solution")
    page.type("#column-response", "text")
    page.click("#grade")
    page.until(GRADED)
    assert page.text("#rows td:nth-child(3)") == expected.label
    assert page.text("#rows td:nth-child(4)") == shown(expected.probability)


def test_the_first_visit_is_enough_to_open_and_score_without_the_server(visit, serve, praise):
    server = serve(praise[1].folder)
    page = visit(server.url)
    page.until(KEPT)
    server.close()
    page = visit(server.url)
    assert page.text("#fault") == ""
    score(page, TEXT)
    assert page.text("#verdict .label").startswith(Scorer(praise[0]).score([TEXT])[0].label)
    assert page.complaints() == []


def test_once_it_is_kept_the_page_is_isolated_from_all_others(visit, serve, praise):
    server = serve(praise[1].folder)
    visit(server.url).until(KEPT)
    page = visit(server.url)
    assert page.run("return crossOriginIsolated")
    score(page, TEXT)


def test_it_can_be_installed_as_an_app(page):
    page.until(KEPT)
    assert page.chromium("Page.getInstallabilityErrors")["installabilityErrors"] == []


def test_a_newer_bundle_takes_over_when_the_reader_says_so_and_the_old_one_is_forgotten(visit, serve, tmp_path):
    first, written = make_page(tmp_path)
    server = serve(written.folder)
    page = visit(server.url)
    page.until(KEPT)
    second, _ = make_page(tmp_path, precision="int8")
    page = visit(server.url)
    assert first.manifest.version in page.text("#facts")
    page.until("!document.getElementById('renew').hidden")
    page.click("#renew")
    page.until(f"({READY}) && document.getElementById('facts').textContent.includes('{second.manifest.version}')")
    page.until(KEPT)
    caches = page.run("return (async () => (await caches.keys()).filter((name) => name.endsWith(location.href)))()")
    assert [second.manifest.version in name for name in caches] == [True]


def test_a_model_that_drifts_here_is_refused_with_the_figure(visit, serve, tmp_path):
    _, written = make_page(tmp_path, off=1.0)
    page = visit(serve(written.folder).url)
    assert "0.02 is accepted. So nothing is scored in this browser." in page.text("#fault")
    assert not page.run("return document.getElementById('form').checkVisibility()")


@pytest.mark.parametrize("name", ["model/model.onnx", "model/tokenizer.json", "vendor/ort-wasm-simd-threaded.wasm"])
def test_a_file_that_was_changed_is_named(visit, serve, tmp_path, name):
    _, written = make_page(tmp_path)
    file = written.folder / name
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    page = visit(serve(written.folder).url)
    assert page.text("#fault") == f"{name} cannot be read, or is not as it was written. Copy the folder anew."
    page.complaints()


def test_opened_as_a_file_it_says_what_it_needs(browser, praise):
    browser.open((praise[1].folder / "index.html").as_uri())
    browser.until("getComputedStyle(document.getElementById('unopened')).visibility === 'visible'")
    assert "python -m http.server --bind 127.0.0.1 8000" in browser.text("#unopened")
    browser.complaints()


def test_a_long_file_shows_progress_leaves_the_page_usable_and_can_be_stopped(page, tmp_path):
    file = tmp_path / "long.csv"
    file.write_text("response\n" + "".join(f"you worked hard {number}\n" for number in range(300_000)))
    choose(page, file)
    page.click("#grade")
    page.until("document.getElementById('rows-progress').value > 0")
    assert page.run("return document.activeElement.id") == "stop"
    score(page, TEXT)
    before = page.run("return document.getElementById('rows-progress').value")
    page.until(f"document.getElementById('rows-progress').value > {before}")
    page.click("#stop")
    page.until("document.getElementById('summary').textContent === 'Stopped. Nothing was kept.'")
    assert not page.run(f"return {GRADED}")


def test_a_file_that_is_malformed_is_refused_with_its_row(page, tmp_path):
    file = tmp_path / "torn.csv"
    file.write_text("id,response\n1,good\n2,good,more\n")
    choose(page, file)
    told = "torn.csv: row 3: the number of fields is 3, the header has 2."
    assert page.text("#table-problem").startswith(told)


def test_cells_that_look_like_formulas_are_disarmed_and_counted(page, saved, tmp_path):
    file = tmp_path / "formulas.csv"
    file.write_text("note,response\n=1+1,@you worked\n-5,+great job\n")
    choose(page, file)
    page.click("#grade")
    page.until(GRADED)
    assert page.text("#graded-notes").startswith("3 cells begin like a formula.")
    rows = list(csv.reader(io.StringIO(saved().decode())))
    assert [row[:2] for row in rows[1:]] == [["'=1+1", "'@you worked"], ["-5", "'+great job"]]


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
    assert "There is nothing to read in this response." in rows[0]


def test_a_response_that_looks_like_markup_stays_text(page, tmp_path):
    file = tmp_path / "markup.csv"
    file.write_text("response,id\n<img src=x onerror=document.title=1><b>hard</b>,1\n")
    choose(page, file)
    page.click("#grade")
    page.until(GRADED)
    assert page.text("#rows td") == "<img src=x onerror=document.title=1><b>hard</b>"
    assert page.run("return document.querySelectorAll('#rows img, #rows b').length") == 0


def test_everything_is_done_by_keyboard_alone_in_the_order_of_reading(page, tmp_path):
    order = []
    for _ in range(5):
        page.press("tab")
        order.append(page.run("return document.activeElement.id || document.activeElement.className"))
    assert order == ["skip", "response", "score", "clear", "file"]
    for _ in range(3):
        page.press("shift", "tab")
    page.run("document.activeElement.value = arguments[0]", TEXT)
    page.press("control", "enter")
    page.until(SCORED)
    file = tmp_path / "few.csv"
    file.write_text("response,id\ngreat job,1\n")
    choose(page, file)
    page.run("document.getElementById('file').focus()")
    page.press("tab")
    assert page.run("return document.activeElement.id") == "column-response"
    page.press("tab")
    page.press("enter")
    page.until(GRADED)
    assert page.run("return document.activeElement.id") == "download"
    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_screen_reader_finds_a_name_for_every_control_and_hears_the_results(page):
    assert page.role_and_name("#response") == ("textbox", "Response")
    assert page.role_and_name("#form") == ("form", "One response")
    assert page.role_and_name("#file")[1] == "CSV file"
    assert page.role_and_name("#table") == ("region", "A file of responses")
    assert [page.role_and_name(f"#{name}")[0] for name in ("verdict", "summary", "offline")] == ["status"] * 3
    assert [page.role_and_name(f"#{name}")[0] for name in ("problem", "table-problem")] == ["alert"] * 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_breach_of_wcag_22(page, tmp_path, scheme):
    page.prefer(color_scheme=scheme, reduced_motion="reduce")
    grounds = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (grounds == "rgb(16, 22, 20)") == (scheme == "dark")
    file = tmp_path / "few.csv"
    file.write_text("response,id\ngreat job,=1\n,2\n")
    choose(page, file)
    page.click("#grade")
    page.until(GRADED)
    score(page, TEXT)
    page.type("#response", "!")
    page.run("document.getElementById('problem').textContent = 'It cannot be scored.'")
    assert AXE.exists(), "`make web` fetches axe-core"
    page.run(AXE.read_text("utf-8"))
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = page.run("return axe.run({ runOnly: arguments[0] })", tags)
    assert len(found["passes"]) > 20
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_is_wider_than_the_screen(page, tmp_path, width):
    file = tmp_path / "wide.csv"
    file.write_text(f"response,id\n{'x' * 400},1\n")
    choose(page, file)
    page.click("#grade")
    page.until(GRADED)
    score(page, "x" * 400)
    page.resize(width, 740)
    assert page.run("return document.documentElement.scrollWidth") <= width


def test_controls_on_a_phone_are_large_enough_for_a_thumb(page):
    page.resize(360, 740)
    sizes = page.run("return [...document.querySelectorAll('main button, .button')].map(each => each.offsetHeight)")
    assert min(size for size in sizes if size) >= 44


def test_what_is_printed_is_the_score_without_its_controls(page):
    score(page, TEXT)
    page.chromium("Emulation.setEmulatedMedia", media="print")
    seen = "[...document.querySelectorAll(arguments[0])].filter(each => each.checkVisibility()).length"
    assert page.run(f"return {seen}", "button, input, .drop") == 0
    assert page.run(f"return {seen}", "#verdict, #bars, #codebook, #response") == 4
    page.chromium("Emulation.setEmulatedMedia", media="")


def test_nothing_leaves_the_browser_and_nothing_is_stored(visit, serve, praise, proxy, tmp_path):
    server = serve(praise[1].folder)
    page = visit(server.url)
    page.until(KEPT)
    proxy.asked.clear()
    page = visit(server.url)
    score(page, "zebraphone " + TEXT)
    file = tmp_path / "zebraphone.csv"
    file.write_text("response,id\nzebraphone,1\n")
    choose(page, file)
    page.click("#grade")
    page.until(GRADED)
    stored = (
        "const kept = []; for (const name of await caches.keys())"
        " kept.push(...(await (await caches.open(name)).keys()).map(({ url }) => url));"
        " return [localStorage.length, sessionStorage.length, document.cookie,"
        " (await indexedDB.databases()).length, kept]"
    )
    *others, kept = page.run(f"return (async () => {{ {stored} }})()")
    assert others == [0, 0, "", 0]
    assert "zebraphone" not in " ".join(kept)
    asked = server.log.read_text()
    assert '"GET /model/model.onnx' in asked
    assert "zebraphone" not in asked
    assert "POST" not in asked
    assert [line for line in proxy.asked if "127.0.0.1" in line or "zebraphone" in line] == []
    fetched = page.run("return performance.getEntriesByType('resource').map(each => each.name)")
    assert all(address.startswith((server.url, "blob:")) for address in fetched)
    assert page.complaints() == []


def test_the_content_policy_forbids_what_the_page_does_not_need(page):
    policy = page.run("return document.querySelector('meta[http-equiv]').content")
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy
    assert "*" not in policy
    page.run(
        "const script = document.createElement('script'); script.text = 'document.title = 1';"
        "document.body.append(script); fetch('http://127.0.0.2:9/').catch(() => 0)"
    )
    assert page.run("return document.title") == "praise: score responses"
    breaches = [each for each in page.complaints() if "Content Security Policy" in each]
    assert [any(word in each for each in breaches) for word in ("inline script", "127.0.0.2")] == [True, True]
