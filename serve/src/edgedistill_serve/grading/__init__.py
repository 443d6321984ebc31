"""Grading a file of responses into another file."""
