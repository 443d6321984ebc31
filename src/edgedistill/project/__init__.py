"""The project file: what is coded, which rows there are, how the teacher is asked, what the student is."""

from edgedistill.project.reading import read_project
from edgedistill.project.schema import (
    AnyTeacher,
    DataSection,
    ExistingLabelsSection,
    ExportSection,
    GateSection,
    GenerateSection,
    MixSection,
    Project,
    StudentSection,
    TaskSection,
    TeacherSection,
)

__all__ = [
    "AnyTeacher",
    "DataSection",
    "ExistingLabelsSection",
    "ExportSection",
    "GateSection",
    "GenerateSection",
    "MixSection",
    "Project",
    "StudentSection",
    "TaskSection",
    "TeacherSection",
    "read_project",
]
