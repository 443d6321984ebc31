"""A teacher: an LLM that codes responses with a codebook, whose every answer is kept and never paid for twice."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edgedistill.data.tables import unusable
from edgedistill.data.types import CodedResponse, Response, SetAside, TrainRows
from edgedistill.errors import ArgumentError, Paused
from edgedistill.frames import Column, Rows, coded_rows, frame_of, responses_of, values_of
from edgedistill.progress import OnProgress
from edgedistill.project.reading import checked_section
from edgedistill.project.schema import Project, TeacherSection
from edgedistill.task import Task
from edgedistill.teacher.cache import AnswerCache, ImportResult, describe_model_changes, export_jsonl, import_jsonl
from edgedistill.teacher.codebook import Codebook
from edgedistill.teacher.dispatch import EstimateOnly, SendNow, SubmitBatches
from edgedistill.teacher.gating import GateVerdict, judge_teacher
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

if TYPE_CHECKING:  # pandas is loaded where a DataFrame is made
    from pandas import DataFrame

_ADDED = ("label", "consistency", "set_aside_reason")


class Teacher:
    """An LLM behind any OpenAI-compatible endpoint that codes responses.

    Every answer is kept in the cache before it counts: the same call again asks nothing, and a call that was stopped
    goes on. All methods work in a notebook, whose event loop runs already.

    Example:
        teacher = Teacher("gpt-4o", task=task, votes=3, cache="answers/")
        labelled = teacher.label(responses)

    Args:
        model: The model's name at the endpoint.
        task: What is coded; its instructions and definitions stand in every prompt.
        cache: The folder of the answers, made where there is none.
        examples: Human-coded rows that prompts may show: a DataFrame with the task's inputs, a column ``label``, and
            perhaps ``id``, which ``few_shot_ids`` names; else the index counts as the id. ``few_shot`` says how many.
        backbone: The model whose embeddings ``few_shot_choice="similar"`` compares by.
        max_characters: A longer response is set aside.
        api_key: The key; None reads the environment variable that ``api_key_env`` names, once something is asked.
        settings: Every other key of a project file's section ``teacher``, as docs/teacher.md explains them:
            ``base_url``, ``api_key_env``, ``votes``, ``temperature``, ``few_shot``, ``reasoning``, ``per_request``,
            ``logprobs``, ``concurrency``, ``ties``, ``prices={"input_usd_per_million": …, "output_usd_per_million":
            …}``, ``budget={"usd": …}``, ``gate={"metric": "kappa", "at_least": 0.6}`` and so on.

    Raises:
        ArgumentError: A setting is unknown or impossible, or examples cannot be used.
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
        section = checked_section(TeacherSection, {"model": model, "cache": Path(cache), **settings}, "Teacher")
        if section.few_shot and examples is None:
            raise ArgumentError("few_shot needs examples, human-coded rows that prompts may show", where="Teacher")
        coded: tuple[CodedResponse, ...] = ()
        if examples is not None:
            coded = coded_rows(examples, "label", task, ids=list(examples.get("id", examples.index)))
        self._set(section, task, Path(), section.called, TrainRows(coded), lambda: _embedder(backbone, Path(), 128))
        self._max_characters, self._api_key = max_characters, api_key

    @classmethod
    def of_project(cls, project: Project, section: TeacherSection, train: TrainRows) -> Self:
        """Return one of a project's teachers.

        Args:
            project: Says what is coded; the cache's folder starts from its own.
            section: The teacher.
            train: Human-coded rows that prompts may show.
        """
        teacher = cls.__new__(cls)
        spender = project.name + f"/{section.called}" * (len(project.panel) > 1)
        student = project.student
        teacher._set(
            section,
            project.task.coded,
            project.folder,
            spender,
            train,
            lambda: _embedder(student.backbone, project.folder, student.max_tokens),
        )
        teacher._max_characters, teacher._api_key = project.data.max_characters, None
        return teacher

    def _set(
        self,
        section: TeacherSection,
        task: Task,
        beside: Path,
        spender: str,
        examples: TrainRows,
        load_embedder: Callable[[], Embed],
    ) -> None:
        self.section, self.task = section, task
        self.codebook = Codebook(task.instructions, task.labels, task.inputs, task.kind == "multilabel")
        self.cache_folder = beside / section.cache
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
        """Have the responses coded.

        Args:
            X: A DataFrame with a column per input of the task; for a task whose only input is the response, a Series or
                a list of texts too.
            offline: Ask nothing; every answer must be in the cache.
            batch: Ask through the provider's Batch API, mostly at half the price and within a day.
            on_progress: Called while work goes on; see `edgedistill.progress_bars`.
            on_message: Called with a line that a person should read, such as what asking will cost.

        Returns:
            Every row of ``X`` in its order, with its index and columns, and these: ``label`` (of a multilabel task the
            labels that hold, joined), ``share_NAME`` for each label, the soft label, in [0, 1], ``consistency``, the
            share of the votes equal to the label, in [0, 1], and ``set_aside_reason``. A row has either a label or a
            reason; what it has not is missing.

        Raises:
            ArgumentError: The rows cannot be used, or have one of these columns already.
            AnswersMissing: Offline, and answers are missing.
            TeacherError: No request can succeed.
            BudgetReached: The next request could cost more than is left; what was answered is kept.
            CacheDamaged: The cache cannot be read or written.
        """
        frame = frame_of(X, self.task)
        shares = [f"share_{name}" for name in self.task.names]
        if taken := [name for name in (*_ADDED, *shares) if name in frame.columns]:
            raise ArgumentError(
                f"there is a column {taken[0]!r} already, which labelling would add",
                hint=f"Rename it, or leave it out: teacher.label(df.drop(columns={taken[0]!r})).",
            )
        dispatch = SubmitBatches(on_message, on_estimate=lambda found: on_message(found.summary)) if batch else None
        labelling = self._labelling(responses_of(frame, self.task), "label", offline, dispatch, on_progress, on_message)
        return _with_labels(frame, labelling, self.task)

    def gate(
        self,
        X: Rows,  # noqa: N803
        y: Column = "label",
        *,
        groups: Column | None = None,
        offline: bool = False,
        on_progress: OnProgress | None = None,
        on_message: Callable[[str], None] = lambda _: None,
    ) -> GateVerdict:
        """Have human-coded rows coded too, and compare.

        Args:
            X: Rows to choose by, as `label` takes them: never the test rows that a student is reported on.
            y: Their human codes: the name of a column of ``X``, or a label per row.
            groups: What each row belongs to, such as a learner: a column's name, or a value per row. Whole groups are
                then drawn for the intervals.
            offline: As in `label`.
            on_progress: As in `label`.
            on_message: As in `label`.

        Returns:
            The agreement with 95 % intervals, and whether it reaches the setting ``gate``. Printed, it is a table.

        Raises:
            ArgumentError: Rows or codes cannot be used.
            EdgeDistillError: As `label`.
        """
        frame = frame_of(X, self.task)
        rows = coded_rows(frame, values_of(y, frame, "y"), self.task, groups=groups)
        responses = tuple(row.response for row in rows)
        labelling = self._labelling(responses, "gate", offline, None, on_progress, on_message)
        return judge_teacher(self.section, labelling, rows, self.task)

    def estimate(self, X: Rows) -> CostEstimate:  # noqa: N803
        """Return what labelling would take, from a few of the prompts; nothing is asked.

        Answers that the cache holds are not counted.
        """
        try:
            self._labelling(responses_of(X, self.task), "label", False, EstimateOnly(), None, lambda _: None)
        except Paused as stop:
            return CostEstimate(**stop.result["estimate"])
        raise AssertionError("an estimate stops the labelling")

    def import_answers(self, file: Path | str) -> ImportResult:
        """Add the answers of a JSON-lines file that `export_answers` wrote; what the cache has stays.

        Raises:
            DataError: The file cannot be read.
            CacheDamaged: The cache cannot be written.
        """
        with AnswerCache(self.cache_folder) as cache:
            return import_jsonl(cache, Path(file))

    def export_answers(self, file: Path | str) -> int:
        """Write every answer of the cache to a JSON-lines file; return how many.

        Raises:
            DataError: The file cannot be written.
            CacheDamaged: An answer is not what was written.
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
        """Have responses coded, as the stages of a project do.

        Args:
            responses: What is coded.
            stage: Which stage spends.
            votes: Answers per response; None: as many as the settings say.
            offline: Ask nothing.
            dispatch: What is done before questions are asked one by one.
            on_progress: Called after every vote.
            on_message: Called with a line where the answers do not all come from one version of the model.

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
                examples=self.chooser,
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
        """Return what a stage may draw on: one cap for all stages and all runs."""
        return Budget.from_section(self.section, self.spending_log, stage)

    def plan(self, responses: Sequence[Response]) -> LabellingPlan:
        """Return what would be asked about responses, were nothing in the cache."""
        return LabellingPlan(responses, self.codebook, self.section, self.chooser)

    @cached_property
    def chooser(self) -> ExampleSelector:
        """Which coded examples each response is shown."""
        return build_example_selector(self.section, self._examples, self.task, self._embed)

    def _embed(self, rows: Sequence[Mapping[str, str]]) -> Vectors:
        return self._embedder(rows)

    @cached_property
    def _embedder(self) -> Embed:
        return self._load_embedder()  # once it is wanted, which is seldom

    def _labelling(
        self,
        responses: Sequence[Response],
        stage: str,
        offline: bool,
        dispatch: DispatchMode | None,
        on_progress: OnProgress | None,
        on_message: Callable[[str], None],
    ) -> Labelling:
        """Have the responses coded that a teacher can be asked about; the others are set aside unasked."""
        reasons = {response.id: unusable(response, self._max_characters) for response in responses}

        def told(progress: LabellingProgress) -> None:
            if on_progress:
                on_progress(f"{stage}: {self.section.called} codes responses", progress.done, progress.total)

        found = self.code(
            [response for response in responses if not reasons[response.id]],
            stage,
            offline=offline,
            dispatch=dispatch or SendNow(lambda estimate: on_message(estimate.summary)),
            on_progress=told,
            on_message=on_message,
        )
        aside = [SetAside(each.file, each.row, each.id, reasons[each.id]) for each in responses if reasons[each.id]]
        return Labelling(found.labels, (*found.set_aside, *aside), found.usage)


def _embedder(backbone: str, beside: Path, max_tokens: int) -> Embed:
    from edgedistill.student import backbone_folder  # loads torch, which other choices of examples need not wait for
    from edgedistill.student.frozen import embedder

    return embedder(backbone_folder(backbone, beside), max_tokens)


def _with_labels(frame: "DataFrame", labelling: Labelling, task: Task) -> "DataFrame":
    labels = {label.id: label for label in labelling.labels}
    reasons = {row.id: f"{row.reason} ({row.detail})" if row.detail else row.reason for row in labelling.set_aside}
    places = [str(place) for place in range(len(frame))]
    found = [labels.get(place) for place in places]
    added: dict[str, Any] = {"label": [label.label if label else None for label in found]}
    for name in task.names:
        added[f"share_{name}"] = [label.shares.get(name, 0.0) if label else float("nan") for label in found]
    added["consistency"] = [label.consistency if label else float("nan") for label in found]
    added["set_aside_reason"] = [reasons.get(place) for place in places]
    return frame.assign(**added)
