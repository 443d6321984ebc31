"""The page without its server, without a network, and held to what was written."""

import pytest

from edgedistill_serve import Scorer

from .conftest import KEPT, READY
from .tiny_page import make_page
from .using import GRADED, TEXT, choose, score


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
    assert "the tolerance is 0.02. Scoring is disabled in this browser." in page.text("#fault")
    assert not page.run("return document.getElementById('form').checkVisibility()")


@pytest.mark.parametrize("name", ["model/model.onnx", "model/tokenizer.json", "vendor/ort-wasm-simd-threaded.wasm"])
def test_a_file_that_was_changed_is_named(visit, serve, tmp_path, name):
    _, written = make_page(tmp_path)
    file = written.folder / name
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    page = visit(serve(written.folder).url)
    assert page.text("#fault") == f"{name} cannot be read or has changed. Copy the folder again."
    page.complaints()


def test_opened_as_a_file_it_says_what_it_needs(browser, praise):
    browser.open((praise[1].folder / "index.html").as_uri())
    browser.until("!document.getElementById('unopened').hidden")
    text = browser.text("#unopened")
    assert "edgedistill web BUNDLE --single page.html" in text
    assert "python -m http.server --bind 127.0.0.1 8000" in text
    browser.complaints()


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
