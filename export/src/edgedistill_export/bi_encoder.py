"""The bi-encoder: a student that encodes the context and the response apart, and compares the two vectors.

A cross-encoder, such as BERT's classifier, reads question, reference answers and response as one text, and has to learn
from the training rows what to compare. A sentence encoder has learnt before what makes two texts similar. Here it
encodes both in one pass, in which no token attends to the other text and each text has positions of its own. The mean
of the tokens' states is the vector of a text; a linear classifier reads both vectors, their absolute difference and
their product (Sentence-BERT: Reimers and Gurevych 2019, arXiv:1908.10084, section 3; InferSent: Conneau et al. 2017,
arXiv:1705.02364, section 2.1).

The inputs are those of the cross-encoder: tokenization, bundles and servers make no difference between the two.
transformers loads it from a checkpoint as it loads any model, because its classes are registered when this module is
imported; no code comes from the checkpoint.
"""

from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig, BertModel, BertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

MODEL_TYPE = "edgedistill-bi-encoder"
LENGTH = 10.0
"""Root mean square of the numbers of a text's vector: with larger inputs the classifier, which begins at zero, learns
faster than the encoder, although both have one learning rate."""
SHORTEST = 1e-6
"""A shorter sum, as that of no token, is not scaled to this length."""
_VERSION = int(transformers.__version__.split(".")[0])


class BiEncoderConfig(BertConfig):  # type: ignore[misc]  # transformers is untyped here
    """The sizes of a BERT encoder."""

    model_type = MODEL_TYPE


class BiEncoderForSequenceClassification(BertPreTrainedModel):  # type: ignore[misc]
    """The classifier in PyTorch.

    Args:
        config: The encoder's sizes, and the labels.
    """

    config_class = BiEncoderConfig
    base_model_prefix = "bert"

    def __init__(self, config: BiEncoderConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.dropout = torch.nn.Dropout(config.hidden_dropout_prob)
        self.classifier = torch.nn.Linear(4 * config.hidden_size, config.num_labels)
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        if isinstance(module, torch.nn.Linear) and module is self.classifier:
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        output_hidden_states: bool = False,
        labels: torch.Tensor | None = None,  # noqa: ARG002
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Return logits of shape (rows, labels).

        Args:
            input_ids: Token ids, shape (rows, tokens).
            attention_mask: 0 for padding, else 1, of the same shape.
            token_type_ids: 1 for the response's tokens, 0 for the context's; 0 if they are not given.
            output_hidden_states: Whether to return the states of every layer, too, each of shape (rows, tokens, width).
            labels: Not read; transformers' `Trainer` evaluates only models that have this argument.
        """
        of_response = torch.zeros_like(input_ids) if token_type_ids is None else attention_mask * token_type_ids
        of_context = attention_mask - of_response
        found = self.bert(
            input_ids=input_ids,
            attention_mask=self._within_texts(of_context, of_response),
            # The encoder has learnt texts that begin at position 0 and have segment 0.
            position_ids=(_places(of_context) + _places(of_response)).clamp(
                max=self.config.max_position_embeddings - 1
            ),
            token_type_ids=torch.zeros_like(input_ids),
            output_hidden_states=output_hidden_states,
        )
        states = found.last_hidden_state
        context, response = _text(states, of_context), _text(states, of_response)
        features = torch.cat((response, context, (response - context).abs(), response * context / LENGTH), dim=1)
        return SequenceClassifierOutput(
            logits=self.classifier(self.dropout(features)),
            hidden_states=found.hidden_states if output_hidden_states else None,
        )

    def _within_texts(self, of_context: torch.Tensor, of_response: torch.Tensor) -> torch.Tensor:
        """Return what each token attends to: the tokens of its own text."""
        within = of_context.unsqueeze(2) * of_context.unsqueeze(1) + of_response.unsqueeze(2) * of_response.unsqueeze(1)
        if _VERSION < 5:
            return within
        # transformers 5 takes masks of all rows and columns only in the form that is added to the attention's logits.
        return (1.0 - within.unsqueeze(1).to(self.dtype)) * torch.finfo(self.dtype).min


def _places(of_text: torch.Tensor) -> torch.Tensor:
    """Return the position of each token in its text, 0 for tokens of the other; shape (rows, tokens)."""
    return (of_text.cumsum(dim=1) - 1) * of_text


def _text(states: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Return the vector of each text: the direction of its tokens' mean, and the same length for all."""
    total = torch.matmul(counted.to(states.dtype).unsqueeze(1), states).squeeze(1).float()
    norm = torch.linalg.vector_norm(total, dim=1, keepdim=True).clamp(min=SHORTEST)
    return total * (LENGTH * total.shape[1] ** 0.5 / norm)


AutoConfig.register(MODEL_TYPE, BiEncoderConfig, exist_ok=True)
AutoModelForSequenceClassification.register(BiEncoderConfig, BiEncoderForSequenceClassification, exist_ok=True)
