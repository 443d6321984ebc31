"""The stages of a run, each reading what the one before wrote into the run folder."""

from edgedistill.stages.folder import RunFolder
from edgedistill.stages.pipeline import NAMES, Step, run_stage, run_stages, try_stage
from edgedistill.stages.prompt import Prompt, prompts_of
from edgedistill.stages.run import Run

__all__ = [
    "NAMES",
    "Prompt",
    "Run",
    "RunFolder",
    "Step",
    "prompts_of",
    "run_stage",
    "run_stages",
    "try_stage",
]
