"""Scores responses with a bundle: the same response, the same score, whatever is scored beside it."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from threading import Lock
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.errors import DataError, EdgeDistillError, ScoringFailed
from edgedistill_serve.scoring.batching import token_batches
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.graph_choice import GraphOpener, load_checked_graph, load_encoder
from edgedistill_serve.scoring.score import Reason, Score, build_score, score_columns, score_values
from edgedistill_serve.scoring.score_cache import ENTRIES, ScoreCache
from edgedistill_serve.scoring.session import cuda_is_offered
from edgedistill_serve.task.task import model_texts, task_inputs

__all__ = [
    "BatchResult",
    "Reason",
    "Response",
    "Score",
    "Scorer",
    "available_cores",
    "build_score",
    "deduplicate",
    "result_or_error",
]

Response: TypeAlias = str | Mapping[str, str]
_Inputs: TypeAlias = Mapping[str, str]
_ENCODED_AT_ONCE = 1024
"""Rows that are tokenized together and wait for a thread: enough to sort by length, few enough for flat memory."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of rows that were scored together.

    Attributes:
        results: A score or an error for every row, in order.
        tokens: Sum of the sequences' lengths, special tokens counted.
        padded_tokens: Tokens that the graph computed, padding counted.
        tokenize_seconds: Seconds from texts to token ids.
        model_seconds: Seconds in the graph.
    """

    results: list[Score | EdgeDistillError]
    tokens: int
    padded_tokens: int
    tokenize_seconds: float
    model_seconds: float


class Scorer:
    """A bundle that passed its self-check on this machine.

    Args:
        bundle: What to score with.
        threads: How many responses are scored at a time by `score`; as many as there are cores unless said otherwise.
        recent: How many of the last scores are remembered, for texts that come again; 0 is none.
        gpu: Whether a GPU is tried first; where onnxruntime was built for one, unless said otherwise.
        open_graph: Opens the bundle's graph; None for onnxruntime.

    Attributes:
        bundle: The same.
        precision: The graph in use: fp32 where the int8 graph failed its self-check and there is one to fall back on.
        device: Where it runs, ``cpu`` or ``cuda``.
        check: What the self-check of this graph found.
        notes: What the user should know, such as that fallback; it is also logged as a warning.
        recent: The scores that are remembered.
        batching: What a batch may hold; None where each response must be scored alone, since others in its batch would
            move its score.

    Raises:
        RuntimeMissing: onnxruntime is not installed, or there twice.
        SelfCheckFailed: No graph of the bundle gives its golden scores on this CPU.
        BundleError: The tokenizer cannot be used.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int | None = None,
        score_cache: int = ENTRIES,
        gpu: bool | None = None,
        open_graph: GraphOpener | None = None,
    ) -> None:
        self.bundle = bundle
        self.threads = threads or available_cores()
        self.score_cache = ScoreCache(score_cache)
        self._label_decoder = bundle.manifest.label_decoder
        self._encoder = load_encoder(bundle)
        gpu = cuda_is_offered() if gpu is None else gpu
        graph = load_checked_graph(bundle, self._encoder, gpu=gpu, open_graph=open_graph)
        self._session = graph.session
        self.check, self.notes, self.precision, self.device = (
            graph.check,
            graph.notes,
            graph.check.precision,
            graph.device,
        )
        self.batching = graph.batching
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
                raise type(result)(result.what, where=f"response {position}", hint=result.hint)
        return [result for result in results if isinstance(result, Score)]

    def score_each(self, responses: Sequence[Response]) -> list[Score | EdgeDistillError]:
        """Score responses as `score` does, with the error in the place of each response that cannot be scored."""
        readable = [result_or_error(self.read_inputs, response) for response in responses]
        rows, places = deduplicate([inputs for inputs in readable if isinstance(inputs, dict)])
        keys = [self.cache_key(row) for row in rows]
        known = {place: score for place, key in enumerate(keys) if (score := self.score_cache.get(key)) is not None}
        missing = [place for place in range(len(rows)) if place not in known]
        new = dict(zip(missing, self._score_new([rows[place] for place in missing]), strict=True))
        for place, result in new.items():
            if isinstance(result, Score):
                self.score_cache.put(keys[place], result)
        found = {**known, **new}
        results = iter([found[place] for place in places])
        return [inputs if isinstance(inputs, EdgeDistillError) else next(results) for inputs in readable]

    def score_frame(self, frame: Any) -> Any:
        """Score the rows of a pandas DataFrame or Series.

        pandas is not imported: whoever has a DataFrame has done so.

        Args:
            frame: A DataFrame with a column per input of the task; or, for a task whose only input is the response, a
                Series of texts. A missing text is a blank one.

        Returns:
            A DataFrame with the same index and the columns that a graded file has: ``label``, ``probability``,
            ``probability_NAME`` for each label, ``decision``, ``reason``, ``truncated``, ``tokens`` and ``error``. A
            row that cannot be scored has an error and nothing else.

        Raises:
            DataError: It is neither, or an input is missing.
        """
        pandas = sys.modules.get("pandas")
        if pandas is None or not isinstance(frame, (pandas.DataFrame, pandas.Series)):
            raise DataError(
                f"a pandas DataFrame or Series is needed, not {type(frame).__name__}", hint="Score a list with `score`."
            )
        texts = frame.to_frame("response") if isinstance(frame, pandas.Series) else frame
        inputs = self.bundle.task.inputs
        if missing := [name for name in inputs if name not in texts.columns]:
            raise DataError(
                f"there is no column {missing[0]!r}",
                hint=f"This task's inputs are {', '.join(inputs)}; columns are {', '.join(map(str, texts.columns))}.",
            )
        read = texts[list(inputs)].astype(object)
        results = self.score_each(read.where(read.notna(), "").to_dict("records"))
        added = score_columns(self.bundle.task)
        rows = [score_values(result, added) for result in results]
        return pandas.DataFrame(rows, index=frame.index, columns=list(added))

    def read_inputs(self, response: Response) -> dict[str, str]:
        """Return the task's inputs of a response, which `score_one` takes.

        Raises:
            DataError: An input is missing or is no text.
        """
        if not isinstance(response, (str, Mapping)):
            raise DataError("a response is a text, or a mapping of the task's inputs")
        return task_inputs(response, self.bundle.task)

    def score_one(self, inputs: _Inputs) -> Score:
        """Score one response in the calling thread, anew.

        Args:
            inputs: As `read_inputs` returns them.

        Raises:
            ScoringFailed: The model failed on it.
        """
        (result,) = self.score_batch([inputs]).results
        if isinstance(result, EdgeDistillError):
            raise result
        return result

    def score_batch(self, rows: Sequence[_Inputs], encoded: Sequence[Encoded] | None = None) -> BatchResult:
        """Score rows in one run of the graph, in the calling thread; where that fails, each of them alone.

        Args:
            rows: As `read_inputs` returns them; one only, where there is no ``batching``.
            encoded: The same rows as `encode` returns them, if that was done.
        """
        started = tokenized = time.perf_counter()
        try:
            encoded = self.encode(rows) if encoded is None else encoded
            tokenized = time.perf_counter()
            longest = max(len(row.ids) for row in encoded)
            length = longest if self.batching is None else self.batching.padded_length(longest)
            logits = self._session.batch_logits(encoded, length)
            results = [self._judge(logits[place], row, encoded[place]) for place, row in enumerate(rows)]
        except Exception as error:  # noqa: BLE001  # whatever is wrong with one row, the others are scored
            if len(rows) > 1:
                return _together([self.score_batch([row]) for row in rows])
            return BatchResult([_failure(error)], 0, 0, tokenized - started, time.perf_counter() - tokenized)
        tokens = sum(len(row.ids) for row in encoded)
        return BatchResult(
            list(results), tokens, len(rows) * length, tokenized - started, time.perf_counter() - tokenized
        )

    def encode(self, rows: Sequence[_Inputs]) -> list[Encoded]:
        """Return the rows as the graph reads them."""
        return self._encoder.encode(rows)

    def cache_key(self, inputs: _Inputs) -> bytes:
        """Return what tells apart the texts that this model reads; see `ScoreCache.key`."""
        return self.score_cache.key(model_texts(inputs))

    def _judge(self, logits: NDArray[np.float64], inputs: _Inputs, encoded: Encoded) -> Score:
        decoder = self._label_decoder
        blank = not inputs["response"].strip() or not encoded.tokens
        probabilities, review = decoder.probabilities(logits), self.bundle.manifest.review
        return build_score(probabilities, encoded, decoder.task, review, blank=blank, thresholds=decoder.thresholds)

    def _score_new(self, rows: Sequence[dict[str, str]]) -> list[Score | EdgeDistillError]:
        """Score rows on as many threads as there are."""
        found: dict[int, Score | EdgeDistillError] = {}
        work = _Shared(self._batches(rows))

        def score_some() -> None:
            for places, encoded in work:
                together = [rows[place] for place in places]
                found.update(zip(places, self.score_batch(together, encoded).results, strict=True))

        if min(self.threads, len(rows)) > 1:
            try:
                for done in [self._pool.submit(score_some) for _ in range(self.threads)]:
                    done.result()
            finally:
                work.stop()
        else:
            score_some()
        return [found[place] for place in range(len(rows))]

    def _batches(self, rows: Sequence[dict[str, str]]) -> Iterator[tuple[list[int], list[Encoded]]]:
        """Yield the places of rows that are scored together, and the rows as the graph reads them."""
        places = iter(range(len(rows)))
        while chunk := list(islice(places, _ENCODED_AT_ONCE)):
            encoded = self.encode([rows[place] for place in chunk])
            lengths = [len(row.ids) for row in encoded]
            alone = [[place] for place in range(len(chunk))]
            for batch in alone if self.batching is None else token_batches(lengths, self.batching):
                yield [chunk[place] for place in batch], [encoded[place] for place in batch]

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="scorer")


