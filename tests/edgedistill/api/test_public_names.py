"""The public names are those of the lists, and importing the package loads nothing that takes time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import edgedistill
import edgedistill_export
import edgedistill_serve
from edgedistill_serve import errors

HEAVY = {"torch", "transformers", "pandas", "numpy", "sklearn", "scipy", "httpx2", "pydantic", "onnxruntime", "rich"}


def test_the_public_names_of_edgedistill():
    assert set(edgedistill.__all__) == {
        "Agreement",
        "AltTest",
        "Bundle",
        "BundleComparison",
        "BundleEvaluation",
        "EdgeDistillError",
        "EstimateTable",
        "Label",
        "MonitorReport",
        "Project",
        "Scorer",
        "StudentClassifier",
        "Task",
        "Teacher",
        "agreement",
        "alt_test",
        "compare_bundles",
        "estimate",
        "evaluate_bundle",
        "monitor",
        "progress_bars",
        "train_validation_test_split",
    }


def test_the_public_names_of_edgedistill_export():
    assert set(edgedistill_export.__all__) == {
        "Checkpoint",
        "CheckpointError",
        "ConversionStep",
        "ExportFailed",
        "ExportPlan",
        "ExportResult",
        "export_bundle",
    }


def test_the_public_names_of_edgedistill_serve():
    tree = {name for name in vars(errors) if isinstance(getattr(errors, name), type) and name != "Self"}
    assert set(edgedistill_serve.__all__) == {"Bundle", "Label", "Score", "Scorer", "Task"} | tree


@pytest.mark.parametrize("package", [edgedistill, edgedistill_export, edgedistill_serve])
def test_every_public_name_is_there_and_listed_in_order(package):
    assert list(package.__all__) == sorted(package.__all__)
    assert set(package.__all__) <= set(dir(package))
    assert all(getattr(package, name) is not None for name in package.__all__)


def test_dir_lists_the_public_names_alone_and_others_are_attribute_errors():
    assert dir(edgedistill) == sorted(edgedistill.__all__)
    with pytest.raises(AttributeError, match="no attribute 'teacher_of'"):
        _ = edgedistill.teacher_of


def test_the_package_of_agreement_is_called_as_its_function():
    call = "found = ed.agreement(['a', 'b'], ['a', 'b']); print(found.accuracy.value)"
    for first in ("pass", "from edgedistill.agreement import Agreement", "import edgedistill.agreement.bootstrap"):
        code = f"import edgedistill as ed; {first}; {call}"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"1.0\n"


def test_importing_edgedistill_loads_nothing_heavy():
    code = "import edgedistill, json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert "edgedistill" in loaded
    assert HEAVY & set(loaded) == set()


def test_the_teacher_and_projects_do_without_torch():
    code = "from edgedistill import Project, Task, Teacher; import sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


def test_the_docstring_names_what_the_package_offers_in_ten_lines():
    example = [line for line in edgedistill.__doc__.splitlines() if line.startswith("    ") and line.strip()]
    assert len(example) <= 10
    used = {name for name in edgedistill.__all__ if f"ed.{name}" in "\n".join(example)}
    assert used == {"Label", "Scorer", "StudentClassifier", "Task", "Teacher", "agreement"}


def test_what_a_type_checker_sees_is_what_is_there():
    source = Path(edgedistill.__file__).read_text()
    shown = source.partition("if TYPE_CHECKING:")[2].partition("__all__")[0]
    assert all(f" {name}" in shown for name in edgedistill.__all__)
