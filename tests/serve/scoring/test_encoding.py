"""The context is truncated before the response, and special tokens surround both."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.task.task import model_texts

from ...growth import assert_costs_at_most, cpu_seconds

SEP, CLS = ("[SEP]", 3), ("[CLS]", 2)


def template(single, pair):
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=[CLS, SEP])


POST_PROCESSORS = {
    "template": template("[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"),
    "BERT": processors.BertProcessing(SEP, CLS),
    "RoBERTa": processors.RobertaProcessing(SEP, CLS),
    "XLNet": template("$A:0 [SEP]:0 [CLS]:2", "$A:0 [SEP]:0 $B:1 [SEP]:1 [CLS]:2"),
    "decoder": template("[CLS]:0 $A:0", "[CLS]:0 $A:0 [CLS]:1 $B:1"),
    "offsets alone": processors.ByteLevel(trim_offsets=True),
    "one after another": processors.Sequence([processors.ByteLevel(), template("$A:0 [SEP]:0", "$A:0 $B:1 [SEP]:1")]),
    "second text first": template("$A", "[CLS]:0 $B:1 [SEP]:1 $A:0"),
    "a text twice": template("$A [SEP] $A", "$A $B $A"),
    "nothing": None,
}
"""As families have them, and further ones that a tokenizer's file can hold."""


@pytest.fixture(scope="module")
def encoder(parts) -> Encoder:
    return Encoder(parts / "tokenizer.json", 12)


def test_a_long_context_is_cut_before_the_response(encoder):
    (encoded,) = encoder.encode([{"question": "why " * 30, "response": "you worked hard"}])
    assert len(encoded.ids) == 12
    assert encoded.type_ids.count(1) == len(["you", "worked", "hard", "[SEP]"])
    assert (encoded.tokens, encoded.truncated) == (3, False)


LONG = {"question": "why " * 6, "reference_answer": "hard " * 4, "rubric": "smart " * 3, "response": "great job"}


@pytest.mark.parametrize(
    ("max_tokens", "lost"),
    [
        (18, ()),
        (16, (("question", 2),)),
        (12, (("question", 6),)),
        (10, (("question", 6), ("rubric", 2))),
        (7, (("question", 6), ("rubric", 3), ("reference_answer", 2))),
        (5, (("question", 6), ("rubric", 3), ("reference_answer", 4))),
        (4, (("question", 6), ("rubric", 3), ("reference_answer", 4), ("response", 1))),
    ],
)
def test_the_question_is_cut_first_then_the_rubric_then_the_reference_and_the_response_last(parts, max_tokens, lost):
    (encoded,) = Encoder(parts / "tokenizer.json", max_tokens).encode([LONG])
    assert encoded.lost == lost
    assert encoded.context_tokens_lost == sum(tokens for name, tokens in lost if name != "response")
    assert len(encoded.ids) == max_tokens


def test_the_reference_stays_whole_where_the_question_is_cut(parts):
    (whole,) = Encoder(parts / "tokenizer.json", 64).encode([{**LONG, "question": "why"}])
    (cut,) = Encoder(parts / "tokenizer.json", len(whole.ids)).encode([LONG])
    assert cut.ids == whole.ids


def test_a_bundle_of_before_loses_the_end_of_its_context(parts):
    (encoded,) = Encoder(parts / "tokenizer.json", 12, "context_first").encode([LONG])
    (alone,) = Encoder(parts / "tokenizer.json", 64).encode(
        [{"question": "why " * 6 + "hard", "response": "great job"}]
    )
    assert encoded.ids == alone.ids
    assert encoded.lost == (("context", 6),)


APART = {
    "question": "why " * 6,
    "reference_answer": "hard you\n\n great \n",
    "rubric": "smart",
    "response": "great job",
}


def test_each_reference_is_a_text_of_its_own_and_the_question_is_not_read(parts):
    encoder = Encoder(parts / "tokenizer.json", 64, "references_apart")
    (encoded,) = encoder.encode([APART])
    kinds = [0, *[0] * 3, *[2] * 2, *[3] * 2, *[1] * 3]  # each with the separator after it
    assert list(encoded.type_ids) == kinds
    assert encoded.ids.count(encoded.ids[3]) == 4
    assert (encoded.context_tokens, encoded.lost) == (4, ())
    (alone,) = Encoder(parts / "tokenizer.json", 64).encode([{"reference_answer": "great", "response": "great job"}])
    assert encoded.ids[4:6] == alone.ids[1:3]


def test_without_references_the_question_is_read_and_without_it_the_response_alone(parts):
    apart, joint = (
        Encoder(parts / "tokenizer.json", 64, truncation) for truncation in ("references_apart", "question_first")
    )
    for row in ({"question": "why", "response": "great job"}, {"response": "great job"}):
        assert apart.encode([row]) == joint.encode([row])
        assert apart.encode([row | {"reference_answer": " \n"}])[0].ids == joint.encode([row])[0].ids


@pytest.mark.parametrize(
    ("max_tokens", "lost"),
    [
        (12, ()),
        (10, (("rubric", 1),)),
        (8, (("reference_answer", 1), ("rubric", 1))),
        (5, (("reference_answer", 3), ("rubric", 1))),
        (4, (("reference_answer", 3), ("rubric", 1), ("response", 1))),
    ],
)
def test_of_texts_apart_the_last_are_cut_first(parts, max_tokens, lost):
    (encoded,) = Encoder(parts / "tokenizer.json", max_tokens, "references_apart").encode([APART])
    assert encoded.lost == lost
    assert len(encoded.ids) <= max_tokens


