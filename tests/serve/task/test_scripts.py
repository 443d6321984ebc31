"""Which scripts a text is written in."""

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve.task.scripts import SCRIPTS, Letters, count_letters

NAMES = {"Han": "CJK", "Kana": ("HIRAGANA", "KATAKANA"), "Canadian Aboriginal": "CANADIAN"}


def test_no_two_scripts_share_a_character():
    ranges = sorted(range_ for each in SCRIPTS.values() for range_ in each)
    assert all(first <= last for first, last in ranges)
    assert all(last < first for (_, last), (first, _) in pairwise(ranges))


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_letters_of_a_script_have_its_name_in_unicode(script):
    letters = [chr(code) for first, last in SCRIPTS[script] for code in range(first, last + 1)]
    names = [unicodedata.name(each, "") for each in letters if unicodedata.category(each)[0] == "L"]
    wanted = NAMES.get(script, script.upper())
    foreign = [
        name for name in names if not any(each in name for each in ([wanted] if isinstance(wanted, str) else wanted))
    ]
    assert len(foreign) <= 0.12 * len(names), foreign[:20]


def test_nearly_every_letter_of_the_large_scripts_is_in_the_table():
    known = {"LATIN", "GREEK", "CYRILLIC", "ARABIC", "HEBREW", "DEVANAGARI", "HANGUL", "HIRAGANA", "THAI", "CJK"}
    missing = [
        name
        for code in range(0x10000)
        if unicodedata.category(chr(code)) in {"Lu", "Ll", "Lo"}
        and (name := unicodedata.name(chr(code), "")).split(" ")[0] in known
        and not count_letters(chr(code)).by_script
    ]
    assert len(missing) < 100, missing[:20]


@pytest.mark.parametrize(
    ("text", "latin", "visible"),
    [
        ("you did it", 8, 8),
        ("Да, 2 yes", 3, 7),
        ("123 ...", 0, 6),
        ("", 0, 0),
        ("e\u0301te\u0301", 3, 3),
        ("ﬁne\u200b", 3, 3),
    ],
)
def test_visible_characters_and_letters_are_counted(text, latin, visible):
    found = count_letters(text)
    assert (found.by_script.get("Latin", 0), found.visible) == (latin, visible)


def test_a_text_without_anything_visible_is_not_unlike_others():
    assert Letters({}, 0).share(["Latin"]) == 1.0


@given(st.text(), st.text())
def test_counts_of_two_texts_add_up(one, other):
    both, parts = count_letters(one + other), [count_letters(one), count_letters(other)]
    assert both.visible == sum(part.visible for part in parts)
    assert both.by_script.get("Latin", 0) == sum(part.by_script.get("Latin", 0) for part in parts)
    assert 0 <= both.share(["Latin", "Han"]) <= 1
