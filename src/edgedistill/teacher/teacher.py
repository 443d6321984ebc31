"""A teacher: an LLM that codes responses with a codebook; answers are cached and never paid for twice."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edgedistill.data.tables import unusable
from edgedistill.data.types import CodedResponse, Response, SetAside, TrainRows
from edgedistill.errors import ArgumentError, Paused
from edgedistill.frames import Column, Rows, check_task, coded_rows, frame_of, responses_of, values_of, with_codes
from edgedistill.progress import OnProgress
from edgedistill.project.reading import checked_section
from edgedistill.project.schema import Project
from edgedistill.project.teacher import TeacherSection
from edgedistill.task import Task
from edgedistill.teacher.cache import AnswerCache, ImportResult, describe_model_changes, export_jsonl, import_jsonl
from edgedistill.teacher.codebook import Codebook
from edgedistill.teacher.dispatch import EstimateOnly, SendNow, SubmitBatches
from edgedistill.teacher.gating import GateVerdict, check_gate
from edgedistill.teacher.labelling import (
    Embed,
    ExampleSelector,
    Labelling,
    LabellingPlan,
    LabellingProgress,
    Vectors,
    build_example_selector,
    label_responses,
)
from edgedistill.teacher.runner import DispatchMode
from edgedistill.teacher.spending import Budget, CostEstimate, SpendingLog, Usage
from edgedistill_serve.task.task import Task as ScoredTask

if TYPE_CHECKING:  # pandas is imported only where a DataFrame is created
    from pandas import DataFrame

    from edgedistill.teacher.existing_labels import ExistingLabels

_EMBEDDED_TOKENS = 128
"""Longest text that is embedded for similar examples, where the project does not limit the student's input."""
_ADDED = ("label", "consistency", "set_aside_reason")


