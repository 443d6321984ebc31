"""Texts of pages, report and web component have a contrast of 4.5 or more (WCAG 2.2, 1.4.3), in light and dark."""

import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "serve/src/edgedistill_serve/page/page.css"
OFFLINE_PAGE = ROOT / "export/src/edgedistill_export/web/page/web.css"
CODING_PAGE = ROOT / "src/edgedistill/coding/page/coding.css"
REPORT = ROOT / "src/edgedistill/report/templates/report.css"
COMPONENT = ROOT / "clients/js/src/element.js"
LEAST = 4.5
_ROOTS = re.compile(r":root\s*\{([^}]*)\}")
_VARIABLE = re.compile(r"--([\w-]+):\s*(#[0-9a-fA-F]{3,6})\b")
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_GROUND = re.compile(r"background(?:-color)?:\s*(var\(--[\w-]+(?:,\s*#\w+)?\)|#\w+)")
_TEXT = re.compile(r"(?<![\w-])color:\s*(var\(--[\w-]+(?:,\s*#\w+)?\)|#\w+)")
_USE = re.compile(r"var\(--([\w-]+)(?:,\s*(#\w+))?\)")


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour such as ``#0f6b5c``."""
    digits = colour.removeprefix("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def themes(css: str) -> list[dict[str, str]]:
    """Return the colours of each theme: those of the first `:root`, and of each later one over them."""
    first, *others = (dict(_VARIABLE.findall(inside)) for inside in _ROOTS.findall(css))
    return [first, *({**first, **each} for each in others)]


def rules_with_both(css: str) -> list[tuple[str, str, str]]:
    """Return selector, text and background of each rule that sets both colours."""
    found = []
    for selector, inside in _RULE.findall(css):
        ground, text = _GROUND.search(inside), _TEXT.search(inside)
        if ground and text:
            found.append((" ".join(selector.split()), text[1], ground[1]))
    return found


def colour(value: str, theme: dict[str, str]) -> str:
    used = _USE.fullmatch(value)
    return (theme.get(used[1]) or used[2]) if used else value


def test_contrast_is_that_of_the_standard():
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)


@pytest.mark.parametrize("file", [PAGE, OFFLINE_PAGE, CODING_PAGE, COMPONENT], ids=lambda file: file.name)
def test_a_text_with_a_background_of_its_own_such_as_a_chip_can_be_read(file):
    pages = file in (OFFLINE_PAGE, CODING_PAGE)
    colours = themes(PAGE.read_text()) if pages or file == PAGE else [{}]
    pairs = rules_with_both(file.read_text())
    low = [
        (selector, found)
        for (selector, text, ground), theme in itertools.product(pairs, colours)
        if (found := contrast(colour(text, theme), colour(ground, theme))) < LEAST
    ]
    assert not low
    if not pages:
        assert any("unvalidated" in selector for selector, _, _ in pairs)
        assert len(colours) == (2 if file == PAGE else 1)


@pytest.mark.parametrize(
    ("file", "texts", "grounds"),
    [
        (PAGE, ("ink", "soft", "accent", "accent-strong", "bad", "look"), ("ground", "card")),
        (PAGE, ("ink",), ("track", "for1", "for2", "for3", "against1", "against2", "against3")),
        (REPORT, ("ink", "faint", "good", "warning", "no", "series-1"), ("paper", "panel")),
        (REPORT, ("ink", "faint"), ("good-paper", "warning-paper", "no-paper")),
    ],
    ids=["page", "words of the page", "report", "verdict of the report"],
)
def test_every_colour_of_texts_can_be_read_on_every_ground(file, texts, grounds):
    low = [
        (text, ground, found)
        for theme in themes(file.read_text())
        for text, ground in itertools.product(texts, grounds)
        if (found := contrast(theme[text], theme[ground])) < LEAST
    ]
    assert not low
