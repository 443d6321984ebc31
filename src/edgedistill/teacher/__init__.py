"""Labels from a teacher LLM: the codebook's prompt, the votes, and every answer kept on disk."""

from edgedistill.teacher.asking import Patience
from edgedistill.teacher.batching import InBatches
from edgedistill.teacher.cache import AnswerCache, CacheStats, Entry, Verified
from edgedistill.teacher.codebook import Codebook, coding_messages
from edgedistill.teacher.estimate import Estimate
from edgedistill.teacher.examples import Chooser, Embed, Vectors, choose_examples, example_chooser
from edgedistill.teacher.formats import AnswerFormat
from edgedistill.teacher.keys import api_key
from edgedistill.teacher.labelling import Labelling, Progress, label_responses
from edgedistill.teacher.ledger import Ledger, Spent
from edgedistill.teacher.panel import joint_labelling
from edgedistill.teacher.parsing import Cause
from edgedistill.teacher.plan import Plan
from edgedistill.teacher.questions import Way
from edgedistill.teacher.request import TeacherRequest
from edgedistill.teacher.salvage import Salvaged, salvage
from edgedistill.teacher.spending import Budget, Usage
from edgedistill.teacher.transfer import BadLine, Imported, export_jsonl, import_jsonl
from edgedistill.teacher.voices import Voice, changed
from edgedistill.teacher.ways import Announce, EstimateOnly, FromFile, ToFile

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
