"""Prior correction: the student's label shares are moved to those of the human codes.

A student trained on a language model's labels inherits how often that model gives each label. One constant per label is
added to the logits, so that the mean predicted probability of each label on the validation rows is the share of that
label among their human codes. For a logistic regression trained on rows whose label shares differ from the
population's, this is the prior correction of King and Zeng (2001, doi:10.1093/oxfordjournals.pan.a004868, section 4.1);
Saerens et al. (2002, doi:10.1162/089976602753284446) adjust the outputs of any classifier likewise.

The constants become part of the bias of the classifier's last layer, in the checkpoint itself: evaluation, calibration,
export and page see an ordinary student. docs/decisions/0073-label-shares-of-human-codes.md has the measurements.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.special import softmax

from edgedistill.data.types import MixtureRow, ValidationRows
from edgedistill.errors import TrainingFailed
from edgedistill.project.student import StudentSection
from edgedistill.student.checkpoints import beside, copy_files, replacing
from edgedistill.student.model import is_decoder
from edgedistill_export.checkpoint import SCORE_BIAS, Checkpoint
from edgedistill_serve.task.task import Task

LEAST_ROWS = 100
"""Validation rows without which nothing is corrected: with 50, the correction costs more than it gains."""
PRIOR_ROWS = 20
"""Pseudo-rows with the student's own label shares, which shrink the correction."""
_LEAST_SHARE = 1e-6
"""A label with a smaller mean probability was not learnt: no constant makes the student know it."""
_LEAST_SHIFT = 1e-6
"""Shares that differ by less agree."""
_MOST_STEPS = 10_000
_TOLERANCE = 1e-9
_CHECKED_ROWS = 8
_LOGIT_TOLERANCE = 1e-2
_WEIGHTS = "model.safetensors"
_MARK = "prior_correction"

Floats = npt.NDArray[np.floating]
Shares = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PriorCorrection:
    """The correction of one student.

    Attributes:
        rows: Number of validation rows.
        human: Share of each label among their human codes; sums to 1.
        before: Mean probability of each label by the student as it was trained; sums to 1. Empty if it was not scored.
        after: The same after the correction: the human share, shrunk by `PRIOR_ROWS` rows towards ``before``.
        shift: The constant added to each label's logit, in nats; their mean is 0. Empty if nothing was changed.
        note: Why nothing was changed; empty if something was, or if the shares agreed.
    """

    rows: int
    human: Shares
    before: Shares
    after: Shares
    shift: Shares
    note: str = ""


def is_corrected(section: StudentSection, mixture: Sequence[MixtureRow], task: Task) -> bool:
    """Return whether a student's label shares are to be corrected, if its validation rows allow it.

    With ``auto``, if more rows of the training set have a label of a teacher or are synthetic than have a human code,
    and no class weights change the shares on purpose. A multilabel task has a threshold for each label instead.

    Args:
        section: Its settings.
        mixture: The training set, whose sources say where labels come from.
        task: The task.
    """
    if task.kind == "multilabel":
        return False
    if section.prior_correction != "auto":
        return section.prior_correction
    machine = sum(row.source != "human" for row in mixture)
    return section.loss.class_weights == "none" and 2 * machine > len(mixture)


def correct_prior(
    folder: Path,
    mixture: Sequence[MixtureRow],
    validation: ValidationRows,
    task: Task,
    section: StudentSection,
) -> PriorCorrection | None:
    """Correct the label shares of a finished student, in its checkpoint folder.

    Args:
        folder: The checkpoint; replaced at the end, and only if something changes. A checkpoint that this function
            wrote is not corrected again.
        mixture: The training set with the original sources.
        validation: Human-coded rows.
        task: The task.
        section: The student's settings, with the maximum length in tokens.

    Returns:
        What was done, or why nothing was; None if no correction is wanted (`is_corrected`).

    Raises:
        TrainingFailed: A logit is NaN or infinite, or the rows are not validation rows.
        CheckpointError: The checkpoint cannot be read.
        SearchInterrupted: The checkpoint cannot be written.
    """
    if not is_corrected(section, mixture, task):
        return None
    if not isinstance(validation, ValidationRows):
        raise TrainingFailed(f"validation rows fit the prior correction, and these are {type(validation).__name__}")
    if earlier := _mark(folder):
        return earlier
    if note := _unusable(validation.labels, task):
        return _unchanged(validation.labels, task, note)
    student = Checkpoint.load(folder, task, section.token_limit)
    rows = [dict(row.response.inputs) for row in validation]
    logits = student.logits(rows)
    found = fit_prior_correction(logits, validation.labels, task)
    if not found.shift:
        return found
    checked = slice(_CHECKED_ROWS)
    with beside(folder) as aside:
        shift = np.array([found.shift[name] for name in task.names])
        if _write_shifted(student, shift, found, aside):
            written = Checkpoint.load(aside, task, section.token_limit).logits(rows[checked])
            if np.allclose(written - logits[checked], shift, rtol=0, atol=_LOGIT_TOLERANCE):
                with replacing(folder) as new:
                    copy_files(aside, new)
                return found
    kind = student.model.config.model_type
    return replace(found, after=found.before, shift={}, note=f"the classifier of a {kind} student has no bias")


