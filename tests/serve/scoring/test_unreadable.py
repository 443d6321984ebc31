"""A response that the vocabulary cannot represent goes to a person, at every door, and its share is reported."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from edgedistill_serve import Score, Scorer, ScoringFailed
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.grading.grade import grade
from edgedistill_serve.scoring.encoding import Encoded, Encoder, find_unknown_token
from edgedistill_serve.scoring.score import build_score

from ..conftest import build_tokenizer

UNREADABLE = ("👍", "👍 👍👍", "ฉันไม่รู้", "ខ្ញុំមិនដឹង", "አላውቅም", "a" * 120, "ﷺ you ไม่", "\ue000", "\ufffd\ufffd", "\u0301")
MOSTLY_UNREAD = (
    "ok ok ฉันไม่รู้ว่าทำไมมันถึงเกิดขึ้น",
    "I agree " + "qzjxv" * 24,
    "great job ကျွန်တော်မသိပါဘူးဘာကြောင့်ဖြစ်တာလဲ",
    "you worked hard မြန်မာဘာသာစကားဖြင့်ရေးသားထားသောစာကြောင်းရှည်",
    "ok!!!!!!!!!! 👍🏽👍🏽👍🏽",
    "👍!!!!!!!!!!",
    "... 🤷‍♀️ ...",
    "no. ឧបករណ៍នេះមិនដំណើរការទេ.",
    "ok 👩‍👩‍👧‍👦👩‍👩‍👧‍👦",
    "a b c ምክንያቱምአላውቅምምክንያቱምአላውቅም",
)
"""At most half of the tokens are unknown, and most of the letters are."""
IN_MARKUP = (
    "<p>👍</p>",
    '<p class="answer" style="color: black">ฉันไม่รู้</p>',
    "<div><p>ខ្ញុំមិនដឹង</p><p>&nbsp;</p></div>",
    "<!-- pasted from a word processor -->👍",
    "&lt;p&gt;👍🏽&lt;/p&gt;",
    "<p>\ue000</p>",
    "&#128077;&#x1F44D;",
    "<p>&#3593;&#3633;&#3609;</p>",
    "<span lang='en'>ok ฉันไม่รู้ว่าทำไม</span>",
)
"""The tags are known to the vocabulary, and what they show is not."""
READABLE = (
    "great job 👍",
    "you worked hard",
    "?!",
    "great ไม่",
    "x" * 20,
    "!" * 9 + " great job 👍",
    "<p>great job 👍</p>",
)
BLANK = ("", " \t", "\u2800", "\u3164\u200b", "<p>&nbsp;</p>", "\x00\x07")


@pytest.fixture(scope="module")
def scorer(bundle) -> Scorer:
    return Scorer(bundle, threads=1, score_cache=0)


@pytest.mark.parametrize("text", [*UNREADABLE, *MOSTLY_UNREAD, *IN_MARKUP])
def test_mostly_unknown_text_is_reviewed_as_unreadable(scorer, text):
    (score,) = scorer.score([text])
    assert (score.decision, score.reason) == ("review", "unreadable")
    assert 0.5 < score.unknown_share <= 1


@pytest.mark.parametrize("text", READABLE)
def test_text_that_is_unknown_at_most_by_half_is_judged_by_its_probability(scorer, text):
    (score,) = scorer.score([text])
    assert score.reason is None
    assert score.unknown_share <= 0.5


@pytest.mark.parametrize("text", BLANK)
def test_text_with_nothing_visible_is_blank_and_not_unreadable(scorer, text):
    assert scorer.score([text])[0].reason == "blank"


def test_the_share_counts_tokens_of_the_response_that_the_model_read(scorer, answers_bundle):
    assert scorer.score(["great ไม่ job 👍"])[0].unknown_share == 0.5
    (score,) = Scorer(answers_bundle).score([{"question": "ไม่", "reference_answer": "👍", "response": "great job"}])
    assert score.unknown_share == 0
    (cut,) = scorer.score(["great " * 40 + "ไม่ " * 200])
    assert (cut.unknown_share, cut.reason) == (0, "truncated")


@pytest.mark.parametrize("truncation", ["question_first", "context_first", "references_apart"])
def test_the_share_of_the_context_is_counted_apart(parts, truncation):
    contexts = [("great", "job"), ("ฉันไม่รู้", "ฉันไม่รู้ว่าทำไม"), ("great", "job\n👍"), ("", "")]
    rows = [{"question": one, "reference_answer": other, "response": "great job"} for one, other in contexts]
    read = Encoder(parts / "tokenizer.json", 24, truncation).encode(rows)
    assert [each.unknown_share for each in read] == [0, 0, 0, 0]
    third = 1.0 if truncation == "references_apart" else 1 / 3
    assert [each.context_unknown_share for each in read] == [0, 1, third, 0]


def test_letters_count_if_they_are_more_than_tokens_and_punctuation_does_not(scorer):
    shares = {text: scorer.score([text])[0].unknown_share for text in ("ok กกกกกก", "👍!!!!", "x, 👍 👍 great...", "?")}
    assert shares == {"ok กกกกกก": 6 / 8, "👍!!!!": 1, "x, 👍 👍 great...": 2 / 8, "?": 0}


@given(st.lists(st.sampled_from(["great", "job!", "ไม่", "👍", "...", "k", "กขค" * 9, "\u200b", "é"]), max_size=30))
def test_the_share_of_a_text_depends_neither_on_its_neighbours_nor_on_what_was_cut(parts, words):
    text = " ".join(words)
    short = Encoder(parts / "tokenizer.json", 12)
    (alone,) = short.encode([{"response": text}])
    among = short.encode([{"response": "👍 ไม่"}, {"response": text}, {"response": "great " * 1000}])[1]
    assert alone == among
    assert 0 <= alone.unknown_share <= 1
    whole = Encoder(parts / "tokenizer.json", 12).encode([{"response": text + " great ไม่ไม่ไม่" * 9}])[0]
    if alone.tokens >= 10:
        assert whole.unknown_share == alone.unknown_share


def test_letters_of_a_sentencepiece_vocabulary_are_counted_piece_by_piece(tmp_path):
    pieces = [
        ("<unk>", 0.0),
        ("▁", -4.0),
        ("▁great", -2.0),
        ("▁job", -2.0),
        *((letter, -5.0) for letter in "abcgreatjobin"),
    ]
    tokenizer = Tokenizer(models.Unigram(list(dict(pieces).items()), unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = Encoder(tmp_path / "tokenizer.json", 30)
    texts = ["great job", "ฉันไม่รู้", "great ฉันไม่รู้", "great jobก", "great 👍", "job 👍!"]
    shares = [read.unknown_share for read in encoder.encode([{"response": text} for text in texts])]
    assert shares == [0, 1, 9 / 14, 1 / 3, 1 / 3, 1 / 3]


@pytest.mark.parametrize(("most", "reason"), [(1.0, None), (0.5, None), (0.49, "unreadable"), (0.0, "unreadable")])
def test_the_bundle_says_from_which_share_on(make_bundle, tmp_path, most, reason):
    bundle = make_bundle(tmp_path / "bundle", review=ReviewRule(max_unknown_share=most))
    assert Scorer(bundle).score(["great ไม่"])[0].reason == reason


def test_a_grade_has_the_reason_and_the_share(scorer, tmp_path):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["response"], *([text] for text in (*UNREADABLE, *IN_MARKUP))])
    counts = grade(scorer, source, target)
    with target.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert counts.review == len(rows) == len(UNREADABLE) + len(IN_MARKUP)
    assert {row["reason"] for row in rows} == {"unreadable"}
    assert [float(row["unknown_share"]) for row in rows] == [
        s.unknown_share for s in scorer.score([*UNREADABLE, *IN_MARKUP])
    ]


@pytest.mark.parametrize(
    ("model", "unknown"),
    [
        (models.WordPiece({"[UNK]": 5, "a": 0}, unk_token="[UNK]"), 5),
        (models.WordLevel({"<unk>": 3, "a": 0}, unk_token="<unk>"), 3),
        (models.BPE({"<unk>": 2, "a": 0, "b": 1}, [], unk_token="<unk>"), 2),
        (models.BPE({"a": 0, "b": 1}, []), None),
        (models.Unigram([("a", 0.0), ("<unk>", 0.0)], unk_id=1), 1),
    ],
)
def test_the_unknown_token_of_every_kind_of_tokenizer_is_found(model, unknown):
    assert find_unknown_token(Tokenizer(model)) == unknown


def test_text_that_a_tokenizer_drops_without_a_trace_is_unreadable(tmp_path):
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    dropped, blank, read = Encoder(tmp_path / "tokenizer.json", 8).encode(
        [{"response": text} for text in ("ไม่", "<br>", "ab")]
    )
    assert (dropped.tokens, dropped.unknown_share, dropped.blank) == (0, 1.0, False)
    assert blank.blank
    assert (read.unknown_share, read.blank) == (0.0, False)


def test_a_typed_unk_is_text_and_not_the_unknown_token(tmp_path):
    build_tokenizer().save(str(tmp_path / "tokenizer.json"))
    (read,) = Encoder(tmp_path / "tokenizer.json", 24).encode([{"response": "[UNK]"}])
    assert read.unknown_share == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_probability_that_is_not_finite_is_an_error_and_never_accepted(scorer, value):
    with pytest.raises(ScoringFailed, match="not finite"):
        build_score(np.array([value, 0.5, 0.5]), Encoded((), (), 1, False), scorer.bundle.task, ReviewRule())


def test_a_share_or_threshold_that_is_not_a_number_reviews(scorer):
    def reason(encoded: Encoded, rule: ReviewRule) -> str | None:
        return build_score(np.array([0.6, 0.2, 0.2]), encoded, scorer.bundle.task, rule).reason

    nan = float("nan")
    assert reason(Encoded((), (), 1, False, unknown_share=nan), ReviewRule()) == "unreadable"
    assert reason(Encoded((), (), 1, False), ReviewRule(max_unknown_share=nan)) == "unreadable"
    assert reason(Encoded((), (), 1, False), ReviewRule(thresholds={"process": nan})) == "below threshold"


def test_what_is_cut_from_the_context_is_counted(answers_bundle):
    row = {"question": "why " * 50, "reference_answer": "because", "response": "great job"}
    (score,) = Scorer(answers_bundle).score([row])
    assert (score.truncated, score.context_truncated) == (False, True)
    # 24 tokens: three special ones, two of the response.
    assert (score.context_tokens, score.context_tokens_lost) == (51, 51 - (24 - 3 - 2))
    (short,) = Scorer(answers_bundle).score([row | {"question": "why"}])
    assert (short.context_tokens, short.context_tokens_lost, short.context_truncated) == (2, 0, False)
    (all_lost,) = Scorer(answers_bundle).score([row | {"response": "great " * 40}])
    assert (all_lost.truncated, all_lost.context_tokens_lost) == (True, 51)


def test_older_clients_read_new_scores_and_new_ones_read_older_scores(scorer):
    import msgspec

    (score,) = scorer.score(["great job"])
    content = json.loads(msgspec.json.encode(score))
    older = {name: content[name] for name in list(content)[:7]}
    assert msgspec.convert(older, Score).unknown_share == 0.0
