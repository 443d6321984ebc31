"""Scoring responses with a bundle: the same response, the same score, whatever is scored beside it."""
