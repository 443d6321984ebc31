"""The bi-encoder: a student that encodes the context and the response apart, and compares their vectors.

A cross-encoder, such as BERT's classifier, reads question, reference answers and response as one text, and has to learn
from the training rows what to compare. A sentence encoder has learnt before what makes two texts similar. Here it
encodes all texts in one pass, in which no token attends to another text and each text has positions of its own. The
mean of the tokens' states is the vector of a text. Of several reference answers a response has to be like one: a
softmax of their cosines with the response weights their vectors, so that the closest count most. A linear classifier
reads the vectors of response and references, their absolute difference and their product (Sentence-BERT: Reimers and
Gurevych 2019, arXiv:1908.10084, section 3; InferSent: Conneau et al. 2017, arXiv:1705.02364, section 2.1).

Segment ids tell the texts apart: 1 is the response, and each other number one text before it
(`edgedistill_serve.scoring.encoding`, ``references_apart``). With 0 alone, as from any tokenizer of a BERT, what comes
before the response is one text. The inputs of the graph are those of the cross-encoder.
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
SHARPNESS = 10.0
"""Factor of the cosines in the softmax over reference answers: .1 of cosine is a weight e times as large."""
REFERENCES_APART = "references_apart"
"""The key of ``config.json`` that says that a student was trained with each reference answer as a text of its own."""
SHORTEST = 1e-6
"""A shorter sum, as that of no token, is not scaled to this length."""
_LEAST_SUM = 1e-20
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
            token_type_ids: 1 for the response's tokens, another number for those of each text before it; 0 if they are
                not given.
            output_hidden_states: Whether to return the states of every layer, too, each of shape (rows, tokens, width).
            labels: Not read; transformers' `Trainer` evaluates only models that have this argument.
        """
        kinds = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        within = (kinds.unsqueeze(2) == kinds.unsqueeze(1)).to(attention_mask.dtype)
        within = within * attention_mask.unsqueeze(2) * attention_mask.unsqueeze(1)
        found = self.bert(
            input_ids=input_ids,
            attention_mask=self._mask(within),
            # The encoder has learnt texts that begin at position 0 and have segment 0.
            position_ids=(torch.tril(within).sum(dim=2) - 1).clamp(min=0, max=self.config.max_position_embeddings - 1),
            token_type_ids=torch.zeros_like(input_ids),
            output_hidden_states=output_hidden_states,
        )
        states = found.last_hidden_state
        of_response = (kinds == 1).to(attention_mask.dtype) * attention_mask
        response = _scaled(torch.matmul(of_response.to(states.dtype).unsqueeze(1), states).squeeze(1).float())
        context = _nearest(states, within, attention_mask - of_response, response)
        features = torch.cat((response, context, (response - context).abs(), response * context / LENGTH), dim=1)
        return SequenceClassifierOutput(
            logits=self.classifier(self.dropout(features)),
            hidden_states=found.hidden_states if output_hidden_states else None,
        )

    def _mask(self, within: torch.Tensor) -> torch.Tensor:
        """Return a mask of what each token attends to, as the version of transformers takes it."""
        if _VERSION < 5:
            return within
        # transformers 5 takes masks of all rows and columns only in the form that is added to the attention's logits.
        return (1.0 - within.unsqueeze(1).to(self.dtype)) * torch.finfo(self.dtype).min


def _nearest(
    states: torch.Tensor, within: torch.Tensor, of_context: torch.Tensor, response: torch.Tensor
) -> torch.Tensor:
    """Return the mean of the vectors of the texts before the response, weighted by a softmax of their cosines with it.

    Every token stands for its text, whose number of tokens divides its weight: the number of texts is not fixed.

    Args:
        states: Of shape (rows, tokens, width).
        within: 1 where two tokens are of one text, else 0; of shape (rows, tokens, tokens).
        of_context: 1 for tokens before the response, of shape (rows, tokens).
        response: The vector of each response, of shape (rows, width).

    Returns:
        Of shape (rows, width), of the length of every vector; zeros where nothing comes before the response.
    """
    texts = _scaled(torch.matmul(within.to(states.dtype), states).float())
    # Sums instead of matrix products, which training would round to bfloat16.
    cosines = (texts * response.unsqueeze(1)).sum(dim=2) / (LENGTH**2 * response.shape[1])
    counted = of_context.to(cosines.dtype)
    tokens = within.sum(dim=2).clamp(min=1).to(cosines.dtype)
    weights = counted * torch.exp(SHARPNESS * (cosines - 1)) / tokens  # exp does not exceed 1
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=_LEAST_SUM)
    return _scaled((weights.unsqueeze(2) * texts).sum(dim=1))


def _scaled(vectors: torch.Tensor) -> torch.Tensor:
    """Return vectors of the same directions and one length; the zero vector stays."""
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp(min=SHORTEST)
    return vectors * (LENGTH * vectors.shape[-1] ** 0.5 / norm)


AutoConfig.register(MODEL_TYPE, BiEncoderConfig, exist_ok=True)
AutoModelForSequenceClassification.register(BiEncoderConfig, BiEncoderForSequenceClassification, exist_ok=True)
