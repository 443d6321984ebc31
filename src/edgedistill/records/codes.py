"""What a code says: one label, or, of a multilabel task, the labels that hold."""

from edgedistill.errors import DataError
from edgedistill_serve.task import NO_LABEL, Task, join_labels, split_labels


def canonical_code(text: str, task: Task) -> str:
    """Return a code as it is written everywhere: of a multilabel task the labels that hold, in the task's order.

    Args:
        text: A code, without blanks around it; not empty.
        task: Its labels.

    Raises:
        DataError: It is no code of the task.
    """
    if task.kind == "multilabel":
        return join_labels(split_labels(text, task), task)
    if text not in task.names:
        raise DataError(f"the task has no label {text!r}", mend=f"Its labels: {', '.join(task.names)}.")
    return text


def labels_in(code: str, task: Task) -> tuple[str, ...]:
    """Return what a code counts as: its one label; of a multilabel task every label that holds, or `NO_LABEL`.

    Args:
        code: As `canonical_code` returns it.
        task: Its labels.
    """
    return (split_labels(code, task) or (NO_LABEL,)) if task.kind == "multilabel" else (code,)


def counted_names(task: Task) -> tuple[str, ...]:
    """Return everything that `labels_in` may return: the task's labels, of a multilabel task `NO_LABEL` after them."""
    return (*task.names, NO_LABEL) if task.kind == "multilabel" else task.names


def certain_shares(code: str, task: Task) -> dict[str, float]:
    """Return the shares of a code that nobody doubts: 1 for each label that holds, the others left out."""
    return {label: 1.0 for label in labels_in(code, task) if label in task.names}
