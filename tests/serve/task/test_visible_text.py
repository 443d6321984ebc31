"""A text of nothing but spaces, invisible characters and empty markup is blank, and no other text is."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve.task.visible_text import SPACES, is_blank, without_markup

from ...growth import assert_work_is_linear

INKLESS = [
    chr(point)
    for point in range(0x110000)
    if not 0xD800 <= point < 0xE000 and unicodedata.category(chr(point)) in {"Cc", "Cf", "Zs", "Zl", "Zp"}
]
LETTERS_WITHOUT_INK = "\u2800\u3164\u115f\u1160\uffa0\u034f\ufe0f\u180b\U000e0100\U0001d159\U00013441"
MARKUP = (
    "<p>&nbsp;</p>",
    "<p>&nbsp</p>",
    "<P CLASS='x'>\u00a0</P>",
    "<div><br/></div>",
    "<br>",
    "<!-- a comment, with > and < -->",
    "<!DOCTYPE html><html></html>",
    "<o:p></o:p>",
    '<p title=">">&#160;&#xA0;&#x200b;</p>',
    "<img alt='a > b' src=x>",
    '<a href="[URL]></a>',
    "&ZeroWidthSpace;&zwnj;&shy;&emsp13;",
    "&lt;p&gt;&amp;nbsp;&lt;/p&gt;",
    "&amp;lt;br&amp;gt;",
    "<![CDATA[ ]]>",
    "<!-->",
    "<p><!---></p>",
    "<!-- comment --!>",
    "<br></>",
    "&lt;!--&gt;",
)
VISIBLE = (
    "a",
    ".",
    "0",
    "<3",
    "a < b",
    "<p",
    "<>",
    "&",
    "&amp;",
    "&lt;",
    "&#65;",
    "&#x1F44D;",
    "&#9999999;",
    "<p>x</p>",
    "<p>&nbsp;&#46;</p>",
    "&it",
    "ไม่",
    "👍",
    "\u0301",
    "\ufffc",
)


@pytest.mark.parametrize("wrap", ["{}", "<p>{}</p>", " {}\u200b"])
def test_every_character_without_ink_is_blank_alone_and_in_markup(wrap):
    assert [hex(ord(each)) for each in (*INKLESS, *LETTERS_WITHOUT_INK) if not is_blank(wrap.format(each))] == []


@pytest.mark.parametrize("text", ["", *MARKUP])
def test_markup_without_text_is_blank(text):
    assert is_blank(text)


@pytest.mark.parametrize("text", VISIBLE)
def test_anything_visible_is_not_blank(text):
    assert not is_blank(text)


@given(st.lists(st.sampled_from([*MARKUP, *LETTERS_WITHOUT_INK, " ", "\n"]), max_size=8), st.sampled_from(VISIBLE))
def test_blank_parts_are_blank_together_until_something_visible_joins_them(parts, visible):
    assert is_blank("".join(parts))
    # Between tags, so that no part of a tag completes the visible text to another tag.
    assert not is_blank(f"{''.join(parts)}<i></i>{visible} ")


@given(st.lists(st.sampled_from([*MARKUP, " "]), max_size=4), st.sampled_from(["a", "0", "👍", "ไม่", "a & b", "x < y"]))
def test_what_is_shown_is_left_without_the_markup_around_it(parts, shown):
    text = "".join(f"<i></i>{part}{shown}<i></i>" for part in parts)
    assert SPACES.sub(" ", without_markup(text)).split() == shown.split() * len(parts)


@given(st.text(st.characters(exclude_characters="<&")))
def test_a_text_without_markup_is_shown_as_it_is(text):
    assert without_markup(text) is text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("&#65;&#x1F44D;", "A👍"),
        ("&#xD800;&#1114112;&#9999999;", "&#xD800;&#1114112;&#9999999;"),
        ("<!-- <p> 👍", "<!--   👍"),
        ("<!-- a --> b <!-- c", "  b <!-- c"),
    ],
)
def test_references_are_characters_and_comments_end(text, shown):
    assert without_markup(text) == shown


@pytest.mark.parametrize(
    "piece",
    ["<a ", '<a"<b\'"', "<!--", "&amp;", "&lt;", "&lt;a", '<a x="\'"', " ", "<p>", "&#160;", "<a'", "<", "&#1"],
)
def test_the_time_is_linear_in_the_length(piece):
    assert_work_is_linear(is_blank, lambda length: piece * (length // len(piece)), 200_000)
    assert_work_is_linear(without_markup, lambda length: "<" + piece * (length // len(piece)), 200_000)
