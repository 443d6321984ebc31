"""The planner loses nothing, gives nothing twice, keeps its budget, and lets nobody wait for ever."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgedistill_serve.batches import Batching, token_batches
from edgedistill_serve.planner import AGE, QUIET, Planner, Row

ALONE, SHARING, OTHER = object(), object(), object()
SHARED = Batching(64)
BATCHING = {ALONE: None, SHARING: SHARED, OTHER: SHARED}
LENGTHS = st.lists(st.integers(1, 200), max_size=60)


def waiting(number, model=ALONE, deadline=None):
    return [Row(model, BATCHING[model], deadline) for _ in range(number)]


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
def test_a_batch_keeps_the_budget_and_what_is_longer_goes_alone(lengths, budget):
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


class Playing(RuleBasedStateMachine):
    """Clients come and go, time passes, threads take work: in any order."""

    def __init__(self):
        super().__init__()
        self.planner = Planner(threads=2, age=1.0)
        self.now = 0.0
        self.added, self.done, self.dropped = [], [], []
        self.unmeasured, self.running = [], []

    @rule(
        number=st.integers(0, 5),
        model=st.sampled_from([ALONE, SHARING, OTHER]),
        lane=st.sampled_from(["interactive", "bulk"]),
        patience=st.none() | st.floats(0, 3),
    )
    def a_request_comes(self, number, model, lane, patience):
        """Add rows."""
        rows = waiting(number, model, None if patience is None else self.now + patience)
        self.added += rows
        self.planner.add(rows, lane, self.now)

    @rule(seconds=st.floats(0, 2))
    def time_passes(self, seconds):
        """Move the clock."""
        self.now += seconds

    @rule()
    def a_thread_takes_work(self):
        """Take."""
        self.dropped += self.planner.overdue(self.now)
        work = self.planner.take(self.now)
        if work is None:
            assert self.planner.waiting == 0 or self.planner.again_in(self.now) <= QUIET
            return
        self.running.append(work)
        if work.measured:
            self.done += work.rows
        else:
            self.unmeasured.append(work)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_thread_is_free_again(self, data):
        """Finish."""
        self.planner.finished(self.running.pop(data.draw(st.integers(0, len(self.running) - 1))))

    @precondition(lambda self: self.unmeasured)
    @rule(data=st.data())
    def a_thread_has_tokenized(self, data):
        """Shelve."""
        work = self.unmeasured.pop(0)
        for row in work.rows:
            row.length = data.draw(st.integers(1, 100))
        batch = self.planner.shelve(work, self.now)
        assert len(batch.rows) == 1 or len(batch.rows) * batch.rows[0].length <= 64
        assert len({(id(row.model), row.length) for row in batch.rows}) == 1
        self.done += batch.rows

    @precondition(lambda self: any(row.state == "waiting" for row in self.added))
    @rule(data=st.data(), hasten=st.booleans())
    def somebody_cancels_or_hurries(self, data, hasten):
        """Drop or hasten."""
        row = data.draw(st.sampled_from([row for row in self.added if row.state == "waiting"]))
        if hasten:
            self.planner.hasten(row, self.now)
        else:
            self.planner.drop(row)
            self.dropped.append(row)

    @invariant()
    def every_row_is_in_one_place(self):
        """Nothing is lost, nothing is given twice."""
        tokenizing = [row for work in self.unmeasured for row in work.rows]
        settled = [*self.done, *self.dropped, *tokenizing]
        assert len(set(map(id, settled))) == len(settled)
        left = [row for row in self.added if id(row) not in set(map(id, settled))]
        assert all(row.state == "waiting" for row in left)
        assert self.planner.waiting == len(left)

    @invariant()
    def only_rows_of_one_model_are_taken_together(self):
        """No work mixes models."""
        assert all(len({id(row.model) for row in work.rows}) == 1 for work in self.unmeasured)

    def teardown(self):
        """What waits at the end is done at last."""
        while self.unmeasured:
            work = self.unmeasured.pop()
            for row in work.rows:
                row.length = 10
            self.done += self.planner.shelve(work, self.now).rows
        while self.running:
            self.planner.finished(self.running.pop())
        while (work := self.planner.take(self.now)) is not None:
            self.planner.finished(work)
            if not work.measured:
                for row in work.rows:
                    row.length = 10
                work = self.planner.shelve(work, self.now)
            self.done += work.rows
        assert {id(row) for row in self.done} | {id(row) for row in self.dropped} == {id(row) for row in self.added}


TestPlaying = Playing.TestCase
TestPlaying.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


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
    assert max(gaps) <= AGE + 0.011


def test_a_bulk_row_that_is_overdue_goes_first_once_only():
    planner = Planner(age=1.0)
    bulk, interactive = waiting(5), waiting(5)
    planner.add(bulk, "bulk", 0.0)
    planner.add(interactive, "interactive", 0.0)
    assert [planner.take(1.5).rows[0] for _ in range(3)] == [bulk[0], interactive[0], interactive[1]]


def test_one_thread_is_kept_free_of_bulk_work_while_interactive_rows_come():
    planner = Planner(threads=2)
    planner.add(waiting(5), "bulk", 0.0)
    planner.add(waiting(1), "interactive", 0.0)
    assert [planner.take(0.0).lane, planner.take(0.0).lane, planner.take(0.0)] == ["interactive", "bulk", None]
    assert planner.again_in(0.0) == QUIET
    assert planner.take(QUIET).lane == "bulk"
    assert planner.again_in(QUIET) is None


def test_bulk_work_has_every_thread_where_no_interactive_row_came_lately():
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
    return planner.shelve(work, now).rows


def test_bulk_work_comes_in_smaller_pieces_while_interactive_rows_come():
    planner = Planner(threads=1)
    planner.add(waiting(1, SHARING), "interactive", 0.0)
    planner.add(waiting(40, SHARING), "bulk", 0.0)
    measured(planner)
    assert [len(measured(planner)), len(planner.take(QUIET).rows)] == [4, 16]


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


def test_the_shelf_that_waits_for_longest_is_next():
    planner = Planner(threads=1)
    rows = waiting(40, SHARING)
    planner.add(rows[:38], "interactive", 0.0)
    work = planner.take(0.0)
    for row, length in zip(work.rows, [4] * 36 + [5, 5], strict=True):
        row.length = length
    assert list(planner.shelve(work, 0.0).rows) == rows[:16]
    planner.add(rows[38:], "interactive", 0.0)
    assert [list(measured(planner)), list(planner.take(0.0).rows)] == [rows[36:38], [*rows[16:32]]]


def test_a_flood_of_rows_that_go_alone_starves_no_shelf():
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


def test_a_row_whose_deadline_passes_is_dropped_once():
    planner = Planner()
    rows = waiting(2, deadline=1.0) + waiting(1)
    planner.add(rows, "interactive", 0.0)
    assert planner.overdue(1.0) == []
    assert planner.overdue(1.1) == rows[:2]
    assert planner.overdue(1.1) == []
    assert drained(planner) == rows[2:]


def test_a_deadline_that_was_put_off_is_kept():
    planner = Planner()
    (row,) = waiting(1, deadline=1.0)
    planner.add([row], "interactive", 0.0)
    row.deadline = 2.0
    assert planner.overdue(1.5) == []
    assert planner.overdue(2.5) == [row]


def test_a_row_that_was_cancelled_makes_room_at_once():
    planner = Planner()
    rows = waiting(2)
    planner.add(rows, "interactive", 0.0)
    planner.drop(rows[0])
    planner.drop(rows[0])
    assert planner.waiting == 1
    assert drained(planner) == rows[1:]


def test_a_bulk_row_that_somebody_waits_for_goes_with_the_interactive_ones():
    planner = Planner()
    bulk, interactive = waiting(2), waiting(1)
    planner.add(bulk, "bulk", 0.0)
    planner.add(interactive, "interactive", 0.0)
    planner.hasten(bulk[1], 0.0)
    assert drained(planner) == [interactive[0], bulk[1], bulk[0]]


def test_a_free_thread_gets_what_there_is_at_once():
    planner = Planner()
    planner.add(waiting(1, SHARING), "interactive", 0.0)
    assert len(planner.take(0.0).rows) == 1
