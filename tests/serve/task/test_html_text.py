"""HTML is read as the text that it shows; other texts are unchanged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve.task.html_text import has_html, html_to_text

from ...growth import assert_work_is_linear


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Ice&nbsp;floats.</p><p>It is <b>lighter</b>.</p>", "Ice floats.\nIt is lighter."),
        ('<p dir="ltr" style="text-align: left;">one</p>\r\n', "one"),
        ("one<br>two<br/>three<BR />four", "one\ntwo\nthree\nfour"),
        ("<ul><li>first</li>\n<li>second</li></ul>", "first\nsecond"),
        ("<table><tr><td>a</td><td>b</td></tr></table>", "a b"),
        ("R&amp;D &lt;because&gt; &#233;&#xE9; &eacute;", "R&D <because> \u00e9\u00e9 \u00e9"),
        ("<!-- comment <p> --><style>p {color: red}</style>seen<script>x()</script>", "seen"),
        ("<o:p></o:p>from Word<o:p>&nbsp;</o:p>", "from Word"),
        ("<a title=\"a > b\" href='x'>link</a>", "link"),
        ("x<sup>2</sup>", "x2"),
        ("<p>&nbsp;</p>", ""),
        ("<p>a\n\n  b</p>", "a b"),
    ],
)
def test_html_is_read_as_what_it_shows(html, text):
    assert has_html(html)
    assert html_to_text(html) == text


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d",
        "if x<y then <because> it grows",
        "AT&T; Q&A; fish & chips; &unknown;",
        "  two  spaces\nand a line ",
        "<3",
        "1<p>2"[:3],
        "<p never closed",
        "",
    ],
)
def test_a_text_without_html_is_unchanged(text):
    assert not has_html(text)
    assert html_to_text(text) == text


def test_a_mark_that_is_never_closed_is_left():
    assert html_to_text("<p>a</p><!-- b") == "a\n<!-- b"


@given(st.text(st.sampled_from("ab <>&;/p!-\"'\n\u00a0"), max_size=60))
def test_any_text_is_read_and_a_text_without_html_is_the_same(text):
    read = html_to_text(text)
    assert has_html(text) or read == text


@pytest.mark.parametrize("part", ["<p", "<!--", "<p a='", '<p "', "&nbsp", "<style>", "<p>x</p>", "&#x41;"])
def test_the_time_is_linear(part):
    assert_work_is_linear(html_to_text, lambda size: "<p>" + part * (size // len(part)), 64_000)
