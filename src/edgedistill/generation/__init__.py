"""Synthetic responses: written by the teacher for each label, screened, coded again, measured.

prompts     plans the requests, builds their messages, parses the answers
generator   generate_samples(): sends the requests; every sample has its lineage
screening   screen(): removes repetitions and samples similar to validation or test rows
diversity   diversity(): distinct n-grams, self-BLEU and length of texts
types       Sample, Lineage, RemovedSample, CheckedSample
"""

from edgedistill.generation.diversity import Diversity, diversity
from edgedistill.generation.generator import GenerationResult, generate_samples
from edgedistill.generation.prompts import (
    SampleRequest,
    build_generation_messages,
    parse_samples,
    plan_requests,
    select_seed_rows,
)
from edgedistill.generation.screening import ScreeningResult, screen
from edgedistill.generation.types import (
    CheckedSample,
    FailedRequest,
    Lineage,
    NearestRow,
    RemovalReason,
    RemovedSample,
    Sample,
)

__all__ = [
    "CheckedSample",
    "Diversity",
    "FailedRequest",
    "GenerationResult",
    "Lineage",
    "NearestRow",
    "RemovalReason",
    "RemovedSample",
    "Sample",
    "SampleRequest",
    "ScreeningResult",
    "build_generation_messages",
    "diversity",
    "generate_samples",
    "parse_samples",
    "plan_requests",
    "screen",
    "select_seed_rows",
]
