"""The stages of a run, each reading what the one before wrote into the run folder."""

from edgedistill.stages.folder import RunFolder
from edgedistill.stages.pipeline import NAMES, Step, run_stage, run_stages
from edgedistill.stages.run import Advance, Run

__all__ = ["NAMES", "Advance", "Run", "RunFolder", "Step", "run_stage", "run_stages"]
