"""A first response is never taken for a second header row, whatever it says and however rare its codes are."""

import pytest

from edgedistill_serve.grading.second_header import signs_of_header

TEXTS = [
    f"{start} because it is {what}" for start in ("it floats", "it sinks", "no") for what in ("light", "cold", "big")
]
ROWS = 36
WORDS = [f"{text} {more}" for more in ("", "indeed", "I think", "or so") for text in TEXTS]
BELOW = {
    "text": WORDS,
    "code": ["cause", "none"] * (ROWS // 2),
    "class": ["7a", "7b"] * (ROWS // 2),
    "score": ["0", "1", "2"] * (ROWS // 3),
    "half": ["0,5", "1,0"] * (ROWS // 2),
    "yes": ["yes", "no", "no"] * (ROWS // 3),
    "sid": [f"s{n:02}" for n in range(2, ROWS + 2)],
    "code_name": [f"R_{n * 7919 % 104729:x}q" for n in range(ROWS)],
    "name": ["Ada", "Ben", "Cem", "Dora"] * (ROWS // 4),
    "time": [f"2026-11-02 10:{n:02}:00" for n in range(ROWS)],
    "us_time": [f"11/2/2026 9:{n:02}:00" for n in range(ROWS)],
    "email": [f"a{n}@school.org" for n in range(ROWS)],
    "word": ["ice", "water"] * (ROWS // 2),
    "number": [str(n * 37 % 101) for n in range(ROWS)],
    "right": ["right", "partly", "right"] * (ROWS // 3),
    "empty": [""] * ROWS,
    "question": ["What is ice?", "What is air?"] * (ROWS // 2),
}
FIRST = [
    ("text code code", "is this graded|off topic|off topic"),
    ("text code code", "I DO NOT KNOW|UNCLEAR|unclear"),
    ("text code code", "it depends|unclear|off topic"),
    ("sid text code code", "s01|is this graded|off topic|off task"),
    ("code_name text code class", "R_9zz|floats|unsure|9z"),
    ("text code", "|no answer"),
    ("sid text code", "s1||no answer"),
    ("text code", "Why do we do this?|question"),
    ("name text score", "Zoe|What is density?|n/a"),
    ("name text score score", "Zoe|no idea|n/a|NA"),
    ("name text score code", "Zoe||absent|missing"),
    ("name text score code", "Zoe|-|-|-"),
    ("text code", "(laughs)|other"),
    ("name text code", "Zoe|[inaudible]|inaudible"),
    ("text code", "<p>it is lighter</p>|other"),
    ("text code", "answer|off"),
    ("text code class", "points|off|Y"),
    ("name class text", "Test|test|text"),
    ("name class text", "Teacher|Staff|This is a test"),
    ("class text code", "Hill|it sinks|A"),
    ("text score score", "dont know|NaN|NA"),
    ("text score score", "dont know|?|??"),
    ("text score score", "dont know|2?|1 or 2"),
    ("text half half", "weiss nicht|k.A.|fehlt"),
    ("text", "Why do we do this?"),
    ("text", "(no answer)"),
    ("text", "response"),
    ("time text code", "2026-11-02 09:59:00|is it a test?|test"),
    ("us_time text code", "11/2/2026 8:59:00|is it a test?|test"),
    ("email text code", "anonymous|it floats|maybe"),
    ("email text code", "|do I have to answer?|question"),
    ("code_name yes yes text", "R_a|prefer not to say|neither agree nor disagree|ok"),
    ("sid class yes text", "s01|non-binary|Welsh|floats"),
    ("sid score yes text", "s01|prefer not to say|other|floats"),
    ("class class text", "North|Hill|floats"),
    ("name yes half text", "Zoe|In progress|Not yet graded|-"),
    ("word right", "photosynthesis|wrong"),
    ("word right right", "aardvark|wrong|wrong"),
    ("number score", "I don't know|no"),
    ("number right", "seven|half"),
    ("yes yes text", "withdrawn|unknown|floats well"),
    ("question text code", "Why is ice cold?|Is it not solid?|asks"),
    ("text text", "What?|Huh?"),
    ("text text", "What do I do here?|Who reads this text?"),
    ("text text", "(skipped)|(skipped)"),
    ("text text text", "[no answer]|(none)|no time left"),
    ("text text", "text|response"),
    ("text empty code", "It floats|(late)|other"),
    ("sid text", "s01|text 0"),
    ("sid text", "s99|(no answer)"),
    ("sid text code", "s99|response|(late)"),
    ("time text", "2026-11-02 09:59:00|answer"),
]


@pytest.mark.parametrize(("columns", "first"), FIRST, ids=[first for _, first in FIRST])
@pytest.mark.parametrize("rows", [3, 6, ROWS], ids=lambda count: f"{count} rows")
def test_a_first_response_is_no_second_header_row(columns, first, rows):
    names = columns.split()
    below = [list(row) for row in zip(*(BELOW[name][:rows] for name in names), strict=True)]
    assert not signs_of_header(names, first.split("|"), below).is_header


@pytest.mark.parametrize(
    ("columns", "second"),
    [
        ("sid text code", "(pseudonym)|(open text)|(AM)"),
        ("sid text", "|Open-Ended Response"),
        ("time text code", "|Why does ice float?|AM"),
        ("time text", "Zeitstempel|Antwort"),
        ("text code", "(open text)|(AM)"),
        ("name text score", "(first name)|(open text)|(points)"),
    ],
)
def test_a_row_that_describes_its_columns_is_a_second_header_row(columns, second):
    names = columns.split()
    below = [list(row) for row in zip(*(BELOW[name] for name in names), strict=True)]
    assert signs_of_header(names, second.split("|"), below).is_header
