"""What the pipeline costs those who train nothing."""

import json
import subprocess
import sys


def test_only_stages_that_need_torch_wait_for_it():
    code = "import edgedistill.pipeline, json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    assert loaded & {"torch", "transformers", "optuna", "onnxruntime", "matplotlib"} == set()
