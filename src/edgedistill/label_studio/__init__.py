"""Coding in Label Studio: tasks and labelling configuration out, annotations in; see docs/label-studio.md.

configuration  the labelling interface of a project, as Label Studio's XML
tasks          the rows to code, as a file of tasks
annotations    the codes in an export of Label Studio, JSON or JSON-MIN
importing      codes into the coder columns of the human file
"""

from edgedistill.label_studio.configuration import Control, labelling_configuration
from edgedistill.label_studio.importing import ImportedCodes, import_codes
from edgedistill.label_studio.tasks import ExportedTasks, export_tasks

__all__ = ["Control", "ExportedTasks", "ImportedCodes", "export_tasks", "import_codes", "labelling_configuration"]
