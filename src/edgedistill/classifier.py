"""A student as a scikit-learn classifier: texts in, labels out, and export to a bundle."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from edgedistill.agreement import agreement
from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.data.splitting import held_out
from edgedistill.data.twins import find_twins
from edgedistill.data.types import CodedResponse, MixtureRow, Response, Source, TestRows, ValidationRows, code_shares
from edgedistill.decisions import Circumstances
from edgedistill.errors import ArgumentError, EdgeDistillError
from edgedistill.evaluation.build import (
    choose,
    choose_served_rule,
    fidelity_comparison,
    served_agreement,
    test_scores,
    validation_scores,
)
from edgedistill.frames import Column, Rows, check_task, coded_rows, codes_of, is_missing, texts_of_rows, values_of
from edgedistill.progress import OnProgress, progress_bars
from edgedistill.project.evaluation import EvaluationSection, ReviewSection
from edgedistill.project.outputs import ExportSection
from edgedistill.project.reading import checked_section
from edgedistill.project.student import StudentSection
from edgedistill.student import Epoch, TrainingProgress, backbone_folder, train_student
from edgedistill.student.frozen import train_frozen_student
from edgedistill.student.label_thresholds import choose_label_decoder
from edgedistill.student.model import choose_max_tokens
from edgedistill.student.nano import train_nano_student
from edgedistill.student.prior_correction import correct_prior
from edgedistill.student.trial import random_state, restore_random_state
from edgedistill.task import Task
from edgedistill_export import Checkpoint, ExportPlan, export_bundle
from edgedistill_export.temporary import temporary_folder
from edgedistill_serve import Bundle
from edgedistill_serve.bundle.manifest import NAME_RULE, is_servable
from edgedistill_serve.task.label_decoding import LabelDecoder
from edgedistill_serve.task.task import join_labels

CodedRows: TypeAlias = Any
"""A DataFrame with the task's inputs and a column ``label``, or a pair ``(X, y)``."""


class StudentNotFitted(EdgeDistillError, NotFittedError):  # type: ignore[misc]  # scikit-learn is untyped here
    """A method was called that requires a fitted classifier."""


class StudentClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped here
    """A small pretrained model, fine-tuned to code responses.

    It follows scikit-learn's conventions: `clone`, `Pipeline`, `cross_val_score` and `GridSearchCV` work, and the same
    ``random_state`` gives the same student on the same machine. It pickles to safetensors bytes and JSON, without torch
    modules.

    Example:
        clf = StudentClassifier(task=task, epochs=8).fit(train, "label")
        clf.predict(["You kept trying"])
        bundle = clf.export("bundle/", calibration=validation)

    Args:
        task: The task. None: a nominal task with the labels in ``y`` and the response as the only input.
        backbone: ``minilm``, a folder, or a name on the Hugging Face Hub.
        kind: ``fine-tuned``; or ``frozen``: fit only a linear classifier on the backbone's first token; the parameters
            of losses, adapters and early stopping are then ignored; or ``nano``: train a vector for each token and a
            small classifier, whose bundle has at most 3 MB.
        architecture: ``bi-encoder``: a task's question and reference answer are encoded apart from the response, and
            the vectors compared; ``cross-encoder``: all are read as one text; ``auto``: as the backbone was trained.
        max_tokens: Maximum length in tokens, 8 to 8192; longer rows are truncated. None: from the lengths of the
            training rows, as in a project (see `max_tokens_`).
        preset: ``quick``, ``standard`` or ``thorough``: how long to train. Epochs and learning rate follow from the
            number of rows and the backbone, unless they are given.
        epochs: Training epochs; the one with the highest macro-F1 on validation rows is kept. None: by the preset.
        learning_rate: Peak learning rate, in (0, 1). None: by the preset.
        batch_size: Rows per batch.
        targets: ``hard``: labels; ``soft``: the shares given to `fit`; ``both``: a weighted sum of the two losses.
        soft_weight: Weight of the soft loss with ``both``, in (0, 1).
        temperature: Divides the logits in the soft loss, 0.1 to 100.
        class_weight: None, or ``balanced``: weights inversely proportional to label frequencies.
        ordinal: The loss of an ordinal task: ``nominal``, ``cumulative`` or ``expected_score``.
        prior_correction: Whether the label shares of the student are moved to those of the validation rows' labels,
            from 100 rows on (`edgedistill.student.prior_correction`). ``auto``: where `fit` gets ``shares``, that is,
            a teacher's labels, and human-coded ``validation`` rows.
        lora: None, or LoRA adapters of a decoder: ``{"rank": 16, "alpha": 32, "targets": ["all-linear"]}``.
        patience: Stop early after this many epochs without improvement; None: never.
        validation_fraction: Share of the rows held out for validation, in (0, 1), unless `fit` gets validation rows.
            Rows with equal texts stay together, and the split is stratified by label.
        random_state: An int, a RandomState, or None for a random seed.
        verbose: Whether `fit` shows a progress bar.

    Attributes:
        classes_: The labels, of shape (labels,), sorted; for a multilabel task in the task's order.
        task_: The task.
        files_: The checkpoint by file name: safetensors as bytes, JSON as text.
        max_tokens_: Maximum length in tokens: as given, or the 99th percentile of the training rows' lengths, rounded
            up to a multiple of 16, at least 32 and at most 512 and what the backbone reads.
        history_: Validation loss, accuracy and macro-F1 of each epoch; empty for a frozen backbone.
        prior_correction_: What was corrected; None if no correction was wanted.
        notes_: Messages about the rows; never a response's text.
        thresholds_: Decision thresholds of a multilabel task, per label, chosen on validation rows.
        n_features_in_: Number of the task's inputs.
    """

    def __init__(
        self,
        *,
        task: Task | None = None,
        backbone: str | Path = "minilm",
        kind: Literal["fine-tuned", "frozen", "nano"] = "fine-tuned",
        architecture: Literal["auto", "bi-encoder", "cross-encoder"] = "auto",
        max_tokens: int | None = None,
        preset: Literal["quick", "standard", "thorough"] = "standard",
        epochs: int | None = None,
        learning_rate: float | None = None,
        batch_size: int = 16,
        targets: Literal["hard", "soft", "both"] = "hard",
        soft_weight: float = 0.5,
        temperature: float = 1.0,
        class_weight: Literal["balanced"] | None = None,
        ordinal: Literal["nominal", "cumulative", "expected_score"] = "nominal",
        prior_correction: Literal["auto"] | bool = "auto",
        lora: Mapping[str, Any] | None = None,
        patience: int | None = None,
        validation_fraction: float = 0.2,
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool = False,
    ) -> None:
        self.task = task
        self.backbone = backbone
        self.kind = kind
        self.architecture = architecture
        self.max_tokens = max_tokens
        self.preset = preset
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.targets = targets
        self.soft_weight = soft_weight
        self.temperature = temperature
        self.class_weight = class_weight
        self.ordinal = ordinal
        self.prior_correction = prior_correction
        self.lora = lora
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self,
        X: Rows,  # noqa: N803
        y: Column,
        *,
        shares: Any = None,
        validation: CodedRows | None = None,
        on_progress: OnProgress | None = None,
    ) -> Self:
        """Fine-tune the backbone.

        Args:
            X: A DataFrame with a column per input of the task, or an array with that many columns. If the response is
                the only input, also a Series, an array or a list of texts. Missing texts count as empty.
            y: A label per row, or the name of a column of ``X``. For a multilabel task: joined labels, lists of labels,
                or an indicator matrix of shape (rows, labels).
            shares: Soft labels: a DataFrame with columns ``share_NAME``, as `Teacher.label` returns, or an array of
                shape (rows, labels) in the order of `classes_`. Each row sums to 1, except for multilabel tasks.
                Ignored if ``targets`` is ``hard``.
            validation: Rows that select the epoch: a DataFrame with a column ``label``, or ``(X, y)``. None: hold out
                ``validation_fraction`` of the rows.
            on_progress: Progress callback; see `edgedistill.progress_bars`.

        Raises:
            ArgumentError: Rows, labels or a parameter cannot be used.
            ProjectFileError: The backbone cannot be found.
            TrainingFailed: The rows are not sufficient, or training failed.
        """
        if self.task is not None:
            check_task(self.task)
        seed = self._seed()
        section = self._section(seed)
        self._indicator = self._is_multilabel and getattr(y, "ndim", 1) == 2
        task, self.classes_, codes = self._targets(X, y)
        if not codes:
            raise ArgumentError("there are no rows", where="X")
        texts = texts_of_rows(X, task)
        rows = [
            CodedResponse(Response(str(place), inputs, "row", place), code)
            for place, (inputs, code) in enumerate(zip(texts, codes, strict=True))
        ]
        soft = self._shares(shares, task, codes)
        training, validation_set, notes = self._split(rows, validation, seed, task)
        source: Source = "human" if shares is None or validation is None else "teacher"
        mixture = [
            MixtureRow(row.response.id, row.response.inputs, row.label, source, soft[int(row.response.id)])
            for row in training
        ]
        backbone = backbone_folder(section.backbone, Path())
        if section.max_tokens is None:
            chosen = choose_max_tokens(backbone, task.scored, (row.inputs for row in mixture))
            section = section.model_copy(update={"max_tokens": chosen})
        with progress_bars(quiet=not self.verbose) as bars, temporary_folder("student") as work:
            folder = work / "student"
            training_notes = self._train(mixture, validation_set, task, section, backbone, folder, on_progress or bars)
            self.prior_correction_ = correct_prior(folder, mixture, validation_set, task.scored, section)
            student = Checkpoint.load(folder, task.scored, section.token_limit)
            self.files_ = {path.name: _content(path) for path in sorted(folder.iterdir())}
        self.thresholds_ = choose_label_decoder(student, validation_set).thresholds
        self.max_tokens_ = section.token_limit
        if self.prior_correction_ and self.prior_correction_.shift:
            self._compared *= 2  # as in a project: see `edgedistill.pipeline.evaluate`
        if self.prior_correction_ and self.prior_correction_.note:
            training_notes += (f"The label shares were not corrected: {self.prior_correction_.note}.",)
        self.task_, self.n_features_in_, self.notes_ = task, len(task.inputs), (*notes, *training_notes)
        self._loaded: Checkpoint | None = student
        return self

    def predict(self, X: Rows) -> npt.NDArray[Any]:  # noqa: N803
        """Return the label of each row in the format of ``y`` in `fit`: shape (rows,), or an indicator matrix.

        Args:
            X: As in `fit`.

        Raises:
            StudentNotFitted: `fit` has not been called.
            ArgumentError: The rows cannot be used.
        """
        logits = self._logits(X)
        labels = self._label_decoder.labels(logits)
        if not self._is_multilabel:
            by_name = {str(label): label for label in self.classes_.tolist()}
            return np.array([by_name[label] for label in labels], dtype=self.classes_.dtype)
        return self._label_decoder.label_mask(logits).astype(int) if self._indicator else np.array(labels, dtype=object)

    def predict_proba(self, X: Rows) -> npt.NDArray[np.float64]:  # noqa: N803
        """Return probabilities of shape (rows, labels), in [0, 1], the columns in the order of `classes_`.

        Rows sum to 1, except for multilabel tasks. The probabilities are not calibrated; `export` calibrates those of
        the bundle.
        """
        logits, names = self._logits(X), self.task_.names
        found = np.array([self._label_decoder.probabilities(row) for row in logits]).reshape(len(logits), len(names))
        return found[:, [names.index(str(label)) for label in self.classes_.tolist()]]

    def score(self, X: Rows, y: Column, sample_weight: Any = None) -> float:  # noqa: N803
        """Return the accuracy; for a multilabel task the subset accuracy (exact match).

        Raises:
            StudentNotFitted: `fit` has not been called.
            ArgumentError: There are no rows, a label is missing, or the rows cannot be used.
        """
        predicted = self.predict(X)
        if not len(predicted):
            raise ArgumentError("there are no rows to score")
        if self._indicator:
            right = (predicted == _indicators(y, len(predicted), self.task_)).all(axis=1)
        else:
            given = values_of(y, X, "y")
            if any(map(is_missing, given)):
                raise ArgumentError("a label is missing", where="y", hint="Remove rows without a label.")
            right = predicted == np.array(codes_of(given, self.task_) if self._is_multilabel else given)
        try:
            return float(np.average(right, weights=sample_weight))
        except (TypeError, ValueError, ZeroDivisionError):
            raise ArgumentError("sample_weight needs a number per row, not all zero", where="sample_weight") from None

    def export(
        self,
        folder: Path | str,
        *,
        calibration: CodedRows,
        test: CodedRows | None = None,
        groups: str | None = None,
        name: str = "student",
        precision: Literal["int8", "fp32", "auto"] = "int8",
        max_flip_rate: float = 0.01,
        fp32_beside: bool = True,
        golden: Literal["written", "validation"] = "written",
        calibrate: bool = True,
        review: Mapping[str, Any] | None = None,
        training: Any = None,
    ) -> Bundle:
        """Export the student to an ONNX bundle that is verified against it.

        Args:
            folder: The bundle's folder; an existing bundle is replaced at the end.
            calibration: Human-coded rows that were not used for training: a DataFrame with a column ``label``, or
                ``(X, y)``. They select temperature, thresholds and decision rule, and every export step is compared
                on them.
            test: Locked test rows in the same format; the bundle states the student's agreement on them, and how
                many of them are the same to the student as a row of ``calibration`` or ``training``.
            groups: A column of both DataFrames with the rows' groups, for cluster bootstrap intervals.
            name: The bundle's name, for requests to a server: letters, digits, ``.``, ``_`` and ``-``, at most 100.
            precision: ``int8`` (fp32 is served if int8 flips too many labels), ``fp32``, or ``auto`` (try every int8
                recipe).
            max_flip_rate: Largest share of calibration rows whose label int8 may change, in [0, 1].
            fp32_beside: Whether the bundle also has the fp32 graph, for CPUs on which int8 fails its self-check.
            golden: The rows of the bundle's self-check: ``written`` for the purpose, or ``validation``: calibration
                rows verbatim, which everybody with the bundle can read.
            calibrate: Whether to fit temperature scaling; labels do not change.
            training: The rows that the student was fitted on, as `fit` takes them. The bundle measures how
                unlike them a response is (docs/novelty.md); with fewer than 30 of them, no response is accepted.
            review: Decision rule: ``{"aim": "at_most_wrong", "share": 0.05}`` (at most 5 % of the accepted responses
                differ from the human code, with 95 % confidence), ``{"aim": "keep_kappa", "at_least": 0.75}`` or
                ``{"aim": "at_most_to_people", "share": 0.15}``; None: a label is accepted from a calibrated
                probability of .7 on.

        Raises:
            StudentNotFitted: `fit` has not been called.
            ArgumentError: Rows or settings cannot be used.
            ExportFailed: The exported model does not agree with the student.
            BundleError: The bundle cannot be written.
        """
        student, task = self._student, self.task_.scored
        if not is_servable(name):
            raise ArgumentError(
                f"the server refuses bundles with the name {str(name)[:100]!r}",
                where="name",
                hint=f"Choose another one: {NAME_RULE}.",
            )
        given = {
            "precision": precision,
            "max_flip_rate": _plain(max_flip_rate),
            "fp32_beside": fp32_beside,
            "golden": golden,
        }
        checked_section(ExportSection, given, "export")
        rule = None if review is None else checked_section(ReviewSection, review, "review")
        validation = ValidationRows(self._coded(calibration, "calibration", self.task_, groups))
        if rule and rule.groups:
            validation = _with_subgroups(validation, calibration, rule.groups)
        circumstances = Circumstances(compared=getattr(self, "_compared", 1))
        known = [] if training is None else texts_of_rows(training, self.task_)
        scored, distribution = validation_scores(student, validation, known, rule)
        chosen = choose(scored, EvaluationSection(calibrate=calibrate), rule, circumstances, known)
        label_thresholds = dict(zip(task.names, chosen.thresholds.values, strict=True)) if chosen.thresholds else {}
        locked = TestRows(() if test is None else self._coded(test, "test", self.task_, groups))
        metrics = {}
        seen = [*(row.response.inputs for row in validation), *known]
        twins = find_twins([row.response.inputs for row in locked], seen).values()
        if locked:
            found = chosen.apply(test_scores(student, locked, distribution))
            metrics["student"] = agreement(found.codes, found.labels, task, groups=found.groups).as_dict()
        plan = ExportPlan(
            name=name,
            task=task,
            max_tokens=self.max_tokens_,
            precision=precision,
            max_flip_rate=max_flip_rate,
            fp32_beside=fp32_beside,
            temperature=chosen.temperature,
            thresholds=label_thresholds,
            review=chosen.review.rule,
            novelty_rows=known,
            false_alarms=novelty.false_alarms if (novelty := (rule or ReviewSection()).novelty) else None,
            choose_review=choose_served_rule(
                validation, task, rule, chosen.calibration, label_thresholds, circumstances, chosen.review.rule
            ),
            codes=validation.labels,
            groups=bootstrap_groups([row.response.group for row in validation]) or (),
            locked=[dict(response.inputs) for response in locked.responses],
            compare=fidelity_comparison(locked, task) if locked else None,
            measure=served_agreement(locked, task, None) if locked else None,
            authors=[row.response.group for row in validation],
            golden=golden,
            metrics=metrics,
            provenance={
                "edgedistill": version("edgedistill"),
                "student": self._provenance(),
                "test_texts_also_in_train_or_validation": sum(twin.same for twin in twins),
            },
        )
        with self._written() as checkpoint:
            return export_bundle(
                checkpoint, Path(folder), plan, [dict(response.inputs) for response in validation.responses]
            ).bundle

    def __getstate__(self) -> dict[str, Any]:
        """The parameters and the fitted state: safetensors bytes, JSON text, arrays of labels."""
        return {**super().__getstate__(), **({"_loaded": None} if self.__sklearn_is_fitted__() else {})}

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "files_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.allow_nan = True
        tags.classifier_tags.multi_label = self._is_multilabel
        tags.target_tags.required = True
        return tags

    def _seed(self) -> int:
        state = self.random_state
        if isinstance(state, int | np.integer):
            return int(state)
        try:
            return int(check_random_state(state).randint(2**31 - 1))
        except ValueError as error:
            raise ArgumentError(str(error), where="random_state") from None

    def _section(self, seed: int) -> StudentSection:
        given: dict[str, Any] = {"backbone": str(self.backbone), "kind": self.kind, "architecture": self.architecture}
        search = {name: getattr(self, name) for name in ("learning_rate", "batch_size", "epochs")}
        given["search"] = {name: [_plain(value)] for name, value in search.items() if value is not None}
        given["seeds"] = [seed]
        if self.kind != "frozen":
            loss = {"targets": self.targets, "class_weights": self.class_weight or "none", "ordinal": self.ordinal}
            if self.targets != "hard":
                loss["temperature"] = _plain(self.temperature)
            if self.targets == "both":
                loss["soft_weight"] = _plain(self.soft_weight)
            given |= {"loss": loss, "patience": _plain(self.patience)}
            if self.epochs is None or self.learning_rate is None:
                given["preset"] = self.preset
            if self.lora is not None:
                if not isinstance(self.lora, Mapping):
                    raise ArgumentError(f"lora must be None or a mapping, not {self.lora!r}")
                given |= {"peft": "lora", "lora": dict(self.lora)}
        given["max_tokens"] = _plain(self.max_tokens)
        given["prior_correction"] = self._prior_correction()
        fraction = self.validation_fraction
        if not isinstance(fraction, int | float | np.number) or not 0 < fraction < 1:
            raise ArgumentError(f"validation_fraction is {fraction!r}; it must be a number between 0 and 1")
        return checked_section(StudentSection, given, "StudentClassifier")

    def _prior_correction(self) -> Any:
        setting = _plain(self.prior_correction)
        if self._is_multilabel and setting is True:
            raise ArgumentError(
                "prior_correction does not support multilabel tasks",
                hint="Remove it: each label has its own threshold, chosen on the validation rows.",
            )
        return setting

    @property
    def _is_multilabel(self) -> bool:
        return isinstance(self.task, Task) and self.task.kind == "multilabel"

    def _targets(self, X: Rows, y: Column) -> tuple[Task, npt.NDArray[Any], list[str]]:  # noqa: N803
        """The task, the classes in scikit-learn's order, and each row's code."""
        if y is None:
            raise ArgumentError("requires y to be passed, but the target y is None: give a label per row")
        if getattr(y, "ndim", 1) == 2 and not self._indicator:
            y = column_or_1d(y, warn=True)
        if self.task is None:
            values = values_of(y, X, "y")
            classes = _classes(values)
            task = Task("nominal", [str(label) for label in classes.tolist()])
            return task, classes, codes_of([str(label) for label in np.asarray(values).tolist()], task)
        if self._indicator:
            return self.task, np.array(self.task.names), _joined(y, len(X), self.task)
        names = self.task.names if self._is_multilabel else sorted(self.task.names)
        return self.task, np.array(names), codes_of(values_of(y, X, "y"), self.task)

    def _shares(self, shares: Any, task: Task, codes: Sequence[str]) -> list[dict[str, float]]:
        """The soft label of each row, without zero shares."""
        if shares is None:
            return [code_shares(code, task) for code in codes]
        names = [str(label) for label in self.classes_.tolist()]
        columns = [f"share_{name}" for name in names]
        given = shares
        if hasattr(shares, "columns"):
            if absent := [column for column in columns if column not in shares.columns]:
                raise ArgumentError(f"there is no column {absent[0]!r}", where="shares")
            given = shares[columns]
        try:
            table = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            raise ArgumentError("a share is not a number", where="shares") from None
        if table.shape != (len(codes), len(names)):
            raise ArgumentError(
                f"shares have the shape {table.shape}, but there are {len(codes)} rows and {len(names)} labels",
                hint=f"Give one column per label in this order: {', '.join(names)}; or columns {columns[0]} etc.",
            )
        if not ((table >= 0) & (table <= 1)).all():
            raise ArgumentError("a share is missing or not between 0 and 1", where="shares")
        if task.kind != "multilabel" and not np.allclose(table.sum(axis=1), 1, atol=0.01):
            row = int(np.argmax(abs(table.sum(axis=1) - 1)))
            raise ArgumentError(f"the shares of row {row} sum to {table[row].sum():.3g}, not 1", where="shares")
        return [{name: share for name, share in zip(names, row, strict=True) if share} for row in table.tolist()]

    def _split(
        self, rows: Sequence[CodedResponse], validation: CodedRows | None, seed: int, task: Task
    ) -> tuple[Sequence[CodedResponse], ValidationRows, tuple[str, ...]]:
        """Training rows, validation rows, and notes."""
        if validation is not None:
            given = ValidationRows(self._coded(validation, "validation", task, None))
            return rows, given, tuple(_twin_notes(rows, given))
        kept, out = held_out(rows, self.validation_fraction, seed, task)
        if kept and out:
            return kept, ValidationRows(out), ()
        note = "There were too few rows for a validation split: the epoch was selected on the training rows."
        return rows, ValidationRows(tuple(rows)), (note,)

    def _coded(self, given: CodedRows, what: str, task: Task, groups: str | None) -> tuple[CodedResponse, ...]:
        if isinstance(given, tuple) and len(given) != 2:
            raise ArgumentError(f"a tuple of {len(given)} was given", where=what, hint="Give a DataFrame, or (X, y).")
        rows, y = given if isinstance(given, tuple) else (given, "label")
        if task.kind == "multilabel" and getattr(y, "ndim", 1) == 2:
            y = _joined(y, len(rows), task)
        values = values_of(y, rows, f"y of {what}")
        if not values:
            raise ArgumentError("there are no rows", where=what)
        return coded_rows(rows, list(map(str, values)) if self.task is None else values, task, groups=groups)

    def _train(
        self,
        mixture: Sequence[MixtureRow],
        validation_set: ValidationRows,
        task: Task,
        section: StudentSection,
        backbone: Path,
        folder: Path,
        on_progress: OnProgress,
    ) -> tuple[str, ...]:
        """Train into a folder and return notes. The global random state is restored afterwards."""

        def report(progress: TrainingProgress) -> None:
            on_progress("fit: optimizer steps", progress.done, progress.total)

        states = random_state()
        try:
            if self.kind == "frozen":
                heads = train_frozen_student(mixture, validation_set, task.scored, section, backbone, folder)
                self.history_: tuple[Epoch, ...] = ()
                self._compared = len(heads)
                return ()
            given = (mixture, validation_set, task.scored, section, backbone, folder)
            if self.kind == "nano":
                with temporary_folder("nano") as work:
                    _, trained = train_nano_student(*given, work / "start", progress=report)
            else:
                trained = train_student(*given, progress=report)
        finally:
            restore_random_state(states)
        self.history_ = trained.best.history
        self._compared = len(trained.best.history)
        return trained.notes

    @property
    def _student(self) -> Checkpoint:
        """The fitted model, reloaded after unpickling."""
        if not self.__sklearn_is_fitted__():
            raise StudentNotFitted("this StudentClassifier is not fitted yet", hint="Call fit first.")
        if self._loaded is None:
            with self._written() as folder:
                self._loaded = Checkpoint.load(folder, self.task_.scored, self.max_tokens_)
        return self._loaded

    @property
    def _label_decoder(self) -> LabelDecoder:
        return LabelDecoder(self.task_.scored, 1.0, self.thresholds_)

    def _logits(self, X: Rows) -> npt.NDArray[np.float64]:  # noqa: N803
        student = self._student
        return student.logits(texts_of_rows(X, self.task_)).astype(np.float64)

    @contextmanager
    def _written(self) -> Iterator[Path]:
        """Yield a temporary folder with the checkpoint."""
        with temporary_folder("student") as work:
            for name, content in self.files_.items():
                if isinstance(content, bytes):
                    (work / name).write_bytes(content)
                else:
                    (work / name).write_text(content, "utf-8")
            yield work

    def _provenance(self) -> dict[str, Any]:
        """The settings, without the codebook (which the bundle has anyway) and without local paths."""
        given = {name: value for name, value in self.get_params(deep=False).items() if name not in ("task", "verbose")}
        return {name: _plain(value) for name, value in given.items()} | {
            "backbone": Path(self.backbone).name,
            "random_state": self.random_state if isinstance(self.random_state, int) else None,
        }


