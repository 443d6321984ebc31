"""The planner loses and repeats no row, keeps the token budget, and starves no row."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve.scoring.batching import Batching, token_batches
from edgedistill_serve.server.queue.planner import AGE_LIMIT, QUIET_SECONDS, Planner

from .planning import ALONE, OTHER, SHARED, SHARING, waiting

LENGTHS = st.lists(st.integers(1, 200), max_size=60)


def drained(planner, now=0.0):
    rows = []
    while (work := planner.take(now)) is not None:
        rows += work.rows
    return rows


@given(LENGTHS, st.integers(1, 128))
def test_batches_hold_every_row_once(lengths, budget):
    batches = token_batches(lengths, Batching(budget))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 128))
def test_a_batch_keeps_the_token_budget_and_longer_rows_are_scored_alone(lengths, budget):
    for batch in token_batches(lengths, Batching(budget)):
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= budget


@given(LENGTHS, st.integers(1, 64))
def test_rows_share_a_batch_whose_lengths_are_in_one_step_of_its_width(lengths, width):
    for batch in token_batches(lengths, Batching(4096, width)):
        assert len({(lengths[place] - 1) // width for place in batch}) == 1


@given(LENGTHS, st.integers(1, 128))
def test_the_batch_of_the_earliest_row_comes_first(lengths, budget):
    firsts = [min(batch) for batch in token_batches(lengths, Batching(budget))]
    assert firsts == sorted(firsts)
    assert firsts[:1] == ([0] if lengths else [])


@given(LENGTHS.filter(bool), st.randoms())
def test_the_order_of_rows_changes_no_batch_lengths(lengths, random):
    shuffled = random.sample(lengths, len(lengths))
    found, again = (Counter(tuple(sorted(given[i] for i in batch)) for batch in token_batches(given, SHARED))
                    for given in (lengths, shuffled))  # fmt: skip
    assert found == again


def test_interactive_rows_go_before_bulk_rows():
    planner = Planner()
    bulk, interactive = waiting(3), waiting(2)
    planner.add(bulk, "bulk", 0.0)
    planner.add(interactive, "interactive", 0.0)
    assert drained(planner) == [*interactive, *bulk]


@pytest.mark.parametrize("flood", [1, 7])
def test_bulk_work_is_never_left_for_longer_than_the_age_limit(flood):
    """A thread takes one row every 10 ms and so many interactive ones come meanwhile: bulk rows still get through."""
    planner = Planner()
    bulk = waiting(20)
    planner.add(bulk, "bulk", 0.0)
    turns = []
    for step in range(1000):
        now = step / 100
        planner.add(waiting(flood), "interactive", now)
        if planner.take(now).rows[0] in bulk:
            turns.append(now)
    gaps = [later - earlier for earlier, later in zip([0.0, *turns], turns, strict=False)]
    assert len(turns) == 20
    assert max(gaps) <= AGE_LIMIT + 0.011


def test_an_aged_bulk_row_goes_first_once_only():
    planner = Planner(age_limit=1.0)
    bulk, interactive = waiting(5), waiting(5)
    planner.add(bulk, "bulk", 0.0)
    planner.add(interactive, "interactive", 0.0)
    assert [planner.take(1.5).rows[0] for _ in range(3)] == [bulk[0], interactive[0], interactive[1]]


def test_one_thread_is_kept_free_of_bulk_work_while_interactive_rows_come():
    planner = Planner(threads=2)
    planner.add(waiting(5), "bulk", 0.0)
    planner.add(waiting(1), "interactive", 0.0)
    assert [planner.take(0.0).lane, planner.take(0.0).lane, planner.take(0.0)] == ["interactive", "bulk", None]
    assert planner.retry_after(0.0) == QUIET_SECONDS
    assert planner.take(QUIET_SECONDS).lane == "bulk"
    assert planner.retry_after(QUIET_SECONDS) is None


def test_bulk_work_uses_every_thread_without_recent_interactive_rows():
    planner = Planner(threads=3)
    planner.add(waiting(5), "bulk", 0.0)
    assert [planner.take(0.0).lane for _ in range(5)] == ["bulk"] * 5


def test_the_only_thread_is_kept_free_for_nobody():
    planner = Planner(threads=1)
    planner.add(waiting(1), "interactive", 0.0)
    planner.add(waiting(1), "bulk", 0.0)
    planner.take(0.0)
    assert planner.take(0.0).lane == "bulk"


def measured(planner, now=0.0, length=4):
    """Take work that must be tokenized, and return what is scored first."""
    work = planner.take(now)
    for row in work.rows:
        row.length = length
    return planner.requeue_by_length(work, now).rows


def test_bulk_work_items_are_smaller_while_interactive_rows_arrive():
    planner = Planner(threads=1)
    planner.add(waiting(1, SHARING), "interactive", 0.0)
    planner.add(waiting(40, SHARING), "bulk", 0.0)
    measured(planner)
    assert [len(measured(planner)), len(planner.take(QUIET_SECONDS).rows)] == [4, 16]


def test_few_rows_are_shared_among_the_threads():
    planner = Planner(threads=2)
    planner.add(waiting(4, SHARING), "interactive", 0.0)
    assert [len(planner.take(0.0).rows) for _ in range(2)] == [2, 1]


def test_a_row_joins_those_of_its_length_that_wait():
    planner = Planner(threads=1)
    rows = waiting(18, SHARING)
    planner.add(rows[:17], "interactive", 0.0)
    assert list(measured(planner)) == rows[:16]
    planner.add(rows[17:], "interactive", 0.0)
    assert list(measured(planner)) == rows[16:]


def test_the_bucket_that_has_waited_longest_is_next():
    planner = Planner(threads=1)
    rows = waiting(40, SHARING)
    planner.add(rows[:38], "interactive", 0.0)
    work = planner.take(0.0)
    for row, length in zip(work.rows, [4] * 36 + [5, 5], strict=True):
        row.length = length
    assert list(planner.requeue_by_length(work, 0.0).rows) == rows[:16]
    planner.add(rows[38:], "interactive", 0.0)
    assert [list(measured(planner)), list(planner.take(0.0).rows)] == [rows[36:38], [*rows[16:32]]]


def test_many_rows_that_are_scored_alone_do_not_starve_a_bucket():
    planner = Planner(threads=1)
    sharing = waiting(40, SHARING)
    planner.add(sharing, "interactive", 0.0)
    measured(planner)
    planner.add(waiting(100), "interactive", 0.0)
    models = [planner.take(0.0).rows[0].model for _ in range(4)]
    assert models == [ALONE, SHARING, ALONE, SHARING]


def test_requests_take_turns():
    planner = Planner()
    many, one = waiting(100), waiting(1)
    planner.add(many, "interactive", 0.0)
    planner.take(0.0)
    planner.add(one, "interactive", 0.0)
    assert one[0] in [planner.take(0.0).rows[0] for _ in range(2)]


def test_an_overdue_row_is_reported_once():
    planner = Planner()
    rows = waiting(2, deadline=1.0) + waiting(1)
    planner.add(rows, "interactive", 0.0)
    assert planner.overdue(1.0) == []
    assert planner.overdue(1.1) == rows[:2]
    assert planner.overdue(1.1) == []
    planner.drop(rows[0])
    assert drained(planner) == rows[1:]


@pytest.mark.parametrize(("deadline", "early"), [(2.0, []), (0.5, [0.6]), (None, [])])
def test_another_deadline_takes_the_place_of_the_first(deadline, early):
    planner = Planner()
    (row,) = waiting(1, deadline=1.0)
    planner.add([row], "interactive", 0.0)
    planner.set_deadline(row, deadline)
    assert [now for now in (0.6, 1.5) if planner.overdue(now)] == early
    assert planner.overdue(2.5) == ([row] if deadline == 2.0 else [])


def test_rows_of_another_model_keep_the_turns_of_their_requests():
    planner = Planner()
    requests = [waiting(1, model) for model in (SHARING, OTHER, OTHER, SHARING, OTHER)]
    for request in requests:
        planner.add(request, "interactive", 0.0)
    first = planner.take(0.0)
    assert list(first.rows) == requests[0] + requests[3]
    late = waiting(2, OTHER)
    planner.add(late, "interactive", 0.0)
    assert list(planner.take(0.0).rows) == requests[1] + requests[2] + requests[4] + late


def test_a_cancelled_row_releases_its_place_at_once():
    planner = Planner()
    rows = waiting(2)
    planner.add(rows, "interactive", 0.0)
    planner.drop(rows[0])
    planner.drop(rows[0])
    assert planner.waiting == 1
    assert drained(planner) == rows[1:]


def test_a_bulk_row_with_an_interactive_caller_is_promoted():
    planner = Planner()
    bulk, interactive = waiting(2), waiting(1)
    planner.add(bulk, "bulk", 0.0)
    planner.add(interactive, "interactive", 0.0)
    planner.promote(bulk[1], 0.0)
    assert drained(planner) == [interactive[0], bulk[1], bulk[0]]


def test_a_free_thread_gets_what_there_is_at_once():
    planner = Planner()
    planner.add(waiting(1, SHARING), "interactive", 0.0)
    assert len(planner.take(0.0).rows) == 1
