"""Results of a batch into the cache: answers under the keys they were asked by, failures into the log.

Merged    what became of the results
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from edgedistill.teacher.batch_file import Result
from edgedistill.teacher.cache import Entry
from edgedistill.teacher.failures import FailureLog
from edgedistill.teacher.formats import AnswerFormat
from edgedistill.teacher.ledger import Amount
from edgedistill.teacher.outcomes import Answered
from edgedistill.teacher.parsing import Cause, Failure, content_of
from edgedistill.teacher.questions import Round
from edgedistill.teacher.request import TeacherRequest
from edgedistill.teacher.spending import Usage

_TOGETHER = 500  # answers in one transaction


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of some results.

    Attributes:
        answers: Answers that are in the cache now.
        failures: Results that give none; the failure log has them.
        usage: What they took.
        cost: What they cost; where the endpoint did not say, the worst case.
    """

    answers: int
    failures: int
    usage: Usage
    cost: Amount


def merge(
    given: Round[Any], asked: Mapping[str, Mapping[str, Any]], results: Sequence[Result], *, name: str | None = None
) -> Merged:
    """Write results to the cache and the failure log, then what they cost to the ledger.

    Doing it again with the same results changes nothing.

    Args:
        given: The round that they belong to.
        asked: The content of the requests by their keys.
        results: Results of these requests, one each at most.
        name: What the batch is held under in the ledger; None for one that is not held.
    """
    wanted = {question.request_in(form).key() for question in given.questions for form in AnswerFormat}
    entries: list[Entry] = []
    failures: list[Failure] = []
    for result in results:
        found = _read(given, result, wanted=result.key in wanted)
        if found is None and result.answer is not None:
            entries.append(Entry(result.key, asked[result.key], result.answer))
        elif found is not None:
            failures.append(replace(found, key=result.key))
    waiting = iter(entries)
    while together := list(islice(waiting, _TOGETHER)):
        given.cache.keep(together)
    if failures:
        FailureLog(given.cache.folder).add(*failures)
    usage, cost = _took(given, asked, results)
    ledger = given.budget.ledger
    if results or name:
        held = name or ledger.hold(given.budget.stage, given.section.model, cost, requests=len(results))
        ledger.settle(held, cost)
        ledger.close()
    return Merged(len(entries), len(failures), usage, cost)


def _read(given: Round[Any], result: Result, *, wanted: bool) -> Failure | None:
    """Return why a result gives no answer; None where it does."""
    if result.answer is None:
        return Failure(Cause.REJECTED, result.raw, result.code)
    # A batch may hold requests that the project has changed since: what they say is paid for and kept all the same.
    found = given.read(result.answer) if wanted else content_of(result.answer)
    return found if isinstance(found, Failure) else None


def _took(given: Round[Any], asked: Mapping[str, Mapping[str, Any]], results: Sequence[Result]) -> tuple[Usage, Amount]:
    budget = given.budget
    known = worst_input = worst_output = input_tokens = output_tokens = 0
    answered = [result for result in results if result.answer is not None]
    for result in answered:
        tokens = Answered(result.answer or {}).tokens
        if tokens:
            known += 1
            input_tokens, output_tokens = input_tokens + tokens[0], output_tokens + tokens[1]
        else:
            worst = budget.worst(request_of(asked[result.key]))
            worst_input, worst_output = worst_input + worst.input, worst_output + worst.output
    nano = None if budget.price is None else budget.price.cost(input_tokens, output_tokens)
    usage = Usage(len(results), 0, input_tokens, output_tokens, nano, len(answered) - known)
    return usage, budget.amount(input_tokens + worst_input, output_tokens + worst_output)


def request_of(content: Mapping[str, Any]) -> TeacherRequest:
    """Return the request that has this content."""
    fields = {name: value for name, value in content.items() if name != "key_version"}
    return TeacherRequest(**fields | {"messages": tuple(fields["messages"])})