def _twin_notes(training: Sequence[CodedResponse], validation: ValidationRows) -> Iterator[str]:
    """Yield a sentence where validation rows repeat training rows: then they select an overfitted epoch."""
    twins = find_twins([row.response.inputs for row in validation], [row.response.inputs for row in training])
    for same, what in ((True, "the same to the student as"), (False, "nearly the same as")):
        if rows := sum(twin.same is same for twin in twins.values()):
            yield f"{rows} of {len(validation)} validation rows are {what} a training row."


def _content(path: Path) -> bytes | str:
    return path.read_bytes() if path.suffix == ".safetensors" else path.read_text("utf-8")


def _plain(value: Any) -> Any:
    """Convert a NumPy scalar, as hyperparameter searches pass, to a Python number."""
    return value.item() if isinstance(value, np.generic) else value


def _classes(values: Sequence[Any]) -> npt.NDArray[Any]:
    """The sorted labels of ``y``, at least two."""
    if any(map(is_missing, values)):
        raise ArgumentError("y contains NaN: a label is missing", hint="Remove rows without a label.")
    if len({isinstance(value, str) for value in values}) > 1:
        raise ArgumentError("y mixes text and other types", where="y", hint="Convert all labels to text.")
    if any(isinstance(value, float) and np.isinf(value) for value in values):
        raise ArgumentError("y contains infinity")
    try:
        given = np.asarray(values)
        check_classification_targets(given)
        classes = np.unique(given)
    except (TypeError, ValueError) as error:
        raise ArgumentError(str(error), where="y") from None
    if len(classes) < 2:
        raise ArgumentError(f"y has {len(classes)} class; a classifier needs at least two")
    return classes


