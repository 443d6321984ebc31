"""What can go wrong on the way from a checkpoint to a bundle.

EdgeDistillError                  (edgedistill_serve.errors)
├── CheckpointError               a folder that is no usable checkpoint; exit code 2
├── ExportFailed                  the exported model is not the trained one; exit code 5
├── PushFailed                    the bundle cannot be uploaded; exit code 2
└── WebFailed                     the page that scores in a browser cannot be written; exit code 2
"""

from edgedistill_serve.errors import EdgeDistillError


class CheckpointError(EdgeDistillError):
    """A folder is no checkpoint that can be exported."""


class ExportFailed(EdgeDistillError):
    """The exported model does not agree with the student that was evaluated."""

    exit_code = 5


class PushFailed(EdgeDistillError):
    """A bundle cannot be uploaded to the Hub."""


class WebFailed(EdgeDistillError):
    """The page that scores in a browser cannot be written."""