class Teacher:
    """An LLM behind an OpenAI-compatible endpoint that codes responses.

    Every answer is written to the cache before it counts: repeating a call sends no requests, and an interrupted call
    continues. All methods work in notebooks, inside a running event loop.

    Example:
        teacher = Teacher("gpt-4o", task=task, votes=3, cache="answers/")
        labelled = teacher.label(responses)

    Args:
        model: The model's name at the endpoint.
        task: The task; every prompt has its instructions and definitions.
        cache: The folder of cached answers; created if it does not exist.
        examples: Human-coded rows for few-shot prompts: a DataFrame with the task's inputs, ``label`` and optionally
            ``id`` (for ``few_shot_ids``; the default is the index). ``few_shot`` is their number per prompt.
        backbone: The embedding model for ``few_shot_choice="similar"``.
        max_characters: Longer responses are set aside.
        api_key: The API key; None reads the environment variable ``api_key_env`` before the first request.
        settings: All other keys of the project file's ``teacher`` section (docs/teacher.md):
            ``base_url``, ``api_key_env``, ``votes``, ``temperature``, ``few_shot``, ``reasoning``, ``per_request``,
            ``logprobs``, ``concurrency``, ``ties``, ``prices={"input_usd_per_million": …, "output_usd_per_million":
            …}``, ``budget={"usd": …}``, ``gate={"metric": "kappa", "at_least": 0.6}`` and so on.

    Raises:
        ArgumentError: A setting is unknown or invalid, or the examples cannot be used.
    """

    def __init__(
        self,
        model: str,
        *,
        task: Task,
        cache: Path | str = "teacher-cache",
        examples: "DataFrame | None" = None,
        backbone: str = "minilm",
        max_characters: int = 10_000,
        api_key: str | None = None,
        **settings: Any,
    ) -> None:
        check_task(task)
        if not isinstance(cache, str | PathLike):
            raise ArgumentError(f"cache must be a folder, not {cache!r}", where="Teacher")
        if not isinstance(max_characters, int) or max_characters < 1:
            raise ArgumentError(f"max_characters must be a positive integer, not {max_characters!r}", where="Teacher")
        if api_key is not None and not api_key.strip():
            raise ArgumentError(
                "api_key is empty", where="Teacher", hint="Use api_key_env=None for an endpoint that needs no key."
            )
        section = checked_section(TeacherSection, {"model": model, "cache": Path(cache), **settings}, "Teacher")
        if section.few_shot and examples is None:
            raise ArgumentError("few_shot needs examples: human-coded rows for the prompts", where="Teacher")
        coded: tuple[CodedResponse, ...] = ()
        if examples is not None:
            examples = frame_of(examples, task)
            coded = coded_rows(examples, "label", task, ids=list(examples.get("id", examples.index)))
        self._set(
            section,
            task,
            Path(),
            section.called,
            TrainRows(coded),
            lambda: _embedder(backbone, Path(), _EMBEDDED_TOKENS),
        )
        self._max_characters, self._api_key = max_characters, api_key

    @classmethod
    def from_project(cls, project: Project, section: TeacherSection, train: TrainRows) -> Self:
        """Return one of a project's teachers.

        Args:
            project: The project; the cache folder is relative to it.
            section: The teacher.
            train: Human-coded rows for few-shot prompts.
        """
        teacher = cls.__new__(cls)
        spender = project.name + f"/{section.called}" * (len(project.panel) > 1)
        teacher._set(
            section,
            project.task.coded,
            project.folder,
            spender,
            train,
            lambda: _embedder(project.student.backbone, project.folder, project.student.max_tokens or _EMBEDDED_TOKENS),
        )
        teacher._max_characters, teacher._api_key = project.data.max_characters, None
        return teacher

    @staticmethod
    def from_labels(
        labels: "DataFrame | Path | str", *, task: Task, id_column: str = "id", **settings: Any
    ) -> "ExistingLabels":
        """Return a teacher whose labels exist already: nothing is asked and nothing is paid.

        Its methods `label` and `gate` find the label of a row by its column ``id``, or by its index if it has none.

        Example:
            teacher = Teacher.from_labels("gpt4.csv", task=task, votes=["run1", "run2", "run3"])
            teacher.gate(validation)

        Args:
            labels: A table file, or a DataFrame, with one row per response.
            task: The task; the labels are matched with its labels as a teacher's answers are.
            id_column: The column of the ids; a DataFrame without it has them in its index.
            settings: All other keys of the section ``teacher`` of a project whose labels exist already
                (docs/teacher.md): ``label_column``, ``votes``, ``shares``, ``confidence``, ``model``, ``name``,
                ``ties``, ``unmatched``, ``gate`` and so on.

        Raises:
            ArgumentError: A setting is unknown or invalid.
            DataError: The table cannot be used; the message names its rows.
        """
        from edgedistill.teacher.existing_labels import ExistingLabels  # which uses this module

        return ExistingLabels.from_labels(labels, task=task, id_column=id_column, **settings)

    def _set(
        self,
        section: TeacherSection,
        task: Task,
        folder: Path,
        spender: str,
        examples: TrainRows,
        load_embedder: Callable[[], Embed],
    ) -> None:
        self.section, self.task = section, task
        self.codebook = Codebook(task.instructions, task.labels, task.inputs, task.kind == "multilabel")
        self.cache_folder = folder / section.cache
        self.spending_log = SpendingLog(self.cache_folder, spender)
        self.usage = Usage(nano_dollars=0 if section.prices else None)
        self._examples, self._load_embedder = examples, load_embedder

    def __repr__(self) -> str:
        section = self.section
        return f"Teacher({section.model!r}, votes={section.votes}, cache={str(self.cache_folder)!r})"

    def label(
        self,
        X: Rows,  # noqa: N803
        *,
        offline: bool = False,
        batch: bool = False,
        on_progress: OnProgress | None = None,
        on_message: Callable[[str], None] = lambda _: None,
    ) -> "DataFrame":
        """Code responses.

        Args:
            X: A DataFrame with a column per input of the task. If the response is the only input, also a Series or a
                list of texts.
            offline: Use cached answers only.
            batch: Use the provider's Batch API, usually at half the price and within a day.
            on_progress: Progress callback; see `edgedistill.progress_bars`.
            on_message: Called with messages for the user, such as the cost estimate.

        Returns:
            ``X`` with the same rows, order, index and columns, plus ``label`` (for a multilabel task, joined labels),
            ``share_NAME`` (the soft label of each label, in [0, 1]), ``consistency`` (the share of votes equal to the
            label, in [0, 1]) and ``set_aside_reason``; with ``confidence=True`` also ``confidence`` (the mean of the
            stated confidences, votes for other labels counted as 0, in [0, 1]; missing if none was stated). Every row
            has either a label or a reason; the rest is missing.

        Raises:
            ArgumentError: The rows cannot be used, or already have one of these columns.
            AnswersMissing: Offline, and answers are missing.
            TeacherError: No request can succeed.
            BudgetReached: The next request could exceed the budget; received answers are kept.
            CacheDamaged: The cache cannot be read or written.
        """
        frame = frame_of(X, self.task)
        require_free_columns(frame, self.task, confidence=self.section.confidence)
        dispatch = SubmitBatches(on_message, on_estimate=lambda found: on_message(found.summary)) if batch else None
        labelling = self._labelling(responses_of(frame, self.task), "label", offline, dispatch, on_progress, on_message)
        return label_frame(frame, labelling, self.task, confidence=self.section.confidence)

    def gate(
        self,
        X: Rows,  # noqa: N803
        y: Column = "label",
        *,
        groups: Column | None = None,
        coders: Sequence[str] = (),
        epsilon: float = 0.15,
        offline: bool = False,
        on_progress: OnProgress | None = None,
        on_message: Callable[[str], None] = lambda _: None,
    ) -> GateVerdict:
        """Code human-coded rows and compare.

        Args:
            X: Validation rows, as for `label`; never the test rows that a student is reported on.
            y: Their human codes: the name of a column of ``X``, or a label per row.
            groups: The rows' groups, such as learners, for cluster bootstrap intervals: the name of a column of ``X``,
                or a value per row.
            coders: Columns of ``X`` with the codes of single coders, missing where a coder did not code a row. With
                three or more the alternative annotator test is made, too; see `edgedistill.alt_test`.
            epsilon: Its advantage for the teacher.
            offline: As in `label`.
            on_progress: As in `label`.
            on_message: As in `label`.

        Returns:
            The agreement with 95 % intervals, and whether it passes the ``gate`` setting. It prints as a table.

        Raises:
            ArgumentError: Rows or codes cannot be used.
            EdgeDistillError: As `label`.
        """
        _, rows = gate_rows(X, y, self.task, groups, coders)
        labelling = self._labelling(tuple(row.response for row in rows), "gate", offline, None, on_progress, on_message)
        return check_gate(self.section, labelling, rows, self.task, coders=coders, epsilon=epsilon)

    def estimate(self, X: Rows) -> CostEstimate:  # noqa: N803
        """Estimate the cost of labelling from a sample of the prompts; nothing is sent.

        Cached answers are not counted.
        """
        try:
            self._labelling(responses_of(X, self.task), "label", False, EstimateOnly(), None, lambda _: None)
        except Paused as stop:
            return CostEstimate(**stop.result["estimate"])
        raise AssertionError("an estimate stops the labelling")

    def import_answers(self, file: Path | str) -> ImportResult:
        """Import answers from a JSON Lines file written by `export_answers`; existing answers stay.

        Raises:
            DataError: The file cannot be read.
            CacheDamaged: The cache cannot be written.
        """
        with AnswerCache(self.cache_folder) as cache:
            return import_jsonl(cache, Path(file))

    def export_answers(self, file: Path | str) -> int:
        """Export all cached answers to a JSON Lines file; return their number.

        Raises:
            DataError: The file cannot be written.
            CacheDamaged: A cached answer is damaged.
        """
        with AnswerCache(self.cache_folder) as cache:
            return export_jsonl(cache, Path(file))

    def code(
        self,
        responses: Sequence[Response],
        stage: str,
        *,
        votes: int | None = None,
        offline: bool = False,
        dispatch: DispatchMode | None = None,
        on_progress: Callable[[LabellingProgress], None] | None = None,
        on_message: Callable[[str], None] = lambda _: None,
    ) -> Labelling:
        """Code responses, as the stages of a project do.

        Args:
            responses: The responses.
            stage: The stage that the cost is logged under.
            votes: Votes per response; None: the setting ``votes``.
            offline: Use cached answers only.
            dispatch: The dispatch mode; None sends requests one by one.
            on_progress: Called after every vote.
            on_message: Called if the answers come from several versions of the model.

        Raises:
            EdgeDistillError: As `label_responses`.
        """
        section = self.section if votes is None else self.section.model_copy(update={"votes": votes})
        with AnswerCache(self.cache_folder) as cache:
            labelling = label_responses(
                responses,
                self.codebook,
                section,
                cache,
                examples=self.example_selector,
                offline=offline,
                api_key=self._api_key,
                on_progress=on_progress,
                budget=self.budget(stage),
                dispatch=dispatch,
            )
            if labelling.usage.asked:
                for line in describe_model_changes(cache.model_versions(section.model)):
                    on_message(line)
        self.usage += labelling.usage
        return labelling

    def budget(self, stage: str) -> Budget:
        """Return the budget of a stage; the cap is shared by all stages and runs."""
        return Budget.from_section(self.section, self.spending_log, stage)

    def plan(self, responses: Sequence[Response]) -> LabellingPlan:
        """Return the requests for responses, regardless of the cache."""
        return LabellingPlan(responses, self.codebook, self.section, self.example_selector)

    @cached_property
    def example_selector(self) -> ExampleSelector:
        """Selects the few-shot examples of each response."""
        return build_example_selector(self.section, self._examples, self.task, self._embed)

    def _embed(self, rows: Sequence[Mapping[str, str]]) -> Vectors:
        return self._embedder(rows)

    @cached_property
    def _embedder(self) -> Embed:
        return self._load_embedder()  # loads torch, so only when first needed

    def _labelling(
        self,
        responses: Sequence[Response],
        stage: str,
        offline: bool,
        dispatch: DispatchMode | None,
        on_progress: OnProgress | None,
        on_message: Callable[[str], None],
    ) -> Labelling:
        """Code the usable responses; the others are set aside."""
        reasons = {response.id: unusable(response, self._max_characters) for response in responses}

        def report(progress: LabellingProgress) -> None:
            if on_progress:
                on_progress(f"{stage}: {self.section.called} codes responses", progress.done, progress.total)

        found = self.code(
            [response for response in responses if not reasons[response.id]],
            stage,
            offline=offline,
            dispatch=dispatch or SendNow(lambda estimate: on_message(estimate.summary)),
            on_progress=report,
            on_message=on_message,
        )
        aside = [SetAside(each.file, each.row, each.id, reasons[each.id]) for each in responses if reasons[each.id]]
        return Labelling(found.labels, (*found.set_aside, *aside), found.usage)


