"""The exported graphs compute how unlike the training texts a text is, and validation rows choose the limit."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from scipy.spatial.distance import mahalanobis

from edgedistill_export import ExportFailed, ExportPlan, export_bundle
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.convert.exporter import by_torch_alone, to_onnx
from edgedistill_export.novelty import (
    LEAST_TEXTS,
    choose_limit,
    expected_alarms,
    fit_novelty,
    least_rows,
    read_vectors,
    write_with_novelty,
)
from edgedistill_export.text_vectors import vector_layer
from edgedistill_export.web import browser_scores
from edgedistill_serve import Scorer
from edgedistill_serve.bundle.loading import write_bundle
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.task import Task

from .tiny import FAMILIES, GRADING, MAX_TOKENS, PRAISE, TEXTS, save_student

WORDS = [word for text in TEXTS for word in text.split() if word.isascii() and word.isalpha()]
UNLIKE = ("أحسنت لقد حاولت مرارا", "yes yes yes yes yes yes yes yes yes yes", "x q z w k j v x q z w k j v")


def rows_of(task: Task, count: int, seed: int = 0) -> list[dict[str, str]]:
    """Texts of random words of the tiny tokenizer's sentences, as rows of a task."""
    draw = np.random.default_rng(seed)
    texts = [" ".join(draw.choice(WORDS, size=int(draw.integers(4, 9)))) for _ in range(count)]
    return as_rows(task, texts)


def as_rows(task: Task, texts) -> list[dict[str, str]]:
    context = {"question": "Why did bulb A stay on?", "reference_answer": "It is in a closed path."}
    return [{name: text if name == "response" else context[name] for name in task.inputs} for text in texts]


def export(
    folder: Path, task: Task = PRAISE, *, training=120, validation=60, false_alarms=0.05, convert=to_onnx, **more
):
    student = save_student(folder / "student", task)
    plan = ExportPlan(
        "praise",
        task,
        MAX_TOKENS,
        "int8",
        1.0,
        novelty_rows=rows_of(task, training),
        false_alarms=false_alarms,
    )
    return export_bundle(student, folder / "bundle", plan, rows_of(task, validation, 1), convert=convert)


@pytest.fixture(scope="module", params=[PRAISE, GRADING], ids=["alone", "paired"])
def exported(request, tmp_path_factory):
    return export(tmp_path_factory.mktemp("novelty"), request.param)


def test_the_bundle_says_how_the_novelty_was_fitted_and_its_limit_chosen(exported):
    manifest = exported.bundle.manifest
    assert (manifest.novelty.training_rows, manifest.novelty.validation_rows) == (120, 60)
    assert manifest.novelty.directions == 30
    assert manifest.novelty.false_alarms == 0.05
    # Of 60 rows the place ⌈61 · .95⌉ = 58 is the limit, so that two lie beyond it.
    assert manifest.novelty.flagged == 2
    assert manifest.review.max_novelty > 1


def test_the_validation_rows_beyond_the_limit_are_those_that_go_to_a_person(exported):
    bundle = exported.bundle
    scores = Scorer(bundle, threads=1).score(rows_of(bundle.task, 60, 1))
    assert sum(score.reason == "unlike training" for score in scores) == 2
    assert np.median([score.novelty for score in scores]) == pytest.approx(1, abs=1e-3)


def test_texts_unlike_the_training_texts_are_further_from_them(exported):
    bundle = exported.bundle
    scorer = Scorer(bundle, threads=1)
    alike = [score.novelty for score in scorer.score(rows_of(bundle.task, 60, 2))]
    unlike = [score.novelty for score in scorer.score(as_rows(bundle.task, UNLIKE))]
    assert min(unlike) > np.median(alike)
    assert np.mean(unlike) > np.quantile(alike, 0.95)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_both_graphs_are_fitted_so_that_one_limit_fits_them(exported, precision):
    bundle = exported.bundle
    session = Session(bundle.model_file(precision), overflow_free=True)
    encoded = Checkpoint.load(bundle.folder.parent / "student", bundle.task, MAX_TOKENS).encoder.encode(
        rows_of(bundle.task, 60, 1)
    )
    novelty = [session.run([row]).novelty[0] for row in encoded]
    assert np.median(novelty) == pytest.approx(1, abs=1e-3)
    assert sum(each > bundle.manifest.review.max_novelty for each in novelty) <= 4


