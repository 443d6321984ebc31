"""The scored task: labels, inputs, redaction of personal data, and decoding of logits into labels."""
