"""`GradeBatch`: the scores of a batch of responses, as columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, get_args

import numpy as np

from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.errors import DataError, EdgeDistillError
from edgedistill_serve.grading.columns import MISSING, arrow_column, check_columns, values
from edgedistill_serve.grading.scored_texts import BYTES, Numbers, ScoredTexts, as_keys
from edgedistill_serve.scoring.score import Columns as AddedColumns
from edgedistill_serve.scoring.score import Reason, Score, score_columns
from edgedistill_serve.scoring.scorer import Scorer, deduplicate, result_or_error
from edgedistill_serve.task.html_text import has_html, html_to_text

_REASONS: tuple[Reason, ...] = get_args(Reason)
_OTHERS = ("probability", "novelty", "unknown_share", "tokens", "context_tokens", "context_tokens_lost", "truncated")
"""Numbers of a score after its probabilities; the places of its label and its reason follow."""


class GradeBatch:
    """Scores the rows of an Arrow table: table in, table out. It can be pickled, and called by several threads.

    A pickled copy loads the bundle again when it is first called, from the same folder.

    Args:
        bundle: The bundle, its folder, or a scorer of it.
        prefix: Prefix of every added column name.
        threads: Number of threads that score one batch.
        memory: Bytes for scores of texts that may come again; 0 to score every batch by itself.
        columns: By input, its column, if the column has another name.
        html: Whether the texts are HTML, of which the student reads what it shows; see `html_to_text`.

    Example:
        >>> graded = GradeBatch("bundle")(pyarrow.table({"response": ["You worked hard on this."]}))
        >>> graded.column("label")[0].as_py()
        'process'
    """

    def __init__(
        self,
        bundle: Bundle | Path | str | Scorer,
        *,
        prefix: str = "",
        threads: int = 1,
        memory: int = BYTES,
        columns: Mapping[str, str] | None = None,
        html: bool = False,
    ) -> None:
        self.prefix, self.threads, self.memory = prefix, threads, memory
        self.named_columns, self.html = dict(columns or {}), html
        self._scorer = bundle if isinstance(bundle, Scorer) else None
        self._bundle: Bundle | Path | str = bundle.bundle if isinstance(bundle, Scorer) else bundle
        self._prepare()

    def _prepare(self) -> None:
        self._opening, self._lock = Lock(), Lock()
        self._scored: ScoredTexts | None = None
        self._labels: list[str] = []
        self._label_places: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        given = self._bundle
        folder = given.folder if isinstance(given, Bundle) else Path(given)
        return {
            "prefix": self.prefix,
            "threads": self.threads,
            "memory": self.memory,
            "columns": self.named_columns,
            "html": self.html,
            "folder": str(folder.absolute()),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.prefix, self.threads, self.memory = state["prefix"], state["threads"], state["memory"]
        self.named_columns, self.html = state["columns"], state["html"]
        self._scorer, self._bundle = None, state["folder"]
        self._prepare()

    @property
    def scorer(self) -> Scorer:
        """The scorer; the first use loads the bundle and checks it on this machine."""
        with self._opening:
            if self._scorer is None:
                self._scorer = Scorer(self._bundle, threads=self.threads, score_cache=0)
            return self._scorer

    @property
    def added(self) -> AddedColumns:
        """The columns that are added, with the types of their values."""
        return score_columns(self.scorer.bundle.task, self.prefix)

    def __call__(self, table: Any) -> Any:
        """Return an Arrow table with the columns of the scores added; its other columns are unchanged.

        Args:
            table: A `pyarrow.Table` with a column for each input of the task.

        Raises:
            DataError: An input is missing, a column has the name of an added one, or two have one name.
        """
        names, task = table.column_names, self.scorer.bundle.task
        check_columns(names, task, self.added, "the table", self.named_columns)
        if repeated := [name for name in self.input_columns.values() if names.count(name) > 1]:
            raise DataError(f"two columns have the name {repeated[0]!r}", where="the table")
        scores = self.columns({name: table.column(name) for name in self.input_columns.values()})
        for name, kind in self.added.items():
            table = table.append_column(name, arrow_column(scores[name], kind))
        return table

    @property
    def input_columns(self) -> dict[str, str]:
        """By input of the task, its column."""
        return {name: self.named_columns.get(name, name) for name in self.scorer.bundle.task.inputs}

    def count_html(self, columns: Mapping[str, Any]) -> int:
        """Return the number of rows with HTML in a text; see `columns`."""
        texts = (values(columns[column]) for column in self.input_columns.values())
        return sum(any(isinstance(each, str) and has_html(each) for each in row) for row in zip(*texts, strict=True))

    def texts(self, columns: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Return the inputs of the task, HTML as the text that it shows; see `columns`."""
        found = {name: values(columns[column]) for name, column in self.input_columns.items()}
        if not self.html:
            return found
        return {
            name: [html_to_text(each) if isinstance(each, str) else each for each in column]
            for name, column in found.items()
        }

    def columns(self, table: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Return the columns of the scores.

        Args:
            table: By name, the columns of a table, each a list or an Arrow array. It has a column for each input of the
                task. A value that is not a text gives an error in its row.
        """
        scorer = self.scorer
        inputs = self.texts(table)
        rows = [
            {name: value for name, value in zip(inputs, row, strict=True) if value is not MISSING}
            for row in zip(*inputs.values(), strict=True)
        ]
        read = [result_or_error(scorer.read_inputs, row) for row in rows]
        distinct, indices = deduplicate([row for row in read if isinstance(row, dict)])
        numbers, errors = self._score(distinct)
        places = iter(indices)
        of_rows = [row if isinstance(row, EdgeDistillError) else next(places) for row in read]
        return self._as_columns(of_rows, numbers, errors)

    def _score(self, rows: Sequence[dict[str, str]]) -> tuple[Numbers, dict[int, str]]:
        """Return the numbers of each row's score, and the errors of rows without one, by place."""
        task, scorer = self.scorer.bundle.task, self.scorer
        width = len(task.names) + len(_OTHERS) + 2
        if not rows:
            return np.zeros((0, width)), {}
        with self._lock:
            if self._scored is None:
                self._scored = ScoredTexts(width, self.memory)
        keys = as_keys([scorer.cache_key(row) for row in rows])
        known, numbers = self._scored.find(keys)
        missing: list[int] = np.flatnonzero(~known).tolist()
        errors: dict[int, str] = {}
        for place, result in zip(
            missing, scorer.score_rows([rows[place] for place in missing], self.threads), strict=True
        ):
            if isinstance(result, Score):
                numbers[place] = self._numbers(result)
            else:
                errors[place] = str(result)
        scored = np.array([place for place in missing if place not in errors], dtype=np.intp)
        self._scored.add(keys[scored], numbers[scored])
        return numbers, errors

    def _numbers(self, score: Score) -> list[float]:
        with self._lock:
            label = self._label_places.get(score.label)
            if label is None:
                label = self._label_places[score.label] = len(self._labels)
                self._labels.append(score.label)
        others = (np.nan if (value := getattr(score, name)) is None else float(value) for name in _OTHERS)
        reason = 0 if score.reason is None else 1 + _REASONS.index(score.reason)
        return [*score.probabilities.values(), *others, float(label), float(reason)]

    def _as_columns(
        self, rows: Sequence[int | EdgeDistillError], numbers: Numbers, errors: Mapping[int, str]
    ) -> dict[str, list[Any]]:
        failures = [str(row) if isinstance(row, EdgeDistillError) else errors.get(row) for row in rows]
        scored = np.array([failure is None for failure in failures], dtype=bool)
        places = np.array([row for row, failure in zip(rows, failures, strict=True) if failure is None], dtype=np.intp)
        found = numbers[places]
        labels = len(self.scorer.bundle.task.names)
        by_name = {name: found[:, labels + place] for place, name in enumerate(_OTHERS)}
        reasons = [None if place == 0 else _REASONS[place - 1] for place in found[:, -1].astype(int).tolist()]
        novelty = by_name["novelty"].tolist()
        whole = {name: by_name[name].astype(np.int64).tolist() for name in _OTHERS[3:]}
        columns: list[list[Any]] = [
            [self._labels[place] for place in found[:, -2].astype(int).tolist()],
            by_name["probability"].tolist(),
            *(found[:, place].tolist() for place in range(labels)),
            ["accept" if reason is None else "review" for reason in reasons],
            reasons,
            list(map(bool, whole["truncated"])),
            whole["tokens"],
            by_name["unknown_share"].tolist(),
            whole["context_tokens"],
            whole["context_tokens_lost"],
            [None if np.isnan(value) else value for value in novelty],
        ]
        names = list(self.added)
        spread = [_spread(column, scored) for column in columns]
        return dict(zip(names, [*spread, failures], strict=True))


def _spread(column: list[Any], scored: Any) -> list[Any]:
    """Return a column with None for the rows without a score."""
    if len(column) == len(scored):
        return column
    remaining = iter(column)
    return [next(remaining) if has_score else None for has_score in scored]
