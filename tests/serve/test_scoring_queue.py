"""The queue is bounded, takes a request whole or not at all, and loses nothing."""

from threading import Event

import pytest

from edgedistill_serve import QueueFull, Score, ScoringFailed
from edgedistill_serve.scoring_queue import ScoringQueue

SCORE = Score("a", 1.0, {"a": 1.0}, "accept", None, False, 1)


class Failing:
    """A scorer that fails on what is bad."""

    def __init__(self, bundle):
        self.bundle = bundle

    def score_one(self, row):
        """Take the place of the scorer's own."""
        if row["response"] == "bad":
            raise ScoringFailed("the model failed on this response")
        return SCORE


class Waiting(Failing):
    """A scorer that waits until it may go."""

    def __init__(self, bundle):
        super().__init__(bundle)
        self.go = Event()

    def score_one(self, row):
        """Take the place of the scorer's own."""
        self.go.wait()
        return SCORE


def rows(*texts):
    return [{"response": text} for text in texts]


def test_a_response_that_fails_fails_alone(bundle):
    queue = ScoringQueue(limit=4, threads=2)
    good, bad, last = queue.submit(Failing(bundle), rows("good", "bad", "good"))
    assert good.result() == last.result() == SCORE
    assert isinstance(bad.exception(), ScoringFailed)
    queue.close()


def test_what_does_not_fit_is_refused_whole_and_room_comes_back(bundle):
    queue, scorer = ScoringQueue(limit=3, threads=1), Waiting(bundle)
    waiting = queue.submit(scorer, rows("a", "b"))
    with pytest.raises(QueueFull, match="2 responses are waiting and there is room for 3"):
        queue.submit(scorer, rows("c", "d"))
    assert queue.taken == 2
    scorer.go.set()
    assert [future.result() for future in waiting] == [SCORE, SCORE]
    queue.close()
    assert queue.taken == 0


def test_closing_scores_what_was_taken(bundle):
    queue = ScoringQueue(limit=100, threads=2)
    futures = queue.submit(Failing(bundle), rows(*100 * ["good"]))
    queue.close()
    assert all(future.done() for future in futures)
