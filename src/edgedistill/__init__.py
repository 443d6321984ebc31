"""Turn an LLM's judgement of open responses into a classifier that runs on a school's computer.

    import edgedistill as ed

    task = ed.Task("nominal", labels=[ed.Label("process", "praises effort"), ed.Label("outcome", "praises the result")])
    teacher = ed.Teacher("gpt-4o", task=task, votes=3, cache="answers/")       # any OpenAI-compatible endpoint
    print(teacher.gate(validation))                                            # does it agree with human coders?
    labelled = teacher.label(responses).dropna(subset="label")                 # DataFrame in, DataFrame out
    clf = ed.StudentClassifier(task=task, epochs=8).fit(labelled, "label")     # a scikit-learn classifier
    print(ed.agreement(test.label, clf.predict(test)))                         # with 95 % intervals
    bundle = clf.export("bundle/", calibration=validation)                     # int8 ONNX, checked against the student
    ed.Scorer(bundle).score_frame(test)                                        # no LLM, no torch, no network

`Project.load(path).run()` does what `edgedistill run PROJECT` does. See docs/python.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgedistill.openmp import set_openmp_defaults

if TYPE_CHECKING:  # at run time each name is imported on first use: torch alone takes seconds
    from edgedistill.agreement import Agreement, AltTest, agreement, alt_test
    from edgedistill.classifier import StudentClassifier
    from edgedistill.errors import EdgeDistillError
    from edgedistill.estimates import EstimateTable, estimate
    from edgedistill.evaluation.coded_file import BundleEvaluation, evaluate_bundle
    from edgedistill.evaluation.compare_bundles import compare_bundles
    from edgedistill.evaluation.comparison import BundleComparison
    from edgedistill.frames import train_validation_test_split
    from edgedistill.monitoring import MonitorReport, monitor
    from edgedistill.progress import progress_bars
    from edgedistill.runnable_project import Project
    from edgedistill.task import Label, Task
    from edgedistill.teacher.teacher import Teacher
    from edgedistill_serve import Bundle, Scorer

__all__ = [
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
]

_MODULES = {
    "Agreement": "edgedistill.agreement",
    "AltTest": "edgedistill.agreement",
    "Bundle": "edgedistill_serve",
    "BundleComparison": "edgedistill.evaluation.comparison",
    "BundleEvaluation": "edgedistill.evaluation.coded_file",
    "EdgeDistillError": "edgedistill.errors",
    "EstimateTable": "edgedistill.estimates",
    "Label": "edgedistill.task",
    "MonitorReport": "edgedistill.monitoring",
    "Project": "edgedistill.runnable_project",
    "Scorer": "edgedistill_serve",
    "StudentClassifier": "edgedistill.classifier",
    "Task": "edgedistill.task",
    "Teacher": "edgedistill.teacher.teacher",
    "alt_test": "edgedistill.agreement",
    "compare_bundles": "edgedistill.evaluation.compare_bundles",
    "estimate": "edgedistill.estimates",
    "evaluate_bundle": "edgedistill.evaluation.coded_file",
    "monitor": "edgedistill.monitoring",
    "progress_bars": "edgedistill.progress",
    "train_validation_test_split": "edgedistill.frames",
}


set_openmp_defaults()  # before torch is loaded


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "agreement":  # the package of that name, which is called as its main function is
        return import_module("edgedistill.agreement")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
