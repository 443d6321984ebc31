"""A cut vocabulary reads the texts it was cut for as before, and no other text worse than in smaller pieces."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from edgedistill_export import Checkpoint, CheckpointError, ExportFailed, ExportPlan, export_bundle
from edgedistill_export.authors import TEACHER
from edgedistill_export.quantize.tokenizer_cut import choose_tokens, cut_tokenizer, vocabulary_of
from edgedistill_export.quantize.vocabulary import cut_vocabulary, tokenize_texts
from edgedistill_serve.scoring.scorer import Scorer

from ..tiny import (
    BERT,
    DISTILBERT,
    E5,
    FAMILIES,
    GRADING,
    IN_LANGUAGES,
    MAX_TOKENS,
    PRAISE,
    ROBERTA,
    TEXTS,
    Kin,
    rows_for,
    save_student,
    unigram_tokenizer,
)

SEEN = TEXTS[:6]
UNSEEN = tuple(text for text in TEXTS[6:] if text.strip())


def _cut(folder: Path, kin: Kin, task=PRAISE, rows=None, common: int = 0):
    student = Checkpoint.load(save_student(folder / "student", task, kin), task, MAX_TOKENS)
    rows = [{"response": text} for text in SEEN] if rows is None else rows
    return student, *cut_vocabulary(student, rows, folder / "cut", common=common, least_learners=1)


@pytest.mark.parametrize("kin", [*FAMILIES, E5], ids=lambda kin: kin.name)
@pytest.mark.parametrize("task", [PRAISE, GRADING], ids=["response alone", "three inputs"])
def test_the_rows_it_was_cut_for_keep_their_pieces_and_logits_bit_for_bit(tmp_path: Path, kin: Kin, task):
    rows = rows_for(task)[:6]
    student, cut, reported = _cut(tmp_path, kin, task, rows)
    texts = [row["response"] for row in rows]
    before, after = (tokenize_texts(folder.folder / "tokenizer.json", texts) for folder in (student, cut))
    assert after == before
    np.testing.assert_array_equal(cut.logits(rows), student.logits(rows))
    assert reported.pieces < reported.pieces_before


@pytest.mark.parametrize("kin", [*FAMILIES, E5], ids=lambda kin: kin.name)
def test_each_kept_piece_has_the_numbers_it_had(tmp_path: Path, kin: Kin):
    student, cut, reported = _cut(tmp_path, kin)
    old, new = (vocabulary_of(json.loads((of.folder / "tokenizer.json").read_text())) for of in (student, cut))
    tables = [of.model.get_input_embeddings().weight.detach().numpy() for of in (student, cut)]
    assert sorted(new.values()) == list(range(reported.pieces))
    assert cut.config["vocab_size"] == len(tables[1]) == reported.pieces
    for piece, number in new.items():
        np.testing.assert_array_equal(tables[1][number], tables[0][old[piece]])


@pytest.mark.parametrize("kin", [*FAMILIES, E5], ids=lambda kin: kin.name)
def test_the_file_is_smaller_by_the_rows_that_are_gone(tmp_path: Path, kin: Kin):
    student, cut, reported = _cut(tmp_path, kin)
    sizes = [
        sum(weights.nbytes for weights in load_file(of.folder / "model.safetensors").values()) for of in (student, cut)
    ]
    assert sizes[0] - sizes[1] == reported.bytes_saved > 0


@pytest.mark.parametrize("kin", [*FAMILIES, E5], ids=lambda kin: kin.name)
def test_marks_and_ids_of_the_config_name_the_same_tokens(tmp_path: Path, kin: Kin):
    student, cut, _ = _cut(tmp_path, kin)
    old, new = (Tokenizer.from_file(str(of.folder / "tokenizer.json")) for of in (student, cut))
    for texts in ((SEEN[0],), (SEEN[0], SEEN[1])):
        assert new.encode(*texts).tokens == old.encode(*texts).tokens
    for key in ("pad_token_id", "bos_token_id", "eos_token_id"):
        before, after = (getattr(of.model.config, key) for of in (student, cut))
        assert (before is None) == (after is None)
        if before is not None:
            assert new.id_to_token(after) == old.id_to_token(before)


@pytest.mark.parametrize("kin", [*FAMILIES, E5], ids=lambda kin: kin.name)
def test_other_texts_are_read_as_smaller_pieces_of_the_same_words(tmp_path: Path, kin: Kin):
    student, cut, _ = _cut(tmp_path, kin)
    before, after = (tokenize_texts(of.folder / "tokenizer.json", UNSEEN) for of in (student, cut))
    assert before != after

    def joined(pieces):
        return "".join(piece.removeprefix("##") for piece in pieces)

    assert [joined(pieces) for pieces in after] == [joined(pieces) for pieces in before]


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """Per family, the tokenizer as it was and as it was cut."""
    found = {}
    for kin in (BERT, ROBERTA, E5):
        student, cut, _ = _cut(tmp_path_factory.mktemp(kin.name), kin)
        found[kin.name] = [Tokenizer.from_file(str(of.folder / "tokenizer.json")) for of in (student, cut)]
    return found


_LETTERS = "".join(sorted(set("".join(TEXTS)))) + "xyzß漢\u0301\u200d"


@pytest.mark.parametrize("kin", ["bert", "roberta"])
@given(text=st.text(alphabet=_LETTERS, max_size=60))
def test_no_text_has_more_unknown_words_than_before(readers, kin, text):
    before, after = (reader.encode(text, add_special_tokens=False) for reader in readers[kin])
    unknown = [
        [at for at, piece in zip(e.offsets, e.tokens, strict=True) if "unk" in piece.lower()] for e in (before, after)
    ]
    assert unknown[1] == unknown[0]


@pytest.mark.parametrize("kin", ["bert", "roberta", "e5"])
@given(words=st.lists(st.sampled_from([word for text in SEEN for word in text.split()]), max_size=12))
def test_words_that_were_seen_keep_their_pieces_in_any_order(readers, kin, words):
    # A word after a space is another word to a byte-level reader than one that begins a text.
    text = f"{SEEN[0].split()[0]} {' '.join(words)}" if kin == "roberta" else " ".join(words)
    before, after = (reader.encode(text, add_special_tokens=False).tokens for reader in readers[kin])
    known = {piece for seen in pieces_known(readers[kin][0]) for piece in seen}
    if set(before) <= known:
        assert after == before


def pieces_known(reader):
    return (encoding.tokens for encoding in reader.encode_batch(list(SEEN), add_special_tokens=False))


def test_frequent_pieces_stay_though_no_text_holds_them(tmp_path: Path):
    _, without, few = _cut(tmp_path / "a", BERT, common=0)
    _, with_five, more = _cut(tmp_path / "b", BERT, common=5)
    assert more.pieces == few.pieces + 5
    kept = [json.loads((of.folder / "tokenizer.json").read_text())["model"]["vocab"] for of in (without, with_five)]
    assert kept[0].keys() < kept[1].keys()


def test_a_cut_with_room_for_all_pieces_changes_no_reading(tmp_path: Path):
    student, cut, _ = _cut(tmp_path, ROBERTA, common=10_000)
    before, after = (tokenize_texts(of.folder / "tokenizer.json", UNSEEN) for of in (student, cut))
    assert after == before


def test_a_letter_that_is_no_piece_by_itself_keeps_the_pieces_it_stands_in():
    vocabulary = {piece: i for i, piece in enumerate(["[UNK]", "a", "##a", "##b", "aq", "ab", "aa", "[unused0]"])}
    tokenizer = {"model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": vocabulary}, "added_tokens": []}
    assert choose_tokens(tokenizer, [], 0) == {"[UNK]", "a", "##a", "##b", "aq"}
    assert choose_tokens(tokenizer, ["aa"], 1) == {"[UNK]", "a", "##a", "##b", "aq", "aa", "ab"}


def test_what_a_reached_piece_is_merged_from_stays_with_its_merges():
    letters = ["a", "b", "c"]
    vocabulary = {piece: i for i, piece in enumerate([*letters, "ab", "bc", "abc", "ca"])}
    model = {"type": "BPE", "vocab": vocabulary, "merges": ["a b", "b c", "ab c", "c a"]}
    tokenizer = {"model": model, "pre_tokenizer": {"type": "ByteLevel"}, "added_tokens": []}
    kept = choose_tokens(tokenizer, ["abc"], 0)
    assert kept == {*letters, "ab", "abc"}
    assert cut_tokenizer(tokenizer, kept)[0]["model"]["merges"] == ["a b", "ab c"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"type": "WordLevel", "vocab": []}, "of the kind 'WordLevel' cannot be cut"),
        ({"type": "Unigram", "vocab": [["a", -1.0]]}, r"no token for unknown characters \(unk_id is None, of 1 tokens"),
        ({"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 1}, "unk_id is 1, of 1 tokens"),
        ({"type": "BPE", "vocab": {}, "merges": [], "end_of_word_suffix": "</w>"}, "not plainly byte-level"),
        ({"type": "BPE", "vocab": {}, "merges": []}, "no ByteLevel reading"),
    ],
)
def test_a_vocabulary_that_cannot_be_cut_exactly_is_refused(model, message):
    with pytest.raises(ExportFailed, match=message):
        choose_tokens({"model": model, "added_tokens": []}, [], 0)


CHARACTERS = st.sampled_from(sorted(set("".join((*TEXTS, *IN_LANGUAGES))) | set("\n\t①ﬁ½👍🏽Ω")))


def _unigram_cut(reached, common=0, fragments=frozenset(), tokenizer=None):
    content = json.loads((tokenizer or unigram_tokenizer()).to_str())
    cut, _ = cut_tokenizer(content, choose_tokens(content, reached, common, fragments))
    return Tokenizer.from_str(json.dumps(cut))


def _pieces(tokenizer, text):
    """The tokens of a text; None for an unknown one, whose token is the text itself."""
    encoding = tokenizer.encode(text, add_special_tokens=False)
    unknown = tokenizer.token_to_id("<unk>")
    return [None if number == unknown else piece for number, piece in zip(encoding.ids, encoding.tokens, strict=True)]


@given(texts=st.lists(st.lists(CHARACTERS | st.sampled_from(IN_LANGUAGES), max_size=30).map("".join), max_size=4))
def test_a_cut_unigram_vocabulary_reads_the_texts_it_was_cut_for_as_before(texts):
    whole = unigram_tokenizer()
    before = [_pieces(whole, text) for text in texts]
    cut = _unigram_cut({piece for pieces in before for piece in pieces if piece})
    assert [_pieces(cut, text) for text in texts] == before


@given(text=st.lists(CHARACTERS | st.sampled_from(IN_LANGUAGES), max_size=30).map("".join))
def test_letters_of_the_scripts_of_the_texts_stay_known_and_letters_of_others_do_not(text):
    cut = _unigram_cut({"▁หลอดไฟติดเพราะวงจรปิด", "ดี"})
    assert all(cut.token_to_id(letter) is not None for letter in "หลวงจดี")
    assert cut.token_to_id("灯") is None
    assert _pieces(cut, "灯亮了") == ["▁", None]
    thai_and_marks = "".join(c for c in text if "\u0e00" <= c < "\u0e80" or c in " .,!?👏")
    assert None not in _pieces(cut, thai_and_marks) or None in _pieces(unigram_tokenizer(), thai_and_marks)


def test_the_token_of_the_lowest_score_stays_because_unknown_characters_cost_ten_more():
    scored = [("<unk>", 0.0), ("▁", -1.0), ("ab", -20.0), ("a", -3.0), ("z", -9.0)]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<unk>"])
    assert _pieces(tokenizer, "ab") == ["▁", "ab"]  # -20 against -3 - 30 for "a" and an unknown "b"
    cut = _unigram_cut({"▁", "ab"}, tokenizer=tokenizer)
    assert _pieces(cut, "ab") == ["▁", "ab"]
    scored[2] = ("ab", -22.0)  # -23 against -3 - 19 if "z" were removed and "a" had the lowest score
    tokenizer.model = models.Unigram([*scored[:2], ("q", -35.0), *scored[2:]], unk_id=0)
    assert _pieces(tokenizer, "ab") == ["▁", "ab"]
    assert _pieces(_unigram_cut({"▁", "ab"}, tokenizer=tokenizer), "ab") == ["▁", "ab"]


def test_frequent_tokens_in_the_language_of_the_texts_are_kept_first():
    scored = [("<unk>", 0.0), ("xy", -1.0), ("ng", -2.0), ("nga", -3.0), ("灯亮", -4.0), ("n", -5.0), ("灯", -6.0)]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=0))

    def kept(common):
        vocabulary = _unigram_cut({"n"}, common, {"ng", "ga"}, tokenizer).get_vocab()
        return vocabulary.keys() - {"<unk>", "n", "灯"}  # 灯 has the lowest score

    assert [kept(number) for number in range(5)] == [
        set(),
        {"ng"},
        {"ng", "nga"},
        {"ng", "nga", "xy"},
        {"ng", "nga", "xy"},  # no token of a script that no text has
    ]


def test_byte_tokens_are_kept_where_unknown_characters_fall_back_to_bytes():
    scored = [
        ("<unk>", 0.0),
        ("▁", -1.0),
        ("a", -2.0),
        ("灯", -3.0),
        *((f"<0x{byte:02X}>", -9.0) for byte in range(256)),
    ]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=0, byte_fallback=True))
    cut = _unigram_cut({"▁", "a"}, tokenizer=tokenizer)
    assert cut.encode("灯a").tokens == ["<0xE7>", "<0x81>", "<0xAF>", "a"]


def test_a_response_in_another_script_is_unreadable_after_the_cut(tmp_path: Path):
    folder = save_student(tmp_path / "student", PRAISE, E5)
    german, thai, chinese = IN_LANGUAGES[0], IN_LANGUAGES[4], IN_LANGUAGES[6]
    rows, authors = _by_two_learners([{"response": german}])
    whole = export_bundle(folder, tmp_path / "whole", _plan(PRAISE, "full"), rows)
    cut = export_bundle(folder, tmp_path / "cut", _plan(PRAISE, authors=authors, seen=rows, seen_authors=authors), rows)
    reasons = [
        [score.reason for score in Scorer(each.bundle, threads=1).score([german, thai, chinese])]
        for each in (whole, cut)
    ]
    assert reasons[1][1:] == ["unreadable", "unreadable"]
    assert "unreadable" not in {*reasons[0], reasons[1][0]}


def test_positions_that_hang_on_the_padding_token_are_not_moved(tmp_path: Path):
    folder = save_student(tmp_path / "student", PRAISE, ROBERTA)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    # A piece that no text needs, at an id below that of the padding token.
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] != 0]
    del content["model"]["vocab"]["<s>"]
    content["model"]["vocab"]["Ġzz"] = 0
    content["post_processor"] = None
    file.write_text(json.dumps(content))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"bos_token_id": None}))
    student = Checkpoint.load(folder, PRAISE, MAX_TOKENS)
    with pytest.raises(ExportFailed, match="from which this model counts positions"):
        cut_vocabulary(student, [{"response": "no"}], tmp_path / "cut", common=0)


def _by_two_learners(rows):
    """The rows, written by each of two learners: then no token is one learner's."""
    return [*rows, *rows], [*["a"] * len(rows), *["b"] * len(rows)]


