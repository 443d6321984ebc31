"""Rows for the planner: some share batches, some are scored alone."""

from edgedistill_serve.scoring.batching import Batching
from edgedistill_serve.server.queue.work_item import WaitingRow

ALONE, SHARING, OTHER = object(), object(), object()
SHARED = Batching(64)
BATCHING = {ALONE: None, SHARING: SHARED, OTHER: SHARED}


def waiting(number, model=ALONE, deadline=None):
    """Return so many rows that wait."""
    return [WaitingRow(model, BATCHING[model], deadline) for _ in range(number)]
