"""The score cache is bounded and contains no texts."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve import Score, Scorer
from edgedistill_serve.scoring.score_cache import ScoreCache, estimate_entry_bytes

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


def score(number: int) -> Score:
    return Score("a", 0.5, {"a": 0.5, "b": 0.5}, "accept", None, False, number)


def filled(recent: ScoreCache, number: int) -> list[bytes]:
    keys = [recent.key((str(place),)) for place in range(number)]
    for place, key in enumerate(keys):
        recent.put(key, score(place))
    return keys


def test_the_least_recently_used_score_is_removed():
    recent = ScoreCache(3)
    first, second, third = filled(recent, 3)
    assert recent.get(first) == score(0)
    recent.put(recent.key(("x",)), score(9))
    assert recent.get(second) is None
    assert recent.get(first) == score(0)
    assert recent.get(third) == score(2)


def test_without_entries_nothing_is_cached():
    recent = ScoreCache(0)
    (key,) = filled(recent, 1)
    assert recent.get(key) is None


def test_the_memory_is_bounded_too():
    recent = ScoreCache(1000, memory=10 * estimate_entry_bytes(score(0)))
    filled(recent, 50)
    assert len(recent) == 10


@given(st.lists(TEXT, min_size=1, max_size=3), st.lists(TEXT, min_size=1, max_size=3))
def test_other_texts_have_another_key(some, others):
    recent = ScoreCache()
    assert (recent.key(some) == recent.key(others)) == (some == others)


def test_another_scorer_has_other_keys():
    assert ScoreCache().key(("x",)) != ScoreCache().key(("x",))


def test_no_text_is_kept(bundle):
    scorer, parts = Scorer(bundle), ("zebra", "phone")
    scorer.score([" ".join(parts)])
    gc.unfreeze()  # what tests/conftest.py left out of sight may have kept it, too
    kept = [thing for thing in gc.get_objects() if type(thing) in (dict, list, tuple, set)]
    gc.freeze()
    inside = [item for thing in kept for item in ([*thing, *thing.values()] if type(thing) is dict else thing)]
    assert not any(item.split() == list(parts) for item in inside if type(item) is str)
    assert len(scorer.score_cache) == 1


def test_a_score_is_remembered_between_calls(bundle):
    scorer = Scorer(bundle)
    (first,) = scorer.score(["great job"])
    first.probabilities.clear()
    (again,) = scorer.score(["great job"])
    assert again == Scorer(bundle, score_cache=0).score(["great job"])[0]


@pytest.mark.parametrize("text", ["", "  "])
def test_different_blank_texts_have_different_keys(bundle, text):
    scorer = Scorer(bundle)
    scorer.score(["", "  ", "x"])
    assert scorer.score([text])[0].reason == "blank"


def test_a_failure_is_not_remembered(bundle):
    scorer = Scorer(bundle)
    scorer.score_each(["poisonous"])
    assert len(scorer.score_cache) == 0


def test_the_old_name_of_the_parameter_is_read_with_a_note(bundle):
    with pytest.warns(DeprecationWarning, match="score_cache"):
        scorer = Scorer(bundle, recent=0)
    scorer.score(["great job"])
    assert len(scorer.score_cache) == 0
