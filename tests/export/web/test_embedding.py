"""The page inside another page: by the list it was written with, on the first load and by its service worker alike."""

import json
import subprocess

import pytest

from edgedistill_export.errors import WebFailed
from edgedistill_export.web import write_web

from .tiny_page import make_bundle, scripts

FRAME = "<!doctype html><title>course</title><iframe src='{url}' width='900' height='700'></iframe>"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture
def course(serve, tmp_path):
    """A site with a page that shows another site's page; returns how to open it."""
    folder = tmp_path / "course"
    folder.mkdir()
    site = serve(folder)
    return site, lambda url: (folder / "index.html").write_text(FRAME.format(url=url))


def in_frame(browser, script: str):
    """Run a script in the frame."""
    browser._send("POST", "/frame", {"id": 0})
    try:
        return browser.run(script)
    finally:
        browser._send("POST", "/frame", {"id": None})


def wait_for(browser, script: str):
    return next(found for _ in range(2000) if (found := in_frame(browser, f"return {script}")))


READY = (
    "document.querySelector('main') && "
    "(!document.querySelector('main').hidden || document.getElementById('fault').textContent)"
)
STORED = "document.getElementById('offline').textContent.startsWith('Stored')"


def test_a_site_of_the_list_shows_the_page_also_when_the_service_worker_answers(
    bundle, serve, course, browser, tmp_path
):
    site, show = course
    page = write_web(bundle, tmp_path / "page", embedders=[site.url.rstrip("/")])
    show(serve(page.folder).url)
    for _ in range(2):
        browser.open(site.url)
        wait_for(browser, READY)
        assert in_frame(browser, "return document.getElementById('fault').textContent") == ""
        wait_for(browser, STORED)
    assert in_frame(browser, "return navigator.serviceWorker.controller !== null")
    assert [each for each in browser.complaints() if "favicon" not in each] == []


def test_another_site_is_refused_on_the_first_load_and_afterwards(bundle, serve, course, browser, tmp_path):
    site, show = course
    own = serve(write_web(bundle, tmp_path / "page", embedders=["https://lms.school.example"]).folder)
    show(own.url)
    browser.open(site.url)
    wait_for(browser, READY)
    origin = site.url.rstrip("/")
    assert in_frame(browser, "return document.getElementById('fault').textContent") == (
        f"This page may not be shown inside a page of {origin}. Open it by itself, or write it with: "
        f"edgedistill web … --embed {origin}"
    )
    assert not in_frame(browser, "return document.querySelector('main').checkVisibility()")
    wait_for(browser, STORED)
    browser.open(site.url)
    assert not in_frame(browser, "return Boolean(document.querySelector('main'))")
    assert any("frame-ancestors 'self' https://lms.school.example" in each for each in browser.complaints())


@pytest.mark.parametrize(
    ("embedders", "around", "refused"),
    [
        ([], ["https://a.example"], "https://a.example"),
        ([], ["https://page.example"], "https://page.example"),
        (["https://a.example"], ["https://page.example"], None),
        (["https://a.example"], ["https://a.example"], None),
        (["https://a.example"], ["http://a.example"], "http://a.example"),
        (["https://a.example"], ["https://a.example", "https://b.example"], "https://b.example"),
        (["https://*.a.example"], ["https://x.a.example"], None),
        (["https://*.a.example"], ["https://x-a.example"], "https://x-a.example"),
        (["https://*.a.example"], ["https://a.example"], "https://a.example"),
        (["*"], ["https://b.example"], None),
        (["https://a.example"], ["null"], "null"),
    ],
)
def test_the_page_reads_the_list_as_a_browser_reads_the_policy(embedders, around, refused):
    script = (
        "const [folder, embedders, around] = process.argv.slice(1);"
        "globalThis.window = { parent: {} };"
        "globalThis.location = { origin: 'https://page.example', ancestorOrigins: JSON.parse(around) };"
        "const { embedder } = await import(`file://${folder}/page/frames.mjs`);"
        "console.log(JSON.stringify(embedder(JSON.parse(embedders))));"
    )
    given = [str(scripts()), json.dumps(embedders), json.dumps(around)]
    command = ["node", "--input-type=module", "-e", script, "--", *given]
    assert json.loads(subprocess.run(command, capture_output=True, check=True).stdout) == refused


@pytest.mark.parametrize(
    "given", ["lms.school.org", "https://lms.school.org/course", "https://a.b; script-src *", "'self'", ""]
)
def test_what_is_no_origin_is_refused(bundle, tmp_path, given):
    with pytest.raises(WebFailed, match="is not the origin of a site"):
        write_web(bundle, tmp_path / "page", embedders=[given])
    assert not (tmp_path / "page").exists()
