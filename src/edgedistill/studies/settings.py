"""How the students of a study are trained: as the study file says, or as published."""

import math
from dataclasses import dataclass

from edgedistill.project import StudentSection
from edgedistill.project.sections import SearchSection
from edgedistill.records import ValidationRows
from edgedistill.student import Trial
from edgedistill.studies.material import Material
from edgedistill.studies.sections import Protocol, Study, StudyStudent

PUBLISHED = SearchSection(learning_rate=(2e-5,), batch_size=(16,), epochs=(50,))
PUBLISHED_PATIENCE = 2
"""Borchers et al. 2025; the backbone stays the study's own."""

LEAK = "the test rows chose the epoch"


@dataclass(frozen=True, slots=True)
class Settings:
    """How students are trained.

    Attributes:
        protocol: `as-published` lets test rows choose the epoch.
        student: Search and steps of the mended protocol.
    """

    protocol: Protocol
    student: StudyStudent

    @classmethod
    def of(cls, study: Study) -> "Settings":
        """Return the settings of a study."""
        return cls(study.protocol, study.student)

    def chooses(self, material: Material) -> ValidationRows:
        """Return the rows that choose the epoch; as published these are the test rows, which is a leak."""
        return ValidationRows(material.tests["test"].rows) if self.protocol == "as-published" else material.validation


def settings_for(settings: Settings, material: Material, rows: int, seed: int) -> StudentSection:
    """Return how a student of so many rows is trained.

    Mended, it makes as many epochs as the study's optimizer steps take, within the study's bounds: the largest of its
    batch sizes counts.
    """
    given = settings.student
    search: SearchSection = PUBLISHED
    patience: int | None = PUBLISHED_PATIENCE
    if settings.protocol == "mended":
        patience = material.student.patience
        epochs = math.ceil(given.steps / math.ceil(rows / max(given.batch_size)))
        epochs = min(max(epochs, given.min_epochs), max(given.min_epochs, given.max_epochs))
        search = SearchSection(learning_rate=given.learning_rate, batch_size=given.batch_size, epochs=(epochs,))
    how = {"search": search, "seeds": (seed,), "max_tokens": given.max_tokens or material.student.max_tokens}
    return material.student.model_copy(update=how | {"patience": patience, "shrink": None})


def going_on(section: StudentSection, best: Trial) -> StudentSection:
    """Return how a student goes on with a block: once over it, with the setting that was best for its first rows."""
    search = SearchSection(learning_rate=(best.learning_rate,), batch_size=(best.batch_size,), epochs=(1,))
    return section.model_copy(update={"search": search})