def test_the_fp32_graph_computes_the_novelty_of_the_student_in_pytorch(exported):
    bundle = exported.bundle
    student = Checkpoint.load(bundle.folder.parent / "student", bundle.task, MAX_TOKENS)
    rows = rows_of(bundle.task, 20, 3) + as_rows(bundle.task, UNLIKE)
    model = fit_novelty(student.outputs(rows_of(bundle.task, 120))[1], student.outputs(rows_of(bundle.task, 60, 1))[1])
    session = Session(bundle.model_file("fp32"), overflow_free=True)
    found = [session.run([row]).novelty[0] for row in student.encoder.encode(rows)]
    assert found == pytest.approx(model.novelty(student.outputs(rows)[1]), rel=1e-3)


def test_rows_of_a_batch_have_the_novelty_that_they_have_alone(exported):
    bundle = exported.bundle
    assert bundle.manifest.batch_invariant
    scorer = Scorer(bundle, threads=1, score_cache=0)
    rows = rows_of(bundle.task, 40, 4)
    assert scorer.batching is not None
    assert [score.novelty for score in scorer.score(rows)] == [scorer.score_one(row).novelty for row in rows]


def test_the_golden_rows_have_a_novelty_for_each_graph(exported):
    golden = exported.bundle.golden
    assert set(golden.novelty_tolerance) == {"fp32", "int8"}
    assert all(set(row.novelty) == {"fp32", "int8"} for row in golden.rows)
    assert Scorer(exported.bundle, threads=1).check.novelty_difference < 1e-6


def test_the_bundle_has_no_vector_of_a_text(exported):
    """Only the mean of all training texts, and directions that several of them share."""
    bundle = exported.bundle
    student = Checkpoint.load(bundle.folder.parent / "student", bundle.task, MAX_TOKENS)
    vectors = student.outputs(rows_of(bundle.task, 120))[1].astype(np.float64)
    graph = onnx.load(bundle.model_file("fp32")).graph
    assert [output.name for output in graph.output] == ["logits", "novelty"]
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    directions = stored["novelty.directions"].astype(np.float64)
    centred = vectors - stored["novelty.mean"]
    cosines = np.abs(centred @ directions) / np.linalg.norm(centred, axis=1)[:, None]
    assert cosines.max() < 0.95


def test_the_offline_page_gives_pythons_novelty_and_reason(exported):
    bundle = exported.bundle
    rows = [*rows_of(bundle.task, 60, 1), *as_rows(bundle.task, UNLIKE)]
    native, page = Scorer(bundle, threads=1).score(rows), browser_scores(bundle, rows)
    # Another runtime moves an activation to the next of 256 integers now and then.
    assert [score.novelty for score in page] == pytest.approx([score.novelty for score in native], rel=0.02)
    limit = bundle.manifest.review.max_novelty
    clear = [place for place, score in enumerate(native) if abs(score.novelty / limit - 1) > 0.02]
    assert [page[place].reason for place in clear] == [native[place].reason for place in clear]
    assert {page[place].reason for place in clear} == {None, "unlike training"}


def test_the_offline_page_refuses_to_score_with_another_novelty(exported, tmp_path):
    bundle = exported.bundle
    files = {name: bundle.folder / name for name in bundle.manifest.files}
    golden = msgspec.json.decode(files["golden.json"].read_bytes())
    for row in golden["rows"]:
        row["novelty"]["int8"] *= 1.5
    other = write_bundle(tmp_path / "other", bundle.manifest, {**files, "golden.json": msgspec.json.encode(golden)})
    with pytest.raises(ExportFailed, match=r"The novelty differs by a share of up to 0\.33"):
        browser_scores(other, rows_of(bundle.task, 1))
    scorer = Scorer(other, threads=1)
    assert scorer.precision == "fp32"
    assert "the int8 graph's novelty differs from the golden one by a share of up to 0.333" in scorer.notes[0]


