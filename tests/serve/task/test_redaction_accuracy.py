"""How much of what looks like personal data is found, and how much of what is found is personal data."""

import re
from collections import Counter
from pathlib import Path

import pytest

from edgedistill_serve.task.redaction import Redaction, redact_text

FILE = Path(__file__).with_name("redaction_examples.txt")
DOCS = Path(__file__).parents[3] / "docs" / "redaction.md"
STUDENTS = Redaction(("S[0-9]{6}",))
MARKED = re.compile(r"\{(URL|EMAIL|PHONE|ID):((?:[^{}]|\{[^{}]*\})*)\}")
CLASSES = ("EMAIL", "URL", "PHONE", "ID")


def examples():
    lines = [line for line in FILE.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return [re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), line) for line in lines]


def pieces(example):
    """The typed text, its redacted form, and what shall be replaced, by class."""
    typed = MARKED.sub(r"\2", example)
    return typed, MARKED.sub(r"[\1]", example), Counter(match[1] for match in MARKED.finditer(example))


def counts(redaction):
    """Of each class: the places that are replaced exactly as marked, those that are marked, those that are replaced."""
    right, marked, replaced = Counter(), Counter(), Counter()
    for example in examples():
        typed, expected, spans = pieces(example)
        found = redact_text(typed, redaction)
        placeholders = Counter(re.findall(r"\[(URL|EMAIL|PHONE|ID)\]", found)) - Counter(
            re.findall(r"\[(URL|EMAIL|PHONE|ID)\]", typed)
        )
        marked += spans
        replaced += placeholders
        # A line counts as right as a whole: so does none of its places if another text is left or missing.
        if found == expected:
            right += spans
    return right, marked, replaced


def table(redaction):
    right, marked, replaced = counts(redaction)
    return {
        name: (marked[name], right[name] / marked[name], right[name] / replaced[name] if replaced[name] else 0.0)
        for name in CLASSES
    }


def test_the_list_has_many_examples_and_as_many_that_only_look_like_personal_data():
    spans = [sum(pieces(example)[2].values()) for example in examples()]
    assert len(examples()) == len(set(examples())) >= 300
    assert sum(count == 0 for count in spans) >= 150
    assert sum(count > 0 for count in spans) >= 150


@pytest.mark.parametrize(
    ("name", "recall", "precision"),
    [("EMAIL", 0.95, 0.97), ("URL", 0.92, 0.96), ("PHONE", 0.95, 0.98), ("ID", 1.0, 1.0)],
)
def test_recall_and_precision_do_not_fall(name, recall, precision):
    _, found, correct = table(STUDENTS)[name]
    assert found >= recall
    assert correct >= precision


def test_docs_state_the_measured_figures():
    rows = re.findall(r"^\| `\[(\w+)\]` \| (\d+) \| ([.\d]+) \| ([.\d]+) \|", DOCS.read_text("utf-8"), re.MULTILINE)
    assert {name: (int(marked), float(recall), float(precision)) for name, marked, recall, precision in rows} == {
        name: (marked, round(recall, 3), round(precision, 3))
        for name, (marked, recall, precision) in table(STUDENTS).items()
    }
