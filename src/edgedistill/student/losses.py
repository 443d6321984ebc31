"""What training makes small: the loss of a batch, from the model's logits and what the labels say.

Every loss reads one logit per label. Their softmax, of a multilabel task the logistic function of each, are the
probabilities of the labels. So a student trained with any of them is the same kind of graph.

nominal          cross-entropy: each label is right or wrong
cumulative       for labels in an order: whether the response is above each step of the scale
expected_score   for labels in an order: cross-entropy, and how far the expected place on the scale is off
multilabel       binary cross-entropy: whether each label holds
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from edgedistill.data.types import MixtureRow
from edgedistill.errors import ProjectFileError
from edgedistill.project.schema import LossSection
from edgedistill_serve.task.task import Task

Scale: TypeAlias = Literal["nominal", "cumulative", "expected_score", "multilabel"]


@dataclass(frozen=True, slots=True)
class TrainingLoss:
    """What training makes small; the default is cross-entropy with the labels that count as right.

    Attributes:
        scale: How labels stand to each other.
        soft: Weight of the soft labels, in [0, 1]; the hard ones have the rest. A row all of whose votes are for one
            label (a human code, a synthetic row) has nothing soft, and is taught its label as a hard one; of a
            multilabel task this goes for each label by itself.
        temperature: Divides logits, and log shares, in the soft part, above 0 (Hinton, Vinyals and Dean 2015,
            arXiv:1503.02531, section 2); what is learnt from enough rows is the shares as they are, whatever it is.
        weights: Of the rows of each label, of shape (labels,); empty where every row counts the same.
    """

    scale: Scale = "nominal"
    soft: float = 0.0
    temperature: float = 1.0
    weights: tuple[float, ...] = ()

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean loss of a batch, in nats but for the squared part of ``expected_score``.

        Rows are weighted by their label, and the sum divided by the number of rows: over the mixture the weights are 1
        on average.

        Args:
            logits: Float32, of shape (rows, labels).
            targets: The label that counts as right, of shape (rows,); of a multilabel task 1 for each label that holds
                and 0 for the others, of shape (rows, labels).
            shares: Soft labels of shape (rows, labels), each row's sum 1, but of a multilabel task each in [0, 1]; read
                only where ``soft`` is above 0.
        """
        if self.scale == "multilabel":
            return self._of_sets(logits, targets, shares)
        if self.scale == "nominal" and not self.soft and not self.weights:
            return cross_entropy(logits, targets)
        rows = self._rows(logits, targets, shares)
        return (rows * logits.new_tensor(self.weights)[targets]).mean() if self.weights else rows.mean()

    def judged(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean cross-entropy of rows that are not learnt from, in nats; the same for every way to learn."""
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
        # The square keeps the gradient's size when the temperature changes (Hinton et al., at the end of section 2).
        soft = self.temperature**2 * _row_losses(self.scale, logits / self.temperature, softened)
        divided = shares.max(dim=1).values < 1
        return torch.where(divided, self.soft * soft + (1 - self.soft) * hard, hard)


HARD = TrainingLoss()
"""Cross-entropy with the labels that count as right."""


def build_loss(section: LossSection, task: Task, mixture: Sequence[MixtureRow]) -> TrainingLoss:
    """Return what the project file asks for.

    Class weights are ``rows / (labels with rows * rows of the label)``, as scikit-learn's ``balanced``: each label's
    rows together count the same.

    Raises:
        ProjectFileError: It wants the order of labels that have none, or weights of classes that a multilabel task
            does not have.
    """
    if section.ordinal != "nominal" and task.kind != "ordinal":
        raise ProjectFileError(
            f"{section.ordinal} needs labels in an order, and this task is {task.kind}",
            where="student.loss.ordinal",
            hint="Set task.kind to ordinal and list the labels from low to high, or remove student.loss.ordinal.",
        )
    if task.kind == "multilabel" and section.class_weights != "none":
        raise ProjectFileError(
            "balanced class weights need one label per response, and this task is multilabel",
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
        logits: Of shape (rows, labels); their logistic function is the probability that a label holds.
        shares: Share of the votes for each label, in [0, 1], of the same shape; 0 or 1 for a human code.
    """
    return binary_cross_entropy_with_logits(logits, shares)


def _balanced(task: Task, mixture: Sequence[MixtureRow]) -> tuple[float, ...]:
    counts = Counter(row.label for row in mixture)
    return tuple(len(mixture) / (len(counts) * counts[name]) if counts[name] else 1.0 for name in task.names)


def _row_losses(scale: Scale, logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The loss of each row, of shape (rows,), where ``wanted`` is a distribution over the labels of each.

    A cross-entropy with a distribution is its KL divergence plus its entropy, which no weight of the model touches.
    """
    match scale:
        case "nominal":
            return cross_entropy(logits, wanted, reduction="none")
        case "cumulative":
            return _cumulative(logits, wanted)
        case "expected_score":
            return cross_entropy(logits, wanted, reduction="none") + _squared_error(logits, wanted)
        case "multilabel":
            raise AssertionError("a multilabel task has no distribution over labels")


def _cumulative(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The mean over the steps of the scale of the binary cross-entropy of being above the step.

    The scale is cut as by Frank and Hall (2001) and Cao, Mirjalili and Raschka (2020, arXiv:1901.07884, equation 4),
    whose student has one logistic output for each step. Here the probability of being above step k is the sum of the
    softmax over the labels above k, so that those of successive steps cannot contradict each other and one logit per
    label is left. It is the ranked form of the logarithmic score (Tödter and Ahrens 2012,
    doi:10.1175/MWR-D-11-00266.1), a proper scoring rule: the softmax that makes it smallest is the true distribution.
    """
    steps = range(1, logits.shape[1])
    above = [logits[:, step:].logsumexp(dim=1) - logits[:, :step].logsumexp(dim=1) for step in steps]
    shares = [wanted[:, step:].sum(dim=1).clamp(max=1) for step in steps]
    return binary_cross_entropy_with_logits(
        torch.stack(above, dim=1), torch.stack(shares, dim=1), reduction="none"
    ).mean(dim=1)


def _squared_error(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The squared difference of the expected places on the scale, in steps from one label to the next.

    Beside the cross-entropy, as Gao et al. (2018, IJCAI, "Age Estimation Using Expectation of Label Distribution
    Learning") put an absolute one beside the divergence, with weight 1: alone it would say where the softmax has its
    mean and nothing of its shape, and a label is chosen by shape.
    """
    places = torch.arange(logits.shape[1], dtype=logits.dtype, device=logits.device)
    return (((logits.softmax(dim=1) - wanted) * places).sum(dim=1)) ** 2
