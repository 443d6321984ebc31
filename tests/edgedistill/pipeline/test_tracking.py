"""A finished run is logged to a tracker that the project file names, without running anything again."""

import json
import sys
from importlib.util import find_spec
from textwrap import dedent

import pytest

from edgedistill.errors import RunError
from edgedistill.pipeline import run_stages
from edgedistill.pipeline.tracking import TRACKING, log_run

from .tiny import run_of, write_tiny

INSTALLED = find_spec("mlflow") is not None

STAND_IN = {
    "mlflow/__init__.py": """
        import json
        from pathlib import Path
        from types import SimpleNamespace as Some
        CALLS = []
        class MlflowClient:
            def get_experiment_by_name(self, name):
                return None
            def create_experiment(self, name):
                CALLS.append(["experiment", name])
                return "1"
            def create_run(self, experiment, run_name):
                CALLS.append(["run", experiment, run_name])
                return Some(info=Some(run_id=f"id{sum(call[0] == 'run' for call in CALLS)}"))
            def log_batch(self, ident, metrics, params, tags):
                assert max(map(len, (metrics, params, tags))) <= 100
                CALLS.append(["batch", ident, metrics, params, tags])
            def set_terminated(self, ident):
                CALLS.append(["end", ident])
        """,
    "mlflow/entities.py": """
        Metric = lambda key, value, timestamp, step: (key, value, step)
        Param = RunTag = lambda key, value: (key, value)
        """,
    "wandb/__init__.py": """
        from types import SimpleNamespace as Some
        CALLS = []
        Settings = dict
        class Changing(dict):
            def update(self, *given, allow_val_change=True):
                super().update(*given)
        class Run:
            def __init__(self, **given):
                self.given, self.steps = given, []
                self.config, self.summary = Changing(given.get("config", {})), Changing()
                self.id = given.get("id") or "w1"
                CALLS.append(self)
            def log(self, figures, step):
                assert not self.steps or step > self.steps[-1][0], "wandb drops steps that go back"
                self.steps.append((step, figures))
            def finish(self):
                self.finished = True
        def init(**given):
            return Run(**given)
        """,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project that was run to its end without a tracker."""
    file = write_tiny(tmp_path_factory.mktemp("tracked"))
    text = file.read_text().replace("name: process}", "name: process, definition: Says what Jordan did.}")
    file.write_text(text.replace("task: {", "task: {instructions: Code the praise., "))
    run_stages(run_of(file))
    return file


@pytest.fixture
def project(finished):
    """The finished project as a function of the tracker; what was logged before is forgotten."""
    plain = finished.read_text()
    (finished.parent / "runs/tiny" / TRACKING).unlink(missing_ok=True)

    def with_tracker(name):
        finished.write_text(f"{plain}track: {name}\n")
        return finished

    yield with_tracker
    finished.write_text(plain)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Packages that take the trackers' calls and note them."""
    for name, code in STAND_IN.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(dedent(code))
    monkeypatch.syspath_prepend(tmp_path)

    def forget():
        for name in [name for name in sys.modules if name.partition(".")[0] in ("mlflow", "wandb")]:
            del sys.modules[name]

    forget()
    yield lambda name: __import__(name).CALLS
    forget()


def logged(calls):
    """What MLflow was given: figures with their steps, parameters, and tags."""
    batches = [call for call in calls if call[0] == "batch"]
    metrics, params, tags = ([each for batch in batches for each in batch[place]] for place in (2, 3, 4))
    return metrics, dict(params), dict(tags)


def test_switching_a_tracker_on_runs_nothing_again_and_logs_once(project, stand_in):
    file = project("mlflow")
    assert all(step.skipped for step in run_stages(run_of(file)))
    run_stages(run_of(file))
    assert [call[0] for call in stand_in("mlflow")] == ["experiment", "run", "batch", "end"]


def test_what_is_logged_are_settings_epochs_agreement_with_intervals_and_hashes(project, stand_in):
    file = project("mlflow")
    run = run_of(file)
    run_stages(run)
    metrics, params, tags = logged(stand_in("mlflow"))
    assert params["student.search.epochs"] == "[2]"
    assert params["best.learning_rate"] == "0.005"
    assert params["student.backbone"] == "backbone"
    assert params["data/human.csv/sha256"] == run.records.row_counts[0].sha256
    assert [step for name, _, step in metrics if name == "trial_1/validation_loss"] == [1, 2]
    figures = {name: value for name, value, _ in metrics}
    kappa = run.evaluation.agreement["student"].kappa
    found = [figures[f"test/student/kappa{end}"] for end in ("", "_low", "_high")]
    assert found == [kappa.value, kappa.low, kappa.high]
    assert figures["served/kappa"] == run.served_evaluation.agreement["student"].kappa.value
    assert tags["bundle/version"] == run.bundle.manifest.version
    hashes = {name: entry.sha256 for name, entry in run.bundle.manifest.files.items()}
    assert {name.split("/", 1)[1].removesuffix("/sha256"): tags[name] for name in tags if "sha256" in name} == hashes


def test_no_text_of_a_learner_or_of_the_codebook_is_logged(project, stand_in):
    run = run_of(project("mlflow"))
    run_stages(run)
    said = json.dumps(stand_in("mlflow"))
    splits = run.records.splits
    texts = {text for part in (splits.train, splits.test) for each in part.responses for text in each.inputs.values()}
    assert len(texts) > 50
    assert [text for text in (*texts, "Code the praise.", "Says what Jordan did.") if text in said] == []
    assert str(run.folder.path) not in said


def test_another_evaluation_is_another_run_and_another_bundle_is_added(project, stand_in):
    run = run_of(project("mlflow"))
    log_run(run, exported=False)
    calls = stand_in("mlflow")
    assert logged(calls)[2] == {}
    del calls[:]
    log_run(run, exported=True)
    metrics, params, tags = logged(calls)
    assert [call[:2] for call in calls] == [["batch", "id1"], ["end", "id1"]] or {call[1] for call in calls} == {"id1"}
    assert (params, {name.split("/")[0] for name, *_ in metrics}) == ({}, {"served"})
    assert tags["bundle/version"] == run.bundle.manifest.version


def test_weights_and_biases_gets_the_same_and_nothing_of_the_machine(project, stand_in):
    run = run_of(project("wandb"))
    run_stages(run)
    (sent,) = stand_in("wandb")
    assert sent.finished
    assert [step for step, _ in sent.steps] == [1, 2]
    assert sent.config["bundle/version"] == run.bundle.manifest.version
    assert sent.summary["test/student/kappa"] == run.evaluation.agreement["student"].kappa.value
    off = sent.given["settings"]
    assert (off["console"], off["disable_git"], off["x_disable_machine_info"]) == ("off", True, True)


def test_a_tracker_that_fails_is_a_message_without_credentials_and_is_tried_again(project, stand_in):
    messages = []

    class Unreachable:
        def create(self, record, folder):
            raise ConnectionError("no route to http://me:secret@tracker:5000/api\nTraceback")

    run = run_of(project("mlflow"), on_message=messages.append)
    log_run(run, exported=True, tracker=Unreachable())
    assert messages[0].startswith(
        "track: mlflow failed (no route to http://tracker:5000/api). The results are complete; the same command logs "
        "them again."
    )
    log_run(run, exported=True)
    assert messages[1] == "track  mlflow id1"


@pytest.mark.skipif(INSTALLED, reason="mlflow is installed")
def test_a_tracker_that_is_not_installed_is_said_before_any_stage(project):
    with pytest.raises(RunError, match=r"requires the package mlflow, which is not installed.*edgedistill\[mlflow\]"):
        run_stages(run_of(project("mlflow")))


@pytest.mark.skipif(not INSTALLED, reason="mlflow is not installed (pip install mlflow-skinny)")
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow_itself_keeps_the_run_in_its_store(project, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    run = run_of(project("mlflow"))
    log_run(run, exported=False)
    log_run(run, exported=True)
    client = MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert found.data.metrics["test/student/kappa"] == run.evaluation.agreement["student"].kappa.value
    assert found.data.tags["bundle/version"] == run.bundle.manifest.version
    assert [each.step for each in client.get_metric_history(found.info.run_id, "trial_1/validation_loss")] == [1, 2]
    assert found.info.status == "FINISHED"
