"""The evaluation of a student as one type: computed once, written once, read by report, model card and Python API.

types.py    `Evaluation`, `Fidelity` and their parts
build.py    computes an `Evaluation` from scores and codings
coded_file.py  measures a finished bundle on any coded file
files.py    reads `evaluation.json` and `fidelity.json`; writes their JSON Schemas
"""

from edgedistill.evaluation.files import read_evaluation, read_fidelity, write_schemas
from edgedistill.evaluation.types import Evaluation, Fidelity, FidelityStep, Gate

__all__ = ["Evaluation", "Fidelity", "FidelityStep", "Gate", "read_evaluation", "read_fidelity", "write_schemas"]