def _plan(task, vocabulary="cut", precision="fp32", **more) -> ExportPlan:
    return ExportPlan("praise", task, MAX_TOKENS, precision, 1.0, vocabulary=vocabulary, common=0, **more)


@pytest.mark.parametrize("kin", [*FAMILIES, E5], ids=lambda kin: kin.name)
def test_a_bundle_with_a_cut_vocabulary_scores_as_the_whole_student_does(tmp_path: Path, kin: Kin):
    rows, authors = _by_two_learners(rows_for(PRAISE))
    folder = save_student(tmp_path / "student", PRAISE, kin)
    whole = export_bundle(folder, tmp_path / "whole", _plan(PRAISE, "full"), rows)
    cut = export_bundle(folder, tmp_path / "cut", _plan(PRAISE, authors=authors), rows)
    assert [score.probabilities for score in Scorer(cut.bundle, threads=1).score(rows)] == [
        pytest.approx(score.probabilities, abs=1e-6) for score in Scorer(whole.bundle, threads=1).score(rows)
    ]
    assert cut.vocabulary is not None
    assert whole.vocabulary is None


def test_the_cut_keeps_validation_rows_and_all_others_that_may_be_seen(tmp_path: Path):
    rows, authors = _by_two_learners([{"response": text} for text in SEEN[:2]])
    folder = save_student(tmp_path / "student", PRAISE, DISTILBERT)
    seen, seen_authors = _by_two_learners([{"response": text} for text in UNSEEN])
    plan = _plan(PRAISE, authors=authors, seen=seen, seen_authors=seen_authors)
    exported = export_bundle(folder, tmp_path / "bundle", plan, rows)
    texts = [*SEEN[:2], *UNSEEN]
    assert tokenize_texts(tmp_path / "bundle/tokenizer.json", texts) == tokenize_texts(folder / "tokenizer.json", texts)
    assert exported.vocabulary is not None
    assert exported.vocabulary.texts == len(texts)


