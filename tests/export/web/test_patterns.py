"""A pattern finds the same under Node as in Python, or is refused."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_export.errors import WebFailed
from edgedistill_export.web.patterns import to_javascript

from .tiny_page import under_node

LETTERS = "abikKsSZ019_-.,!{}[]()\\^$|/ \t\n\x0b\x1c\x85\u00a0\u2028\u0130\u0131\u017f\u212aé日٣²\U0001f600"
TEXTS = st.text(LETTERS, min_size=1, max_size=8)  # Python before 3.14 finds no \B in an empty text
ONE = st.sampled_from(
    [
        *"ab1- é日", r"\.", r"\\", r"\n", r"\x41", r"\u00e9", r"\U0001f600", r"\a", r"\-", "]", "}", "{", "{,a", "{}",
        ".", r"\d", r"\D", r"\s", r"\S", r"\w", r"\W",
        "[ab]", "[^a1]", "[a-k]", "[0-9_-]", "[-a]", "[]a]", "[^]]", r"[\d\s]", r"[^\w-]", r"[\D]", r"[\W]", r"[^\S]",
        r"[\b\]\\^]", "[$.|(){}]", r"[\x30-\u0039]",
    ]
)  # fmt: skip
IGNORING_CASE = st.sampled_from([*"aKiS1-. ", "[ks]", "[^i]", "[a-z]", "[A-Z0-9]", r"\w", r"[^\s]", r"\x6b"])
PLACES = st.sampled_from(["^", "$", r"\b", r"\B", r"\A", r"\Z"])
GROUPS = st.sampled_from(["(", "(?:", "(?P<name>", "(?=", "(?!", "(?<=", "(?<!"])
TIMES = st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{,2}", "{1,3}", "{0,1}", "*?", "+?", "??", "{1,2}?", "{,}"])


def patterns(one):
    def larger(part):
        pieces = part | part | st.builds("(?:{}){}".format, part, TIMES) | st.builds("{}{})".format, GROUPS, part)
        return st.lists(pieces, min_size=1, max_size=4).map("".join) | st.builds("(?:{}|{})".format, part, part)

    return st.recursive(one | st.builds("{}{}".format, one, TIMES) | PLACES, larger, max_leaves=6).filter(known)


def known(pattern):
    try:
        return bool(to_javascript(re.compile(pattern)))
    except (re.error, WebFailed):
        return False


def found(pattern, text):
    matches = [re.compile(pattern).match(text, start) for start in range(len(text) + 1)]
    return [match and match[0] for match in matches]


def agree(given, texts):
    translated = [to_javascript(re.compile(pattern)) for pattern in given]
    for pattern, under in zip(given, under_node("match", patterns=translated, texts=texts), strict=True):
        assert (pattern, under) == (pattern, [found(pattern, text) for text in texts])


@settings(max_examples=4, deadline=None)
@given(
    st.lists(patterns(ONE) | patterns(IGNORING_CASE).map("(?i){}".format), min_size=40, max_size=40),
    st.lists(TEXTS, min_size=20, max_size=20),
)
def test_any_known_pattern_finds_the_same_at_every_place(given, texts):
    agree(given, texts)


def test_each_kind_of_part_finds_the_same_in_every_letter():
    parts = [r"\d", r"\D", r"\s", r"\S", r"\w", r"\W", r"[\d\s]", r"[^\w-]", r"\b", r"\B", "$", ".", "(?i)[a-z]"]
    pages = (0, 0x100, 0x600, 0x2000, 0x2100, 0x3000)
    agree(parts, ["".join(map(chr, range(page, page + 0x100))) for page in pages])


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(\w)\1", "a back-reference"),
        (r"\012", "an octal number"),
        (r"(?P<a>x)(?P=a)", r"begins with '\(\?P='"),
        (r"(x)?(?(1)a|b)", r"begins with '\(\?\('"),
        (r"(?m:^a)", r"begins with '\(\?m:'"),
        (r"(?i:a)", r"begins with '\(\?i:'"),
        (r"a(?#b)", r"begins with '\(\?#'"),
        (r"(?>a+)b", r"begins with '\(\?>'"),
        (r"(?s)a.b", "a flag"),
        (r"(?x)a b", "a flag"),
        (r"(?a)\w", "a flag"),
        (r"(?i)é", "a letter beyond a to z"),
        ("(?i)\u2160", "a letter beyond a to z"),
        (r"(?i)[b-y]", "a range of letters"),
        (r"[\W\d]", "a negated class among others"),
        (r"a++b", "a possessive repetition"),
        (r"\N{DIGIT ONE}", r"the escape \\N"),
        (r"(?:|a)+b", "can match nothing"),
        (r"(?:a?){1,2}b", "can match nothing"),
    ],
)
def test_what_is_not_known_is_refused_with_what_it_is(pattern, reason):
    with pytest.raises(WebFailed, match=reason):
        to_javascript(re.compile(pattern))
