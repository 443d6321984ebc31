"""The page by keyboard alone, with a screen reader, on a phone, in the dark, on paper."""

from pathlib import Path

import pytest

from .using import GRADED, SCORED, TEXT, choose, score

AXE = Path(__file__).parents[3] / "export" / "node_modules" / "axe-core" / "axe.min.js"


def test_everything_is_done_by_keyboard_alone_in_the_order_of_reading(page, tmp_path):
    order = []
    for _ in range(6):
        page.press("tab")
        order.append(page.run("return document.activeElement.id || document.activeElement.className"))
    assert order == ["skip", "language", "response", "score", "clear", "file"]
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
    assert page.role_and_name("#file")[1] == "CSV or Excel file"
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


def test_nothing_is_wider_than_the_screen(page, tmp_path):
    file = tmp_path / "wide.csv"
    file.write_text(f"response,id\n{'x' * 400},1\n")
    choose(page, file)
    page.click("#grade")
    page.until(GRADED)
    score(page, "x" * 400)
    for width in (1280, 768, 360, 320):
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
