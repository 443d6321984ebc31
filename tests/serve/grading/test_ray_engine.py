"""A grading on Ray has the bytes of one in this process, whatever happens to its workers."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime, timezone
from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgedistill_serve import BundleError, DataError, Scorer
from edgedistill_serve.grading import ray_engine
from edgedistill_serve.grading.grade import GradingStopped, grade
from edgedistill_serve.grading.grade_batch import GradeBatch
from edgedistill_serve.grading.parts import Parts
from edgedistill_serve.grading.ray_engine import Workers, grade_on_ray
from edgedistill_serve.grading.storage import LocalFolder, find_inputs
from edgedistill_serve.grading.table_formats import table_format

from ...processes import environment  # noqa: F401  # placeholder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
GRADE = [sys.executable, "-m", "edgedistill_serve", "grade"]
TEXTS = ["you worked hard", "", "great job", "poisonous", None, "why because"]