@pytest.mark.parametrize("kin", FAMILIES, ids=[kin.name for kin in FAMILIES])
@pytest.mark.parametrize("convert", [to_onnx, by_torch_alone], ids=["optimum", "torch"])
def test_the_graph_gives_the_vector_of_the_student_whoever_converts_it(tmp_path, kin, convert):
    student = Checkpoint.load(save_student(tmp_path / "student", PRAISE, kin), PRAISE, MAX_TOKENS)
    convert(student, tmp_path / "model.onnx")
    rows = as_rows(PRAISE, TEXTS)
    vectors = read_vectors(tmp_path / "model.onnx", student.encoder.encode(rows))
    np.testing.assert_allclose(vectors, student.outputs(rows)[1], atol=1e-5)


def test_a_plan_without_training_texts_gives_graphs_without_a_second_output(tmp_path):
    result = export(tmp_path, training=0)
    assert result.bundle.manifest.novelty is None
    assert result.notes == ()
    for precision in ("fp32", "int8"):
        outputs = onnx.load(result.bundle.model_file(precision)).graph.output
        assert [output.name for output in outputs] == ["logits"]
    assert Scorer(result.bundle, threads=1).score(["ok"])[0].novelty is None


@pytest.mark.parametrize("texts", [1, LEAST_TEXTS - 1])
def test_with_too_few_training_texts_every_response_goes_to_a_person_and_that_is_said(tmp_path, texts):
    result = export(tmp_path, training=texts)
    assert result.bundle.manifest.novelty is None
    (note,) = result.notes
    assert note == (
        f"Novelty is not measured: there are {texts} distinct training texts, and {LEAST_TEXTS} are needed, so that "
        "every response goes to a person."
    )
    scores = Scorer(result.bundle, threads=1).score(["quantum physics and cats are fun", TEXTS[0]])
    assert [(score.decision, score.reason) for score in scores] == [("review", "unlike training")] * 2
    card = " ".join((result.bundle.folder / "README.md").read_text().split())
    assert "responses unlike them cannot be recognized, so that every response goes to a person." in card


def test_with_few_validation_rows_the_most_novel_one_sets_the_limit_and_that_is_said(tmp_path):
    result = export(tmp_path, validation=12)
    fit, limit = result.bundle.manifest.novelty, result.bundle.manifest.review.max_novelty
    assert (fit.validation_rows, fit.flagged, fit.false_alarms) == (12, 0, pytest.approx(1 / 13))
    (note,) = result.notes
    assert note == (
        "5.00% false alarms of novelty need 19 readable validation rows, and there are 12: the most novel of them sets "
        "the limit, and of responses like them up to 7.69% go to a person for it."
    )
    card = " ".join((result.bundle.folder / "README.md").read_text().split())
    assert (
        "0 of 12 validation rows, and of responses like them at most 7.69% are expected to. The most novel validation "
        "row sets the limit, because there are too few for another one."
    ) in card
    scores = Scorer(result.bundle, threads=1).score([*TEXTS, *UNLIKE])
    assert any(score.reason == "unlike training" for score in scores)
    assert all(score.novelty > limit for score in scores if score.reason == "unlike training")
    assert all(score.reason for score in scores if score.novelty > limit)


def test_without_a_limit_few_rows_change_nothing(tmp_path):
    result = export(tmp_path, training=LEAST_TEXTS - 1, false_alarms=None)
    assert result.bundle.manifest.review.max_novelty is None
    assert Scorer(result.bundle, threads=1).score(["ok"])[0].reason is None


def test_a_converter_that_gives_no_vector_gives_a_bundle_without_novelty(tmp_path):
    def plain(student, file):
        to_onnx(student, file)
        write_with_novelty(file, file, None)

    result = export(tmp_path, convert=plain)
    assert result.bundle.manifest.novelty is None
    assert "no vector" in result.notes[0]