def test_the_card_reports_the_vocabulary_reduction(tmp_path: Path):
    folder = save_student(tmp_path / "student", PRAISE)
    exported = export_bundle(folder, tmp_path / "bundle", _plan(PRAISE), rows_for(PRAISE))
    cut = exported.vocabulary
    assert cut is not None
    card = (tmp_path / "bundle/README.md").read_text()
    assert f"Reduced from {cut.pieces_before:,} to {cut.pieces:,} tokens" in card
    assert exported.bundle.manifest.provenance["export"]["vocabulary"]["pieces"] == cut.pieces


@pytest.mark.parametrize("kin", [*FAMILIES, E5], ids=lambda kin: kin.name)
def test_a_token_that_one_learner_used_is_not_kept_however_often(tmp_path: Path, kin: Kin):
    student = Checkpoint.load(save_student(tmp_path / "student", PRAISE, kin), PRAISE, MAX_TOKENS)
    rows = [{"response": text} for text in ("great job Jordan", "Jordan tried", "Jordan", "great job", "no strategies")]
    written = [{"response": "well done Jordan, keep trying different strategies"}]
    authors = ["a", "a", "a", "b", "c", TEACHER]
    cut, _ = cut_vocabulary(student, [*rows, *written], tmp_path / "cut", common=0, authors=authors)
    vocabulary = vocabulary_of(json.loads((cut.folder / "tokenizer.json").read_text()))
    names = {piece.lower().strip("Ġ▁") for piece in vocabulary}
    assert "jordan" not in names
    if kin is not ROBERTA:  # its tokens of these words depend on the space before them
        assert {"job", "trying", "different"} <= names  # of two learners, and of the teacher alone
        assert {"no", "strategies", "tried"}.isdisjoint(names)


