"""The nano student: a vector for each token of the vocabulary, their mean for each text, and a small classifier.

There is no attention: the vector of a token does not depend on the tokens around it. A text is the mean of its tokens'
vectors (fastText: Joulin et al. 2017, arXiv:1607.01759), scaled to one length. Where a task has a question or a
reference answer, context and response are pooled separately, and the classifier reads both, their product and their
absolute difference, as in InferSent (Conneau et al. 2017, arXiv:1705.02364, section 2.1).

transformers loads it from a checkpoint as it loads any model, because its classes are registered when this module is
imported; no code comes from the checkpoint.
"""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

MODEL_TYPE = "edgedistill-nano"
LENGTH = 4.0
"""The length of a text's vector: with 64 numbers, their products are neither much smaller nor much larger than they."""
SHORTEST = 1e-6
"""A shorter sum, as that of no token, is not scaled to this length."""


class NanoConfig(PretrainedConfig):  # type: ignore[misc]  # transformers is untyped here
    """The sizes of a nano student.

    Args:
        vocab_size: Number of tokens.
        hidden_size: Width of a token's vector.
        head_size: Width of the classifier's hidden layer.
        type_vocab_size: 2 if context and response are pooled separately, else 1.
        dropout: Share of the classifier's inputs that is dropped in training.
        given: Other settings, such as the labels.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        vocab_size: int = 1,
        hidden_size: int = 128,
        head_size: int = 64,
        type_vocab_size: int = 1,
        dropout: float = 0.2,
        **given: Any,
    ) -> None:
        self.vocab_size, self.hidden_size, self.head_size = vocab_size, hidden_size, head_size
        self.type_vocab_size, self.dropout = type_vocab_size, dropout
        # Readers of a checkpoint expect a number of layers.
        super().__init__(**{"num_hidden_layers": 1, "pad_token_id": 0, **given})


class NanoForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
    """The classifier in PyTorch.

    Args:
        config: Its sizes and labels.
    """

    config_class = NanoConfig
    base_model_prefix = "nano"

    def __init__(self, config: NanoConfig) -> None:
        super().__init__(config)
        features = config.hidden_size * (4 if config.type_vocab_size > 1 else 1)
        self.embeddings = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = torch.nn.Dropout(config.dropout)
        self.hidden = torch.nn.Linear(features, config.head_size)
        self.classifier = torch.nn.Linear(config.head_size, config.num_labels)
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=module.in_features**-0.5)
            torch.nn.init.zeros_(module.bias)
        elif isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)

    def get_input_embeddings(self) -> Any:
        """Return the table of the tokens' vectors."""
        return self.embeddings

    def set_input_embeddings(self, value: Any) -> None:
        """Replace the table of the tokens' vectors."""
        self.embeddings = value

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
            token_type_ids: 1 for the response's tokens, 0 for the context's; read only if the student has two types,
                and then 0 if they are not given.
            output_hidden_states: Whether to return the tokens' vectors, shape (rows, tokens, width), too.
            labels: Not read; transformers' `Trainer` evaluates only models that have this argument.
        """
        tokens = self.embeddings(input_ids)
        mask = attention_mask.to(tokens.dtype)
        if self.config.type_vocab_size > 1:
            of_response = mask * (torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids == 1)
            context, response = _text(tokens, mask - of_response), _text(tokens, of_response)
            features = torch.cat((context, response, context * response, (context - response).abs()), dim=1)
        else:
            features = _text(tokens, mask)
        hidden = self.dropout(torch.relu(self.hidden(self.dropout(features))))
        return SequenceClassifierOutput(
            logits=self.classifier(hidden), hidden_states=(tokens,) if output_hidden_states else None
        )


def _text(tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the vector of each text: the direction of its tokens' mean, and the same length for all."""
    total = torch.matmul(weights.unsqueeze(1), tokens).squeeze(1)
    return total * (LENGTH / torch.linalg.vector_norm(total, dim=1, keepdim=True).clamp(min=SHORTEST))


AutoConfig.register(MODEL_TYPE, NanoConfig, exist_ok=True)
AutoModelForSequenceClassification.register(NanoConfig, NanoForSequenceClassification, exist_ok=True)


def is_nano(model: Any) -> bool:
    """Whether a classifier is a nano student."""
    return isinstance(model, NanoForSequenceClassification)
