"""The page reads texts as Python does: the same tokens, the same redaction, whatever letters there are."""

import json
import random
import re
import unicodedata
from dataclasses import astuple
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer

from edgedistill_export.errors import WebFailed
from edgedistill_export.web.description import describe_page, describe_redaction
from edgedistill_serve.scoring.graph_choice import load_encoder
from edgedistill_serve.task.contexts import context_hash
from edgedistill_serve.task.redaction import Redaction, redact_text
from edgedistill_serve.task.task import task_inputs
from edgedistill_serve.task.visible_text import is_blank

from ..tiny import IN_LANGUAGES, PRAISE, ROBERTA, save_student, unigram_tokenizer
from .tiny_page import CONTEXT, TESTS, TINY, make_bundle, make_page, under_node

LETTERS = [
    chr(point)
    for point in range(0x110000)
    if not 0xD800 <= point < 0xE000 and (point < 0x40000 or 0xE0000 <= point < 0xE0200 or point % 97 == 0)
]
"""Every character; of the planes without any, and of those for private use, one of 97 code points."""
WHOLE = 32_768
"""A longest sequence that cuts nothing."""
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def read_alike(page, rows) -> None:
    bundle, written = page
    encoded = load_encoder(bundle).encode([task_inputs(row, bundle.task) for row in rows])
    shares = [read.letters.share(bundle.manifest.review.scripts) for read in encoded]
    python = [  # all but `letters`, `lost` and `context_unknown_share`, which decide no score
        [list(read.ids), list(read.type_ids), *astuple(read)[2:-3], share]
        for read, share in zip(encoded, shares, strict=True)
    ]
    found = under_node("encode", folder=str(written.folder), rows=rows)
    assert [row for row, one, other in zip(rows, python, found, strict=True) if one != other] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_page(tmp_path_factory.mktemp("whole"), max_tokens=WHOLE)


@pytest.fixture(scope="module")
def short_pairs(tmp_path_factory):
    return make_page(tmp_path_factory.mktemp("pairs"), inputs=(*CONTEXT, "response"), max_tokens=16)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    folder = tmp_path_factory.mktemp("byte-level")
    tokenizer = save_student(folder / "student", PRAISE, ROBERTA) / "tokenizer.json"
    return make_page(folder, tokenizer=tokenizer, max_tokens=WHOLE)