def test_the_card_says_which_responses_are_too_novel(exported):
    card = (exported.bundle.folder / "README.md").read_text()
    assert "times the typical distance from the 120 training texts" in " ".join(card.split())


def test_the_distance_is_that_of_mahalanobis_with_one_variance_beside_the_directions():
    draw = np.random.default_rng(0)
    training = draw.normal(size=(200, 12)) * np.linspace(3, 0.1, 12) + 5
    model = fit_novelty(training.astype(np.float32), training.astype(np.float32))
    centred = training.astype(np.float32).astype(np.float64) - model.mean
    covariance = model.directions @ np.diag(model.variances) @ model.directions.T
    covariance += model.rest * (np.eye(12) - model.directions @ model.directions.T)
    expected = [mahalanobis(row, np.zeros(12), np.linalg.inv(covariance)) for row in centred[:20]]
    assert model.novelty(training[:20].astype(np.float32)) * model.typical == pytest.approx(expected, rel=1e-6)
    # The width less one is the largest number of directions, and the variances are those of the data.
    assert len(model.variances) == 11
    assert np.trace(covariance) == pytest.approx(training.var(axis=0, ddof=1).sum(), rel=1e-5)


def test_equal_texts_count_once():
    draw = np.random.default_rng(0)
    training = draw.normal(size=(60, 8)).astype(np.float32)
    once = fit_novelty(training, training)
    thrice = fit_novelty(np.concatenate((training, training, training[:7])), training)
    assert thrice.texts == once.texts == 60
    assert thrice.novelty(training) == pytest.approx(once.novelty(training))


@pytest.mark.parametrize("training", [np.zeros((100, 8)), np.ones((29, 8)) * np.arange(29)[:, None]])
def test_texts_that_do_not_differ_or_are_few_have_no_distribution(training):
    assert fit_novelty(training.astype(np.float32), training.astype(np.float32)) is None


def test_without_a_validation_text_there_is_no_typical_distance():
    training = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    assert fit_novelty(training, training[:0]) is None


@pytest.mark.parametrize(("share", "rows"), [(0.05, 19), (0.01, 99), (0.5, 1), (0.02, 49)])
def test_a_limit_needs_as_many_rows_that_one_of_them_is_the_share(share, rows):
    assert least_rows(share) == rows
    assert choose_limit(np.arange(rows), share) == pytest.approx(rows - 1, rel=1e-3)
    assert expected_alarms(rows, share) == pytest.approx(share)
    assert expected_alarms(rows - 1, share) == pytest.approx(1 / rows)


@pytest.mark.parametrize("rows", [1, 2, 18])
def test_with_fewer_rows_the_largest_one_is_the_limit(rows):
    assert choose_limit(np.arange(rows), 0.05) == pytest.approx(rows - 1, rel=1e-3)
    assert choose_limit([], 0.05) is None


def test_of_further_responses_no_more_than_the_share_is_expected_beyond_the_limit():
    draw = np.random.default_rng(0)
    beyond = []
    for _ in range(4000):
        values = draw.lognormal(size=141)
        beyond.append(values[-1] > choose_limit(values[:-1], 0.05))
    # The expected share is 7 of 141; three standard errors are added.
    assert np.mean(beyond) < 7 / 141 + 3 * np.sqrt(0.05 * 0.95 / 4000)
    assert np.mean(beyond) > 0.035


def test_the_vector_is_taken_after_two_thirds_of_the_layers_and_never_after_the_last():
    assert [vector_layer(layers) for layers in (1, 2, 3, 6, 12, 24)] == [0, 1, 2, 4, 8, 16]


def test_the_offline_page_accepts_nothing_either_if_too_few_texts_are_known(tmp_path):
    result = export(tmp_path, training=5)
    page = browser_scores(result.bundle, rows_of(PRAISE, 2))
    assert [(score.decision, score.reason) for score in page] == [("review", "unlike training")] * 2
