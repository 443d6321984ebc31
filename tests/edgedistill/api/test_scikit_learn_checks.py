"""scikit-learn's own checks of an estimator, as far as one that reads texts can be held to them.

For an estimator whose input is text, `check_estimator` checks next to nothing: all its data are tables of numbers. So
the checks run on a subclass that writes each row of numbers as a text and leaves everything else to the classifier.
"""

import gc

import numpy as np
import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_array

from edgedistill.classifier import StudentClassifier
from edgedistill.errors import ArgumentError

WORDS = ("you", "the", "a", "bulb", "circuit", "again", "so", "very", "now", "please", "look", "battery", "is", "it")


def text_of(row):
    """Numbers as words: one for each sign and size."""
    steps = np.clip(np.round(np.nan_to_num(row.astype(float))), -6, 7).astype(int) + 6
    return " ".join(WORDS[(place + step) % len(WORDS)] for place, step in enumerate(steps))


def read(table):
    """A table of numbers, in which some may be missing."""
    return check_array(table, dtype=None, ensure_all_finite="allow-nan")


class NumbersAsTexts(StudentClassifier):
    """The classifier, with tables of numbers written as texts before it reads them."""

    def fit(self, table, y, **given):
        """Fit to rows of numbers."""
        numbers = read(table)
        super().fit([text_of(row) for row in numbers], y, **given)
        self.n_features_in_ = numbers.shape[1]
        return self

    def predict(self, table):
        """Code rows of numbers."""
        return super().predict(self._texts(table))

    def predict_proba(self, table):
        """Code rows of numbers."""
        return super().predict_proba(self._texts(table))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        return tags

    def _texts(self, table):
        _ = self._student  # that it is not fitted is said first
        numbers = read(table)
        if numbers.shape[1] != self.n_features_in_:
            wanted = f"NumbersAsTexts is expecting {self.n_features_in_} features as input"
            raise ArgumentError(f"X has {numbers.shape[1]} features, but {wanted}")
        return [text_of(row) for row in numbers]


LEFT_OUT = {
    "check_classifiers_train": "a random model of two layers does not learn numbers written as words in one epoch",
    "check_class_weight_classifiers": "class_weight is None or balanced; weights by label are not offered",
}
"""Checks that are expected to fail, with the reason. docs/python.md lists the same."""


@pytest.fixture(scope="module", autouse=True)
def _loaded(backbone):
    """What a training imports, and leaves out of every later search for garbage: the checks train many students."""
    StudentClassifier(backbone=backbone, max_tokens=24, epochs=1).fit(["you", "it"] * 2, ["a", "b"] * 2)
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _tiny(backbone, monkeypatch):
    """The checks make estimators of their own: the tiny backbone is the default, and training is short."""
    for name, value in {"backbone": backbone, "max_tokens": 24, "epochs": 1, "batch_size": 64}.items():
        monkeypatch.setitem(StudentClassifier.__init__.__kwdefaults__, name, value)


CHECKS = [
    pytest.param(check, id=getattr(check, "func", check).__name__ + "".join(f"-{name}" for name in check.keywords))
    for _, check in estimator_checks_generator(NumbersAsTexts())
    if check.func.__name__ not in LEFT_OUT
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
def test_a_check_of_scikit_learn_holds(check):
    check(NumbersAsTexts())


def test_every_check_that_is_left_out_is_one_of_scikit_learns():
    names = {check.func.__name__ for _, check in estimator_checks_generator(NumbersAsTexts())}
    assert set(LEFT_OUT) < names
    assert len(CHECKS) > 45