def test_a_word_of_the_question_is_kept_though_one_learner_used_it(tmp_path: Path):
    student = Checkpoint.load(save_student(tmp_path / "student", GRADING), GRADING, MAX_TOKENS)
    row = {"question": "the bulb", "reference_answer": "a battery", "response": "the bulb has no gap"}
    cut, _ = cut_vocabulary(student, [row], tmp_path / "cut", common=0, authors=["a"])
    vocabulary = json.loads((cut.folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert {"the", "bulb", "battery"} <= vocabulary.keys()
    assert "gap" not in vocabulary


def test_weights_without_the_embedding_table_are_refused(tmp_path: Path):
    student = Checkpoint.load(save_student(tmp_path / "student", PRAISE), PRAISE, MAX_TOKENS)
    weights = load_file(student.folder / "model.safetensors")
    del weights["bert.embeddings.word_embeddings.weight"]
    save_file(weights, student.folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="the embedding table is not among the weights"):
        cut_vocabulary(student, [{"response": "no"}], tmp_path / "cut")


def test_the_effect_of_a_cut_on_unseen_rows_is_reported(tmp_path: Path):
    folder = save_student(tmp_path / "student", PRAISE)
    rows = rows_for(PRAISE)
    seen, seen_authors = _by_two_learners(rows)
    same = export_bundle(folder, tmp_path / "same", _plan(PRAISE, seen=seen, seen_authors=seen_authors), rows)
    assert len(same.notes) == 1
    assert "changes the label of 0 of 17 validation rows if their texts are not used for it, and of 0" in same.notes[0]
    other = export_bundle(folder, tmp_path / "other", _plan(PRAISE, seen=[]), rows)
    assert "changes the label of 0 of" not in other.notes[0]
    assert other.notes[0] in (tmp_path / "other/README.md").read_text()


def test_a_cut_that_would_change_too_many_labels_of_unseen_rows_is_not_made(tmp_path: Path):
    folder = save_student(tmp_path / "student", PRAISE)
    plan = ExportPlan("praise", PRAISE, MAX_TOKENS, "fp32", 0.01, vocabulary="cut", common=0)
    exported = export_bundle(folder, tmp_path / "bundle", plan, rows_for(PRAISE))
    assert exported.vocabulary is None
    assert exported.notes[0].endswith(
        "validation rows if their texts are not used for it (export.max_flip_rate allows 1.00%)."
    )
    bundled, whole = (json.loads((place / "tokenizer.json").read_text()) for place in (tmp_path / "bundle", folder))
    assert bundled["model"] == whole["model"]
