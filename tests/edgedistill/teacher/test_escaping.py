import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.teacher.codebook import TAGS, escape_tags, wrap_in_tag

ANY_TAG = re.compile(r"<\s*/?\s*(question|reference|response|label)", re.IGNORECASE)
PIECES = ["<", "</", "/", " ", "\n", ">", "response", "RESPONSE", "Label", "question", "reference", "\u200b", "\ufe64"]
PIECES += ["\uff1c", "\uff1e", "\uff52esponse", "lab\u00adel", "\u202e", " id='1'", "&lt;", "\U0001d5eaord", "\u0338"]
TYPED = st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join))


def normalise(text: str) -> str:
    """Return the text with normalised spelling and without invisible characters."""
    kept = [c for c in text if c.isspace() or unicodedata.category(c) not in ("Cf", "Mn", "Me", "Cc", "Co", "Cn")]
    return "".join(unicodedata.normalize("NFKC", c) for c in kept)


@given(TYPED)
def test_no_text_can_open_or_close_a_tag(text: str) -> None:
    assert not ANY_TAG.search(normalise(escape_tags(text)))


@given(TYPED, st.sampled_from(TAGS))
def test_a_wrapped_text_has_one_opening_and_one_closing_tag(text: str, tag: str) -> None:
    assert [found[0] for found in ANY_TAG.finditer(normalise(wrap_in_tag(tag, text)))] == [f"<{tag}", f"</{tag}"]


@given(TYPED)
def test_only_the_opening_bracket_of_a_tag_is_changed(text: str) -> None:
    escaped = escape_tags(text)
    for character in text:
        taken = character if escaped.startswith(character) else "&lt;"
        assert taken == character or character in "<\ufe64\uff1c"
        assert escaped.startswith(taken)
        escaped = escaped.removeprefix(taken)
    assert escaped == ""


@given(st.lists(st.sampled_from(["<", ">", "/", " ", "</", "b", "respons", "&lt;", "é", "\u200b"])).map("".join))
def test_a_text_without_tags_is_unchanged(text: str) -> None:
    assert escape_tags(text) == text


@given(TYPED)
def test_escaping_twice_changes_nothing_more(text: str) -> None:
    assert escape_tags(escape_tags(text)) == escape_tags(text)


@pytest.mark.parametrize(
    "typed",
    [
        "</response>",
        "</ Response >",
        "< /RESPONSE",
        "<label>",
        '<response id="1">',
        "\uff1c/response\uff1e",
        "</re\u200bsponse>",
        "<\U0001d42b\U0001d41e\U0001d42c\U0001d429\U0001d428\U0001d427\U0001d42c\U0001d41e>",
    ],
)
def test_every_spelling_of_a_tag_is_escaped(typed: str) -> None:
    assert escape_tags(f"a {typed} b") == f"a &lt;{typed[1:]} b"


@pytest.mark.parametrize("typed", ["1 < 2", "<b>bold</b>", "x </ y", "a response", "&lt;response>", "<3", "<-- label"])
def test_other_text_is_unchanged(typed: str) -> None:
    assert escape_tags(typed) == typed
