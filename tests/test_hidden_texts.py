"""No `repr` of an object and no message of an error quotes a response."""

import dataclasses
import importlib
import inspect
import pkgutil
from typing import Any

import msgspec
import pytest

from edgedistill.data.types import canonical_code
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Label, Task, join_labels, split_labels

SECRET = "I am Ada Lovelace and I think the current runs back, because it is a circuit"
PACKAGES = ("edgedistill_serve", "edgedistill_export", "edgedistill")
WITH_TEXTS = {
    *("inputs", "context", "response", "question", "reference_answer", "responses", "sequences", "content", "values"),
    *("raw", "word", "messages", "request", "answer", "user", "named", "objects", "after", "text", "alternatives"),
}
"""Names of fields that hold texts of learners, or answers about them."""
NAMES_ONLY = {
    *("Task", "ServedModel", "Model", "ModelMetadata", "Codebook", "GivenTable", "Operation", "OutputTensor"),
    *("ProjectTable", "Reading", "SubgroupValues", "_Edges", "TableForm", "Proposal", "BundleRows", "PageDescription"),
    *("LayerInputs", "ConversionStep", "ValidationStep", "FidelityStep", "Fit", "LabelThresholds", "PriorCorrection"),
    *("Draw", "Export", "QuestionAgreement", "Finding", "LabelFinding", "CodingTable", "_Reader"),
}
"""Classes in which such a field holds names, numbers, sentences of our own, or objects that hide their texts."""


def classes() -> list[type]:
    found: dict[str, type] = {}
    for package in map(importlib.import_module, PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("__main__"):
                continue
            for name, each in vars(importlib.import_module(module.name)).items():
                if inspect.isclass(each) and each.__module__ == module.name:
                    found[f"{module.name}.{name}"] = each
    return list(found.values())


def fields_of(kind: type) -> set[str]:
    if dataclasses.is_dataclass(kind):
        return {field.name for field in dataclasses.fields(kind)}
    return set(kind.__struct_fields__) if issubclass(kind, msgspec.Struct) else set()


def holds_texts(kind: type, name: str) -> bool:
    """Whether a field holds texts itself, and not objects that hold them."""
    annotation = str(inspect.get_annotations(kind).get(name, ""))
    return name in WITH_TEXTS and any(part in annotation for part in ("str", "Any", "bytes", "object", "Completion"))


def filled(kind: type) -> Any:
    """An instance with the secret in every field that holds texts; nothing is checked."""
    values = {name: SECRET if holds_texts(kind, name) else "x" for name in fields_of(kind)}
    if issubclass(kind, msgspec.Struct):
        return kind(**values)
    one = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(one, name, value)
    return one


HOLDING = [
    each
    for each in classes()
    if each.__name__ not in NAMES_ONLY and any(holds_texts(each, name) for name in fields_of(each))
]


def test_the_classes_that_hold_texts_are_found():
    names = {each.__name__ for each in HOLDING}
    assert names >= {"GoldenRow", "Response", "MixtureRow", "TableRow", "QueuedRow", "TeacherRequest", "WordEffect"}


@pytest.mark.parametrize("kind", HOLDING, ids=lambda kind: kind.__name__)
def test_no_object_with_texts_shows_them(kind):
    assert "Ada" not in repr(filled(kind))
    assert "Ada" not in repr([filled(kind)])


NOMINAL = Task("nominal", (Label("yes"), Label("no")), ("response",))
TOPICS = Task("multilabel", NOMINAL.labels, ("response",))


@pytest.mark.parametrize(
    "read",
    [
        lambda: canonical_code(SECRET, NOMINAL),
        lambda: canonical_code(SECRET, TOPICS),
        lambda: split_labels(f"yes;{SECRET}", TOPICS),
        lambda: join_labels([SECRET], TOPICS),
    ],
)
def test_a_response_in_the_column_of_labels_is_not_quoted(read):
    with pytest.raises(DataError) as refused:
        read()
    assert "Ada" not in f"{refused.value} {refused.value!r}"
    assert f"a text of {len(SECRET)} characters" in str(refused.value)


def test_a_short_unknown_label_is_quoted():
    with pytest.raises(DataError, match="'yse'"):
        canonical_code("yse", NOMINAL)