def _embedder(backbone: str, folder: Path, max_tokens: int) -> Embed:
    from edgedistill.student import backbone_folder  # imports torch
    from edgedistill.student.frozen import embedder

    return embedder(backbone_folder(backbone, folder), max_tokens)


def require_free_columns(frame: "DataFrame", task: ScoredTask, *, confidence: bool) -> None:
    """Raise an `ArgumentError` if a frame has one of the columns that `label_frame` adds."""
    shares = [f"share_{name}" for name in task.names]
    added = (*_ADDED, *(["confidence"] if confidence else []), *shares)
    if existing := [name for name in added if name in frame.columns]:
        raise ArgumentError(
            f"the column {existing[0]!r}, which labelling adds, already exists",
            hint=f"Rename or drop it: teacher.label(df.drop(columns={existing[0]!r})).",
        )


def gate_rows(
    X: Rows,  # noqa: N803
    y: Column,
    task: ScoredTask,
    groups: Column | None,
    coders: Sequence[str],
) -> "tuple[DataFrame, tuple[CodedResponse, ...]]":
    """Return the human-coded rows of a gate, as a frame and with the codes of single coders; see `Teacher.gate`."""
    frame = frame_of(X, task)
    rows = coded_rows(frame, values_of(y, frame, "y"), task, groups=groups)
    return frame, with_codes(rows, frame, coders, task)


def label_frame(frame: "DataFrame", labelling: Labelling, task: ScoredTask, *, confidence: bool) -> "DataFrame":
    """Return a frame with the columns of `Teacher.label`; the ids of the labels are the positions of the rows."""
    labels = {label.id: label for label in labelling.labels}
    reasons = {row.id: f"{row.reason} ({row.detail})" if row.detail else row.reason for row in labelling.set_aside}
    places = [str(place) for place in range(len(frame))]
    found = [labels.get(place) for place in places]
    added: dict[str, Any] = {"label": [label.label if label else None for label in found]}
    for name in task.names:
        added[f"share_{name}"] = [label.shares.get(name, 0.0) if label else float("nan") for label in found]
    added["consistency"] = [label.consistency if label else float("nan") for label in found]
    if confidence:
        stated = [label.confidence if label else None for label in found]
        added["confidence"] = [float("nan") if each is None else each for each in stated]
    added["set_aside_reason"] = [reasons.get(place) for place in places]
    return frame.assign(**added)
