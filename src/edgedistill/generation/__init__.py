"""Synthetic responses: written by the teacher per label, screened, coded again, measured.

calls.py        plan_calls(): which requests are made; seed_rows(): which human rows they may show
prompts.py      the messages, and what is read from an answer
generating.py   generate_samples(): asks, with every sample's lineage
screening.py    screen(): repetitions and what resembles a validation or test row go
similarity.py   similar_pairs(): which texts nearly repeat which
diversity.py    diversity(): how different texts are from each other
types.py        Sample, Lineage, Removed, Checked
"""

from edgedistill.generation.diversity import Diversity, diversity
from edgedistill.generation.generator import Written, generate_samples
from edgedistill.generation.prompts import Call, generation_messages, plan_calls, read_samples, seed_rows
from edgedistill.generation.screening import Screened, screen, similar_pairs
from edgedistill.generation.types import Checked, FailedCall, Lineage, Near, Reason, Removed, Sample

__all__ = [
    "Call",
    "Checked",
    "Diversity",
    "FailedCall",
    "Lineage",
    "Near",
    "Reason",
    "Removed",
    "Sample",
    "Screened",
    "Written",
    "diversity",
    "generate_samples",
    "generation_messages",
    "plan_calls",
    "read_samples",
    "screen",
    "seed_rows",
    "similar_pairs",
]
