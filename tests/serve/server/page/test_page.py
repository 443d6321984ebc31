"""The page at `/` in a real Chromium, as a teacher uses it."""

import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.scoring.occlusion import split_words
from edgedistill_serve.server.middleware.api_keys import create_key

from .teaching import EXPLAINED, SCORED, TEXT, shown


def test_a_score_is_shown_with_its_label_and_every_probability_as_a_number(scored, praise):
    score = Scorer(praise).score([TEXT])[0]
    assert scored.text("#verdict .label") == f"{score.label} {shown(score.probability)}"
    rows = scored.run(
        "return [...document.querySelectorAll('#bars tr')].map(row => row.innerText.split(/\\s*\\n\\s*/))"
    )
    found = {row[0].strip(): row[-1].strip() for row in rows}
    assert found == {label: shown(share) for label, share in score.probabilities.items()}


def test_a_bar_is_as_long_as_its_probability(scored, praise):
    scored.prefer(reduced_motion="reduce")
    measured = scored.run(
        "return [...document.querySelectorAll('.fill')]"
        ".map(bar => bar.getBoundingClientRect().width / bar.parentElement.getBoundingClientRect().width)"
    )
    assert measured == pytest.approx(list(Scorer(praise).score([TEXT])[0].probabilities.values()), abs=0.01)


def test_the_decision_comes_with_its_reason_in_plain_words(scored, praise):
    label = Scorer(praise).score([TEXT])[0].label
    assert scored.text("#verdict .chip") == "Review by a person"
    assert scored.text("#verdict .why").endswith(f"is below the threshold of 100.0 % for “{label}”.")


def test_blank_and_truncated_responses_say_so(page):
    page.click("#score")
    page.until(SCORED)
    assert page.text("#verdict .why") == "The response is blank."
    page.type("#response", "you worked hard " * 30)
    page.click("#score")
    page.until("document.querySelector('#verdict .why').textContent.includes('more than')")
    assert "has 90 tokens, more than the model can read. Only its beginning was scored" in page.text("#verdict .why")


def test_probabilities_are_called_calibrated_only_where_they_are(visit, server_of_two):
    page = visit(server_of_two.url)
    for model, caption in (("praise", "Calibrated probabilities"), ("answers", "Probabilities, not calibrated")):
        page.type("#model", model)
        page.click("#score")
        page.until("document.querySelector('#verdict .label') && !document.getElementById('result-details').hidden")
        assert page.text("#bars-caption") == caption


def test_the_codebook_defines_every_label(page):
    entries = page.run("return [...document.querySelectorAll('#definitions dd')].map(entry => entry.innerText)")
    assert [entry.split(" Accepted")[0] for entry in entries] == [
        "Praises what was done.",
        "Praises the result.",
        "The codebook has no definition for this label.",
    ]


def test_the_words_that_mattered_are_those_of_the_server(explained, server):
    answer = server.client.post("/v1/explain", json={"response": TEXT}).json()
    strongest = max(answer["words"], key=lambda word: abs(word["changes"][answer["label"]]))
    way = "for" if strongest["changes"][answer["label"]] > 0 else "against"
    assert explained.text("#words-summary").startswith(f"“{strongest['word']}” is the strongest word {way}")
    assert explained.text("#words-rows th") == strongest["word"]
    assert explained.run("return document.getElementById('words-text').textContent") == TEXT


def test_words_of_scripts_without_spaces_are_marked_as_python_splits_them(page, server):
    text = "ดีมากครับ, 你的解释👍🏽很清楚 أحسنت"
    page.run("document.getElementById('response').value = arguments[0]", text)
    page.click("#score")
    page.until(SCORED)
    page.click("#explain")
    page.until("!document.getElementById('words-details').hidden")
    marked = page.run("return [...document.querySelectorAll('#words-text .word')].map(each => each.textContent)")
    assert marked == [word.word for word in split_words(text)]
    assert len(marked) > 10
    assert page.run("return document.getElementById('words-text').textContent") == text


def test_too_many_words_for_an_explanation_are_refused(page):
    page.run("document.getElementById('response').value = 'why '.repeat(101)")
    page.click("#score")
    page.until(SCORED)
    page.click("#explain")
    page.until("document.getElementById('words-summary').textContent.includes('101 words')")
    assert "the limit for explanations is 100" in page.text("#words-summary")


def test_a_text_that_looks_like_markup_stays_text(page):
    text = "<img src=x onerror=document.title=1> you worked 🙂 hard </p><b>on</b>"
    page.run("document.getElementById('response').value = arguments[0]", text)
    page.click("#score")
    page.until(SCORED)
    page.click("#explain")
    page.until(EXPLAINED)
    assert page.run("return document.getElementById('words-text').textContent") == text
    assert page.run("return document.querySelectorAll('#words-text :not(span)').length") == 0


