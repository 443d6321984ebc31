"""A frozen encoder with a trained head: the baseline that takes seconds."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from edgedistill.errors import TrainingFailed
from edgedistill.records import MixtureRow
from edgedistill.studies.material import Material
from edgedistill.studies.types import TestSet


def frozen_probabilities(rows: Sequence[MixtureRow], material: Material) -> dict[TestSet, npt.NDArray[np.float64]]:
    """Fit a logistic regression on the rows' vectors and return the probabilities of every set of test rows.

    Args:
        rows: What it learns from.
        material: Its task; the vectors are the mean states of its backbone.

    Returns:
        By the set's name, of shape (rows, labels); a label that no row has gets 0.

    Raises:
        TrainingFailed: All rows have one label.
    """
    if len({row.label for row in rows}) < 2:
        raise TrainingFailed("every row has the same label", mend="A student needs rows of at least two labels.")
    head = LogisticRegression(max_iter=2000, class_weight="balanced")
    head.fit(material.embed([row.inputs for row in rows]), [row.label for row in rows])
    places = [material.task.names.index(label) for label in head.classes_]
    found: dict[TestSet, npt.NDArray[np.float64]] = {}
    for name, test in material.tests.items():
        probabilities = np.zeros((len(test), len(material.task.names)))
        probabilities[:, places] = head.predict_proba(material.embed([row.response.inputs for row in test]))
        found[name] = probabilities
    return found