def _indicators(y: Any, rows: int, task: Task) -> npt.NDArray[Any]:
    """An indicator matrix of shape (rows, labels). The columns of a DataFrame that are labels may be in any order."""
    names = list(getattr(y, "columns", ()))
    if names and all(isinstance(name, str) for name in names):
        if set(names) != set(task.names):
            raise ArgumentError(
                f"the columns are {', '.join(names)}", where="y", hint=f"Name them {', '.join(task.names)}."
            )
        y = y[list(task.names)]
    table = np.asarray(y)
    if table.shape != (rows, len(task.names)) or not np.isin(table, (0, 1)).all():
        raise ArgumentError(
            f"y has the shape {table.shape}; an indicator matrix has 0 or 1 for {rows} rows and "
            f"{len(task.names)} labels"
        )
    return table


def _with_subgroups(rows: ValidationRows, given: CodedRows, column: str) -> ValidationRows:
    """Return the rows with their value in a column of the DataFrame."""
    values = values_of(column, given[0] if isinstance(given, tuple) else given, "review.groups")
    texts = ["" if is_missing(value) else str(value).strip() for value in values]
    return ValidationRows(tuple(replace(row, subgroups={column: text}) for row, text in zip(rows, texts, strict=True)))


def _joined(y: Any, rows: int, task: Task) -> list[str]:
    """The codes of an indicator matrix."""
    table = _indicators(y, rows, task)
    return [join_labels([name for name, on in zip(task.names, row, strict=True) if on], task) for row in table]