def fit_prior_correction(logits: Floats, codes: Sequence[str], task: Task) -> PriorCorrection:
    """Fit the constants on a student's logits of human-coded rows.

    Args:
        logits: Of shape (rows, labels), the labels in the task's order; not calibrated.
        codes: Human code of each row.
        task: A nominal or ordinal task.

    Raises:
        TrainingFailed: A logit is NaN or infinite.

    Example:
        found = fit_prior_correction(student.logits(rows), validation.labels, task)
        corrected = logits + [found.shift.get(name, 0.0) for name in task.names]
    """
    scored = np.asarray(logits, dtype=np.float64)
    if wrong := int((~np.isfinite(scored)).any(axis=1).sum()):
        raise TrainingFailed(
            f"the student's logits of {wrong} of {len(scored)} validation rows are not numbers",
            hint="Train the student again with a lower learning rate.",
        )
    if note := _unusable(codes, task):
        return _unchanged(codes, task, note)
    before = softmax(scored, axis=1).mean(axis=0)
    given = _by_label(before, task)
    if unlearnt := [name for name, share in given.items() if share < _LEAST_SHARE]:
        return replace(
            _unchanged(codes, task, f"the student never gives the label {unlearnt[0]!r}"), before=given, after=given
        )
    counted = Counter(codes)
    counts = np.array([counted[name] for name in task.names])
    target = (counts + PRIOR_ROWS * before) / (len(codes) + PRIOR_ROWS)
    shift = shift_to(scored, target)
    after = softmax(scored + shift, axis=1).mean(axis=0)
    found = _unchanged(codes, task)
    if np.abs(shift).max() < _LEAST_SHIFT:
        return replace(found, before=given, after=given)
    return replace(found, before=given, after=_by_label(after, task), shift=_by_label(shift, task))


def shift_to(logits: Floats, target: Floats) -> npt.NDArray[np.float64]:
    """Return the constants with which the mean softmax of logits is a target.

    They are unique up to a common constant: the minimum of the convex ``mean(logsumexp(logits + w)) - target @ w``.
    Each step adds the log of what is lacking, as in iterative proportional fitting (Deming and Stephan 1940).

    Args:
        logits: Of shape (rows, labels), finite.
        target: Shares of shape (labels,), positive; they sum to 1.

    Returns:
        Of shape (labels,), with mean 0.
    """
    shift: npt.NDArray[np.float64] = np.zeros(len(target))
    for _ in range(_MOST_STEPS):
        step = np.log(target) - np.log(softmax(logits + shift, axis=1).mean(axis=0))
        shift += step
        if np.abs(step).max() < _TOLERANCE:
            break
    return np.asarray(shift - shift.mean(), dtype=np.float64)


def prior_correction_summary(found: PriorCorrection) -> dict[str, Any]:
    """Return what `run.json` has of a correction, rounded."""
    summary = asdict(found)
    for name in ("human", "before", "after", "shift"):
        summary[name] = {label: round(value, 4) for label, value in summary[name].items()}
    return summary


def _unusable(codes: Sequence[str], task: Task) -> str:
    """Return why nothing can be fitted on rows with these codes; empty if something can."""
    if len(codes) < LEAST_ROWS:
        return f"there are {len(codes)} validation rows, and it needs {LEAST_ROWS}"
    if absent := [name for name in task.names if name not in set(codes)]:
        return f"no validation row has the label {absent[0]!r}"
    return ""


def _unchanged(codes: Sequence[str], task: Task, note: str = "") -> PriorCorrection:
    counts, rows = Counter(codes), len(codes)
    human = {name: counts[name] / rows if rows else 0.0 for name in task.names}
    return PriorCorrection(rows, human, {}, {}, {}, note)


def _by_label(values: npt.NDArray[np.float64], task: Task) -> Shares:
    return dict(zip(task.names, values.tolist(), strict=True))


def _mark(folder: Path) -> PriorCorrection | None:
    """Return the correction that the weights of a checkpoint already have."""
    with safe_open(folder / _WEIGHTS, framework="pt") as opened:
        written = (opened.metadata() or {}).get(_MARK)
    return PriorCorrection(**json.loads(written)) if written else None


def _write_shifted(student: Checkpoint, shift: npt.NDArray[np.float64], found: PriorCorrection, folder: Path) -> bool:
    """Write the student with a shifted bias; return whether its classifier has one.

    Everything but this tensor stays as it is, byte for byte. The weights are a new file: the old one may be a hard link
    to the checkpoint of a search.
    """
    with safe_open(student.folder / _WEIGHTS, framework="pt") as opened:
        metadata = opened.metadata() or {}
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # it has no iterator
    bias = _last_bias(student.model, len(shift))
    if bias == SCORE_BIAS:
        tensors.setdefault(bias, torch.zeros(len(shift)))
    if bias not in tensors:
        return False
    tensors[bias] = (tensors[bias].double() + torch.from_numpy(shift)).to(tensors[bias].dtype)
    copy_files(student.folder, folder)
    (folder / _WEIGHTS).unlink()
    save_file(tensors, folder / _WEIGHTS, metadata={**metadata, _MARK: json.dumps(asdict(found))})
    (folder / _WEIGHTS).chmod((student.folder / _WEIGHTS).stat().st_mode)
    return True


def _last_bias(model: Any, labels: int) -> str:
    """Return the name of the bias of the last linear layer with one output per label; empty without one.

    A decoder's classifier has none in transformers; `Checkpoint.load` adds one to it where the weights have it.
    """
    if is_decoder(model):
        return SCORE_BIAS
    layers = [
        name
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear) and part.out_features == labels and part.bias is not None
    ]
    return f"{layers[-1]}.bias" if layers else ""
