"""The page as a SCORM 1.2 package: what a learning management system reads, and what the page reports to it."""

import re
import zipfile
from xml.etree import ElementTree as ET

import pytest

from edgedistill_export.errors import WebFailed
from edgedistill_export.web import write_scorm, write_single, write_web

from ...local_server import Files, serving_folder
from .tiny_page import make_bundle
from .using import SCORED, TEXT

CONTENT = "{http://www.imsproject.org/xsd/imscp_rootv1p1p2}"
SCORM = "{http://www.adlnet.org/xsd/adlcp_rootv1p2}"
LMS = """<!doctype html><title>course</title><script>
window.calls = [];
const values = { "cmi.core.lesson_status": "not attempted" };
const note = (name) => (...given) => { calls.push([name, ...given]); return "true"; };
window.API = {
  LMSInitialize: note("LMSInitialize"), LMSFinish: note("LMSFinish"), LMSCommit: note("LMSCommit"),
  LMSGetValue: (key) => values[key] ?? "",
  LMSSetValue: (key, value) => { values[key] = value; return note("LMSSetValue")(key, value); },
  LMSGetLastError: () => "0", LMSGetErrorString: () => "", LMSGetDiagnostic: () => "",
};
</script><iframe id="player" src="player.html" width="1000" height="800"></iframe>"""
PLAYER = "<!doctype html><iframe id='sco' src='package/index.html' width='900' height='700'></iframe>"
SCO = "document.getElementById('player').contentDocument.getElementById('sco').contentDocument"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle", name="praise <&> more")


@pytest.fixture(scope="module")
def package(bundle, tmp_path_factory):
    return write_scorm(bundle, tmp_path_factory.mktemp("package") / "lesson.zip").file


def test_the_manifest_is_as_the_schemas_of_scorm_12_want_it(package):
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
        root = ET.fromstring(archive.read("imsmanifest.xml"))
    assert names[0] == "imsmanifest.xml"
    assert (root.tag, [each.tag for each in root]) == (
        f"{CONTENT}manifest",
        [f"{CONTENT}{name}" for name in ("metadata", "organizations", "resources")],
    )
    metadata, organizations, resources = root
    assert [(each.tag, each.text) for each in metadata] == [
        (f"{CONTENT}schema", "ADL SCORM"),
        (f"{CONTENT}schemaversion", "1.2"),
    ]
    identifiers = [each.get("identifier") for each in root.iter() if each.get("identifier")]
    assert len(identifiers) == len(set(identifiers)) == 4
    assert all(re.fullmatch(r"[A-Za-z_][\w.-]*", each) for each in identifiers)
    assert len(root.get("version")) <= 20
    (organization,) = organizations
    assert organizations.get("default") == organization.get("identifier")
    title, item = organization
    assert (title.tag, title.text) == (f"{CONTENT}title", "praise <&> more: score responses")
    assert [each.tag for each in item] == [f"{CONTENT}title"]
    (resource,) = resources
    assert item.get("identifierref") == resource.get("identifier")
    assert (resource.get("type"), resource.get(f"{SCORM}scormtype")) == ("webcontent", "sco")
    files = [each.get("href") for each in resource]
    assert resource.get("href") == files[0] == "index.html"
    assert sorted(files) == sorted(name for name in names if name != "imsmanifest.xml")


def test_the_page_in_the_package_is_the_page_of_one_file(bundle, package, tmp_path):
    with zipfile.ZipFile(package) as archive:
        assert archive.read("index.html") == write_single(bundle, tmp_path / "page.html").file.read_bytes()
        assert any(b"Apache License" in archive.read(name) for name in archive.namelist() if "tokenizers" in name)


def test_the_same_bundle_gives_the_same_package_which_replaces_one_and_nothing_else(bundle, package, tmp_path):
    again = write_scorm(bundle, tmp_path / "again.zip").file
    assert again.read_bytes() == package.read_bytes()
    write_scorm(bundle, again)
    other = tmp_path / "photos.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("imsmanifest.xml", "<manifest identifier='course'/>")
    with pytest.raises(WebFailed, match=r"photos\.zip: already exists and is not a package of a page"):
        write_scorm(bundle, other)


def test_in_a_course_the_page_reports_that_it_was_opened_used_and_left_and_no_text(package, serve, browser, tmp_path):
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path / "package")
    (tmp_path / "index.html").write_text(LMS)
    (tmp_path / "player.html").write_text(PLAYER)
    browser.open(serve(tmp_path).url)
    browser.until(f"{SCO}?.querySelector('main')?.hidden === false")
    started = [["LMSInitialize", ""], ["LMSSetValue", "cmi.core.lesson_status", "incomplete"], ["LMSCommit", ""]]
    assert browser.run("return window.calls") == started
    browser.run(
        f"const it = {SCO}; it.getElementById('response').value = arguments[0]; it.getElementById('score').click()",
        TEXT,
    )
    browser.until(f"Boolean({SCORED.replace('document', SCO, 1)})")
    used = [*started, ["LMSSetValue", "cmi.core.lesson_status", "completed"], ["LMSCommit", ""]]
    assert browser.run("return window.calls") == used
    browser.run("document.getElementById('player').src = 'about:blank'")
    browser.until("window.calls.some(([name]) => name === 'LMSFinish')")
    *before, time, commit, finish = browser.run("return window.calls")
    assert before == used
    assert time[:2] == ["LMSSetValue", "cmi.core.session_time"]
    assert re.fullmatch(r"\d{4}:[0-5]\d:[0-5]\d", time[2])
    assert [commit, finish] == [["LMSCommit", ""], ["LMSFinish", ""]]
    assert [each for each in browser.complaints() if "favicon" not in each] == []


class OwnTypes(Files):
    """A system that knows pages and pictures, and calls all other files octets."""

    def guess_type(self, path):
        """Return the media type of a file."""
        known = super().guess_type(path)
        return known if known.startswith(("text/html", "image/")) else "application/octet-stream"


def test_a_system_with_media_types_of_its_own_shows_the_package_and_not_the_folder(bundle, package, browser, tmp_path):
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path / "package")
    write_web(bundle, tmp_path / "page")
    with serving_folder(tmp_path, OwnTypes) as address:
        browser.open(f"{address}/package/index.html")
        browser.until("document.querySelector('main').hidden === false")
        browser.open(f"{address}/page/index.html")
        browser.until("!document.getElementById('unopened').hidden")
        assert "let the server send .mjs files as text/javascript" in browser.text("#unopened")
    browser.complaints()
