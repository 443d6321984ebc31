"""A student as a classifier of scikit-learn."""

import copy
import json
import math
import pickle
import pickletools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import edgedistill as ed
from edgedistill.classifier import StudentClassifier, StudentNotFitted
from edgedistill.data.twins import same_row
from edgedistill.errors import ArgumentError, ProjectFileError
from edgedistill.student.model import max_positions
from edgedistill_serve import Bundle, DataError, Scorer

from ..student.conftest import FILLERS
from .conftest import TASK, make_frame

TEST = make_frame(30, 7)


def make_label_sets():
    """A multilabel task, texts of which each is another, and the labels that hold."""
    openings = ("what did you do", "you tried so very smart", "the bulb is it", "what did smart do")
    texts = [f"{opening} {first} {last}" for first in FILLERS[:4] for last in FILLERS[:4] for opening in openings]
    return ed.Task("multilabel", ["asks", "praises"]), texts, ["asks", "praises", "none", "asks;praises"] * 16


def test_it_learns_and_predicts_labels_in_the_order_of_the_rows(student):
    predicted = student.predict(TEST)
    assert predicted.shape == (30,)
    assert ed.agreement(TEST.label, predicted).accuracy.value > 0.9
    assert student.score(TEST, TEST.label) == student.score(TEST, "label") == np.mean(predicted == TEST.label)


def test_a_frame_a_series_an_array_and_a_list_are_the_same_rows(student):
    texts = list(TEST.response)
    forms = (
        TEST,
        TEST.response,
        np.array(texts),
        np.array(texts, dtype=object)[:, None],
        [{"response": t} for t in texts],
    )
    wanted = student.predict_proba(texts)
    assert wanted.shape == (30, 3)
    for rows in forms:
        np.testing.assert_array_equal(student.predict_proba(rows), wanted)


def test_classes_are_sorted_and_name_the_columns_of_the_probabilities(student):
    assert list(student.classes_) == ["other", "outcome", "process"]
    shares = student.predict_proba(TEST)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert list(student.classes_[shares.argmax(axis=1)]) == list(student.predict(TEST))
    assert log_loss(TEST.label, shares) < 0.5  # scikit-learn takes the columns for sorted labels


def test_no_rows_have_no_labels(student):
    assert student.predict([]).shape == (0,)
    assert student.predict_proba([]).shape == (0, 3)


def test_a_missing_text_is_an_empty_one(student):
    np.testing.assert_array_equal(student.predict_proba([None, np.nan]), student.predict_proba(["", ""]))


def test_without_a_task_the_labels_are_those_of_y_whatever_their_type(students):
    rows = make_frame(60, 1)
    numbers = rows.label.map({"process": 3, "outcome": 1, "other": 2}).to_numpy()
    fitted = students().fit(rows.response, numbers)
    assert fitted.classes_.dtype == numbers.dtype
    assert set(fitted.predict(rows.response)) <= {1, 2, 3}
    assert fitted.task_.names == ("1", "2", "3")
    assert fitted.score(rows.response, numbers) > 0.8


def test_the_same_random_state_gives_the_same_student_and_leaves_the_global_generators_alone(students):
    rows = make_frame(30, 1)
    np.random.seed(5)
    torch.manual_seed(5)
    wanted = (np.random.random(), torch.rand(1).item())
    np.random.seed(5)
    torch.manual_seed(5)
    first = students(epochs=1, random_state=3).fit(rows, "label")
    assert (np.random.random(), torch.rand(1).item()) == wanted
    second = students(epochs=1, random_state=3).fit(rows, "label")
    other = students(epochs=1, random_state=4).fit(rows, "label")
    assert first.files_ == second.files_
    assert first.files_ != other.files_


def test_parameters_are_kept_as_given_and_cloned(students, student):
    one = students(task=TASK, patience=2)
    assert one.get_params()["patience"] == 2
    assert one.get_params()["task"] is TASK
    assert one.set_params(epochs=7) is one
    copied = clone(one)
    assert copied.get_params() == one.get_params()
    assert not hasattr(clone(student), "files_")


