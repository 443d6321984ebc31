"""Gauges of what the served bundles did with their validation rows, to be shown beside what they do now."""

from collections.abc import Iterable

from edgedistill_serve.bundle.reference import Reference, read_reference
from edgedistill_serve.errors import BundleError
from edgedistill_serve.scoring.scorer import Scorer
from edgedistill_serve.server.metrics import CallbackGauge
from edgedistill_serve.server.service import Service
from edgedistill_serve.task.task import NO_LABEL, split_labels


class ReferenceGauges:
    """Reads the reference of each served bundle once.

    Args:
        service: Its models.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._references: dict[tuple[str, str], Reference | None] = {}

    def gauges(self) -> list[CallbackGauge]:
        """Return the gauges."""
        return [
            CallbackGauge(
                "reference_share",
                "Share of the validation rows with a label, and share that goes to people, when the bundle was made.",
                self._shares,
                ("model", "version", "label"),
            ),
            CallbackGauge(
                "reference_mean",
                "Mean probability, novelty and tokens of the validation rows when the bundle was made.",
                self._means,
                ("model", "version", "quantity"),
            ),
        ]

    def _shares(self) -> Iterable[tuple[tuple[str, ...], float]]:
        for scorer, name, reference in self._found():
            every = reference.every
            counts: dict[str, int] = {}
            for group in every.labels:
                for label in _labels(group.labels[0], scorer):
                    counts[label] = counts.get(label, 0) + group.rows
            for label, rows in counts.items():
                yield (*name, label), rows / every.rows
            if every.reviewed is not None:
                yield (*name, "(review)"), every.reviewed / every.rows

    def _means(self) -> Iterable[tuple[tuple[str, ...], float]]:
        for _, name, reference in self._found():
            for quantity, value in reference.every.means.items():
                yield (*name, quantity), value

    def _found(self) -> Iterable[tuple[Scorer, tuple[str, str], Reference]]:
        for scorer in self._service.models.scorers:
            name = (scorer.bundle.manifest.name, scorer.bundle.manifest.version)
            if name not in self._references:
                try:
                    self._references[name] = read_reference(scorer.bundle)
                except BundleError:  # the folder was replaced meanwhile: scores need no reference
                    self._references[name] = None
            reference = self._references[name]
            if reference is not None:
                yield scorer, name, reference


def _labels(code: str, scorer: Scorer) -> tuple[str, ...]:
    task = scorer.bundle.task
    return (split_labels(code, task) or (NO_LABEL,)) if task.kind == "multilabel" else (code,)
