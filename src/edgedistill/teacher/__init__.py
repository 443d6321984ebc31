"""Labels from a teacher LLM: the codebook's prompt, the votes, and every answer kept on disk."""

from edgedistill.teacher.batch import InBatches
from edgedistill.teacher.cache import (
    AnswerCache,
    BadLine,
    CacheStats,
    Entry,
    Imported,
    Salvaged,
    TeacherRequest,
    Verified,
    Voice,
    changed,
    export_jsonl,
    import_jsonl,
    salvage,
)
from edgedistill.teacher.codebook import AnswerFormat, Codebook, coding_messages
from edgedistill.teacher.dispatch import Announce, EstimateOnly, FromFile, ToFile
from edgedistill.teacher.endpoint import api_key
from edgedistill.teacher.labelling import (
    Chooser,
    Embed,
    Labelling,
    Plan,
    Progress,
    Vectors,
    choose_examples,
    example_chooser,
    joint_labelling,
    label_responses,
)
from edgedistill.teacher.parsing import Cause
from edgedistill.teacher.runner import Patience, Way
from edgedistill.teacher.spending import Budget, Estimate, Ledger, Spent, Usage

__all__ = [
    "Announce",
    "AnswerCache",
    "AnswerFormat",
    "BadLine",
    "Budget",
    "CacheStats",
    "Cause",
    "Chooser",
    "Codebook",
    "Embed",
    "Entry",
    "Estimate",
    "EstimateOnly",
    "FromFile",
    "Imported",
    "InBatches",
    "Labelling",
    "Ledger",
    "Patience",
    "Plan",
    "Progress",
    "Salvaged",
    "Spent",
    "TeacherRequest",
    "ToFile",
    "Usage",
    "Vectors",
    "Verified",
    "Voice",
    "Way",
    "api_key",
    "changed",
    "choose_examples",
    "coding_messages",
    "example_chooser",
    "export_jsonl",
    "import_jsonl",
    "joint_labelling",
    "label_responses",
    "salvage",
]
