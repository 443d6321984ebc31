"""Labels from a teacher LLM: prompts from a codebook, votes, and every answer cached on disk.

codebook    prompts, escaping, answer formats
strict_json JSON from outside
matching    labels in texts
parsing     answers to labels, and their probabilities
voting      votes to labels
cache       requests and their keys, the answer cache, export, import and repair
logs        the failure log
spending    spending log, budget, estimates
endpoint    the connection to the teacher
runner      sends requests: rate limiter, retries, durable writes
batch       the Batch API: client, files, log
dispatch    dispatch modes: send now, estimate only, batches, batch files
labelling   labels responses, combines teachers
gating      compares a teacher with human coders
teacher     the class Teacher
existing_labels  labels that exist already, in place of a teacher that is asked
"""

from edgedistill.teacher.cache import (
    AnswerCache,
    CacheEntry,
    CacheStats,
    ImportResult,
    InvalidLine,
    ModelVersion,
    RepairResult,
    TeacherRequest,
    VerificationResult,
    describe_model_changes,
    export_jsonl,
    import_jsonl,
    repair_database,
)
from edgedistill.teacher.codebook import AnswerFormat, Codebook, build_coding_messages
from edgedistill.teacher.dispatch import EstimateOnly, ReadBatchFile, SendNow, SubmitBatches, WriteBatchFile
from edgedistill.teacher.endpoint import read_api_key
from edgedistill.teacher.labelling import (
    Embed,
    ExampleSelector,
    Labelling,
    LabellingPlan,
    LabellingProgress,
    Vectors,
    build_example_selector,
    combine_labellings,
    label_responses,
    select_balanced_examples,
)
from edgedistill.teacher.parsing import FailureCause
from edgedistill.teacher.runner import DispatchMode, RetryPolicy
from edgedistill.teacher.spending import Budget, CostEstimate, SpendingLog, StageSpending, Usage

__all__ = [
    "AnswerCache",
    "AnswerFormat",
    "Budget",
    "CacheEntry",
    "CacheStats",
    "Codebook",
    "CostEstimate",
    "DispatchMode",
    "Embed",
    "EstimateOnly",
    "ExampleSelector",
    "FailureCause",
    "ImportResult",
    "InvalidLine",
    "Labelling",
    "LabellingPlan",
    "LabellingProgress",
    "ModelVersion",
    "ReadBatchFile",
    "RepairResult",
    "RetryPolicy",
    "SendNow",
    "SpendingLog",
    "StageSpending",
    "SubmitBatches",
    "TeacherRequest",
    "Usage",
    "Vectors",
    "VerificationResult",
    "WriteBatchFile",
    "build_coding_messages",
    "build_example_selector",
    "combine_labellings",
    "describe_model_changes",
    "export_jsonl",
    "import_jsonl",
    "label_responses",
    "read_api_key",
    "repair_database",
    "select_balanced_examples",
]
