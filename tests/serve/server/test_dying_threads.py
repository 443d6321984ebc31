"""The queue survives dying threads, failing graphs and failing observers."""

import time

import pytest

from edgedistill_serve import ScoringFailed

from ..holding import alone


@pytest.mark.parametrize("fault", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), BaseException("zebraphone")])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_thread_that_dies_is_replaced_and_its_callers_are_answered(held, bundle, caplog, fault, threads):
    one = held(threads=threads)
    one.hold()
    one.graph.fault = fault
    after = one.ask("great job")
    one.graph.open.set()
    results = [future.exception(30) or future.result() for future in (*after, *one.ask("so smart"))]
    assert [result for result in results if not isinstance(result, ScoringFailed)][-1:] == alone(bundle, "so smart")
    replaced = time.monotonic() + 30
    while one.queue.threads < threads and time.monotonic() < replaced:
        time.sleep(0.001)
    assert one.queue.threads == threads
    assert f"a scoring thread ended ({type(fault).__name__}) and is replaced" in caplog.text
    assert "zebraphone" not in caplog.text + str(results)


def test_who_waits_for_a_thread_that_dies_learns_why(held):
    one = held()
    busy = one.hold()
    one.graph.fault = SystemExit(1)
    one.graph.open.set()
    with pytest.raises(ScoringFailed, match=r"the thread that scored this response ended \(SystemExit\)"):
        busy.result(30)


def test_when_a_thread_dies_in_a_batch_the_batches_behind_it_are_scored(held, sharing_bundle):
    one = held(sharing_bundle)
    one.hold()
    futures = one.ask(*("great job " * (number % 8 + 1) + str(number) for number in range(60)))
    one.graph.open.set()
    deadline = time.monotonic() + 30
    while not one.graph.rows and time.monotonic() < deadline:
        time.sleep(0.001)
    one.graph.fault = SystemExit(1)
    outcomes = [future.exception(30) for future in futures]
    assert all(error is None or isinstance(error, ScoringFailed) for error in outcomes)
    assert any(error is None for error in outcomes)


def test_an_error_of_the_session_keeps_its_words_to_itself(held):
    one = held()
    one.graph.fault = RuntimeError("zebraphone")
    error = one.ask("great job")[0].exception(30)
    assert isinstance(error, ScoringFailed)
    assert "zebraphone" not in str(error)
    assert one.ask("great job")[0].result(30)


def test_a_failing_observer_does_not_stop_the_scoring(held, caplog):
    def fail(_):
        raise ValueError("zebraphone")

    one = held(observe=fail)
    assert one.ask("great job")[0].result(30)
    one.queue.close()
    assert "a work item was not counted (ValueError)" in caplog.text