def test_a_score_of_a_changed_text_is_marked_as_outdated(scored):
    scored.type("#response", "!")
    assert scored.text("#verdict .stale") == "The text has changed. Score it again."
    scored.click("#score")
    scored.until("!document.querySelector('.stale')")


def test_clear_takes_the_text_and_the_score_away(explained):
    explained.click("#clear")
    assert explained.run("return document.getElementById('response').value") == ""
    assert not explained.run(f"return {SCORED}")
    assert explained.run("return document.activeElement.id") == "response"


def test_several_models_are_a_choice_and_each_asks_for_its_inputs(visit, server_of_two, answers):
    page = visit(server_of_two.url)
    assert page.role_and_name("#model") == ("combobox", "Model")
    assert not page.run("return document.getElementById('question').checkVisibility()")
    page.type("#model", "answers")
    row = {"question": "why", "reference_answer": "because", "response": TEXT}
    for name, text in row.items():
        page.type(f"#{name}", text)
    page.click("#score")
    page.until(SCORED)
    score = Scorer(answers).score([row])[0]
    assert page.text("#verdict .label") == f"{score.label} {shown(score.probability)}"


def test_two_versions_of_a_model_are_distinguished(visit, start, make_bundle, praise, tmp_path):
    bundle = make_bundle(tmp_path / "other", files={"README.md": b"# Other weights, other version\n"})
    with start(str(praise.folder), str(bundle.folder)) as server:
        page = visit(server.url)
        names = page.run("return [...document.getElementById('model').options].map(each => each.value)")
        assert names == [f"praise@{praise.manifest.version}", f"praise@{bundle.manifest.version}"]
        page.type("#model", names[1])
        page.type("#response", TEXT)
        page.click("#score")
        page.until(SCORED)
        assert shown(Scorer(bundle).score([TEXT])[0].probability) in page.text("#verdict .label")


def test_a_key_is_typed_by_keyboard_and_not_stored(visit, browser, start, praise, tmp_path):
    made = create_key("school")
    (tmp_path / "keys").write_text(made.entry.line() + "\n")
    with start(str(praise.folder), "--keys", str(tmp_path / "keys")) as server:
        browser.open(server.url)
        browser.until("document.activeElement.id === 'key'")
        assert browser.text("#problem") == "This server requires a valid API key."
        browser.type("#key", "eds_wrong")
        browser.press("enter")
        browser.until("document.getElementById('key').value && document.getElementById('problem').textContent")
        browser.run("document.getElementById('key').value = ''")
        browser.type("#key", made.key)
        browser.press("enter")
        browser.until("!document.getElementById('codebook').hidden")
        assert browser.text("#problem") == ""
        browser.type("#response", TEXT)
        browser.click("#score")
        browser.until(SCORED)
        assert not browser.run("return document.getElementById('key').hasAttribute('aria-invalid')")
        browser.open(server.url)
        browser.until("document.activeElement.id === 'key'")
        assert browser.run("return document.getElementById('key').value") == ""
        browser.complaints()


def test_one_model_needs_no_selection(page):
    assert not page.run("return document.getElementById('model').checkVisibility()")


def test_nothing_is_fetched_from_elsewhere_and_nothing_is_stored(explained, server):
    fetched = explained.run("return performance.getEntriesByType('resource').map(each => each.name)")
    assert len(fetched) >= 8
    assert all(address.startswith(server.url) for address in fetched)
    stored = (
        "return [localStorage.length, sessionStorage.length, document.cookie, (await indexedDB.databases()).length]"
    )
    assert explained.run(f"return (async () => {{ {stored} }})()") == [0, 0, "", 0]
    assert explained.complaints() == []


def test_the_content_policy_forbids_what_the_page_does_not_need(page, server):
    policy = server.client.get("/").headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "*" not in policy
    page.run(
        "const script = document.createElement('script'); script.text = 'document.title = 1';"
        "document.body.append(script); fetch('http://127.0.0.2:9/').catch(() => 0)"
    )
    assert page.run("return document.title") == "EdgeDistill: try a response"
    breaches = [each for each in page.complaints() if "Content Security Policy" in each]
    assert [any(word in each for each in breaches) for word in ("inline script", "127.0.0.2")] == [True, True]


def test_a_page_that_did_not_change_is_not_sent_again(server):
    tag = server.client.get("/").headers["ETag"]
    again = server.client.get("/", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_a_server_that_went_away_is_named(visit, start, praise):
    with start(str(praise.folder)) as server:
        page = visit(server.url)
    page.click("#score")
    page.until("document.getElementById('problem').textContent")
    assert page.text("#problem") == "The server cannot be reached. Is it running?"
