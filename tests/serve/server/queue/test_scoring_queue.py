"""The queue is bounded, accepts a request completely or not at all, and loses nothing."""

import gc
import re
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock
from threading import enumerate as enumerate_threads

import pytest

from edgedistill_serve import DeadlinePassed, NotReady, QueueFull, ScoringFailed
from edgedistill_serve.server.queue.work_item import QueuedRow

from ...holding import alone

POISON = "poisonous"
TEXTS = ("you worked hard", "great job", "so smart", "x", "", "why is this the answer", "GREAT job!", "42 " * 40, "é ü")


def test_responses_are_scored_in_order(held, bundle):
    assert [future.result(30) for future in held(threads=3).ask(*TEXTS)] == alone(bundle, *TEXTS)


def test_a_response_that_the_model_fails_on_fails_alone(held, bundle):
    good, bad, last = held().ask("great job", POISON, "so smart")
    assert [good.result(30), last.result(30)] == alone(bundle, "great job", "so smart")
    assert isinstance(bad.exception(30), ScoringFailed)


def test_in_a_batch_too_a_response_fails_alone(held, sharing_bundle):
    one = held(sharing_bundle)
    busy = one.hold()
    good, bad, last = one.ask("you worked", f"you {POISON}", "you hard")
    one.graph.open.set()
    assert [good.result(30), last.result(30)] == alone(sharing_bundle, "you worked", "you hard")
    assert isinstance(bad.exception(30), ScoringFailed)
    assert busy.result(30)
    assert one.graph.rows == [1, 3, 1, 1, 1]


def test_rows_that_may_share_a_batch_do_so_within_the_budget(held, sharing_bundle):
    one = held(sharing_bundle)
    one.hold()
    futures = one.ask(*(f"you worked hard {number}" for number in range(90)))
    one.graph.open.set()
    assert [future.result(30) for future in futures] == alone(
        sharing_bundle, *(f"you worked hard {number}" for number in range(90))
    )
    assert len(one.graph.rows) < 20
    assert max(one.graph.rows) * 7 <= 512


def test_an_answered_text_is_removed_at_once(held, sharing_bundle):
    """Neither until its deadline, nor until the garbage collector comes, whose work would grow with every request."""
    one = held(sharing_bundle, threads=2)
    far = time.monotonic() + 3600
    gc.collect()
    gc.disable()
    try:
        for number in range(60):
            (pending,) = one.ask(f"soon forgotten {number}", deadline=far)
            assert pending.result(30)
        del pending
        until = time.monotonic() + 30
        while left := [each for each in gc.get_objects() if isinstance(each, QueuedRow) and "soon" in str(each.inputs)]:
            assert time.monotonic() < until, len(left)
            del left
            time.sleep(0.01)
    finally:
        gc.enable()


def test_a_request_beyond_the_limit_is_refused_completely_and_places_are_released(held):
    one = held(limit=3)
    one.hold()
    waiting = one.ask("a", "b")
    with pytest.raises(QueueFull, match="3 responses are waiting, the limit is 3"):
        one.ask("c")
    assert (one.queue.pending, one.queue.waiting) == (3, 2)
    one.graph.open.set()
    wait(waiting, 30)
    assert [future.result(30) for future in one.ask("c", "d", "e")]


def test_closing_scores_what_is_queued_and_refuses_more(held):
    one = held(threads=2)
    futures = one.ask(*map(str, range(100)))
    one.queue.close()
    assert all(future.done() for future in futures)
    assert (one.queue.pending, one.queue.threads) == (0, 0)
    with pytest.raises(NotReady):
        one.ask("x")


def test_a_future_that_is_cancelled_before_its_turn_leaves_the_queue(held):
    one = held(limit=3)
    one.hold()
    first, second = one.ask("a", "b")
    assert first.cancel()
    assert (one.queue.pending, one.queue.waiting) == (2, 1)
    one.graph.open.set()
    assert second.result(30)
    assert len(one.graph.rows) == 2
    with pytest.raises(CancelledError):
        first.result()


def test_a_row_is_dropped_only_when_all_who_wait_for_it_cancel(held):
    one = held()
    one.hold()
    (first,), (second,), (third,) = one.ask("a"), one.ask("a"), one.ask("a")
    first.cancel()
    assert one.queue.waiting == 1
    one.graph.open.set()
    assert second.result(30) == third.result(30)


def test_a_row_whose_deadline_passes_while_it_waits_is_not_scored(held):
    one = held()
    one.hold()
    (late,) = one.ask("a", deadline=time.monotonic() + 0.01)
    (patient,) = one.ask("b", deadline=time.monotonic() + 60)
    time.sleep(0.05)
    one.graph.open.set()
    with pytest.raises(DeadlinePassed):
        late.result(30)
    assert patient.result(30)
    assert len(one.graph.rows) == 2
    assert one.ask("a")[0].result(30)


