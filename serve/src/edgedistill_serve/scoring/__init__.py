"""Scoring of responses with a bundle. The score of a response does not depend on the other responses."""