def test_a_pickle_holds_safetensors_and_json_and_scores_alike(student):
    packed = pickle.dumps(student)
    names = {str(arg) for opcode, arg, _ in pickletools.genops(packed) if isinstance(arg, str)}
    assert not any(name.startswith(("torch", "transformers")) for name in names)
    kinds = {name: type(content) for name, content in student.files_.items()}
    assert kinds == {name: bytes if name == "model.safetensors" else str for name in kinds}
    unpacked = pickle.loads(packed)
    np.testing.assert_array_equal(unpacked.predict_proba(TEST), student.predict_proba(TEST))
    np.testing.assert_array_equal(copy.deepcopy(student).predict(TEST), student.predict(TEST))


def test_cross_validation_and_a_grid_work(students):
    rows = make_frame(90, 1)
    scores = cross_val_score(students(task=TASK), rows, rows.label, cv=2)
    assert scores.shape == (2,)
    assert scores.mean() > 0.7
    search = GridSearchCV(students(task=TASK), {"learning_rate": np.array([1e-6, 1e-2])}, cv=2, scoring="neg_log_loss")
    search.fit(rows, rows.label)
    assert search.best_params_ == {"learning_rate": 1e-2}
    shares = cross_val_predict(students(epochs=1), rows.response, rows.label, cv=2, method="predict_proba")
    assert shares.shape == (90, 3)


def test_a_pipeline_hands_texts_on(students):
    shout = FunctionTransformer(lambda rows: rows.assign(response=rows.response.str.lower()))
    rows = make_frame(60, 1)
    loud = rows.assign(response=rows.response.str.upper())
    pipeline = make_pipeline(shout, students(task=TASK)).fit(loud, rows.label)
    assert pipeline.score(loud, rows.label) > 0.7
    assert list(pipeline.classes_) == ["other", "outcome", "process"]


def test_shares_of_the_teacher_are_learnt(students):
    rows = make_frame(90, 1)
    doubtful = pd.get_dummies(rows.label, dtype=float) * 0.4 + 0.2
    shares = doubtful.add_prefix("share_")
    soft = students(task=TASK, targets="soft").fit(rows, "label", shares=shares)
    hard = students(task=TASK).fit(rows, "label")
    assert soft.predict_proba(TEST).max(axis=1).mean() < 0.8 < hard.predict_proba(TEST).max(axis=1).mean()
    again = students(task=TASK, targets="soft").fit(rows, "label", shares=doubtful[list(soft.classes_)].to_numpy())
    assert again.files_ == soft.files_


def test_validation_rows_may_be_given(students):
    rows, validation = make_frame(60, 1), make_frame(30, 2)
    framed = students(task=TASK, epochs=2).fit(rows, "label", validation=validation)
    paired = students(task=TASK, epochs=2).fit(rows, "label", validation=(validation.response, list(validation.label)))
    assert framed.files_ == paired.files_
    assert len(framed.history_) == 2
    assert 0 < framed.history_[-1].macro_f1 <= 1


def test_few_rows_choose_the_epoch_themselves_and_that_is_noted(students):
    fitted = students(epochs=1).fit(["you tried", "so smart"], ["a", "b"])
    assert any("too few rows for a validation split" in note for note in fitted.notes_)


def test_a_frozen_backbone_is_a_student_too(students):
    rows = make_frame(60, 1)
    fitted = students(task=TASK, kind="frozen").fit(rows, "label")
    assert fitted.history_ == ()
    assert fitted.score(rows, "label") > 1 / 3


def test_a_nano_student_learns_and_pickles_like_another(students):
    rows = make_frame(120, 1)
    fitted = students(task=TASK, kind="nano", learning_rate=2e-2, epochs=4).fit(rows, "label")
    assert fitted.score(rows, "label") > 0.9
    assert (pickle.loads(pickle.dumps(fitted)).predict(rows) == fitted.predict(rows)).all()


