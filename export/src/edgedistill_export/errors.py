"""Errors of the export.

EdgeDistillError                  (edgedistill_serve.errors)
├── CheckpointError               the folder is not a valid checkpoint; exit code 2
├── ExportFailed                  the exported model differs from the trained one; exit code 5
├── PushFailed                    the bundle cannot be uploaded; exit code 2
└── WebFailed                     the page that scores in a browser cannot be written; exit code 2
"""

from edgedistill_serve.errors import EdgeDistillError


class CheckpointError(EdgeDistillError):
    """A folder is not a checkpoint that can be exported."""


class ExportFailed(EdgeDistillError):
    """The exported model does not agree with the student that was evaluated."""

    exit_code = 5


class PushFailed(EdgeDistillError):
    """A bundle cannot be uploaded to the Hub."""


class WebFailed(EdgeDistillError):
    """The page that scores in a browser cannot be written."""
