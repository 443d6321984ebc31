"""Training losses: from a batch's logits and labels to its loss.

Every loss uses one logit per label. Label probabilities are their softmax, or for a multilabel task the sigmoid of
each, so all losses lead to the same kind of graph.

nominal          cross-entropy
cumulative       ordinal labels: binary cross-entropy at each threshold of the scale
expected_score   ordinal labels: cross-entropy plus the squared error of the expected score
multilabel       binary cross-entropy of each label
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from edgedistill.data.types import MixtureRow
from edgedistill.errors import ProjectFileError
from edgedistill.project.student import LossSection
from edgedistill_serve.task.task import Task

Scale: TypeAlias = Literal["nominal", "cumulative", "expected_score", "multilabel"]


@dataclass(frozen=True, slots=True)
class TrainingLoss:
    """A training loss; the default is cross-entropy with hard targets.

    Attributes:
        scale: The kind of loss.
        soft: Weight of the soft loss, in [0, 1]; the hard loss has the rest. A row with unanimous votes (a human code,
            a synthetic row) always uses the hard loss; for a multilabel task this holds for each label separately.
        temperature: Divides logits and log shares in the soft loss, above 0 (Hinton, Vinyals and Dean 2015,
            arXiv:1503.02531, section 2). The minimum of the loss is at the shares for every temperature.
        weights: Class weights, of shape (labels,); empty for equal weights.
    """

    scale: Scale = "nominal"
    soft: float = 0.0
    temperature: float = 1.0
    weights: tuple[float, ...] = ()

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean loss of a batch, in nats except for the squared part of ``expected_score``.

        Rows are weighted by class and the sum divided by the number of rows; the mean weight of the training set is 1.

        Args:
            logits: Float32, of shape (rows, labels).
            targets: Class indices, of shape (rows,); for a multilabel task 0 or 1 per label, of shape (rows, labels).
            shares: Soft labels of shape (rows, labels). Rows sum to 1; for a multilabel task each value is in [0, 1].
                Used only where ``soft`` is above 0.
        """
        if self.scale == "multilabel":
            return self._of_sets(logits, targets, shares)
        if self.scale == "nominal" and not self.soft and not self.weights:
            return cross_entropy(logits, targets)
        rows = self._rows(logits, targets, shares)
        return (rows * logits.new_tensor(self.weights)[targets]).mean() if self.weights else rows.mean()

    def evaluation_loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean cross-entropy for evaluation, in nats; the same for every training loss."""
        return multilabel_loss(logits, targets) if self.scale == "multilabel" else cross_entropy(logits, targets)

    def _of_sets(self, logits: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor | None) -> torch.Tensor:
        if not self.soft or shares is None:
            return multilabel_loss(logits, targets)
        hard = binary_cross_entropy_with_logits(logits, targets, reduction="none")
        softened = (shares.logit() / self.temperature).sigmoid()
        soft = binary_cross_entropy_with_logits(logits / self.temperature, softened, reduction="none")
        mixed = self.soft * self.temperature**2 * soft + (1 - self.soft) * hard
        return torch.where((shares > 0) & (shares < 1), mixed, hard).mean()

    def _rows(self, logits: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor | None) -> torch.Tensor:
        hard = _row_losses(self.scale, logits, one_hot(targets, logits.shape[1]).to(logits.dtype))
        if not self.soft or shares is None:
            return hard
        softened = (shares.log() / self.temperature).softmax(dim=1)
        # The square keeps the gradient's scale independent of the temperature (Hinton et al., end of section 2).
        soft = self.temperature**2 * _row_losses(self.scale, logits / self.temperature, softened)
        divided = shares.max(dim=1).values < 1
        return torch.where(divided, self.soft * soft + (1 - self.soft) * hard, hard)


HARD = TrainingLoss()
"""Cross-entropy with hard targets."""


def build_loss(section: LossSection, task: Task, mixture: Sequence[MixtureRow]) -> TrainingLoss:
    """Return the loss that the project file specifies.

    Class weights are ``rows / (labels with rows * rows of the label)``, as scikit-learn's ``balanced``.

    Raises:
        ProjectFileError: An ordinal loss for a task that is not ordinal, or class weights for a multilabel task.
    """
    if section.ordinal != "nominal" and task.kind != "ordinal":
        raise ProjectFileError(
            f"{section.ordinal} needs an ordinal task, and this task is {task.kind}",
            where="student.loss.ordinal",
            hint="Set task.kind to ordinal and list the labels from low to high, or remove student.loss.ordinal.",
        )
    if task.kind == "multilabel" and section.class_weights != "none":
        raise ProjectFileError(
            "balanced class weights do not support multilabel tasks",
            where="student.loss.class_weights",
            hint="Remove it: each label has its own threshold, which accounts for label frequency.",
        )
    soft = {"hard": 0.0, "soft": 1.0, "both": section.soft_weight}[section.targets]
    return TrainingLoss(
        scale="multilabel" if task.kind == "multilabel" else section.ordinal,
        soft=soft,
        temperature=section.temperature,
        weights=_balanced(task, mixture) if section.class_weights == "balanced" else (),
    )


def multilabel_loss(logits: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Return the mean binary cross-entropy over rows and labels, in nats.

    Args:
        logits: Of shape (rows, labels); their sigmoid is the probability of each label.
        shares: Share of the votes for each label, in [0, 1], of the same shape; 0 or 1 for a human code.
    """
    return binary_cross_entropy_with_logits(logits, shares)