def test_progress_is_reported_in_optimizer_steps(students):
    reported = []
    students(epochs=1).fit(make_frame(30, 1), "label", on_progress=lambda *how_far: reported.append(how_far))
    what, done, of = reported[-1]
    assert (what, done) == ("fit: optimizer steps", of)


def test_a_multilabel_student_takes_joined_labels_lists_and_an_indicator_matrix(students):
    task, texts, joined = make_label_sets()
    matrix = np.array([[1, 0], [0, 1], [0, 0], [1, 1]] * 16)
    by_text = students(task=task).fit(texts, joined)
    by_list = students(task=task).fit(texts, [code.split(";") if code != "none" else [] for code in joined])
    by_matrix = students(task=task).fit(texts, matrix)
    assert by_text.files_ == by_list.files_ == by_matrix.files_
    assert list(by_text.classes_) == ["asks", "praises"]
    assert len(by_text.thresholds_) == 2
    assert by_text.score(texts, joined) > 0.9
    assert by_text.score(texts, [["praises", "asks"] if ";" in code else code for code in joined]) > 0.9
    assert by_matrix.predict(texts).shape == (64, 2)
    assert by_matrix.score(texts, matrix) == by_text.score(texts, joined)
    assert cross_val_score(students(task=task), texts, joined, cv=2).shape == (2,)


def test_a_task_of_several_inputs_reads_its_columns(students):
    task = ed.Task("ordinal", ["wrong", "right"], inputs=["question", "response"])
    rows = pd.DataFrame(
        {"question": "what is it", "response": ["the bulb", "a page"] * 15, "label": ["right", "wrong"] * 15}
    )
    fitted = students(task=task, ordinal="cumulative").fit(rows, "label")
    assert fitted.n_features_in_ == 2
    assert fitted.score(rows, "label") == 1
    with pytest.raises(ArgumentError, match="there is no column 'question'"):
        fitted.predict(rows[["response"]])


def test_a_student_that_is_not_fitted_says_so_in_both_trees(students):
    for ask in ("predict", "predict_proba"):
        with pytest.raises(StudentNotFitted, match="Call fit first"):
            getattr(students(), ask)(["x"])
    assert issubclass(StudentNotFitted, NotFittedError)
    with pytest.raises(StudentNotFitted):
        students().export("nowhere", calibration=TEST)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "StudentClassifier: search.epochs.0 should be greater than or equal to 1, not 0"),
        ({"kind": "thawed"}, "kind should be 'fine-tuned', 'frozen' or 'nano', not 'thawed'"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
        ({"ordinal": "cumulative", "task": TASK}, "cumulative needs an ordinal task"),
        ({"validation_fraction": None}, "validation_fraction is None"),
        ({"lora": {"ranks": 4}}, "did you mean rank"),
        ({"lora": "all"}, "lora must be None or a mapping"),
        ({"random_state": "x"}, "random_state: 'x' cannot be used to seed"),
        ({"task": "nominal"}, "task must be a Task, not str"),
    ],
)
def test_a_parameter_that_cannot_be_is_an_error_of_ours_when_it_is_fitted(students, settings, message):
    unfitted = students(**settings)
    with pytest.raises((ArgumentError, ProjectFileError), match=message):
        unfitted.fit(make_frame(30, 1), "label")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["process", "praise"], r"y\[1\]: the task has no label 'praise'"),
        (["process", None], r"y\[1\]: the label is missing"),
        (["process"], "there are 2 rows but 1 values of y"),
        (None, "requires y to be passed"),
        ("code", "there is no column 'code'"),
    ],
)
def test_labels_that_cannot_be_used_are_an_error_of_ours(students, y, message):
    with pytest.raises(ArgumentError, match=message):
        students(task=TASK).fit(pd.DataFrame({"response": ["a", "b"]}), y)


def test_labels_of_mixed_types_are_refused_without_a_task(students):
    with pytest.raises(ArgumentError, match="y mixes text and other types"):
        students().fit(["a", "b"], [0, "x"])


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (make_frame(6, 1)[:0], "validation: there are no rows"),
        ((["a"], ["process"], "third"), "validation: a tuple of 3"),
        ((["a"], None), "y of validation: no values are given"),
    ],
)
def test_validation_rows_that_cannot_be_used_are_an_error_of_ours(students, validation, message):
    with pytest.raises(ArgumentError, match=message):
        students(task=TASK).fit(make_frame(30, 1), "label", validation=validation)


