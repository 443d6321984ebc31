"""The documentation's website is built without a warning, needs no other server, and has what is generated."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOADED = re.compile(r"""<(?:script|img|iframe|source)[^>]+src=["']?(https?:)?//|<link[^>]+href=["']?(https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    environ = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert (built.returncode, built.stderr) == (0, "")
    return folder


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text("utf-8"))


def test_pages_load_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 100
    outside = [page.name for page in pages if LOADED.search(page.read_text("utf-8").replace('rel="canonical"', ""))]
    assert outside == []
    styles = [file for file in site.rglob("*.css") if re.search(r"url\(.?https?:|@import", file.read_text("utf-8"))]
    assert styles == []


def test_every_public_name_and_its_docstring_is_in_the_reference(site):
    import edgedistill
    import edgedistill_export
    import edgedistill_serve

    page = (site / "reference/python.html").read_text("utf-8")
    for package in (edgedistill, edgedistill_export, edgedistill_serve):
        for name in package.__all__:
            value = getattr(package, name)
            last = getattr(value, "__qualname__", "agreement")
            assert re.search(rf'id="[\w.]+\.{last}"', page), name
    shown = " ".join(text_of(site / "reference/python.html").split())
    assert inspect.getdoc(edgedistill.StudentClassifier).splitlines()[0] in shown


def test_every_command_and_every_key_is_in_the_reference(site):
    from edgedistill.project.schema import Project

    commands = text_of(site / "reference/cli.html")
    for name in ("edgedistill doctor", "edgedistill cache verify", "edgedistill-serve grade", "--accept-teacher"):
        assert name in commands
    keys = text_of(site / "reference/project.html")
    for name in (*Project.model_fields, "teacher.gate", "least_rows", "max_flip_rate", "few_shot_choice"):
        assert name == "path" or name in keys


def test_every_result_file_has_a_command_that_wrote_it(site):
    rows = re.findall(r"<tr>(.*?)</tr>", (site / "figures.html").read_text("utf-8"), re.DOTALL)[1:]
    assert len(rows) == len(list((ROOT / "docs" / "results").glob("*.json")))
    assert [row for row in rows if "benchmarks/" not in row] == []


def test_a_link_to_a_file_that_is_not_there_fails_the_build(tmp_path):
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import generated
    finally:
        sys.path.pop(0)

    class Page:
        class file:  # noqa: N801  # as mkdocs names it
            src_uri = "install.md"

    assert generated.on_page_markdown("[a](../README.md)", page=Page) == "a (`README.md`)"
    with pytest.raises(ValueError, match=r"install.md: there is no .*NONE.md"):
        generated.on_page_markdown("[a](../NONE.md)", page=Page)
