"""The page speaks four languages, chosen by the browser or by the reader, and every text exists in each."""

import json
import re
import subprocess
from importlib.resources import files

import pytest

from edgedistill_export.web.writing import PAGE

from .test_access import AXE
from .tiny_page import scripts
from .using import GRADED, TEXT, choose, score

CODES = ("en", "es", "de", "ar")
ONLY_TRANSLATED = {"promised", "promised_nothing"}
"""In English the page has the bundle's own sentences."""


@pytest.fixture(scope="module")
def tables() -> dict[str, dict]:
    """The texts by language and key: a text, or one for each plural category."""
    script = (
        "const [folder] = process.argv.slice(1);"
        "const load = (name) => import(`file://${folder}/page/${name}.mjs`);"
        "const { ENGLISH } = await load('wording');"
        "const found = {};"
        "for (const code of ['en', 'es', 'de', 'ar']) found[code] = (await load(`texts/${code}`)).TEXTS;"
        "found.en = { ...ENGLISH, ...found.en };"
        "const plurals = (code) => new Intl.PluralRules(code).resolvedOptions().pluralCategories;"
        "const counted = Object.fromEntries(Object.keys(found).map((code) => [code, plurals(code)]));"
        "console.log(JSON.stringify([found, counted]));"
    )
    command = ["node", "--input-type=module", "-e", script, "--", str(scripts())]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    texts, plurals = json.loads(ended.stdout)
    return {code: {"texts": texts[code], "plurals": set(plurals[code])} for code in CODES}


def forms(text: str | dict[str, str]) -> dict[str, str]:
    return text if isinstance(text, dict) else {"other": text}


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("code", CODES[1:])
def test_no_text_is_missing_in_a_language_and_none_is_there_for_nothing(tables, code):
    assert set(tables[code]["texts"]) == set(tables["en"]["texts"]) | ONLY_TRANSLATED


@pytest.mark.parametrize("code", CODES)
def test_every_text_has_the_values_of_the_english_one_and_is_not_blank(tables, code):
    english = tables["en"]["texts"]
    for key, text in tables[code]["texts"].items():
        wanted = placeholders(forms(english.get(key, text))["other"])
        assert placeholders(forms(text)["other"]) == wanted, key
        assert all(placeholders(each) <= wanted for each in forms(text).values()), key
        assert all(each.strip() for each in forms(text).values()), key


@pytest.mark.parametrize("code", CODES)
def test_a_text_with_plural_forms_has_every_form_that_the_language_counts_with(tables, code):
    # Spanish and others have a form for millions, which reads as the one for all others here.
    wanted = tables[code]["plurals"] - ({"many"} if code == "es" else set())
    plural = [text for text in tables[code]["texts"].values() if isinstance(text, dict)]
    assert len(plural) >= 5
    assert all(set(text) == wanted for text in plural)


@pytest.mark.parametrize("code", CODES[1:])
def test_no_translation_was_left_in_english(tables, code):
    english, other = (tables[each]["texts"] for each in ("en", code))
    same = {key for key in english if other[key] == english[key]}
    assert same <= {
        "percent",
        "percent_below",
        "percent_above",
        "kilobytes",
        "megabytes",
        "file_tokenizer",
        "label_count",
        "comma",
    }


def test_the_scripts_say_only_what_the_tables_have_and_the_tables_have_nothing_else(tables):
    folder = scripts() / "page"
    code = "".join(
        file.read_text("utf-8")
        for file in [*folder.glob("*.mjs"), PAGE / "in_one_file.mjs", PAGE / "index.html"]
        if file.name != "language.mjs"
    )
    said = set(re.findall(r'(?:say|Fault|Drift|Unscorable|show|expectSmall)\(\s*"(\w+)"', code))
    said |= set(re.findall(r'data-say="(\w+)"', code))
    said |= set(re.findall(r'"((?:tokens|contexts|bars|rows|summary|questions)_?\w*)"', code)) & set(
        tables["de"]["texts"]
    )
    for start in re.findall(r"say\(`(\w+_)\$\{", code):
        said |= {key for key in tables["de"]["texts"] if key.startswith(start)}
    assert said - set(tables["de"]["texts"]) == set()
    assert set(tables["de"]["texts"]) - said == set()