@pytest.mark.parametrize("hasty_first", [True, False])
def test_of_two_who_ask_for_a_text_each_waits_until_their_own_deadline(held, hasty_first):
    one = held()
    one.hold()
    soon = time.monotonic() + 0.01
    asked = [one.ask("a", deadline=deadline)[0] for deadline in ((soon, None) if hasty_first else (None, soon))]
    hasty, patient = asked if hasty_first else reversed(asked)
    time.sleep(0.05)
    one.graph.open.set()
    with pytest.raises(DeadlinePassed):
        hasty.result(30)
    assert patient.result(30)
    assert len(one.graph.rows) == 2


def test_a_bulk_row_that_somebody_waits_for_wakes_the_thread_that_is_kept_free(held):
    one = held(threads=2)
    one.ask("so smart")[0].result(30)
    one.graph.begun.clear()
    one.graph.open.clear()
    one.ask("a long bulk row", lane="bulk")
    assert one.graph.begun.wait(30)
    (waiting,) = one.ask("great job", lane="bulk")
    one.graph.begun.clear()
    (wanted,) = one.ask("great job")
    assert one.graph.begun.wait(30)
    one.graph.open.set()
    assert wanted.result(30) == waiting.result(30)


def test_equal_texts_in_flight_are_scored_once(held, bundle):
    one = held()
    busy = one.hold()
    futures = [*one.ask("great job", "the answer is held up"), *one.ask("great job")]
    one.graph.open.set()
    assert [future.result(30) for future in (futures[0], futures[2])] == 2 * alone(bundle, "great job")
    assert futures[1].result(30) == busy.result(30)
    assert len(one.graph.rows) == 2


def test_who_changes_a_score_changes_no_other_s(held):
    one = held(score_cache=10)
    one.hold()
    (first,), (second,) = one.ask("great job"), one.ask("great job")
    one.graph.open.set()
    first.result(30).probabilities.clear()
    assert second.result(30).probabilities
    second.result(30).probabilities.clear()
    assert one.ask("great job")[0].result(30).probabilities


def test_a_cached_text_is_answered_at_once(held):
    one = held(score_cache=10)
    (scored,) = one.ask("great job")
    found = scored.result(30)
    one.hold()
    (again,) = one.ask("great job")
    assert again.done()
    assert again.result() == found
    assert again.timing.cached


def test_interactive_rows_go_before_bulk_rows(held):
    done = []
    one = held(observe=lambda work: done.append(work.lane))
    one.hold()
    futures = [*one.ask(*"abc", lane="bulk"), *one.ask("d")]
    one.graph.open.set()
    wait(futures, 30)
    one.queue.close()
    assert done == ["interactive", "interactive", "bulk", "bulk", "bulk"]


def test_what_was_done_is_reported(held):
    message = []
    one = held(score_cache=10, observe=message.append)
    (pending,) = one.ask("great job")
    score = pending.result(30)
    one.ask("great job")
    failed = one.ask(POISON)[0].exception(30)
    one.queue.close()
    scored, recalled, wrong = message
    assert (scored.model, scored.lane, scored.scores, scored.failed) == ("praise", "interactive", (score,), 0)
    assert (scored.tokens, scored.padded_tokens, scored.rows) == (4, 4, 1)
    assert scored.model_seconds > 0
    assert scored.tokenize_seconds > 0
    assert pending.timing.model_seconds == scored.model_seconds
    assert recalled.cached
    assert recalled.scores == (score,)
    assert (wrong.scores, wrong.failed) == ((), 1)
    assert failed


def times_woken_in(seconds: float) -> int:
    """Return how often scoring threads, which must exist, went from waiting to running in a time."""
    threads = [thread.native_id for thread in enumerate_threads() if thread.name == "scoring"]
    assert len(threads) >= 4

    def switches() -> int:
        status = "".join(Path(f"/proc/self/task/{thread}/status").read_text() for thread in threads)
        return sum(map(int, re.findall(r"^voluntary_ctxt_switches:\t(\d+)", status, re.MULTILINE)))

    before = switches()
    time.sleep(seconds)
    return switches() - before


def test_an_idle_queue_wakes_no_thread(held):
    one = held(threads=4)
    one.ask("great job")[0].result(30)
    assert any(times_woken_in(0.2) == 0 for _ in range(20))  # until the last of them waits; one that polls never does


def test_scores_are_the_same_under_load_in_both_lanes_and_with_cancellations(held, bundle):
    one, lock, expected = held(limit=10_000, threads=3), Lock(), dict(zip(TEXTS, alone(bundle, *TEXTS), strict=True))
    found = []

    def client(number):
        for turn in range(20):
            texts = [TEXTS[(number * turn + step) % len(TEXTS)] for step in range(number % 4 + 1)]
            futures = one.ask(*texts, lane="bulk" if number % 2 else "interactive")
            if turn % 5 == 4:
                futures[0].cancel()
            with lock:
                found.extend(zip(texts, futures, strict=True))

    with ThreadPoolExecutor(16) as clients:
        list(clients.map(client, range(16)))
    wait([future for _, future in found], 60)
    assert all(future.cancelled() or future.result() == expected[text] for text, future in found)
    assert sum(not future.cancelled() for _, future in found) > 600
    assert one.queue.pending == one.queue.waiting == 0
