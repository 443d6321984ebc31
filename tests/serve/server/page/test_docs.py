"""The API documentation at `/docs` in a real Chromium, as a developer uses it."""

from pathlib import Path

import pytest

from edgedistill_serve.server.middleware.api_keys import create_key

AXE = Path(__file__).parents[4] / "export" / "node_modules" / "axe-core" / "axe.min.js"
LOADED = "document.getElementById('types').hidden === false"


@pytest.fixture
def docs(browser, server):
    browser.resize(1280, 900)
    browser.prefer(reduced_motion="reduce")  # nothing scrolls while it is clicked
    browser.open(f"{server.url}/docs")
    browser.complaints()
    browser.until(LOADED)
    return browser


def opened(page, operation: str):
    page.click(f"#{operation} > summary")
    page.until(f"document.querySelector('#{operation} .try')")
    return page


def sent(page, operation: str) -> str:
    """Send the form of an operation, and return what is shown of the answer."""
    page.click(f"#{operation} .try button")
    answer = f"document.querySelector('#{operation} .try [role=status]')"
    page.until(f"{answer}.querySelector('strong, .problem')")
    return page.text(f"#{operation} .try [role=status]")


def test_every_operation_is_listed_once_with_method_path_and_summary(docs, server):
    paths = server.client.get("/openapi.json").json()["paths"]
    wanted = {
        f"{method.upper()} {path} {operation['summary']}"
        for path, methods in paths.items()
        for method, operation in methods.items()
    }
    shown = docs.run(
        "return [...document.querySelectorAll('#operations summary')].map(each => "
        "each.textContent.replace(each.lastChild.textContent, ` ${each.lastChild.textContent}`))"
    )
    assert sorted(shown) == sorted(wanted)


def test_an_operation_shows_its_bodies_and_its_errors(docs):
    opened(docs, "score")
    docs.run("document.querySelectorAll('#score .part').forEach(each => (each.open = true))")
    text = docs.text("#score")
    assert "A response to a question" in text
    assert "below threshold" in text
    assert "429" in text
    assert "several models are served and the request names none" in text


@pytest.mark.parametrize(
    "operation", ["score", "score_bulk", "explain", "predict", "infer_model_version", "list_models"]
)
def test_what_is_tried_is_answered_by_the_server(docs, operation):
    shown = sent(opened(docs, operation), operation)
    assert shown.startswith("200 OK, ")
    assert any(label in shown for label in ("process", "outcome", "person"))
    assert "x-request-id" in shown
    assert docs.complaints() == []


def test_another_example_is_chosen_and_a_mistake_is_answered_as_such(docs):
    opened(docs, "score")
    docs.type("#score-example", "A list")
    assert '"responses"' in docs.run("return document.getElementById('score-body').value")
    assert '"scores"' in sent(docs, "score")
    docs.run("document.getElementById('score-body').value = '{'")
    docs.click("#score .try button")
    docs.until("document.querySelector('#score .try strong')?.textContent.startsWith('400')")
    assert "the body is not valid JSON" in docs.text("#score .try [role=status]")


def test_the_command_line_is_that_of_the_form(docs, server):
    opened(docs, "score_bulk")
    docs.type("#score_bulk-model", "praise")
    command = docs.text("#score_bulk .try pre")
    assert command.startswith("curl -H 'Content-Type: application/x-ndjson' --data-binary '\"You worked")
    assert command.endswith(f"'{server.url}/v1/score/bulk?model=praise'")


def test_a_key_is_sent_from_its_field_and_not_stored(browser, start, praise, tmp_path):
    made = create_key("school")
    (tmp_path / "keys").write_text(made.entry.line())
    with start(str(praise.folder), "--keys", str(tmp_path / "keys")) as server:
        browser.open(f"{server.url}/docs")
        browser.until(LOADED)
        shown = sent(opened(browser, "score"), "score")
        assert shown.startswith("401 Unauthorized")
        assert "Send it as Authorization: Bearer KEY" in shown
        browser.type("#key", made.key)
        assert '-H "Authorization: Bearer $KEY"' in browser.text("#score .try pre")
        assert made.key not in browser.text("#score")
        browser.click("#score .try button")
        browser.until("document.querySelector('#score .try strong')?.textContent.startsWith('200')")
        browser.complaints()
        browser.open(f"{server.url}/docs")
        browser.until(LOADED)
        assert browser.run("return [document.getElementById('key').value, localStorage.length]") == ["", 0]


def test_a_link_to_an_operation_opens_it(browser, docs, server):
    browser.open("about:blank")
    browser.open(f"{server.url}/docs#explain")
    browser.until("document.querySelector('#explain .try')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_breach_of_wcag_22(docs, scheme):
    docs.prefer(color_scheme=scheme, reduced_motion="reduce")
    sent(opened(docs, "score"), "score")
    docs.run("document.querySelectorAll('#score .part, #type-Score').forEach(each => (each.open = true))")
    assert AXE.exists(), "`make web` fetches axe-core"
    docs.run(AXE.read_text("utf-8"))
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = docs.run("return axe.run({ runOnly: arguments[0] })", tags)
    assert len(found["passes"]) > 20
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []


def test_nothing_is_fetched_from_elsewhere(docs, server):
    opened(docs, "score")
    fetched = docs.run("return performance.getEntriesByType('resource').map(each => each.name)")
    assert len(fetched) >= 5
    assert all(address.startswith(server.url) for address in fetched)
    assert docs.complaints() == []


def test_every_control_has_a_name_and_nothing_is_wider_than_a_phone(docs):
    for operation in ("score", "infer_model_version"):
        opened(docs, operation)
    controls = docs.run(
        "return [...document.querySelectorAll('input, textarea, select, button')]"
        ".filter(each => each.checkVisibility()).map((each, index) => (each.id ||= `control-${index}`))"
    )
    assert len(controls) >= 7
    for control in controls:
        assert docs.role_and_name(f"#{control}")[1], control
    assert docs.role_and_name("#score .try [role=status]")[0] == "status"
    for width in (1280, 360):
        docs.resize(width, 740)
        assert docs.run("return document.documentElement.scrollWidth") <= width