def test_an_indicator_frame_is_read_by_its_column_names(students):
    task = ed.Task("multilabel", labels=["asks", "praises"])
    texts = ["why did you", "good work", "why so good", "page two"] * 3
    y = pd.DataFrame({"praises": [0, 1, 1, 0] * 3, "asks": [1, 0, 1, 0] * 3})
    settings = {"task": task, "kind": "frozen"}
    ordered = students(**settings).fit(texts, y[["asks", "praises"]].to_numpy()).predict_proba(texts)
    framed = students(**settings).fit(texts, y, validation=(texts, y))
    assert framed.score(texts, y) == framed.score(texts, y[["asks", "praises"]].to_numpy())
    again = students(**settings).fit(texts, y)
    np.testing.assert_array_equal(again.predict_proba(texts), ordered)
    with pytest.raises(ArgumentError, match="the columns are praises, x"):
        students(**settings).fit(texts, y.rename(columns={"asks": "x"}))


@pytest.mark.parametrize(
    ("y", "weights", "message"),
    [
        ([None, "process"], None, "y: a label is missing"),
        (["process", "other"], [0, 0], "sample_weight needs a number per row"),
        (["process", "other"], [1], "sample_weight needs a number per row"),
    ],
)
def test_what_cannot_be_scored_is_an_error_of_ours(student, y, weights, message):
    with pytest.raises(ArgumentError, match=message):
        student.score(["you tried", "the page"], y, weights)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calibration": TEST[:0]}, "calibration: there are no rows"),
        ({"test": TEST[:0]}, "test: there are no rows"),
        ({"precision": "int4"}, "precision should be 'auto', 'int8' or 'fp32', not 'int4'"),
        ({"max_flip_rate": 2}, "max_flip_rate should be less than or equal to 1, not 2"),
        ({"review": "strict"}, "review: a mapping of keys to values is needed, not 'strict'"),
    ],
)
def test_settings_that_cannot_be_exported_are_an_error_of_ours(student, tmp_path, settings, message):
    with pytest.raises(ArgumentError, match=message):
        student.export(tmp_path / "bundle", **{"calibration": TEST} | settings)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (np.full((29, 3), 1 / 3), r"shares have the shape \(29, 3\)"),
        (np.full((30, 3), np.nan), "a share is missing"),
        (pd.DataFrame({f"share_{name}": ["x"] * 30 for name in TASK.names}), "not a number"),
        (pd.DataFrame({"share_process": [1.0] * 30, "b": 0.0, "c": 0.0}), "there is no column 'share_"),
        (np.full((30, 3), 1.0), "the shares of row 0 sum to 3, not 1"),
    ],
)
def test_shares_that_cannot_be_used_are_an_error_of_ours(students, shares, message):
    with pytest.raises(ArgumentError, match=message):
        students(task=TASK, targets="soft").fit(make_frame(30, 1), "label", shares=shares)


@pytest.fixture(scope="module")
def bundle(student, tmp_path_factory):
    """The student as a bundle, with locked test rows."""
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    return student.export(folder, calibration=make_frame(40, 5), test=TEST, name="toy", max_flip_rate=1.0)


def test_the_bundle_scores_as_the_student_does_and_states_its_agreement(student, bundle):
    assert isinstance(bundle, Bundle)
    labels = [score.label for score in Scorer(bundle).score(list(TEST.response))]
    assert np.mean(labels == student.predict(TEST)) > 0.9
    stated = bundle.manifest.metrics["student"]["accuracy"]["value"]
    assert stated == student.score(TEST, "label")
    assert bundle.manifest.temperature != 1.0
    assert [step["after"] for step in bundle.manifest.provenance["export"]["steps_on_test_rows"]] == [
        "ONNX fp32",
        "int8",
    ]
    assert "instructions" not in (bundle.folder / "bundle.json").read_text()