def test_the_html_has_no_text_of_its_own_but_what_it_says_without_javascript():
    html = re.sub(
        r"<noscript>.*?</noscript>|<title>.*?</title>", "", (PAGE / "index.html").read_text("utf-8"), flags=re.DOTALL
    )
    assert re.findall(r">([^<>]*\w[^<>]*)<", html) == []
    assert set(re.findall(r'<p class="card" lang="(\w+)"', (PAGE / "index.html").read_text("utf-8"))) == set(CODES)


def test_what_an_old_browser_is_told_exists_in_each_language_with_the_same_values():
    script = (
        "const source = await (await import('node:fs/promises')).readFile(process.argv.at(-1), 'utf8');"
        "const texts = /TEXTS = (\\{[^]*?\\n  \\});?/.exec(source)[1];"
        "console.log(JSON.stringify(new Function(`return ${texts}`)()));"
    )
    path = str(files("edgedistill_export") / "web" / "page" / "check.js")
    ended = subprocess.run(
        ["node", "--input-type=module", "-e", script, "--", path], capture_output=True, text=True, check=True
    )
    texts = json.loads(ended.stdout)
    assert set(texts) == set(CODES)
    for code in CODES:
        assert set(texts[code]) == set(texts["en"])
        for key, text in texts[code].items():
            assert placeholders(text) == placeholders(texts["en"][key]), (code, key)


def test_the_script_for_old_browsers_is_ecmascript_5():
    script = (
        "const acorn = require('internal/deps/acorn/acorn/dist/acorn');"
        "acorn.parse(require('fs').readFileSync(process.argv.at(-1), 'utf8'), { ecmaVersion: 5 });"
    )
    path = str(files("edgedistill_export") / "web" / "page" / "check.js")
    command = ["node", "--expose-internals", "-e", script, "--", path]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def speaking(browser):
    """Let the browser ask for a language."""

    def speak(code: str) -> None:
        agent = browser.run("return navigator.userAgent")
        browser.chromium("Network.setUserAgentOverride", userAgent=agent, acceptLanguage=code)

    yield speak
    speak("en-US")


@pytest.mark.parametrize(
    ("code", "label", "decision"),
    [
        ("de-AT", "Antwort", "Angenommen"),
        ("es-MX", "Respuesta", "Aceptada"),
        ("ar-EG", "الإجابة", "مقبولة"),
        ("fr-FR", "Response", "Accepted"),
    ],
)
def test_the_page_speaks_the_browsers_language_or_english(visit, server, speaking, tmp_path, code, label, decision):
    speaking(code)
    page = visit(server.url)
    assert page.text("label[for=response]") == label
    assert page.run("return document.documentElement.dir") == ("rtl" if code == "ar-EG" else "ltr")
    score(page, TEXT)
    assert page.text("#verdict .chip") == decision
    file = tmp_path / "few.csv"
    file.write_text("response,id\ngreat job,1\n,2\n", "utf-8")
    choose(page, file)
    page.click("#grade")
    page.until(GRADED)
    for width in (1280, 360):
        page.resize(width, 740)
        assert page.run("return document.documentElement.scrollWidth") <= width
    assert page.complaints() == []


def test_the_reader_chooses_another_language_and_what_is_shown_follows_at_once(page):
    score(page, TEXT)
    page.type("#response", "!")
    page.run(
        "const all = document.getElementById('language'); all.value = 'de'; all.dispatchEvent(new Event('change'))"
    )
    page.until("document.documentElement.lang === 'de'")
    assert page.text("#verdict .chip") == "Angenommen"
    assert page.text("#verdict small").endswith(" %")
    assert "," in page.text("#verdict small")
    assert page.text("#verdict .stale") == "Der Text wurde nach der Bewertung geändert. Bitte noch einmal bewerten."
    assert "Selbstprüfung mit 5 Antworten" in page.text("#facts")
    assert page.run("return document.title") == "praise: Antworten bewerten"
    assert page.run("return location.hash") == "#de"


def test_a_bookmark_keeps_the_language(browser, visit, server):
    browser.open("about:blank")
    page = visit(f"{server.url}#ar")
    assert page.run("return [document.documentElement.lang, document.documentElement.dir]") == ["ar", "rtl"]


def test_axe_finds_no_breach_of_wcag_in_arabic(browser, visit, server, tmp_path):
    browser.open("about:blank")
    page = visit(f"{server.url}#ar")
    file = tmp_path / "few.csv"
    file.write_text("response,id\ngreat job,1\n,2\n", "utf-8")
    choose(page, file)
    page.click("#grade")
    page.until(GRADED)
    score(page, TEXT)
    page.run(AXE.read_text("utf-8"))
    found = page.run("return axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice'] })")
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
