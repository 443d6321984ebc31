"""After any sequence of calls, the planner has lost and repeated no row."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgedistill_serve.server.queue.planner import QUIET_SECONDS, Planner

from .planning import ALONE, OTHER, SHARING, waiting


class Playing(RuleBasedStateMachine):
    """Clients come and go, time passes, threads take work: in any order."""

    def __init__(self):
        super().__init__()
        self.planner = Planner(threads=2, age_limit=1.0)
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
        for row in self.planner.overdue(self.now):
            self.planner.drop(row)
            self.dropped.append(row)
        work = self.planner.take(self.now)
        if work is None:
            assert self.planner.waiting == 0 or self.planner.retry_after(self.now) <= QUIET_SECONDS + 1e-9
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
        self.planner.finish(self.running.pop(data.draw(st.integers(0, len(self.running) - 1))))

    @precondition(lambda self: self.unmeasured)
    @rule(data=st.data())
    def a_thread_has_tokenized(self, data):
        """Shelve."""
        work = self.unmeasured.pop(0)
        for row in work.rows:
            row.length = data.draw(st.integers(1, 100))
        batch = self.planner.requeue_by_length(work, self.now)
        assert len(batch.rows) == 1 or len(batch.rows) * batch.rows[0].length <= 64
        assert len({(id(row.model), row.length) for row in batch.rows}) == 1
        self.done += batch.rows

    @precondition(lambda self: any(row.state == "waiting" for row in self.added))
    @rule(data=st.data(), hasten=st.booleans())
    def somebody_cancels_or_hurries(self, data, hasten):
        """Drop or hasten."""
        row = data.draw(st.sampled_from([row for row in self.added if row.state == "waiting"]))
        if hasten:
            self.planner.promote(row, self.now)
        else:
            self.planner.drop(row)
            self.dropped.append(row)

    @invariant()
    def every_row_is_in_one_place(self):
        """Nothing is lost, nothing is given twice."""
        tokenize_seconds = [row for work in self.unmeasured for row in work.rows]
        settled = [*self.done, *self.dropped, *tokenize_seconds]
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
            self.done += self.planner.requeue_by_length(work, self.now).rows
        while self.running:
            self.planner.finish(self.running.pop())
        while (work := self.planner.take(self.now)) is not None:
            self.planner.finish(work)
            if not work.measured:
                for row in work.rows:
                    row.length = 10
                work = self.planner.requeue_by_length(work, self.now)
            self.done += work.rows
        assert {id(row) for row in self.done} | {id(row) for row in self.dropped} == {id(row) for row in self.added}


TestPlaying = Playing.TestCase
TestPlaying.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