@pytest.fixture(scope="module")
def unigram(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unigram")
    unigram_tokenizer().save(str(folder / "tokenizer.json"))
    return make_page(folder, tokenizer=folder / "tokenizer.json", max_tokens=WHOLE)


@pytest.fixture(scope="module")
def unigram_of_bytes(tmp_path_factory):
    """A tokenizer that reads unknown characters byte by byte, so that every normalized character is in its tokens."""
    folder = tmp_path_factory.mktemp("unigram-of-bytes")
    content = json.loads(unigram_tokenizer().to_str())
    content["model"]["vocab"] += [[f"<0x{byte:02X}>", -30.0] for byte in range(256)]
    content["model"]["byte_fallback"] = True
    content["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "WhitespaceSplit"}, content["pre_tokenizer"]],
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return make_page(folder, tokenizer=folder / "tokenizer.json", max_tokens=WHOLE)


def test_every_letter_of_unicode_is_read_alike_at_both_ends_of_a_word(whole):
    texts = [f"{letter}a{letter}" for letter in LETTERS]
    read_alike(whole, [{"response": " ".join(texts[start : start + 500])} for start in range(0, len(texts), 500)])


@pytest.mark.parametrize(
    "normalizer",
    [
        BertNormalizer(lowercase=False, strip_accents=True),
        BertNormalizer(clean_text=False, handle_chinese_chars=False),
    ],
    ids=["cased, no accents", "raw"],
)
def test_other_normalizers_of_the_bert_kind_are_read_alike(tmp_path, normalizer):
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    tokenizer.normalizer = normalizer
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    page = make_page(tmp_path, tokenizer=tmp_path / "tokenizer.json", max_tokens=WHOLE)
    texts = [f"A{letter}É ΟΔΟΣ {letter} 日本" for letter in random.Random(2).sample(LETTERS, 2000)]
    read_alike(page, [{"response": " ".join(texts[start : start + 20])} for start in range(0, len(texts), 20)])


@settings(max_examples=6, deadline=None)
@given(st.lists(TEXTS, min_size=300, max_size=300))
def test_any_text_is_read_alike(whole, texts):
    read_alike(whole, [{"response": text} for text in texts])


@settings(max_examples=6, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=100, max_size=100))
def test_pairs_are_cut_alike_the_context_first(short_pairs, rows):
    names = (*CONTEXT, "response")
    read_alike(short_pairs, [dict(zip(names, row, strict=True)) for row in rows])


def test_pairs_of_a_bundle_of_before_are_cut_alike_at_the_end_of_the_context(tmp_path):
    page = make_page(tmp_path, inputs=(*CONTEXT, "response"), max_tokens=16, truncation="context_first")
    row = {"question": "why " * 9, "reference_answer": "you tried hard " * 4, "response": "great job"}
    read_alike(page, [row])
    (python,) = load_encoder(page[0]).encode([row])
    assert [name for name, _ in python.lost] == ["context"]


def test_a_rubric_is_read_alike(tmp_path):
    inputs = ("question", "reference_answer", "rubric", "response")
    page = make_page(tmp_path, inputs=inputs, max_tokens=16)
    lengths = [(9, 4, 4, 2), (1, 9, 9, 2), (0, 0, 9, 2), (9, 9, 9, 30), (3, 3, 3, 3)]
    texts = [
        dict(zip(inputs, ("why " * a, "hard " * b, "tried " * c, "great " * d), strict=True)) for a, b, c, d in lengths
    ]
    read_alike(page, texts)


def test_a_context_without_a_word_and_a_response_without_one_are_read_alike(short_pairs):
    texts = ("", " ", "\u200b", "why " * 30)
    rows = [
        {"question": one, "reference_answer": two, "response": three}
        for one in texts
        for two in texts
        for three in texts
    ]
    read_alike(short_pairs, rows)


def test_marks_that_a_learner_typed_are_text(whole):
    read_alike(whole, [{"response": text} for text in ("[SEP]", "a [CLS]b[PAD]", "[UNK][MASK]")])


@settings(max_examples=6, deadline=None)
@given(st.lists(TEXTS, min_size=200, max_size=200))
def test_a_byte_level_tokenizer_reads_alike(byte_level, texts):
    fixed = ["\ufeffbom", "a\x85b", "a\u00a0 b  c", "<s>marks</s> <mask>", "don't they'll I'M"]
    read_alike(byte_level, [{"response": text} for text in [*fixed, *texts]])


def test_letters_are_normalized_alike_by_a_unigram_tokenizer(unigram_of_bytes):
    changing = [
        letter
        for letter in LETTERS
        if unicodedata.normalize("NFKC", letter) != letter
        or unicodedata.combining(letter)
        or (unicodedata.category(letter) == "Cn" and ord(letter) % 97 == 0)
    ]
    some = [*LETTERS[:0x180], *random.Random(3).sample(LETTERS, 2000), *changing]
    texts = [f"{letter}a\u0301{letter}\u0323" for letter in some if not "가" <= letter <= "힣" or ord(letter) % 31 == 0]
    read_alike(unigram_of_bytes, [{"response": "-".join(texts[at : at + 100])} for at in range(0, len(texts), 100)])


SENTENCES = st.lists(
    st.sampled_from([*IN_LANGUAGES, *"灯亮 ดี\u0e31أ ßΩ👍🏽\n\t\u3000\u2581①x<>"]) | TEXTS, max_size=8
).map("".join)


@settings(max_examples=3, deadline=None)
@given(st.lists(SENTENCES, min_size=100, max_size=100))
def test_a_unigram_tokenizer_reads_alike(unigram, unigram_of_bytes, texts):
    fixed = ["", " ", "\u2581", " a ", "a  b", "</s> <s>x<unk>y<mask>", "灯" * 60, "\u0e31" * 3, *ODD, *IN_LANGUAGES]
    for page in (unigram, unigram_of_bytes):
        read_alike(page, [{"response": text} for text in [*fixed, *texts]])


def test_a_unigram_tokenizer_cuts_pairs_alike(tmp_path):
    unigram_tokenizer().save(str(tmp_path / "tokenizer.json"))
    page = make_page(tmp_path, tokenizer=tmp_path / "tokenizer.json", inputs=(*CONTEXT, "response"), max_tokens=16)
    texts = ("", "\u4e00\u4e8c", *IN_LANGUAGES)
    read_alike(page, [CONTEXT | {"question": one, "response": other} for one in texts for other in texts])


REDACTED = Redaction(ids=(r"S[0-9]{6}", r"\bclass-\w+\b", r"[^\s\d]x\d{2,}?(?=!)", r"(?:id|nr)\.? \d+"))
PERSONAL = [
    "mail me: jo.doe+x@school.example.edu!",
    "HTTPS://Example.org/a(b) and www.x.com, g\u0131thub.\u0131o",
    "call +49 30 1234567 or (412) 555-0100, 555-0100, 4125550100.",
    "S123456 class-7b ax123! id. 42 nr 7",
    "version 1.2.3 on 2024-05-06 at 12:30, 1,234,567",
    "[EMAIL] a[URL]b jo@x.de[PHONE]",
]
PIECES = st.sampled_from(
    [
        *"abx0174 .,-@+()/:[]!\n\u2011\uff14\u00ad\u00a0'",
        "www.",
        "http://",
        ".com",
        ".io",
        "S12",
        "class-",
        "\u017f",
        "\u0130",
        "é",
        "٣",
        "谢",
        "ครับ",
        "و",
        "\u1cff",
        "\U0001d400",
    ]
)


def labelled_examples():
    lines = (TESTS / "serve/task/redaction_examples.txt").read_text("utf-8").splitlines()
    typed = [re.sub(r"\{[A-Z]+:((?:[^{}]|\{[^{}]*\})*)\}", r"\1", line) for line in lines]
    return [re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), line) for line in typed]