@pytest.mark.parametrize("name", ["my model", "praise/2", "praise@2", "", ".hidden", "x" * 101, "ümlaut", None])
def test_a_name_that_the_server_would_refuse_is_refused_before_the_export(student, tmp_path, name):
    with pytest.raises(ArgumentError, match="the server refuses bundles with the name"):
        student.export(tmp_path / "bundle", calibration=make_frame(40, 5), name=name)
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_does_not_name_a_folder_of_this_machine(student, bundle):
    assert str(student.backbone) not in (bundle.folder / "bundle.json").read_text()


def test_a_review_rule_may_be_chosen_on_the_calibration_rows(student, tmp_path):
    rule = {"aim": "at_most_to_people", "share": 0.3}
    made = student.export(tmp_path / "b", calibration=make_frame(40, 5), precision="fp32", review=rule)
    assert made.manifest.review.thresholds
    with pytest.raises(ArgumentError, match=r"review: .*keep_kappa needs the key at_least"):
        student.export(tmp_path / "c", calibration=make_frame(40, 5), review={"aim": "keep_kappa"})


def test_with_its_training_texts_it_exports_a_limit_of_novelty(student, tmp_path):
    made = student.export(
        tmp_path / "b",
        calibration=make_frame(40, 5),
        precision="fp32",
        review={"novelty": {"false_alarms": 0.1}},
        training=pd.DataFrame(
            {"response": [f"{text} {number}" for number, text in enumerate(make_frame(60, 1).response)]}
        ),
    )
    assert made.manifest.novelty.training_rows >= 30
    assert made.manifest.novelty.false_alarms == 0.1
    assert made.manifest.review.max_novelty > 0


def test_a_multilabel_student_exports_its_thresholds(students, tmp_path):
    task, texts, joined = make_label_sets()
    fitted = students(task=task).fit(texts, joined)
    made = fitted.export(tmp_path / "b", calibration=(texts[:8], joined[:8]), precision="fp32")
    assert set(made.manifest.thresholds) == {"asks", "praises"}


def test_a_scorer_takes_frames_and_keeps_their_index(bundle):
    scorer = Scorer(bundle)
    frame = TEST.drop(columns="label").assign(extra=1)
    scored = scorer.score_frame(frame)
    assert list(scored.index) == list(frame.index)
    assert list(scored.columns)[:5] == ["label", "probability", *(f"probability_{name}" for name in TASK.names)]
    assert list(scored.label) == [score.label for score in scorer.score(list(TEST.response))]
    pd.testing.assert_frame_equal(scorer.score_frame(frame.response), scored)
    assert scored.error.isna().all()


def test_a_scorer_says_which_row_of_a_frame_it_cannot_score_and_takes_a_missing_text_for_blank(bundle):
    scored = Scorer(bundle).score_frame(pd.Series(["you tried", None, 7]))
    assert list(scored.reason[:2].fillna("")) == ["", "blank"]
    assert scored.label.isna().to_list() == [False, False, True]
    assert "missing or is not a string" in scored.error[2]
    with pytest.raises(DataError, match="there is no column 'response'"):
        Scorer(bundle).score_frame(pd.DataFrame({"text": ["x"]}))


def test_the_defaults_are_those_of_a_project_file():
    from edgedistill.project.student import StudentSection

    section, student = StudentSection(), StudentClassifier()
    for name in ("backbone", "kind", "max_tokens", "patience", "preset"):
        assert getattr(student, name) == getattr(section, name)
    assert (student.epochs, student.learning_rate) == (section.search.epochs, section.search.learning_rate)
    assert (student.batch_size,) == section.search.batch_size
    assert student._section(0) == section