Given = TypeVar("Given")
Found = TypeVar("Found")


class _Shared(Iterator[Found]):
    """An iterator that several threads may share."""

    def __init__(self, inner: Iterator[Found]) -> None:
        self._inner = inner
        self._lock = Lock()

    def __next__(self) -> Found:
        with self._lock:
            return next(self._inner)

    def stop(self) -> None:
        """Have nothing more to give."""
        with self._lock:
            self._inner = iter(())


def deduplicate(rows: Sequence[dict[str, str]]) -> tuple[list[dict[str, str]], list[int]]:
    """Return the rows without those that repeat another, and for every row its place among them."""
    place_of: dict[tuple[str, ...], int] = {}
    places = [place_of.setdefault(tuple(row.values()), len(place_of)) for row in rows]
    first = dict(zip(reversed(places), reversed(rows), strict=True))
    return [first[place] for place in range(len(place_of))], places


def result_or_error(step: Callable[[Given], Found], given: Given) -> Found | EdgeDistillError:
    """Return what a step gives, or the error of ours that it raises, so that one response fails alone."""
    try:
        return step(given)
    except EdgeDistillError as error:
        return error.unraised_copy()


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _together(each: Sequence[BatchResult]) -> BatchResult:
    return BatchResult(
        [result for scored in each for result in scored.results],
        sum(scored.tokens for scored in each),
        sum(scored.padded_tokens for scored in each),
        sum(scored.tokenize_seconds for scored in each),
        sum(scored.model_seconds for scored in each),
    )


def _failure(error: Exception) -> EdgeDistillError:
    # The words of an error that is not ours may hold some of the text.
    return (
        error.unraised_copy()
        if isinstance(error, EdgeDistillError)
        else ScoringFailed(f"the model failed on this response ({type(error).__name__})")
    )
