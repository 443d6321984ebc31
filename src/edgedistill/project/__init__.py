"""The project file: what is coded, which rows there are, how the teacher is asked, what the student is."""

from edgedistill.project.data import DataSection
from edgedistill.project.outputs import ExportSection
from edgedistill.project.reading import read_project
from edgedistill.project.schema import Project
from edgedistill.project.student import StudentSection
from edgedistill.project.task import TaskSection
from edgedistill.project.teacher import AnyTeacher, ExistingLabelsSection, GateSection, TeacherSection
from edgedistill.project.training_set import GenerateSection, MixSection

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
