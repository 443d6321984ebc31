"""Quantization-aware fine-tuning: a student learns to give its own fp32 logits with the integers that are exported.

Each layer over tokens computes in training what its exported form computes: its input and its weights are rounded in
the same way, and gradients pass the rounding unchanged (Bengio et al. 2013, the straight-through estimator). The target
is the squared difference from the logits of the fp32 student, so no human code has a part in it. No dropout; the table
of embeddings stays as it is.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.convert.exporter import to_onnx
from edgedistill_export.convert.graph import Graph, LinearLayer
from edgedistill_export.quantize.activation_scaling import choose_activation_scaling, record_layer_inputs
from edgedistill_export.quantize.int8_layers import ZERO, Activation, quantize_embeddings, quantize_layers
from edgedistill_export.quantize.prune_last_layer import prune_last_layer
from edgedistill_export.quantize.recipes import CALIBRATION_ROWS, Recipe
from edgedistill_export.quantize.rounding import round_to_nearest
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.session import build_feeds

BATCH = 16
SMALLEST = 1e-8


class RoundedLinear(nn.Module):
    """A layer that computes with rounded inputs and weights, as its exported form does."""

    def __init__(self, linear: nn.Linear, how: Activation) -> None:
        super().__init__()
        self.linear, self.how = linear, how
        ones = np.ones((linear.in_features, 1), dtype=np.float32)
        self.register_buffer("factors", torch.tensor(how.factors(linear.in_features)))
        self.register_buffer("channels", torch.tensor(how.counterpart(ones)[:, 0]))
        self.register_buffer("apart", torch.tensor(how.outliers, dtype=torch.long))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Return the layer's outputs."""
        # What is scaled above keeps the channels apart and clips them; their weights are 0 all the same.
        even = given if self.how.scaling == "above" else given * self.factors
        weights = self.linear.weight * self.channels
        steps = (weights.detach().abs().amax(dim=1, keepdim=True) / 127).clamp(min=SMALLEST)
        whole = nn.functional.linear(
            _passed(even, self._rounded(even.detach())),
            _passed(weights, (weights.detach() / steps).round() * steps),
            self.linear.bias,
        )
        return whole + given[..., self.apart] @ self.linear.weight[:, self.apart].T

    def _rounded(self, even: torch.Tensor) -> torch.Tensor:
        zero = ZERO
        if self.how.scaling == "token":
            steps, zero = (even.abs().amax(dim=-1, keepdim=True) / 127).clamp(min=SMALLEST), 128
        elif self.how.scaling == "above":
            steps = even.amax(dim=-1, keepdim=True).clamp(*self.how.largest) / (255 - ZERO)
        else:
            scale, shift = self.how.fixed
            steps, zero = torch.tensor(scale), int(shift)
        return ((even / steps).round() + zero).clamp(0, 255).sub(zero) * steps


def _passed(exact: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    return exact + (rounded - exact.detach())


def aware_int8(student: Checkpoint, texts: Sequence[Encoded], *, steps: int, rate: float) -> Recipe:
    """Return a recipe that fine-tunes on these texts and then quantizes.

    Args:
        student: The fp32 student.
        texts: Rows that train; they need no code.
        steps: Optimizer steps, each over 16 rows of like length.
        rate: Peak learning rate of AdamW; it rises over the first tenth of the steps and falls linearly to 0.
    """

    def recipe(fp32: Path, target: Path, rows: Sequence[Encoded]) -> None:
        graph = Graph(fp32)
        layers = graph.linear_layers()
        how = choose_activation_scaling(
            layers, record_layer_inputs(graph, rows[:CALIBRATION_ROWS]), ("fixed", "above"), 1
        )
        model = deepcopy(student.model)
        _replace(model, layers, how)
        _fine_tune(model, student.model, texts, steps, rate)
        _restore(model)
        with TemporaryDirectory() as work:
            to_onnx(replace(student, model=model), Path(work) / "model.onnx")
            tuned = Graph(Path(work) / "model.onnx")
        prune_last_layer(tuned)
        both = how | {f"{source}.first": one for source, one in how.items()}
        quantize_layers(tuned, tuned.linear_layers(), both, lambda _source, weights: round_to_nearest(weights))
        quantize_embeddings(tuned)
        tuned.save(target)

    return recipe


def _replace(model: Any, layers: Sequence[LinearLayer], how: Mapping[str, Activation]) -> None:
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear):
            continue
        weights = module.weight.detach().numpy().T
        source = next((layer.source for layer in layers if np.array_equal(layer.weights, weights)), None)
        if source is not None:
            model.set_submodule(name, RoundedLinear(module, how[source]))


def _restore(model: Any) -> None:
    for name, module in list(model.named_modules()):
        if isinstance(module, RoundedLinear):
            model.set_submodule(name, module.linear)


def _fine_tune(model: Any, teacher: Any, texts: Sequence[Encoded], steps: int, rate: float) -> None:
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    model.eval()
    model.get_input_embeddings().requires_grad_(False)
    learned = [weights for weights in model.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=0.0)
    warm = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / (steps - warm))
    )
    ordered = sorted(texts, key=lambda row: len(row.ids))
    batches = [ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH)]
    for _ in range(steps):
        given = {
            name: torch.tensor(values) for name, values in build_feeds(batches[draw.integers(len(batches))]).items()
        }
        with torch.no_grad():
            wanted = teacher(**given).logits
        loss = ((model(**given).logits - wanted) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        schedule.step()
