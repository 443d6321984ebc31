"""Training losses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr
from torch.nn.functional import cross_entropy, one_hot

from edgedistill.data.types import MixtureRow
from edgedistill.errors import ProjectFileError
from edgedistill.project.student import LossSection
from edgedistill.student import train_student
from edgedistill.student.losses import HARD, TrainingLoss, build_loss, multilabel_loss
from edgedistill_serve.task.task import Label, Task

SCALES = ("nominal", "cumulative", "expected_score")
LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=4, max_size=4)
SHARES = st.lists(st.floats(0.01, 1), min_size=4, max_size=4)


def rows(*values):
    return torch.tensor(np.array(values), dtype=torch.float32)


def distribution(values):
    shares = torch.tensor([values], dtype=torch.float64)
    return shares / shares.sum()


def fitted(loss_function, shares, steps=800):
    """The softmax that makes the loss_function smallest for one row."""
    logits = torch.zeros((1, shares.shape[1]), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_function.loss(logits, shares.argmax(dim=1), shares).backward()
        optimizer.step()
    return logits.detach().softmax(dim=1)


def mixture_of(**counts):
    return [
        MixtureRow(f"{label}{row}", {"response": "x"}, label, "human", {label: 1.0})
        for label, count in counts.items()
        for row in range(count)
    ]


@pytest.fixture
def ordinal(task):
    return Task(kind="ordinal", labels=task.labels, inputs=task.inputs)


def test_the_default_is_cross_entropy_to_the_bit():
    logits = torch.randn((7, 3), generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([0, 1, 2, 1, 1, 0, 2])
    losses = HARD.loss(logits, targets, rows(*[[1 / 3] * 3] * 7)), cross_entropy(logits, targets)
    assert torch.equal(*(torch.autograd.grad(loss, logits)[0] for loss in losses))


def test_omitted_settings_have_defaults(task):
    assert build_loss(LossSection(), task, mixture_of(process=3, outcome=1)) == HARD


@given(LOGITS, SHARES)
def test_the_soft_loss_is_the_divergence_from_the_votes(logits, shares):
    expected = distribution(shares)
    given = torch.tensor([logits], dtype=torch.float64)
    loss = TrainingLoss(soft=1.0).loss(given, expected.argmax(dim=1), expected)
    entropy = -(expected * expected.log()).sum()
    divergence = rel_entr(expected.numpy(), given.softmax(dim=1).numpy()).sum()
    assert float(loss - entropy) == pytest.approx(divergence, abs=1e-6)


@given(LOGITS, SHARES, st.floats(0.05, 0.95))
def test_both_is_a_weighted_sum_of_soft_and_hard(logits, shares, weight):
    given, expected = torch.tensor([logits], dtype=torch.float64), distribution(shares)
    soft, hard, both = (
        float(TrainingLoss(soft=part).loss(given, expected.argmax(dim=1), expected)) for part in (1.0, 0.0, weight)
    )
    assert both == pytest.approx(weight * soft + (1 - weight) * hard, rel=1e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_a_row_with_unanimous_votes_has_the_hard_loss(scale):
    logits, targets = rows([0.3, -1.0, 2.0], [1.0, 0.5, -0.2]), torch.tensor([1, 2])
    shares = one_hot(targets, 3).float()
    soft = TrainingLoss(scale, soft=1.0, temperature=3.0).loss(logits, targets, shares)
    assert float(soft) == pytest.approx(float(TrainingLoss(scale).loss(logits, targets, shares)))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_optimum_is_the_vote_shares_at_any_temperature(temperature):
    shares = distribution([0.6, 0.3, 0.1])
    assert fitted(TrainingLoss(soft=1.0, temperature=temperature), shares).numpy() == pytest.approx(shares, abs=2e-3)


@pytest.mark.parametrize("scale", SCALES)
def test_every_ordinal_loss_is_minimized_by_the_true_distribution(scale):
    shares = distribution([0.15, 0.1, 0.5, 0.25])
    assert fitted(TrainingLoss(scale, soft=1.0), shares).numpy() == pytest.approx(shares.numpy(), abs=2e-3)


def test_a_vote_share_of_zero_gives_a_finite_loss():
    loss = TrainingLoss(soft=1.0, temperature=2.0).loss(
        rows([1.0, 0.0, -1.0]), torch.tensor([0]), rows([0.7, 0.3, 0.0])
    )
    assert torch.isfinite(loss)


def test_the_cumulative_loss_is_the_mean_over_the_thresholds_of_the_scale():
    chance = np.array([0.1, 0.2, 0.3, 0.4])
    loss = TrainingLoss("cumulative").loss(rows(np.log(chance)), torch.tensor([1]))
    # Label 1 is above the first step, and not above the second and the third.
    assert float(loss) == pytest.approx(-np.mean(np.log([0.9, 1 - 0.7, 1 - 0.4])))


def test_the_expected_score_loss_adds_the_squared_error():
    chance = np.array([0.1, 0.2, 0.3, 0.4])
    loss = TrainingLoss("expected_score").loss(rows(np.log(chance)), torch.tensor([0]))
    assert float(loss) == pytest.approx(-np.log(0.1) + (0.2 + 0.6 + 1.2) ** 2)


@pytest.mark.parametrize("scale", ["cumulative", "expected_score"])
def test_a_more_distant_label_has_a_higher_loss(scale):
    near, far = (TrainingLoss(scale).loss(rows(logits), torch.tensor([0])) for logits in ([0, 3, 0.0], [0, 0, 3.0]))
    assert near < far


def test_a_more_distant_label_has_the_same_loss_without_an_order():
    near, far = (HARD.loss(rows(logits), torch.tensor([0])) for logits in ([0, 3, 0.0], [0, 0, 3.0]))
    assert float(near) == pytest.approx(float(far))


@pytest.mark.parametrize("scale", SCALES)
def test_a_confident_student_has_a_finite_loss_and_gradient(scale):
    logits = rows([200.0, -200.0, 0.0]).requires_grad_()
    loss = TrainingLoss(scale).loss(logits, torch.tensor([1]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_balanced_weights_give_all_labels_the_same_total(task):
    loss_function = build_loss(LossSection(class_weights="balanced"), task, mixture_of(process=6, outcome=3, other=1))
    assert np.array(loss_function.weights) * [6, 3, 1] == pytest.approx([10 / 3] * 3)


def test_weights_are_one_on_average_over_the_mixture(task):
    rows_of = mixture_of(process=6, outcome=3, other=1)
    loss_function = build_loss(LossSection(class_weights="balanced"), task, rows_of)
    targets = torch.tensor([task.names.index(row.label) for row in rows_of])
    logits = torch.zeros((10, 3))
    assert float(loss_function.loss(logits, targets)) == pytest.approx(np.log(3))


def test_a_label_without_rows_does_not_change_the_other_weights(task):
    loss_function = build_loss(LossSection(class_weights="balanced"), task, mixture_of(process=3, outcome=1))
    assert loss_function.weights == pytest.approx((4 / 6, 2.0, 1.0))


def test_soft_rows_are_weighted_by_their_label():
    loss_function = TrainingLoss(soft=1.0, weights=(1.0, 5.0))
    logits, shares = rows([0.2, 0.1]), rows([0.4, 0.6])
    plain = TrainingLoss(soft=1.0).loss(logits, torch.tensor([1]), shares)
    assert float(loss_function.loss(logits, torch.tensor([1]), shares)) == pytest.approx(5 * float(plain))


@pytest.mark.parametrize("scale", ["cumulative", "expected_score"])
def test_an_ordinal_loss_requires_an_ordinal_task(scale, task, ordinal):
    section = LossSection(ordinal=scale)
    assert build_loss(section, ordinal, mixture_of(process=2)).scale == scale
    with pytest.raises(ProjectFileError, match=rf"{scale} needs an ordinal task, and this task is nominal"):
        build_loss(section, task, mixture_of(process=2))


@pytest.mark.parametrize(("labels", "soft"), [("hard", 0.0), ("soft", 1.0), ("both", 0.5)])
def test_the_targets_determine_the_weight_of_the_soft_loss(labels, soft, task):
    assert build_loss(LossSection(targets=labels), task, mixture_of(process=2)).soft == soft


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"temperature": 2.0}, "temperature requires targets: soft or both"),
        ({"targets": "soft", "soft_weight": 0.3}, "soft_weight requires targets: both"),
    ],
)
def test_a_setting_without_effect_is_refused(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        LossSection(**given)


def test_multilabel_losses_are_computed_label_by_label():
    chance, shares = np.array([0.9, 0.2, 0.6]), np.array([1.0, 0.0, 2 / 3])
    loss = multilabel_loss(rows(np.log(chance / (1 - chance))), rows(shares))
    assert float(loss) == pytest.approx(-np.mean(shares * np.log(chance) + (1 - shares) * np.log(1 - chance)))


def test_a_loss_checks_the_number_of_labels():
    two = Task(kind="ordinal", labels=(Label("low"), Label("high")), inputs=("response",))
    loss_function = build_loss(LossSection(ordinal="cumulative"), two, mixture_of(low=1, high=1))
    logits, targets = rows([0.4, -0.3]), torch.tensor([1])
    assert float(loss_function.loss(logits, targets)) == pytest.approx(float(HARD.loss(logits, targets)))


@pytest.mark.parametrize(
    ("given", "differs"),
    [
        ({"targets": "soft", "temperature": 2.0}, True),
        ({"class_weights": "balanced"}, True),
        ({"ordinal": "cumulative"}, True),
        ({"targets": "both"}, False),
    ],
    ids=["soft", "weights", "scale", "both, of rows with one label in their shares"],
)
def test_the_student_is_trained_with_the_loss_of_the_project_file(
    given, differs, bert, mixture, validation, ordinal, sections, tmp_path
):
    rows_of = mixture[:-20]
    if given.get("targets") == "soft":
        rows_of = [replace(row, shares={row.label: 0.6, "other": 0.4}) for row in rows_of if row.label != "other"]
    plain = sections(epochs=(1,))
    losses = [
        train_student(rows_of, validation, ordinal, section, bert, tmp_path / "student").best.best.loss
        for section in (plain, plain.model_copy(update={"loss": LossSection(**given)}))
    ]
    assert (losses[0] != losses[1]) == differs