@pytest.mark.parametrize("rules", [1, 2, 3])
@settings(max_examples=4, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=40).map("".join) | TEXTS, min_size=300, max_size=300))
def test_personal_data_is_replaced_alike(rules, texts):
    redaction = Redaction(REDACTED.ids, rules)
    given = [*PERSONAL, *labelled_examples(), "(412)5550100" * 20, *texts]
    found = under_node("redact", rules=describe_redaction(redaction), texts=given)
    assert found == [redact_text(text, redaction) for text in given]


def test_every_character_is_folded_alike():
    blocks = (
        range(0xD800),
        range(0xF900, 0x10000),
        range(0x1D700, 0x1D800),
        range(0x1FB00, 0x1FC00),
        range(0xE0000, 0xE0200),
    )
    # Letters that are newer than Python's Unicode are letters to a newer browser only.
    points = [point for block in blocks for point in block]
    letters = [chr(point) for point in points if unicodedata.category(chr(point)) != "Cn"]
    texts = [
        f"S123{letter}456 41{letter}-555-010\u00ad0 a{letter}b@x.org x{letter}com"
        for letter in letters
        if not letter.isalnum()
    ]
    texts += ["".join(letters[at : at + 100]).join(("S", "123456")) for at in range(0, len(letters), 100)]
    assert under_node("redact", rules=describe_redaction(REDACTED), texts=texts) == [
        redact_text(text, REDACTED) for text in texts
    ]


def test_the_page_needs_time_in_proportion_to_the_text():
    hostile = [
        "(412)5550100",
        "a'",
        "a.",
        "a-",
        "http://!",
        "01 23 ",
        "x.com:1",
        "[ID]",
        "\uff14",
        "1 ",
        "S123456",
        "[EMAI",
        "谢a",
        "谢-",
        "x.com谢",
    ]
    texts = [(each * 80_000)[:size] for each in hostile for size in (10_000, 80_000)]
    seconds = under_node("cost", rules=describe_redaction(REDACTED), texts=texts)
    for each, short, long in zip(hostile, seconds[::2], seconds[1::2], strict=True):
        assert long < 16 * short + 0.3, each


@pytest.fixture(scope="module")
def redacting(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("redacting") / "bundle", redact=REDACTED)


def test_a_pattern_that_means_nothing_in_a_browser_is_refused(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", redact=Redaction(ids=(r"(\w)\1",)))
    with pytest.raises(WebFailed, match="back-reference"):
        describe_page(bundle, {})


def test_redaction_comes_before_reading(tmp_path):
    page = make_page(tmp_path, redact=Redaction(), max_tokens=WHOLE)
    read_alike(page, [{"response": text} for text in PERSONAL])
    assert Path(page[1].folder / "page.json").read_text("utf-8").count("[EMAIL]") == 2


ODD = (
    *(
        "",
        " ",
        "\u2800",
        "\u3164",
        "\u200b\ufeff",
        "\x00",
        "\ue000",
        "\ufffd",
        "\u0301",
        "\ufffc",
        "\U0001d159",
        "\U00013441",
    ),
    *(
        "<p>&nbsp;</p>",
        "<p>&nbsp",
        "&lt;br&gt;",
        "&amp;lt;br&amp;gt;",
        "<a title='>'>",
        "<a title='>",
        "<!-- > -->",
        "<!--",
    ),
    *(
        "&#160;",
        "&#x200B;",
        "&#65;",
        "&#9999999;",
        "&#x110000;",
        "&emsp13;",
        "&it",
        "&it;",
        "&shy",
        "<3",
        "<>",
        "<?>",
        "&",
    ),
    *(
        "👍",
        "👍 great",
        "great 👍 job",
        "ฉันไม่รู้",
        "អត់ទេ",
        "አላውቅም",
        "ကောင်းပါတယ်",
        "a" * 101,
        "a" * 100,
        "ﷺ",
        "ᛗᚢᚾᛞ",
        "????",
    ),
    *(
        "\U000e0041",
        "한글",
        "漢字",
        "e\u0301",
        "[UNK]",
        "[UNK] [SEP]",
        "x\u00ady",
        "<script>alert(1)</script>",
        "\u00f0\u0178\u2018",
    ),
)


MIXED = st.lists(
    st.sampled_from(
        [
            *("great", "job!", "ไม่", "👍🏽", "...", "กขค" * 9, "\u200b", "é", "q" * 101, "日本", "မြန်မာ", "؟", "≠"),
            *("<b>", "<!-- 日 -->", "<!--", "&#128077;", "&#xD800;", "&nbsp;", "&lt;p&gt;", "<p a='>", "--!>"),
        ]
    ),
    max_size=20,
)


@settings(max_examples=4, deadline=None)
@given(st.lists(st.tuples(MIXED.map("".join) | MIXED.map(" ".join), TEXTS), min_size=100, max_size=200))
def test_the_unknown_share_of_mixtures_is_equal_whatever_is_cut(short_pairs, whole, rows):
    read_alike(whole, [{"response": response} for response, _ in rows])
    read_alike(short_pairs, [CONTEXT | {"question": text, "response": response} for response, text in rows])


def test_odd_texts_are_blank_and_unknown_alike(whole, short_pairs, byte_level):
    read_alike(whole, [{"response": text} for text in ODD])
    read_alike(byte_level, [{"response": text} for text in ODD])
    read_alike(short_pairs, [CONTEXT | {"question": text, "response": f"{text} great"} for text in ODD])


PIECES = (*"<>&#;/!-'\"x16a0lt \u00a0\u200b\u2800\u3164", "&nbsp;", "<p>", "amp;", "<!--", "-->")
INKLESS_AND_MARKUP = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)


