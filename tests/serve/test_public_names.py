"""The public names are those of the list, and importing them loads no server."""

import inspect
import json
import subprocess
import sys

import edgedistill_serve
from edgedistill_serve import errors


def test_the_public_names_are_the_types_and_every_error():
    types = {"Bundle", "Label", "Score", "Scorer", "Task"}
    tree = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__}
    assert set(edgedistill_serve.__all__) == types | tree


def test_the_error_tree_is_drawn_with_every_error():
    tree = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__}
    assert all(f" {name} " in errors.__doc__ for name in tree)


def test_importing_loads_no_server_no_model_and_no_terminal():
    code = "import edgedistill_serve, json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    assert loaded & {"onnxruntime", "pyarrow", "click", "pandas", "prometheus_client", "starlette", "torch"} == set()
