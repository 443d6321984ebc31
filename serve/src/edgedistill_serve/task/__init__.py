"""The task that a bundle scores: labels, inputs, redaction, and how logits become labels."""
