"""The stages that load torch and transformers: that takes seconds, and the others do not wait for it."""

from typing import Any

from edgedistill.stages.run import Run


def train(run: Run) -> dict[str, Any]:
    """Do `stages.train`."""
    from edgedistill.stages.train import train

    return train(run)


def evaluate(run: Run) -> dict[str, Any]:
    """Do `stages.evaluate`."""
    from edgedistill.stages.evaluate import evaluate

    return evaluate(run)


def export(run: Run) -> dict[str, Any]:
    """Do `stages.export`."""
    from edgedistill.stages.export import export

    return export(run)
