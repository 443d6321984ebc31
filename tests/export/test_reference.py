"""The reference of a bundle is how its scorer scores the validation rows, in counts that are of no single learner."""

import json
from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from edgedistill_export import export_bundle
from edgedistill_export.reference import build_reference, design_effect
from edgedistill_serve import BundleError, Score, Scorer
from edgedistill_serve.bundle.loading import write_bundle
from edgedistill_serve.bundle.reference import REFERENCE_FILE, read_reference, reference_cell
from edgedistill_serve.bundle.response_counts import CUTS, ResponseCounts
from edgedistill_serve.task.contexts import context_hash

from .exporting import plan_of
from .test_novelty import rows_of
from .tiny import GRADING, save_student


@pytest.fixture(scope="module")
def rows():
    rows = rows_of(GRADING, 60, 1)
    return [{**row, "question": f"Why {'not' * (place % 3 == 2)}?"} for place, row in enumerate(rows)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("reference")
    student = save_student(folder / "student", GRADING)
    plan = replace(
        plan_of(GRADING), novelty_rows=rows_of(GRADING, 60), false_alarms=0.1, authors=[f"p{n % 20}" for n in range(60)]
    )
    return export_bundle(student, folder / "bundle", plan, rows).bundle


def test_it_counts_what_the_scorer_gives(exported, rows):
    scores = Scorer(exported).score(rows)
    every = read_reference(exported).every
    assert every.rows == 60
    assert {name: group.rows for group in every.labels for name in group.labels} == Counter(s.label for s in scores)
    assert every.reviewed == sum(score.decision == "review" for score in scores)
    for name in CUTS:
        values = np.array([getattr(score, name) for score in scores], dtype=float)
        assert every.means[name] == pytest.approx(values.mean())
        below = np.cumsum(every.bins[name].rows)[:-1]
        assert below.tolist() == [(values <= cut).sum() for cut in every.bins[name].cuts]


def test_questions_with_enough_rows_have_cells(exported, rows):
    cells = {cell.item: cell.rows for cell in read_reference(exported).items}
    assert cells == {context_hash(rows[0]): 40, context_hash(rows[2]): 20}


def test_groups_of_few_rows_are_put_together():
    counts = ResponseCounts()
    for label, times in (("a", 12), ("b", 6), ("c", 2), ("d", 1)):
        for _ in range(times):
            counts.count(label, 0.95 if label == "a" else 0.45, "blank" if label == "d" else None, 3, None)
    cell = reference_cell("item", counts)
    assert {group.labels: group.rows for group in cell.labels} == {("a",): 12, ("b", "c", "d"): 9}
    assert cell.reviewed is None
    assert min(rows for bins in cell.bins.values() for rows in bins.rows) >= 5
    assert "novelty" not in cell.bins


@pytest.mark.parametrize(("number", "learners", "there"), [(19, 19, False), (40, 9, False), (40, 10, True)])
def test_few_rows_and_few_learners_have_no_reference(number, learners, there):
    score = Score("process", 0.9, {"process": 0.9}, "accept", None, False, 4)
    authors = [f"p{place % learners}" for place in range(number)]
    task = plan_of().task
    found = build_reference([score] * number, [{"response": "x"}] * number, authors, task, "int8")
    assert (found is not None) == there


def test_the_design_effect_is_1_for_independent_rows_and_the_size_of_learners_who_always_say_the_same():
    kinds = ["a", "b"] * 30
    scores = [Score(kind, 0.9, {}, "accept", None, False, 4) for kind in kinds]
    assert design_effect(scores, [None] * 60) == 1
    assert design_effect(scores, [f"{kind}{place // 10}" for place, kind in enumerate(kinds)]) == pytest.approx(5, 0.2)
    assert design_effect(scores, [str(place) for place in range(60)]) == pytest.approx(1, 0.05)


def _with_reference(bundle, folder, content):
    files = {name: bundle.folder / name for name in bundle.manifest.files}
    return write_bundle(folder, bundle.manifest, files | {REFERENCE_FILE: json.dumps(content).encode()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference_version": 2}, "the reference has version 2, this program reads version 1"),
        ({"design_effect": 0.5}, "the design effect is less than 1"),
        ({"rows": 61}, "do not add up"),
        ({"labels": []}, "do not add up"),
    ],
)
def test_a_reference_that_is_newer_or_not_possible_is_refused(exported, tmp_path, change, message):
    content = json.loads((exported.folder / REFERENCE_FILE).read_text())
    (content if next(iter(change)) in content else content["every"]).update(change)
    with pytest.raises(BundleError, match=message):
        read_reference(_with_reference(exported, tmp_path / "bundle", content))


def test_a_bundle_without_one_has_none(exported, tmp_path):
    files = {name: exported.folder / name for name in exported.manifest.files if name != REFERENCE_FILE}
    bundle = write_bundle(tmp_path / "bundle", msgspec.structs.replace(exported.manifest, files={}), files)
    assert read_reference(bundle) is None