@settings(max_examples=15, deadline=None)
@given(st.lists(INKLESS_AND_MARKUP, min_size=40, max_size=80))
def test_what_is_blank_in_python_is_blank_on_the_page(whole, texts):
    read_alike(whole, [{"response": text} for text in texts])


def test_every_character_is_blank_alike(whole):
    bundle, _ = whole
    texts = [*LETTERS, *(f"&#{ord(letter)};" for letter in LETTERS[:0x3200])]
    rules = msgspec.to_builtins(describe_page(bundle, {}))["invisible"]
    found = under_node("blank", patterns=rules, texts=texts)
    assert [text for text, one in zip(texts, found, strict=True) if one != is_blank(text)] == []


def test_every_character_of_a_question_is_hashed_alike(whole):
    bundle, _ = whole
    rules = msgspec.to_builtins(describe_page(bundle, {}))["invisible"]
    # A browser may know letters that this Python does not, and turn them to lower case.
    known = [letter for letter in LETTERS if unicodedata.category(letter) != "Cn"]
    texts = [
        *known,
        *ODD[1:],
        "ΣΑΣ ΟΔΟΣ",
        "İstanbul",
        "ﬁ ½ Å",
        "What  is\tX? " * 20,
        "1  2 3 x² 10⁻¹",
        " 1\u200b2 ",
        "\uff14 \uff15 ² ",
    ]
    python = [context_hash({"question": text, "response": ""}) for text in texts]
    page = under_node("contexts", patterns=rules, texts=texts)
    assert [text for text, one, other in zip(texts, python, page, strict=True) if one != other] == []


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    # The graph of these pages has two types of tokens, so that their golden rows have one text before the response.
    inputs = ("question", "reference_answer", "response")
    return make_page(tmp_path_factory.mktemp("apart"), inputs=inputs, max_tokens=16, truncation="references_apart")


def test_references_apart_are_read_alike(apart):
    lines = ["you tried", "hard", "", " \u2028you\x1c\x85tried\u3000", "\ufeff", "great " * 9, "a\r\nb\x0bc", "\x1f"]
    rows = [
        {"question": "why", "reference_answer": "\n".join(lines[:count][::order]), "response": response}
        for count in range(len(lines) + 1)
        for order in (1, -1)
        for response in ("great job", "", "hard " * 30)
    ]
    read_alike(apart, rows)


@settings(max_examples=4, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.lists(TEXTS, max_size=3), TEXTS), min_size=100, max_size=100))
def test_any_references_apart_are_read_alike(apart, rows):
    read_alike(
        apart,
        [
            {"question": question, "reference_answer": "\n".join(references), "response": response}
            for question, references, response in rows
        ],
    )


def test_a_rubric_as_a_text_apart_is_read_alike(tmp_path):
    page = make_page(tmp_path, inputs=("rubric", "response"), max_tokens=16, truncation="references_apart")
    read_alike(
        page, [{"rubric": rubric, "response": "great job"} for rubric in ("", "\x1f", "hard\nsmart", "why " * 20)]
    )
