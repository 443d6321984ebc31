"""Scores responses with a bundle: the same response, the same score, whatever is scored beside it."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Literal, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.bundle import Bundle
from edgedistill_serve.encoding import Encoded, Encoder
from edgedistill_serve.errors import BundleError, DataError, EdgeDistillError, ScoringFailed, SelfCheckFailed
from edgedistill_serve.manifest import Precision, ReviewRule
from edgedistill_serve.selfcheck import SelfCheck, self_check, softmax
from edgedistill_serve.session import Session
from edgedistill_serve.task import Task, inputs_of

Reason: TypeAlias = Literal["blank", "truncated", "below threshold"]
Response: TypeAlias = str | Mapping[str, str]

_log = logging.getLogger(__name__)


class Score(msgspec.Struct, frozen=True):
    """What the model says of one response.

    Attributes:
        label: The label of the largest probability; the first of them where two are equal.
        probability: Its probability, in [0, 1].
        probabilities: Every label's probability, in the task's order; they sum to 1.
        decision: ``accept``, or ``review``: a person should look at it.
        reason: Why it should be reviewed, else None.
        truncated: Whether the model read only the response's beginning.
        tokens: How many tokens the response has, before any cut.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    decision: Literal["accept", "review"]
    reason: Reason | None
    truncated: bool
    tokens: int