def _balanced(task: Task, mixture: Sequence[MixtureRow]) -> tuple[float, ...]:
    counts = Counter(row.label for row in mixture)
    return tuple(len(mixture) / (len(counts) * counts[name]) if counts[name] else 1.0 for name in task.names)


def _row_losses(scale: Scale, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of each row, of shape (rows,), for target distributions over the labels.

    Cross-entropy with a distribution is the KL divergence plus the distribution's entropy, which is constant.
    """
    match scale:
        case "nominal":
            return cross_entropy(logits, targets, reduction="none")
        case "cumulative":
            return _cumulative(logits, targets)
        case "expected_score":
            return cross_entropy(logits, targets, reduction="none") + _squared_error(logits, targets)
        case "multilabel":
            raise AssertionError("a multilabel task has no distribution over labels")


def _cumulative(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean binary cross-entropy over the thresholds of the scale.

    As in Frank and Hall (2001) and Cao, Mirjalili and Raschka (2020, arXiv:1901.07884, equation 4), whose models have
    one sigmoid output per threshold. Here the probability of exceeding threshold k is the sum of the softmax over the
    labels above k, so that the probabilities are monotonic and the model keeps one logit per label. This is the ranked
    logarithmic score (Tödter and Ahrens 2012, doi:10.1175/MWR-D-11-00266.1), a proper scoring rule.
    """
    steps = range(1, logits.shape[1])
    above = [logits[:, step:].logsumexp(dim=1) - logits[:, :step].logsumexp(dim=1) for step in steps]
    shares = [targets[:, step:].sum(dim=1).clamp(max=1) for step in steps]
    return binary_cross_entropy_with_logits(
        torch.stack(above, dim=1), torch.stack(shares, dim=1), reduction="none"
    ).mean(dim=1)


def _squared_error(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The squared error of the expected score, in steps of the scale.

    It is added to the cross-entropy with weight 1, as Gao et al. (2018, IJCAI, "Age Estimation Using Expectation of
    Label Distribution Learning") add an absolute error to the divergence: alone it would determine the mean of the
    softmax but not its mode, which is the predicted label.
    """
    places = torch.arange(logits.shape[1], dtype=logits.dtype, device=logits.device)
    return (((logits.softmax(dim=1) - targets) * places).sum(dim=1)) ** 2
