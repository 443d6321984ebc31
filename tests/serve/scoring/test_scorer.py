"""The score of a response does not depend on other responses."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_serve import BundleError, DataError, Score, Scorer, ScoringFailed
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.scoring.encoding import Encoded, Encoder
from edgedistill_serve.scoring.scorer import build_score, deduplicate
from edgedistill_serve.task.task import Label, Task

POISON = "poisonous"
TEXTS = ("you worked hard", "great job", "so smart", "x", "", "why is this the answer", "GREAT job!", "42 " * 40, "é ü")


@pytest.fixture(scope="module")
def scorer(bundle) -> Scorer:
    """Remembers nothing: a score that was looked up proves nothing."""
    return Scorer(bundle, threads=3, score_cache=0)


@pytest.fixture(scope="module")
def alone(scorer) -> dict[str, Score]:
    return {text: scorer.score([text])[0] for text in TEXTS}


def test_the_int8_graph_here_would_move_a_score_with_its_batch_mates(parts):
    """The premise of this file: without it, the tests below could not fail."""
    session = onnxruntime.InferenceSession(parts / "model_quantized.onnx")
    encoded = Encoder(parts / "tokenizer.json", 24).encode([{"response": text} for text in TEXTS])

    def run(rows: list[Encoded]) -> np.ndarray:
        longest = max(len(row.ids) for row in rows)
        ids = np.array([[*row.ids, *[0] * (longest - len(row.ids))] for row in rows])
        mask = np.array([[*[1] * len(row.ids), *[0] * (longest - len(row.ids))] for row in rows])
        return session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})[0]

    assert not np.array_equal(run(encoded), np.concatenate([run([row]) for row in encoded]))


@settings(max_examples=60)
@given(st.lists(st.sampled_from(TEXTS), max_size=12))
def test_order_and_other_rows_never_change_a_score(scorer, alone, texts):
    assert scorer.score(texts) == [alone[text] for text in texts]


@settings(max_examples=30)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=6))
def test_any_texts_score_the_same_backwards_and_one_by_one(scorer, texts):
    forwards = scorer.score_each(texts)
    backwards = scorer.score_each(texts[::-1])[::-1]
    single = [scorer.score_each([text])[0] for text in texts]
    assert list(map(repr, forwards)) == list(map(repr, backwards)) == list(map(repr, single))


def test_callers_at_the_same_time_get_the_scores_they_get_alone(scorer, alone):
    with ThreadPoolExecutor(8) as callers:
        rounds = list(callers.map(lambda _: scorer.score(TEXTS), range(24)))
    assert rounds == 24 * [[alone[text] for text in TEXTS]]


def test_two_scorers_of_a_bundle_agree_to_the_last_bit(bundle, alone):
    assert Scorer(bundle, threads=1, score_cache=0).score(TEXTS) == [alone[text] for text in TEXTS]


def test_what_is_remembered_is_what_was_scored(bundle, alone):
    scorer = Scorer(bundle)
    assert scorer.score(TEXTS) == scorer.score(TEXTS[::-1])[::-1] == [alone[text] for text in TEXTS]


def test_a_very_long_response_changes_no_other_score(scorer, alone):
    *short, long = scorer.score([*TEXTS, "hard " * 20_000])
    assert short == [alone[text] for text in TEXTS]
    assert (long.decision, long.reason, long.truncated, long.tokens) == ("review", "truncated", True, 20_000)


def test_a_mapping_and_its_text_score_the_same(scorer, alone):
    assert scorer.score([{"response": "great job", "id": 7}]) == [alone["great job"]]


def test_the_context_is_a_part_of_what_is_scored(answers_bundle):
    row = {"question": "why", "reference_answer": "because", "response": "great job"}
    one, other = Scorer(answers_bundle).score([row, {**row, "question": "the answer"}])
    assert one.probabilities != other.probabilities
    assert one.tokens == other.tokens == 2


def test_a_score_names_the_most_probable_label(scorer):
    (score,) = scorer.score(["you worked hard"])
    assert score.label == max(score.probabilities, key=score.probabilities.__getitem__)
    assert score.probability == score.probabilities[score.label]
    assert sum(score.probabilities.values()) == pytest.approx(1)
    assert list(score.probabilities) == ["process", "outcome", "person"]
    assert (score.decision, score.reason, score.truncated, score.tokens) == ("accept", None, False, 3)


@pytest.mark.parametrize("text", ["", "  \n\t", "\u200b\u200b", "\x00"])
def test_a_blank_response_is_reviewed(scorer, text):
    (score,) = scorer.score([text])
    assert (score.decision, score.reason, score.tokens) == ("review", "blank", 0)


def test_a_truncated_response_is_reviewed(scorer):
    (score,) = scorer.score(["hard " * 40])
    assert (score.decision, score.reason, score.truncated, score.tokens) == ("review", "truncated", True, 40)


def test_a_cut_context_alone_does_not_go_to_a_person(answers_bundle):
    row = {"question": "why " * 50, "reference_answer": "because", "response": "great job"}
    (score,) = Scorer(answers_bundle).score([row])
    assert (score.decision, score.truncated) == ("accept", False)


def test_a_probability_below_the_label_s_threshold_is_reviewed(make_bundle, tmp_path, alone):
    review = ReviewRule(thresholds={alone["great job"].label: 1.0})
    (score,) = Scorer(make_bundle(tmp_path / "bundle", review=review)).score(["great job"])
    assert (score.decision, score.reason) == ("review", "below threshold")
    assert score.probabilities == alone["great job"].probabilities


def test_a_rule_may_accept_what_is_blank_or_cut(make_bundle, tmp_path):
    scorer = Scorer(make_bundle(tmp_path / "bundle", review=ReviewRule(blank=False, truncated=False)))
    assert [score.decision for score in scorer.score(["", "hard " * 40])] == ["accept", "accept"]


def test_two_labels_of_equal_probability_give_the_first():
    task = Task(kind="nominal", labels=(Label("b"), Label("a")), inputs=("response",))
    score = build_score(np.array([0.5, 0.5]), Encoded((), (), 1, truncated=False), task, ReviewRule())
    assert score.label == "b"


def test_a_probability_that_equals_the_threshold_is_accepted():
    task = Task(kind="nominal", labels=(Label("b"), Label("a")), inputs=("response",))
    rule = ReviewRule(thresholds={"b": 0.75})
    score = build_score(np.array([0.75, 0.25]), Encoded((), (), 1, truncated=False), task, rule)
    assert score.decision == "accept"


def test_the_temperature_changes_probabilities_and_no_label(make_bundle, tmp_path, alone):
    warm = Scorer(make_bundle(tmp_path / "bundle", temperature=3.0, tolerance={"int8": 0.2})).score(TEXTS)
    assert [score.label for score in warm] == [alone[text].label for text in TEXTS]
    assert all(score.probability < alone[text].probability for text, score in zip(TEXTS, warm, strict=True))


def test_no_responses_have_no_scores(scorer):
    assert scorer.score([]) == []


@pytest.mark.parametrize("response", [{}, {"response": None}, {"response": 5}, 5, None, ["x"], "\ud800"])
def test_a_response_that_is_not_a_text_is_an_error_that_names_it(scorer, response):
    with pytest.raises(DataError, match="response 2: "):
        scorer.score(["fine", response])


def test_a_response_that_the_model_fails_on_fails_alone(scorer, alone):
    first, failed, last = scorer.score_each(["great job", POISON, "so smart"])
    assert (first, last) == (alone["great job"], alone["so smart"])
    assert isinstance(failed, ScoringFailed)
    assert POISON not in str(failed)
    with pytest.raises(ScoringFailed, match="response 2"):
        scorer.score(["great job", POISON])


@given(st.lists(st.sampled_from("abc")))
def test_equal_rows_are_scored_once_and_every_row_has_its_place(texts):
    rows = [{"response": text} for text in texts]
    unique, places = deduplicate(rows)
    assert [unique[place] for place in places] == rows
    assert len(unique) == len(set(texts))


def test_a_tokenizer_that_cannot_be_read_is_an_error_of_ours(make_bundle, tmp_path):
    with pytest.raises(BundleError, match=r"tokenizer\.json: the tokenizer cannot be read"):
        Scorer(make_bundle(tmp_path / "bundle", files={"tokenizer.json": b"{}"}))


def test_a_sequence_without_room_for_a_response_is_refused(tampered):
    from edgedistill_serve import Bundle

    folder = tampered(lambda manifest: manifest.update(max_tokens=3))
    with pytest.raises(BundleError, match="leave no room"):
        Scorer(Bundle.load(folder))


def test_a_frame_is_a_pandas_object_and_nothing_else(scorer):
    with pytest.raises(
        DataError, match=r"a pandas DataFrame or Series is needed, not list\. Score a list with `score`"
    ):
        scorer.score_frame(["x"])


def test_a_frame_with_two_columns_of_one_input_is_refused(scorer):
    pandas = pytest.importorskip("pandas")
    twice = pandas.DataFrame([["a", "b"]], columns=["response", "response"])
    with pytest.raises(DataError, match="several columns 'response'"):
        scorer.score_frame(twice)


def test_a_scorer_takes_the_folder_of_a_bundle(make_bundle, tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    by_folder = Scorer(bundle.folder)
    assert by_folder.score(["great job"]) == Scorer(bundle).score(["great job"])
    assert repr(by_folder.bundle).startswith(f"Bundle({bundle.manifest.name!r}, version=")
