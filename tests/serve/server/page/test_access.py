"""Accessibility of the page: keyboard, screen reader, phone, dark mode, and reduced motion."""

import pytest

from .teaching import EXPLAINED, SCORED, TEXT


def test_everything_is_done_by_keyboard_alone_in_the_order_of_reading(page):
    order = []
    for _ in range(4):
        page.press("tab")
        order.append(page.run("return document.activeElement.id || document.activeElement.className"))
    assert order == ["skip", "response", "score", "clear"]
    page.press("shift", "tab")
    page.press("shift", "tab")
    page.run("document.activeElement.value = arguments[0]", TEXT)
    page.press("control", "enter")
    page.until(SCORED)
    for _ in range(3):
        page.press("tab")
    assert page.run("return document.activeElement.id") == "explain"
    page.press("space")
    page.until(EXPLAINED)


def test_the_focus_is_seen(page):
    page.press("tab")
    page.press("tab")
    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_screen_reader_finds_a_name_for_every_control_and_hears_the_result(page):
    assert page.role_and_name("#response") == ("textbox", "Response")
    assert page.role_and_name("#score") == ("button", "Score")
    assert page.role_and_name("#form") == ("form", "Response")
    assert page.role_and_name("#problem")[0] == "alert"
    # A region is announced only where it was there before its text.
    assert page.role_and_name("#verdict")[0] == "status"
    assert page.role_and_name("#result") == ("region", "Score")


def test_the_answer_is_read_in_one_sentence_after_another(explained):
    spoken = explained.run("return document.getElementById('verdict').textContent").split()
    assert " ".join(spoken[3:8]) == "Review by a person The"
    assert explained.role_and_name("#words-summary")[0] == "status"
    assert explained.role_and_name("#bars th") == ("rowheader", "process")


def test_nothing_is_wider_than_the_screen(explained):
    explained.run("document.getElementById('words-text').append('x'.repeat(400))")
    for width in (1280, 768, 360, 320):
        explained.resize(width, 740)
        assert explained.run("return document.documentElement.scrollWidth") <= width


def test_buttons_on_a_phone_are_large_enough_for_a_thumb(scored):
    scored.resize(360, 740)
    sizes = scored.run("return [...document.querySelectorAll('button')].map(each => each.offsetHeight)")
    assert min(sizes) >= 44


def test_on_a_phone_the_page_scrolls_to_the_score(page):
    page.resize(360, 640)
    page.type("#response", TEXT)
    page.click("#score")
    page.until(SCORED)
    page.until("document.getElementById('verdict').getBoundingClientRect().bottom < window.innerHeight")


CONTRASTS = """
const light = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  for (let each = element; each; each = each.parentElement) {
    const colour = getComputedStyle(each).backgroundColor;
    if (!colour.endsWith(', 0)')) return colour;
  }
};
const texts = [...document.querySelectorAll('body *')].filter((each) => each.checkVisibility()
  && (each.matches('textarea, select')
    || [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim())));
return texts.map((each) => {
  const [one, other] = [light(getComputedStyle(each).color), light(ground(each))];
  return [(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), each.id || each.className || each.tagName];
});
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_a_contrast_of_at_least_4_5(explained, scheme):
    """WCAG 2.2, success criterion 1.4.3, level AA."""
    explained.prefer(color_scheme=scheme)
    explained.type("#response", "!")
    explained.run("document.getElementById('problem').textContent = 'The server is busy.'")
    grounds = explained.run("return getComputedStyle(document.body).backgroundColor")
    assert (grounds == "rgb(16, 22, 20)") == (scheme == "dark")
    found = explained.run(CONTRASTS)
    assert len(found) > 30
    assert [each for each in found if each[0] < 4.5] == []


def test_reduced_motion_is_respected(scored):
    scored.prefer(reduced_motion="reduce")
    assert scored.run("return getComputedStyle(document.querySelector('.fill')).transitionDuration") == "0s"
    assert scored.run("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"
