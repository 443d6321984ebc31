"""The vector of a text, for its novelty: the mean state of its tokens after two thirds of the layers.

The last layers of a fine-tuned student keep what separates the labels and little else, so that unknown texts fall among
known ones there; the middle layers still tell them apart (docs/novelty.md has the figures).
"""

from collections.abc import Sequence
from typing import Any

import torch

VECTOR = "vector"
"""Name of the graph's output of shape (rows, width), which `edgedistill_export.novelty` replaces."""


def vector_layer(layers: int) -> int:
    """Return the number of layers that the vector has passed, for a model of this many: two thirds, not all."""
    return min(round(2 * layers / 3), layers - 1)


def text_vector(
    states: Sequence[torch.Tensor], attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the vector of each text.

    Args:
        states: The input of the first layer and the output of every layer, each of shape (rows, tokens, width).
        attention_mask: 0 for padding, else 1; shape (rows, tokens).
        token_type_ids: 1 for the response's tokens, another number for others; None if that is not known.

    Returns:
        The mean over all tokens, shape (rows, width); where the response is known, followed by half the mean over its
        tokens, shape (rows, 2 · width). The first part sees a new question, the second a short and odd response.
    """
    state = states[vector_layer(len(states) - 1)]
    whole = _mean(state, attention_mask)
    if token_type_ids is None:
        return whole
    return torch.cat((whole, 0.5 * _mean(state, attention_mask * (token_type_ids == 1))), dim=1)


def _mean(state: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    weights = counted.to(state.dtype).unsqueeze(1)
    # A product adds up a row in one order, whatever the other rows of its batch are.
    return torch.matmul(weights, state).squeeze(1) / weights.sum(dim=2).clamp(min=1)


class WithVector(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A classifier that returns the vector of each text beside its logits.

    Args:
        model: A sequence classifier of transformers.
        of_response: Whether segment 1 is the response, and segment 0 its context.
    """

    def __init__(self, model: Any, *, of_response: bool) -> None:
        super().__init__()
        self.model, self.config, self._of_response = model, model.config, of_response

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Return ``logits`` and ``vector``."""
        segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, **segments, output_hidden_states=True)
        counted = token_type_ids if self._of_response else None
        return {"logits": found["logits"], VECTOR: text_vector(found["hidden_states"], attention_mask, counted)}