class Scorer:
    """A bundle that passed its self-check on this CPU.

    Args:
        bundle: What to score with.
        threads: How many responses are scored at a time by `score`; as many as there are cores unless said otherwise.

    Attributes:
        bundle: The same.
        precision: The graph in use: fp32 where the int8 graph failed its self-check and there is one to fall back on.
        check: What the self-check of this graph found.
        notes: What the user should know, such as that fallback; it is also logged as a warning.

    Raises:
        RuntimeMissing: onnxruntime is not installed, or there twice.
        SelfCheckFailed: No graph of the bundle gives its golden scores on this CPU.
        BundleError: The tokenizer cannot be read, or the task is of a kind that cannot be scored.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        if bundle.task.kind == "multilabel":
            raise BundleError("multilabel tasks cannot be scored yet", where=bundle.manifest.name)
        self.bundle = bundle
        self.threads = threads or available_cores()
        self._encoder = _encoder(bundle)
        self._session, self.check, self.notes = _checked_session(bundle, self._encoder)
        self.precision = self.check.precision
        for note in self.notes:
            _log.warning("%s: %s", bundle.manifest.name, note)

    def score(self, responses: Sequence[Response]) -> list[Score]:
        """Score responses; ``result[i]`` is that of ``responses[i]``, and no other response has a part in it.

        Args:
            responses: The text alone, or a mapping that holds the task's inputs. Those that are equal are scored once.

        Raises:
            DataError: An input is missing or is no text; the message says of which response.
            ScoringFailed: The model failed on a response.
        """
        results = self.score_each(responses)
        for position, result in enumerate(results, start=1):
            if isinstance(result, EdgeDistillError):
                raise type(result)(result.what, where=f"response {position}", mend=result.mend)
        return [result for result in results if isinstance(result, Score)]

    def score_each(self, responses: Sequence[Response]) -> list[Score | EdgeDistillError]:
        """Score responses as `score` does, with the error in the place of each response that cannot be scored."""
        readable = [attempt(self.readable, response) for response in responses]
        rows, places = distinct([inputs for inputs in readable if isinstance(inputs, dict)])
        if len(rows) > 1 and self.threads > 1:
            found = list(self._pool.map(lambda inputs: attempt(self.score_one, inputs), rows))
        else:
            found = [attempt(self.score_one, inputs) for inputs in rows]
        results = iter([found[place] for place in places])
        return [inputs if isinstance(inputs, EdgeDistillError) else next(results) for inputs in readable]

    def readable(self, response: Response) -> dict[str, str]:
        """Return the task's inputs of a response, which `score_one` takes.

        Raises:
            DataError: An input is missing or is no text.
        """
        if not isinstance(response, (str, Mapping)):
            raise DataError("a response is a text, or a mapping of the task's inputs")
        inputs = inputs_of(response, self.bundle.task)
        for name, text in inputs.items():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise DataError(
                    f"the input {name!r} holds half of a surrogate pair, which is no text",
                    mend="Decode the text again where it comes from.",
                ) from None
        return inputs

    def score_one(self, inputs: Mapping[str, str]) -> Score:
        """Score one response in the calling thread.

        Args:
            inputs: As `readable` returns them.

        Raises:
            ScoringFailed: The model failed on it.
        """
        (encoded,) = self._encoder.encode([inputs])
        manifest = self.bundle.manifest
        probabilities = softmax(self._session.logits(encoded), manifest.temperature)
        blank = not inputs["response"].strip() or not encoded.tokens
        return judge(probabilities, encoded, manifest.task, manifest.review, blank=blank)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="scorer")


def judge(
    probabilities: NDArray[np.float64], encoded: Encoded, task: Task, review: ReviewRule, *, blank: bool
) -> Score:
    """Name the label, and decide whether a person should look at it.

    Args:
        probabilities: Shape (labels,).
        encoded: The response as the model read it.
        task: Names the labels.
        review: Which scores go to a person.
        blank: Whether there is nothing to read in the response.
    """
    shares = dict(zip(task.names, probabilities.tolist(), strict=True))
    label = max(shares, key=shares.__getitem__)
    reason: Reason | None = None
    if blank and review.blank:
        reason = "blank"
    elif encoded.truncated and review.truncated:
        reason = "truncated"
    elif shares[label] < review.thresholds.get(label, 0.0):
        reason = "below threshold"
    decision: Literal["accept", "review"] = "accept" if reason is None else "review"
    return Score(label, shares[label], shares, decision, reason, encoded.truncated, encoded.tokens)


def distinct(rows: Sequence[dict[str, str]]) -> tuple[list[dict[str, str]], list[int]]:
    """Return the rows without those that repeat another, and for every row its place among them."""
    place_of: dict[tuple[str, ...], int] = {}
    places = [place_of.setdefault(tuple(row.values()), len(place_of)) for row in rows]
    first = dict(zip(reversed(places), reversed(rows), strict=True))
    return [first[place] for place in range(len(place_of))], places


Given = TypeVar("Given")
Found = TypeVar("Found")


def attempt(step: Callable[[Given], Found], given: Given) -> Found | EdgeDistillError:
    """Return what a step gives, or the error of ours that it raises, so that one response fails alone."""
    try:
        return step(given)
    except EdgeDistillError as error:
        return error


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _encoder(bundle: Bundle) -> Encoder:
    try:
        encoder = Encoder(bundle.tokenizer_file, bundle.manifest.max_tokens)
    except Exception as error:  # noqa: BLE001  # tokenizers raises bare exceptions
        raise BundleError(f"the tokenizer cannot be read ({error})", where="tokenizer.json") from None
    if encoder.room < 1:
        raise BundleError(
            f"{bundle.manifest.max_tokens} tokens leave no room for a response", where="bundle.json, max_tokens"
        )
    return encoder


def _checked_session(bundle: Bundle, encoder: Encoder) -> tuple[Session, SelfCheck, tuple[str, ...]]:
    """Return the first graph that passes, int8 before fp32, and what was wrong with the one before it."""
    faults: list[str] = []
    for precision in _candidates(bundle):
        try:
            session, check = _check(bundle, encoder, precision)
        except (BundleError, ScoringFailed) as error:
            faults.append(f"the {precision} graph fails on this CPU: {error}")
            continue
        if check.passed:
            return session, check, tuple(f"{fault}; {precision} is used instead" for fault in faults)
        faults.append(
            f"the {precision} graph's probabilities differ by up to {check.difference:.3g} from its golden ones "
            f"on this CPU, {check.tolerance:.3g} is accepted"
        )
    raise SelfCheckFailed(
        "; ".join(faults),
        where=bundle.manifest.name,
        mend="Do not use this bundle here; export it with fp32 beside int8, or use another CPU.",
    )


def _candidates(bundle: Bundle) -> list[Precision]:
    first = bundle.manifest.precision
    can_fall_back = first != "fp32" and bundle.model_file("fp32") and "fp32" in bundle.golden.tolerance
    return [first, "fp32"] if can_fall_back else [first]


def _check(bundle: Bundle, encoder: Encoder, precision: Precision) -> tuple[Session, SelfCheck]:
    model = bundle.model_file(precision)
    if model is None:
        raise BundleError(f"the bundle has no {precision} graph", where=bundle.manifest.name)
    session = Session(model)

    def logits_of(inputs: Mapping[str, str]) -> NDArray[np.float64]:
        return session.logits(encoder.encode([inputs])[0])

    return session, self_check(logits_of, bundle.golden, precision, bundle.manifest.temperature)
