"""An error anywhere in a run ends it: no thread, queue or callback may leave the others waiting."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedistill.errors import CacheDamaged, EdgeDistillError
from edgedistill.teacher import AnswerCache, Labelling, label_responses
from edgedistill.teacher.claims import Claims
from edgedistill.teacher.endpoint import Endpoint
from edgedistill.teacher.http_client import run_to_end
from edgedistill.teacher.labelling import LabellingPlan
from edgedistill.teacher.logs import FailureLog
from edgedistill.teacher.runner import RateLimiter
from edgedistill.teacher.spending import Budget

from .codings import CODEBOOK, NO_WAIT, labelled, responses, section
from .stand_in import Reply, StandIn, coded, text_of

TEXTS = [str(number) for number in range(40)]


def ended(work: Callable[[], Any], seconds: float = 60.0) -> BaseException | None:
    """Run work in a thread; return what it raised. It fails if the work does not end at all."""
    found: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # whatever ends it
            found.append(error)
        else:
            found.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, "the run hangs"
    return found[0]


PLACES = {
    "the cache's transaction": (AnswerCache, "put_all"),
    "the cache's lookup": (AnswerCache, "find"),
    "the failure log": (FailureLog, "add"),
    "the budget's reservation": (Budget, "reserve"),
    "the budget's settlement": (Budget, "settle"),
    "the rate limiter": (RateLimiter, "record_answer"),
    "the client": (Endpoint, "send"),
    "the claim": (Claims, "acquire"),
    "the claim's extension": (Claims, "extend"),
    "the claim's release": (Claims, "release"),
    "the parser": (LabellingPlan, "parse"),
    "the callback": (LabellingPlan, "_record"),
}
ERRORS = [ValueError("x"), RuntimeError("x"), KeyError("x"), MemoryError(), CacheDamaged("x"), OSError("x")]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_in_any_part_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    owner, name = PLACES[place]
    calls, real = [0], getattr(owner, name)

    def failing(*given: Any, **fields: Any) -> Any:
        calls[0] += 1
        if calls[0] > 5 or place == "the failure log":
            raise error
        return real(*given, **fields)

    def script(body: dict[str, Any], _before: int) -> Reply:
        return coded("no-such-label") if text_of(body) == "7" else coded("process")

    if place == "the cache's lookup":
        calls[0] = -3 * len(TEXTS)  # the plan's own look-ups
    monkeypatch.setattr(owner, name, failing)
    with StandIn(script) as teacher:
        raised = ended(lambda: labelled(tmp_path, teacher, *TEXTS, concurrency=4, tries=2))
    assert isinstance(raised, type(error) | EdgeDistillError)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_after_an_error_answers_in_flight_are_stored_and_no_further_request_is_sent(
    tmp_path: Path, error: Exception
) -> None:
    def report(progress: Any) -> None:
        if progress.done == 8:
            raise error

    with StandIn(coded("process", delay=0.05)) as teacher:
        raised = ended(lambda: labelled(tmp_path, teacher, *TEXTS, concurrency=4, on_progress=report))
        sent = len(teacher.bodies)
    assert raised is error
    assert sent <= 8 + 4
    with AnswerCache(tmp_path) as cache:
        assert cache.stats().entries == sent


class OnePoisoned(AnswerCache):
    """Cannot write one of the answers."""

    def put_all(self, answers: Any) -> Any:
        """Fail for the poisoned answer."""
        if any("text 7<" in str(each.messages[-1]["content"]) for each, _ in answers):
            raise ValueError("poisoned")
        return super().put_all(answers)


def test_an_answer_that_cannot_be_written_costs_no_other_answer(tmp_path: Path) -> None:
    def work() -> Labelling:
        with OnePoisoned(tmp_path) as cache:
            given = section(teacher.base_url, concurrency=20)
            return label_responses(
                responses(*(f"text {number}" for number in range(20))), CODEBOOK, given, cache, retry_policy=NO_WAIT
            )

    with StandIn(coded("process", delay=0.02)) as teacher:
        raised = ended(work)
        sent = len(teacher.bodies)
    assert isinstance(raised, CacheDamaged)
    assert "cannot be written (ValueError)" in str(raised)
    with AnswerCache(tmp_path) as cache:
        assert cache.stats().entries == sent - 1


NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "1" + "0" * 400 + ".5"]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number[:9])
@pytest.mark.parametrize("place", ["created", "logprobs", "usage"])
def test_numbers_that_json_cannot_hold_neither_hang_a_run_nor_cost_an_answer(
    tmp_path: Path, number: str, place: str
) -> None:
    value = json.loads(coded("process").body)
    if place == "created":
        value["created"] = "HERE"
    elif place == "usage":
        value["usage"]["prompt_tokens"] = "HERE"
    else:
        value["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": "HERE", "top_logprobs": []}]}
    body = json.dumps(value).replace('"HERE"', number).encode()
    found: list[Labelling] = []
    with StandIn(Reply(body=body)) as teacher:
        raised = ended(lambda: found.append(labelled(tmp_path, teacher, "a", "b", tries=1, logprobs=True)))
    if len(number) == 5000:  # an integer that Python does not read
        assert isinstance(raised, EdgeDistillError)
    else:
        assert raised is None
        assert len(found[0].labels) == 2
        with AnswerCache(tmp_path) as cache:
            assert cache.verify().damaged == ()


@pytest.mark.parametrize(
    "body", [b'{"choices":' + b"[" * 100_000, b'{"choices": [' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"]}"]
)
def test_deep_nesting_ends_in_a_sentence(tmp_path: Path, body: bytes) -> None:
    with StandIn(Reply(body=body)) as teacher:
        raised = ended(lambda: labelled(tmp_path, teacher, "a", tries=1))
    assert raised is None or isinstance(raised, EdgeDistillError)


def test_an_interrupt_in_a_notebook_cancels_the_run() -> None:
    cancelled = threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def notebook() -> None:
        # The event loop of the notebook's kernel is running when a cell calls ordinary code.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("concurrent.futures.Future.result", interrupt)
            run_to_end(work())

    def interrupt(_future: Any, _timeout: float | None = None) -> None:
        threading.Event().wait(0.2)
        raise KeyboardInterrupt

    assert isinstance(ended(lambda: asyncio.run(notebook())), KeyboardInterrupt)
    assert cancelled.is_set()
