"""A tiny backbone, rows whose keyword decides the label, and one student that several tests look at."""

import pandas as pd
import pytest

from edgedistill.classifier import StudentClassifier
from edgedistill.task import Task

from ..student.conftest import KEYWORDS, make_model, make_tokenizer, toy

TASK = Task("nominal", labels=list(KEYWORDS))


def make_frame(rows, seed):
    """A DataFrame with the columns response and label, and an index that says nothing of the order."""
    labels, texts = zip(*toy(rows, seed), strict=True)
    return pd.DataFrame({"response": texts, "label": labels}, index=[f"r{seed}-{row}" for row in range(rows)][::-1])


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    """The folder of a tiny BERT, as text: what a user would hand in."""
    folder = tmp_path_factory.mktemp("backbone")
    tokenizer = make_tokenizer("bert")
    tokenizer.save_pretrained(folder)
    make_model("bert", len(tokenizer)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def students(backbone):
    """Makes students that learn the toy in seconds."""

    def make(**given):
        settings = {"backbone": backbone, "max_tokens": 24, "epochs": 8, "learning_rate": 1e-2, "batch_size": 8}
        return StudentClassifier(**settings | given)

    return make


@pytest.fixture(scope="session")
def student(students):
    """A student that has learnt the toy."""
    return students(task=TASK).fit(make_frame(90, 1), "label")
