"""A response that is unlike the training texts goes to a person, through every way to score."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgedistill_serve import Bundle, BundleError, Scorer, SelfCheckFailed
from edgedistill_serve.bundle.manifest import REVIEW_ALL, NoveltyFit, ReviewRule, describe_novelty
from edgedistill_serve.grading.grade import grade
from edgedistill_serve.scoring.batching import Outputs
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.score import Score, build_score
from edgedistill_serve.scoring.session import Session, build_feeds
from edgedistill_serve.task.task import Label, Task

from ..conftest import LABELS

TASK = Task(kind="nominal", labels=tuple(map(Label, LABELS)), inputs=("response",))
TEXTS = ["you worked hard on this", "great job", "why because why", "the answer is 42 because the answer is 42", ""]


@pytest.fixture(scope="module")
def measured(make_novelty_bundle, tmp_path_factory) -> list[float]:
    """The novelty of the texts."""
    bundle = make_novelty_bundle(tmp_path_factory.mktemp("measured") / "praise", max_novelty=None)
    return [score.novelty for score in Scorer(bundle, threads=1).score(TEXTS)]


@pytest.fixture(scope="module")
def limited(make_novelty_bundle, measured, tmp_path_factory) -> Bundle:
    """A bundle that accepts the novelty of the second text and no larger one."""
    return make_novelty_bundle(tmp_path_factory.mktemp("limited") / "praise", max_novelty=measured[1])


def test_a_response_beyond_the_limit_goes_to_a_person_and_one_at_the_limit_does_not(limited, measured):
    reasons = [score.reason for score in Scorer(limited, threads=1).score(TEXTS[:4])]
    assert reasons == ["unlike training" if novelty > measured[1] else None for novelty in measured[:4]]
    assert "unlike training" in reasons
    assert reasons[1] is None


def test_without_a_limit_the_novelty_is_reported_and_decides_nothing(make_novelty_bundle, tmp_path):
    scores = Scorer(make_novelty_bundle(tmp_path / "praise", max_novelty=None), threads=1).score(TEXTS[:4])
    assert all(score.novelty > 0 for score in scores)
    assert {score.reason for score in scores} == {None}


def test_a_bundle_whose_manifest_has_no_novelty_reports_none_even_if_its_graph_computes_it(limited, bundle):
    manifest = msgspec.structs.replace(limited.manifest, novelty=None, review=ReviewRule())
    for older in (replace(limited, manifest=manifest), bundle):
        assert {score.novelty for score in Scorer(older, threads=1).score(TEXTS)} == {None}


def test_the_novelty_of_a_response_is_the_same_alone_in_a_list_and_from_the_cache(limited):
    sharing = replace(limited, manifest=msgspec.structs.replace(limited.manifest, batch_invariant=True))
    scorer = Scorer(sharing, threads=2)
    together = scorer.score(TEXTS * 3)
    assert scorer.batching is not None
    assert [score.novelty for score in together[:5]] == [scorer.score_one({"response": text}).novelty for text in TEXTS]
    assert scorer.score(TEXTS) == together[:5] == together[5:10]


def reason(novelty, **given):
    encoded = Encoded((), (), 1, given.pop("truncated", False), unknown_share=given.pop("unknown_share", 0.0))
    rule = ReviewRule(thresholds={"process": 0.9}, max_novelty=1.5)
    shares = np.array([given.pop("share", 0.95), 0.03, 0.02])
    return build_score(shares, encoded, TASK, rule, novelty=novelty, **given).reason


def test_the_reasons_before_it_are_those_that_say_more_and_the_one_after_it_is_the_threshold():
    assert reason(2.0) == "unlike training"
    assert reason(2.0, share=0.5) == "unlike training"
    assert reason(1.0, share=0.5) == "below threshold"
    assert reason(2.0, new_question=True) == "new question"
    assert reason(2.0, truncated=True) == "truncated"
    assert reason(2.0, unknown_share=0.9) == "unreadable"


@pytest.mark.parametrize("novelty", [float("nan"), float("inf"), None])
def test_a_novelty_that_is_missing_or_not_finite_is_never_accepted(novelty):
    assert reason(novelty) == "unlike training"


def _with_weights_changed(model, file, name, change):
    graph = onnx.load(model)
    tensor = next(tensor for tensor in graph.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))
    onnx.save(graph, file)
    return file


class Drifted(Session):
    """A real graph whose logits are those of the bundle and whose novelty is 1 % larger."""

    def run(self, rows, length=0):
        """Run it."""
        found = super().run(rows, length)
        return Outputs(found.logits, found.novelty * 1.01)


class Without(Session):
    """A real graph that computes no novelty."""

    def run(self, rows, length=0):
        """Run it."""
        return Outputs(super().run(rows, length).logits)


@pytest.mark.parametrize("graph", [Drifted, Without])
def test_the_self_check_refuses_a_graph_with_another_novelty_or_none(limited, graph):
    with pytest.raises(SelfCheckFailed, match="novelty differs from the golden one by a share of up to"):
        Scorer(limited, open_graph=graph)


def test_the_self_check_reports_the_difference_of_the_novelty(limited):
    check = Scorer(limited, threads=1).check
    assert check.novelty_difference == pytest.approx(0, abs=1e-6)
    assert check.novelty_tolerance == 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    {
        "a limit without novelty": (
            lambda m: m.update(novelty=None),
            "the graphs compute no novelty",
        ),
        "a limit below 0": (lambda m: m["review"].update(max_novelty=-1.0), "review.max_novelty"),
        "an endless limit": (lambda m: m["review"].update(max_novelty=1e300), "review.max_novelty"),
        "more flagged than there are": (lambda m: m["novelty"].update(flagged=41), "novelty.flagged"),
        "a negative count": (lambda m: m["novelty"].update(training_rows=-1), "novelty.training_rows"),
        "an impossible rate": (lambda m: m["novelty"].update(false_alarms=2.0), "novelty.false_alarms"),
    }.values(),
)
def test_a_manifest_with_impossible_novelty_is_refused(limited, tmp_path, change, message):
    content = json.loads((limited.folder / "bundle.json").read_bytes())
    change(content)
    for path in limited.folder.rglob("*"):
        target = tmp_path / path.relative_to(limited.folder)
        target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
    (tmp_path / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match=message):
        Bundle.load(tmp_path)


def test_golden_rows_without_a_novelty_are_refused(make_novelty_bundle, limited, tmp_path):
    content = json.loads((limited.folder / "golden.json").read_bytes())
    for row in content["rows"]:
        del row["novelty"]
    with pytest.raises(BundleError, match="has no novelty"):
        make_novelty_bundle(tmp_path / "praise", max_novelty=1.0, **{"golden.json": json.dumps(content).encode()})


def test_a_graph_whose_novelty_is_not_finite_scores_nothing(parts, tmp_path):
    broken = _with_weights_changed(
        parts / "model_novelty.onnx", tmp_path / "broken.onnx", "words", lambda words: np.full_like(words, np.nan)
    )
    from edgedistill_serve import ScoringFailed

    with pytest.raises(ScoringFailed, match="not finite"):
        Session(broken).run([Encoded((2, 3), (0, 0), 0, truncated=False)])


def test_graded_tables_and_frames_have_the_novelty(limited, measured, tmp_path):
    (tmp_path / "in.csv").write_text("response\n" + "\n".join(TEXTS[:4]) + "\n")
    grade(Scorer(limited, threads=1), tmp_path / "in.csv", tmp_path / "out.csv")
    header, *lines = (tmp_path / "out.csv").read_text().splitlines()
    place = header.split(",").index("novelty")
    assert [float(line.split(",")[place]) for line in lines] == pytest.approx(measured[:4])


def test_scores_that_older_versions_wrote_have_no_novelty():
    older = {"label": "a", "probability": 0.5, "probabilities": {"a": 0.5, "b": 0.5}, "decision": "accept"}
    assert msgspec.convert(older | {"reason": None, "truncated": False, "tokens": 1}, Score).novelty is None


def test_what_is_limited_is_described_in_one_sentence():
    fit = NoveltyFit(training_rows=1500, directions=64, validation_rows=250, false_alarms=0.01, flagged=2)
    assert describe_novelty(fit, 1.5) == (
        "Responses at more than 1.5 times the typical distance from the 1500 training texts go to a person: 2 of 250 "
        "validation rows, and of responses like them at most 1.00% are expected to."
    )
    assert "every response goes to a person" in describe_novelty(None, REVIEW_ALL)
    assert "not limited" in describe_novelty(fit, None)
    assert "Not measured" in describe_novelty(None, None)


def test_the_bound_runner_of_a_gpu_returns_both_outputs(parts):
    from edgedistill_serve.scoring.onnxruntime_install import import_onnxruntime
    from edgedistill_serve.scoring.session import make_binding_runner

    runtime = import_onnxruntime()
    plain = runtime.InferenceSession(str(parts / "model_novelty.onnx"), providers=["CPUExecutionProvider"])
    fed = build_feeds([Encoded((2, 5, 3), (0, 0, 0), 1, truncated=False)])
    logits, novelty = make_binding_runner(runtime, plain, "cpu", ["logits", "novelty"])(fed)
    assert np.array_equal(novelty, plain.run(["novelty"], fed)[0])
    assert logits.shape == (1, 3)
