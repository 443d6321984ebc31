"""The stages of a run, each reading what the one before wrote into the run folder."""

from edgedistill.pipeline.folder import RunFolder
from edgedistill.pipeline.label import Prompt, build_prompts
from edgedistill.pipeline.run import Run
from edgedistill.pipeline.stages import NAMES, StageResult, run_stage, run_stages, try_stage

__all__ = [
    "NAMES",
    "Prompt",
    "Run",
    "RunFolder",
    "StageResult",
    "build_prompts",
    "run_stage",
    "run_stages",
    "try_stage",
]