@pytest.mark.parametrize("words", [3, 60, 900])
@pytest.mark.parametrize("kind", ["fine-tuned", "frozen"])
def test_without_max_tokens_it_follows_the_training_rows_and_is_exported(students, tmp_path, words, kind):
    texts = ["you tried " + "it " * words, "it is it " + "you " * words] * 4
    student = students(max_tokens=None, epochs=1, kind=kind).fit(texts, ["a", "b"] * 4)
    longest = max_positions(Path(student.backbone))
    assert student.max_tokens_ == min(max(32, math.ceil((words + 4) / 16) * 16), 512, longest)
    assert student.max_tokens is None
    again = pickle.loads(pickle.dumps(student))
    assert again.max_tokens_ == student.max_tokens_
    assert np.array_equal(again.predict_proba(texts), student.predict_proba(texts))
    if words == 60:
        labels = student.predict(texts[:2])
        student.export(tmp_path / "bundle", calibration=(texts[:2], labels))
        manifest = json.loads((tmp_path / "bundle" / "bundle.json").read_text("utf-8"))
        assert manifest["max_tokens"] == student.max_tokens_


def test_validation_rows_that_repeat_training_rows_are_counted(students):
    training = ["you tried so very hard", "it is really quite wrong"] * 4
    validation = ["You  tr\u00ededsovery hard\u200b", "it is really quite wrong!", "and something else entirely"]
    notes = students(epochs=1).fit(training, ["a", "b"] * 4, validation=(validation, ["a", "b", "a"])).notes_
    assert "1 of 3 validation rows are the same to the student as a training row." in notes
    assert "1 of 3 validation rows are nearly the same as a training row." in notes


def test_test_rows_that_repeat_calibration_or_training_rows_are_counted_in_the_bundle(student, tmp_path):
    calibration, training, test = make_frame(12, 5), make_frame(9, 6), make_frame(10, 7)
    repeats = [calibration.response.iloc[0].upper(), f"{training.response.iloc[1]}\u200b"]
    test["response"] = [*repeats, *test.response[2:]]
    given = {"calibration": calibration, "test": test, "training": training, "max_flip_rate": 1.0}
    bundle = student.export(tmp_path / "bundle", precision="fp32", **given)
    locked = {same_row({"response": text}) for text in (*calibration.response, *training.response)}
    expected = sum(same_row({"response": text}) in locked for text in test.response)
    assert bundle.manifest.provenance["test_texts_also_in_train_or_validation"] == expected >= 2
    assert f"{expected} of the test rows are the same to the student as" in (bundle.folder / "README.md").read_text()


def skewed(rows, seed):
    """Rows of which the labels take most of `other` for `process`, as shares, beside the human codes."""
    frame = make_frame(rows, seed)
    labels = ["process" if label == "other" and row % 9 != 2 else label for row, label in enumerate(frame.label)]
    return frame, pd.DataFrame({f"share_{name}": [float(name == each) for each in labels] for name in TASK.names})


def test_a_teachers_shares_and_human_validation_rows_correct_the_label_shares(students):
    rows, shares = skewed(60, 1)
    labels = shares.idxmax(axis=1).str.removeprefix("share_").to_numpy()
    validation = make_frame(120, 5)
    fitted = students(epochs=2).fit(rows.response, labels, shares=shares, validation=validation)
    found = fitted.prior_correction_
    assert (found.rows, found.note) == (120, "")
    means = fitted.predict_proba(validation).mean(axis=0)
    assert means == pytest.approx([found.after[str(name)] for name in fitted.classes_], abs=1e-4)
    assert found.after["other"] > found.before["other"]
    assert pickle.loads(pickle.dumps(fitted)).prior_correction_ == found


def test_labels_of_people_are_not_corrected_unless_it_is_wanted(students):
    rows, validation = make_frame(30, 1), make_frame(30, 5)
    assert students(epochs=1).fit(rows, "label", validation=validation).prior_correction_ is None
    wanted = students(epochs=1, prior_correction=True).fit(rows, "label", validation=validation)
    assert "The label shares were not corrected: there are 30 validation rows, and it needs 100." in wanted.notes_


def test_a_multilabel_task_has_no_prior_correction(students):
    task, texts, codes = make_label_sets()
    with pytest.raises(ArgumentError, match="prior_correction does not support multilabel tasks"):
        students(task=task, prior_correction=True).fit(texts, codes)