def test_a_truncated_response_is_marked(encoder):
    (encoded,) = encoder.encode([{"response": "hard " * 30}])
    assert (len(encoded.ids), encoded.tokens, encoded.truncated) == (12, 30, True)


def test_marks_that_a_learner_types_are_plain_text(encoder):
    (encoded,) = encoder.encode([{"response": "[SEP]"}])
    assert encoded.ids.count(3) == 1


TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
ROWS = st.lists(st.fixed_dictionaries({"response": TEXTS}, optional={"question": TEXTS}), max_size=5)
CONTEXTS = st.fixed_dictionaries(dict.fromkeys(("question", "reference_answer", "rubric", "response"), TEXTS))


@given(CONTEXTS, st.integers(5, 40))
def test_a_cut_keeps_the_beginning_of_each_input_and_fills_the_sequence(parts, row, max_tokens):
    (encoded,) = Encoder(parts / "tokenizer.json", max_tokens).encode([row])
    (whole,) = Encoder(parts / "tokenizer.json", 400).encode([row])
    assert encoded.context_tokens == whole.context_tokens
    assert len(encoded.ids) == min(max_tokens, len(whole.ids))
    remaining = iter(whole.ids)
    assert all(token in remaining for token in encoded.ids)  # in order, none added


@given(CONTEXTS, st.integers(5, 40))
def test_texts_apart_never_exceed_the_limit_and_every_lost_token_is_counted(parts, row, max_tokens):
    (encoded,) = Encoder(parts / "tokenizer.json", max_tokens, "references_apart").encode([row])
    (whole,) = Encoder(parts / "tokenizer.json", 900, "references_apart").encode([row])
    assert len(encoded.ids) == len(encoded.type_ids) <= max_tokens
    assert encoded.context_tokens == whole.context_tokens
    assert encoded.context_tokens_lost == sum(count for name, count in encoded.lost if name != "response")
    assert whole.lost == ()


@given(ROWS)
def test_a_row_is_encoded_the_same_alone_and_among_others(encoder, rows):
    together = encoder.encode(rows)
    assert together == [encoder.encode([row])[0] for row in rows]
    assert all(len(encoded.ids) == len(encoded.type_ids) <= 12 for encoded in together)


def test_long_texts_are_encoded_the_same_alone_and_among_others(encoder):
    rows = [{"response": f"{number} {'hard ' * 10_000 * number}"} for number in (3, 4, 0, 5, 1)]
    together = encoder.encode(rows)
    assert together == [encoder.encode([row])[0] for row in rows]
    assert [encoded.tokens for encoded in together] == [30_001, 40_001, 1, 50_001, 10_001]


@pytest.fixture(scope="module", params=POST_PROCESSORS.values(), ids=POST_PROCESSORS)
def file(parts, request, tmp_path_factory):
    tokenizer = Tokenizer.from_file(str(parts / "tokenizer.json"))
    tokenizer.post_processor = request.param
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(file))
    return file


def test_a_tokenizer_that_pads_and_cuts_by_itself_gives_the_same_ids(parts, tmp_path):
    tokenizer = Tokenizer.from_file(str(parts / "tokenizer.json"))
    tokenizer.enable_padding(length=128, pad_token="[PAD]")
    tokenizer.enable_truncation(3)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    rows = [{"response": "you worked hard on this"}, {"question": "why", "response": "great job"}]
    assert Encoder(tmp_path / "tokenizer.json", 12).encode(rows) == Encoder(parts / "tokenizer.json", 12).encode(rows)


def as_the_tokenizer_joins(file, max_tokens, row):
    """Ids and type ids as the tokenizer's own cutting and joining gives them."""
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.encode_special_tokens = True
    first, second = model_texts(row)
    texts = [tokenizer.encode(text, add_special_tokens=False) for text in (first, second) if text is not None]
    room = max_tokens - tokenizer.num_special_tokens_to_add(len(texts) == 2)
    for text in reversed(texts):
        text.truncate(room)
        room -= len(text)
    joined = tokenizer.post_process(*texts)
    return tuple(joined.ids), tuple(joined.type_ids)


@settings(deadline=None, max_examples=50)
@given(rows=ROWS, max_tokens=st.integers(5, 60))
def test_ids_are_those_that_the_tokenizer_itself_would_join(file, rows, max_tokens):
    encoded = Encoder(file, max_tokens).encode(rows)
    assert [(each.ids, each.type_ids) for each in encoded] == [
        as_the_tokenizer_joins(file, max_tokens, row) for row in rows
    ]


def test_a_long_context_with_a_full_response_takes_little_more_than_its_tokens(parts):
    encoder = Encoder(parts / "tokenizer.json", 24)
    row = {"question": "why " * 30_000, "response": "hard " * 20}
    alone = {"response": row["question"]}
    assert_costs_at_most(lambda: cpu_seconds(encoder.encode, [row]), (3, lambda: cpu_seconds(encoder.encode, [alone])))


def test_a_special_token_that_a_learner_typed_is_plain_text_for_a_unigram_tokenizer():
    pieces = [("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -5.0) for letter in "\u2581</>ukns")]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    (encoded,) = Encoder(tokenizer.to_str().encode(), 48).encode([{"response": "s </s> <s> <unk>"}])
    assert [number for number in encoded.ids if number < 3] == [0, 1]
    assert (encoded.ids[0], encoded.ids[-1], encoded.unknown_share) == (0, 1, 0.0)
