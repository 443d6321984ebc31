"""The scorer of a bundle. The score of a response does not depend on the other responses."""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias, TypeVar

from edgedistill_serve.bounds import COUNT_OR_NONE, THREADS, check_all
from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.cores import available_cores
from edgedistill_serve.errors import DataError, EdgeDistillError, ScoringFailed
from edgedistill_serve.scoring.batching import Outputs, token_batches
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.graph_choice import GraphOpener, load_checked_graph
from edgedistill_serve.scoring.score import Reason, Score, build_score, score_columns, score_values
from edgedistill_serve.scoring.score_cache import ENTRIES, ScoreCache
from edgedistill_serve.scoring.session import cuda_is_offered
from edgedistill_serve.task.contexts import context_hash
from edgedistill_serve.task.task import check_several, quote_columns, task_inputs

__all__ = [
    "Reason",
    "Response",
    "Score",
    "ScoredBatch",
    "Scorer",
    "build_score",
    "deduplicate",
    "result_or_error",
]

Response: TypeAlias = str | Mapping[str, str]
_Inputs: TypeAlias = Mapping[str, str]
_ROWS_PER_CHUNK = 2048
"""Rows that are tokenized in one step: enough to form batches by length, few enough for constant memory."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """Scores of a batch, with token counts and times.

    Attributes:
        results: A score or an error for every row, in order.
        tokens: Number of tokens, including special tokens.
        padded_tokens: Number of tokens that the graph computed, including padding.
        tokenize_seconds: Time for tokenization.
        model_seconds: Time in the graph.
    """

    results: list[Score | EdgeDistillError]
    tokens: int
    padded_tokens: int
    tokenize_seconds: float
    model_seconds: float


class Scorer:
    """A bundle that passed its self-check on this machine. Scorers are thread-safe.

    Args:
        bundle: The bundle to score with, or its folder.
        threads: Number of threads of `score`; by default, the number of available cores.
        score_cache: Number of recent scores to keep for repeated texts; 0 turns the cache off.
        gpu: Whether to try a GPU first; by default, if onnxruntime was built for CUDA.
        open_graph: Opens the bundle's graph; by default, with onnxruntime.
        recent: Deprecated name of ``score_cache``.

    Attributes:
        bundle: The bundle.
        precision: Precision of the graph in use; fp32 if the int8 graph failed its self-check and the bundle has both.
        device: Device of the graph, ``cpu`` or ``cuda``.
        check: Result of the graph's self-check.
        notes: Messages for the user, for example about a fallback. They are also logged as warnings.
        score_cache: The recent scores.
        batching: Size of the batches; None if each response must be scored alone because other rows of a batch would
            change its score.

    Raises:
        RuntimeMissing: No build or both builds of onnxruntime are installed.
        SelfCheckFailed: No graph of the bundle reproduces its golden scores on this machine.
        BundleError: The tokenizer cannot be used.
        DataError: A number is outside its bounds.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        threads: int | None = None,
        score_cache: int = ENTRIES,
        gpu: bool | None = None,
        open_graph: GraphOpener | None = None,
        recent: int | None = None,
    ) -> None:
        if recent is not None:
            warnings.warn("Scorer(recent=…) is now Scorer(score_cache=…)", DeprecationWarning, stacklevel=2)
            score_cache = recent
        given = {"score_cache": score_cache, "threads": available_cores() if threads is None else threads}
        check_all(given, {"score_cache": COUNT_OR_NONE, "threads": THREADS}, "Scorer")
        bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        self.bundle = bundle
        self.threads = given["threads"]
        self.score_cache = ScoreCache(score_cache)
        self._label_decoder = bundle.manifest.label_decoder
        contexts = bundle.manifest.contexts
        self._known_contexts = frozenset(contexts.hashes) if contexts is not None and contexts.closed else None
        gpu = cuda_is_offered() if gpu is None else gpu
        checked = load_checked_graph(bundle, gpu=gpu, open_graph=open_graph)
        self._encoder, self._session, choice = checked.encoder, checked.session, checked.choice
        self.check, self.notes = choice.check, choice.notes
        self.precision, self.device = choice.check.precision, choice.device
        self.batching = choice.batching
        for note in self.notes:
            _log.warning("%s: %s", bundle.manifest.name, note)

    def score(self, responses: Iterable[Response]) -> list[Score]:
        """Score responses. ``result[i]`` depends on ``responses[i]`` only.

        Args:
            responses: Texts, or mappings with the task's inputs: a list, a tuple, a generator, a Series or an array.
                Equal responses are scored once.

        Raises:
            DataError: ``responses`` is one text, one mapping, or a table (see `score_frame`); or an input is missing or
                is not a string, and the message names the response.
            ScoringFailed: The model failed on a response.
        """
        results = self.score_each(responses)
        for position, result in enumerate(results, start=1):
            if isinstance(result, EdgeDistillError):
                raise type(result)(result.what, where=f"response {position}", hint=result.hint)
        return [result for result in results if isinstance(result, Score)]

    def score_each(self, responses: Iterable[Response]) -> list[Score | EdgeDistillError]:
        """Score responses as `score` does, but return the error of a response that cannot be scored."""
        read = [result_or_error(self.read_inputs, response) for response in check_several(responses)]
        rows, indices = deduplicate([inputs for inputs in read if isinstance(inputs, dict)])
        keys = [self.cache_key(row) for row in rows]
        cached = {index: score for index, key in enumerate(keys) if (score := self.score_cache.get(key)) is not None}
        missing = [index for index in range(len(rows)) if index not in cached]
        new = dict(zip(missing, self.score_rows([rows[index] for index in missing]), strict=True))
        for index, result in new.items():
            if isinstance(result, Score):
                self.score_cache.put(keys[index], result)
        by_row = {**cached, **new}
        results = iter([by_row[index] for index in indices])
        return [inputs if isinstance(inputs, EdgeDistillError) else next(results) for inputs in read]

    def score_frame(self, frame: Any) -> Any:
        """Score the rows of a pandas DataFrame or Series.

        pandas is an optional dependency and is not imported here.

        Args:
            frame: A DataFrame with a column per input of the task; or, for a task whose only input is the response, a
                Series of texts. A missing value is scored as a blank text.

        Returns:
            A DataFrame with the same index and the columns of a graded file: ``label``, ``probability``,
            ``probability_NAME`` for each label, ``decision``, ``reason``, ``truncated``, ``tokens``, ``unknown_share``,
            ``context_tokens``, ``context_tokens_lost``, ``novelty`` and ``error``. A row that cannot be scored has only
            an error.

        Raises:
            DataError: ``frame`` is neither, or an input is missing or has several columns.
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
                hint=f"This task's inputs are {', '.join(inputs)}; columns are {quote_columns(texts.columns)}.",
            )
        if repeated := [name for name in inputs if list(texts.columns).count(name) > 1]:
            raise DataError(f"there are several columns {repeated[0]!r}", hint="Rename all but one of them.")
        read = texts[list(inputs)].astype(object)
        results = self.score_each(read.where(read.notna(), "").to_dict("records"))
        added = score_columns(self.bundle.task)
        rows = [score_values(result, added) for result in results]
        return pandas.DataFrame(rows, index=frame.index, columns=list(added))

    def read_inputs(self, response: Response) -> dict[str, str]:
        """Validate a response and return the task's inputs, as `score_one` takes them.

        Raises:
            DataError: An input is missing or is not a string.
        """
        if not isinstance(response, (str, Mapping)):
            raise DataError("a response must be a string, or a mapping of the task's inputs")
        return task_inputs(response, self.bundle.task)

    def score_one(self, inputs: _Inputs) -> Score:
        """Score one response in the calling thread, without the cache.

        Args:
            inputs: As `read_inputs` returns them.

        Raises:
            ScoringFailed: The model failed on the response.
        """
        (result,) = self.score_batch([inputs]).results
        if isinstance(result, EdgeDistillError):
            raise result
        return result

    def score_rows(self, rows: Sequence[dict[str, str]], threads: int | None = None) -> list[Score | EdgeDistillError]:
        """Score rows without the cache, in batches of equal lengths. Equal rows are scored several times.

        Args:
            rows: As `read_inputs` returns them.
            threads: Number of threads; by default, those of the scorer. With 1, the calling thread scores.
        """
        threads = min(self.threads if threads is None else min(threads, self.threads), len(rows))
        results: dict[int, Score | EdgeDistillError] = {}
        batches = _SharedIterator(self._batches(rows))

        def score_batches() -> None:
            for indices, encoded in batches:
                batch = [rows[index] for index in indices]
                results.update(zip(indices, self.score_batch(batch, encoded).results, strict=True))

        if threads > 1:
            try:
                for future in [self._pool.submit(score_batches) for _ in range(threads)]:
                    future.result()
            finally:
                batches.stop()
        else:
            score_batches()
        return [results[index] for index in range(len(rows))]

    def score_batch(self, rows: Sequence[_Inputs], encoded: Sequence[Encoded] | None = None) -> ScoredBatch:
        """Score rows in one run of the graph, in the calling thread. If the run fails, each row is scored alone.

        Args:
            rows: As `read_inputs` returns them; exactly one if ``batching`` is None.
            encoded: The same rows as `encode` returns them, if they are encoded already.
        """
        started = tokenized = time.perf_counter()
        try:
            encoded = self.encode(rows) if encoded is None else encoded
            tokenized = time.perf_counter()
            longest = max(len(row.ids) for row in encoded)
            length = longest if self.batching is None else self.batching.padded_length(longest)
            found = self._session.run(encoded, length)
            results = [self._build_score(found, index, row, encoded[index]) for index, row in enumerate(rows)]
        except Exception as error:  # noqa: BLE001  # one row must not prevent the scores of the others
            if len(rows) > 1:
                return _merge([self.score_batch([row]) for row in rows])
            return ScoredBatch([_failure(error)], 0, 0, tokenized - started, time.perf_counter() - tokenized)
        tokens = sum(len(row.ids) for row in encoded)
        return ScoredBatch(
            list(results), tokens, len(rows) * length, tokenized - started, time.perf_counter() - tokenized
        )

    def encode(self, rows: Sequence[_Inputs]) -> list[Encoded]:
        """Encode rows, as `read_inputs` returns them, for the graph."""
        return self._encoder.encode(rows)

    def cache_key(self, inputs: _Inputs) -> bytes:
        """Return the key of a response in `score_cache`; responses with equal keys have equal scores."""
        return self.score_cache.key(inputs.values())

    def _build_score(self, found: Outputs, index: int, inputs: _Inputs, encoded: Encoded) -> Score:
        decoder, manifest = self._label_decoder, self.bundle.manifest
        probabilities = decoder.probabilities(found.logits[index])
        new_question = self._known_contexts is not None and context_hash(inputs) not in self._known_contexts
        return build_score(
            probabilities,
            encoded,
            decoder.task,
            manifest.review,
            thresholds=decoder.thresholds,
            new_question=new_question,
            novelty=None if found.novelty is None or manifest.novelty is None else float(found.novelty[index]),
            verdict=manifest.known_verdict,
        )

    def _batches(self, rows: Sequence[dict[str, str]]) -> Iterator[tuple[list[int], list[Encoded] | None]]:
        """Yield the indices of each batch, and its encoded rows unless one of the chunk cannot be encoded."""
        indices = iter(range(len(rows)))
        while chunk := list(islice(indices, _ROWS_PER_CHUNK)):
            try:
                encoded = self.encode([rows[index] for index in chunk])
            except ScoringFailed:  # each row is encoded alone, and only those fail that cannot be
                yield from (([index], None) for index in chunk)
                continue
            lengths = [len(row.ids) for row in encoded]
            singles = [[index] for index in range(len(chunk))]
            for batch in singles if self.batching is None else token_batches(lengths, self.batching):
                yield [chunk[index] for index in batch], [encoded[index] for index in batch]

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="scorer")


Argument = TypeVar("Argument")
T = TypeVar("T")


class _SharedIterator(Iterator[T]):
    """A thread-safe iterator."""

    def __init__(self, inner: Iterator[T]) -> None:
        self._inner = inner
        self._lock = Lock()

    def __next__(self) -> T:
        with self._lock:
            return next(self._inner)

    def stop(self) -> None:
        """End the iteration for all threads."""
        with self._lock:
            self._inner = iter(())


def deduplicate(rows: Sequence[dict[str, str]]) -> tuple[list[dict[str, str]], list[int]]:
    """Return the distinct rows, and for every row its index among them."""
    index_of: dict[tuple[str, ...], int] = {}
    indices = [index_of.setdefault(tuple(row.values()), len(index_of)) for row in rows]
    first = dict(zip(reversed(indices), reversed(rows), strict=True))
    return [first[index] for index in range(len(index_of))], indices


def result_or_error(function: Callable[[Argument], T], argument: Argument) -> T | EdgeDistillError:
    """Return the result of a function, or the `EdgeDistillError` that it raises."""
    try:
        return function(argument)
    except EdgeDistillError as error:
        return error.unraised_copy()


def _merge(parts: Sequence[ScoredBatch]) -> ScoredBatch:
    return ScoredBatch(
        [result for part in parts for result in part.results],
        sum(part.tokens for part in parts),
        sum(part.padded_tokens for part in parts),
        sum(part.tokenize_seconds for part in parts),
        sum(part.model_seconds for part in parts),
    )


def _failure(error: Exception) -> EdgeDistillError:
    # The message of a third-party error can contain parts of the text.
    return (
        error.unraised_copy()
        if isinstance(error, EdgeDistillError)
        else ScoringFailed(f"the model failed on this response ({type(error).__name__})")
    )
