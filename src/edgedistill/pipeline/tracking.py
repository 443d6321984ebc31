"""Logging of a finished run to MLflow or Weights & Biases; off unless the project file has the key ``track``.

log_run            logs what the tracker does not have yet, and notes it in `tracking.json`
├── RunRecord      what is logged: settings, epochs, figures, hashes; never a text of a learner, codebook or prompt
└── Tracker        where it goes: `MlflowTracker`, `WandbTracker`

A run is logged after its stages, from their results: no stage reads `track`, so switching it on runs nothing again.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from edgedistill.agreement import Agreement, Estimate
from edgedistill.errors import RunError
from edgedistill.pipeline.folder import hash_json
from edgedistill.pipeline.run import Run
from edgedistill.project.schema import Project
from edgedistill.project.teacher import AnyTeacher, TeacherSection
from edgedistill_serve.errors import first_line

TRACKING = "tracking.json"
"""What was logged, and the tracker's id of it."""
Figures: TypeAlias = Mapping[str, float]
_SECTIONS: Mapping[str, bool | set[str]] = {
    "mix": True,
    "student": True,
    "review": True,
    "export": True,
    "data": {"split"},
    "task": {"kind", "inputs"},
}
"""The settings that are logged: none of them can hold a text, an address or a key."""
_OF_TEACHER = {"model", "votes", "temperature", "few_shot", "few_shot_choice", "reasoning", "gate"}
_OF_EPOCH = ("validation_loss", "validation_accuracy", "validation_macro_f1")
_OF_TRIAL = ("learning_rate", "batch_size", "epochs", "seed")
_NOT_IN_KEYS = re.compile(r"[^\w./ -]", re.ASCII)
_CREDENTIALS = re.compile(r"//[^/@\s]*@")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a tracker gets of a run.

    Attributes:
        project: The project's name.
        parameters: Settings, the best trial's hyperparameters, counts of rows, and the SHA-256 of the data files.
        epochs: By epoch from 1, ``trial_N/validation_loss``, ``…/validation_accuracy`` and ``…/validation_macro_f1``.
        figures: Agreement of every coding with the human codes of the test rows, as ``test/CODING/FIGURE``, with the
            ends of its 95 % interval as ``…_low`` and ``…_high``; undefined figures are left out.
        served: The same of the exported graph, as ``served/FIGURE``; empty before the export.
        bundle: The bundle's version, verdict and precision, and the SHA-256 of its files; empty before the export.
    """

    project: str
    parameters: Mapping[str, str]
    epochs: Mapping[int, Figures]
    figures: Figures
    served: Figures
    bundle: Mapping[str, str]

    @classmethod
    def of(cls, run: Run, *, exported: bool) -> "RunRecord":
        """Read it from a run whose evaluation is done."""
        trials = run.folder.read_csv("trials.csv")
        agreement = run.evaluation.agreement
        figures = {
            f"test/{coding}/{name}": value for coding, found in agreement.items() for name, value in _figures(found)
        }
        served = run.served_evaluation if exported else None
        return cls(
            project=run.project.name,
            parameters=_cleaned({**_settings(run.project), **_outcomes(run)}),
            epochs=_epochs(trials),
            figures=_cleaned(figures),
            served={f"served/{name}": value for name, value in _figures(served.agreement["student"])} if served else {},
            bundle=_cleaned(_bundle(run)) if exported else {},
        )


class Tracker(Protocol):
    """Where runs are logged."""

    def create(self, record: RunRecord, folder: Path) -> str:
        """Log a run, and return its id; ``folder`` is the run folder."""

    def add_bundle(self, ident: str, record: RunRecord, folder: Path) -> None:
        """Add the bundle, or another one, to a run that was logged."""


class MlflowTracker:
    """MLflow: the store of ``MLFLOW_TRACKING_URI``, the experiment of ``MLFLOW_EXPERIMENT_NAME`` or the project."""

    def create(self, record: RunRecord, folder: Path) -> str:  # noqa: ARG002
        """Create a run with all that is known of it."""
        client = self._client()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or record.project
        known = client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else client.create_experiment(name)
        ident: str = client.create_run(experiment, run_name=record.project).info.run_id
        self._log(client, ident, record, record.parameters, record.epochs, {**record.figures, **record.served})
        return ident

    def add_bundle(self, ident: str, record: RunRecord, folder: Path) -> None:  # noqa: ARG002
        """Set the bundle's tags and figures of a run."""
        self._log(self._client(), ident, record, {}, {}, record.served)

    @staticmethod
    def _client() -> Any:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is loaded
        from mlflow import MlflowClient

        return MlflowClient()

    @staticmethod
    def _log(
        client: Any,
        ident: str,
        record: RunRecord,
        parameters: Mapping[str, str],
        epochs: Mapping[int, Figures],
        figures: Figures,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for step, found in epochs.items() for name, value in found.items()]
        metrics += [Metric(name, value, now, 0) for name, value in figures.items()]
        params = [Param(name, value) for name, value in parameters.items()]
        tags = [RunTag(name, value) for name, value in record.bundle.items()]
        # At most 100 parameters, 100 tags and 1000 entries a call.
        for first in range(0, max(map(len, (metrics, params, tags)), default=0), 100):
            part = slice(first, first + 100)
            client.log_batch(ident, metrics=metrics[part], params=params[part], tags=tags[part])
        client.set_terminated(ident)


class WandbTracker:
    """Weights & Biases: the project of ``WANDB_PROJECT`` or of the project file; ``WANDB_MODE=offline`` sends nothing.

    Only the record is sent: no console output, code, git state, list of packages or state of the machine.
    """

    def create(self, record: RunRecord, folder: Path) -> str:
        """Create a run with all that is known of it."""
        run = self._start(record, folder, name=record.project, config={**record.parameters, **record.bundle})
        for step, found in sorted(record.epochs.items()):
            run.log(dict(found), step=step)
        run.summary.update({**record.figures, **record.served})
        run.finish()
        return str(run.id)

    def add_bundle(self, ident: str, record: RunRecord, folder: Path) -> None:
        """Set the bundle's entries and figures of a run."""
        run = self._start(record, folder, id=ident, resume="must")
        run.config.update(dict(record.bundle), allow_val_change=True)
        run.summary.update(dict(record.served))
        run.finish()

    @staticmethod
    def _start(record: RunRecord, folder: Path, **arguments: Any) -> Any:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            save_code=False,
            silent=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT") or record.project,
            dir=os.environ.get("WANDB_DIR") or str(folder),
            reinit="create_new",  # a run that is open in the same process stays as it is
            settings=settings,
            **arguments,
        )


TRACKERS: Mapping[str, type[Tracker]] = {"mlflow": MlflowTracker, "wandb": WandbTracker}
"""By the value of ``track``."""


def require_tracker(project: Project) -> None:
    """Check, before stages that may take hours, that the tracker's package is installed.

    Raises:
        RunError: It is not.
    """
    if project.track is None:
        return
    found = find_spec(project.track)
    if found is None or found.origin is None:  # a folder with the name is not the package
        raise RunError(
            f"track: {project.track} requires the package {project.track}, which is not installed",
            where=str(project.path),
            hint=f"Install it with `pip install 'edgedistill[{project.track}]'`, or remove track.",
        )


def log_run(run: Run, *, exported: bool, tracker: Tracker | None = None) -> None:
    """Log a run whose evaluation is done, as far as its tracker does not have it; a failure is a message, no error.

    A run with other settings or figures is a new one; another bundle of the same student is added to its run.

    Args:
        run: The project, with the key ``track``, and its folder.
        exported: Whether its export is done, too.
        tracker: The tracker; None for that of ``track``.
    """
    name = run.project.track
    if name is None:
        return
    record = RunRecord.of(run, exported=exported)
    content = {key: hash_json(value) for key, value in asdict(record).items()}
    of_bundle = {key: content.pop(key) for key in ("served", "bundle")}
    now = {"tracker": name, "run": hash_json(content), "bundle": hash_json(of_bundle) if exported else None}
    noted = _noted(run)
    ident = noted.get("id") if (noted.get("tracker"), noted.get("run")) == (name, now["run"]) else None
    if ident and now["bundle"] in (None, noted.get("bundle")):
        return
    target = tracker or TRACKERS[name]()
    try:
        if ident:
            target.add_bundle(ident, record, run.folder.path)
        else:
            ident = target.create(record, run.folder.path)
    except Exception as error:  # noqa: BLE001  # trackers raise what they like, and the run is complete
        said = _CREDENTIALS.sub("//", first_line(error))[:300]
        run.on_message(
            f"track: {name} failed ({said}). The results are complete; the same command logs them again. To start "
            f"anew with the tracker, delete {run.folder / TRACKING}."
        )
        return
    run.folder.write_json(TRACKING, {"id": ident, **now})
    run.on_message(f"track  {name} {ident}")


def _noted(run: Run) -> Mapping[str, Any]:
    """Return what was logged last; nothing if the file is missing or damaged."""
    try:
        noted = run.folder.read_json(TRACKING)
    except RunError:
        return {}
    return noted if isinstance(noted, dict) else {}


def _settings(project: Project) -> dict[str, str]:
    """Return the settings that can be logged, by their keys in the project file."""
    found = project.model_dump(mode="json", include=_SECTIONS, exclude_none=True)
    backbone = found["student"]["backbone"]
    if (project.folder / backbone).is_dir():
        found["student"]["backbone"] = Path(backbone).name  # a local path is nobody's business
    found["task"]["labels"] = len(project.task.labels)
    for teacher in project.panel:
        found["teacher" if project.teacher else f"teachers.{teacher.called}"] = _settings_of(teacher)
    return dict(_flat(found))


def _settings_of(teacher: AnyTeacher) -> dict[str, Any]:
    if isinstance(teacher, TeacherSection):
        return teacher.model_dump(mode="json", include=_OF_TEACHER, exclude_none=True)
    return teacher.model_dump(mode="json", include={"model", "gate"}, exclude_none=True)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, each in value.items():
        if isinstance(each, dict):
            yield from _flat(each, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", each if isinstance(each, str) else json.dumps(each)


def _outcomes(run: Run) -> dict[str, str]:
    """Return the best trial, the sizes of the splits, and the SHA-256 of the data files."""
    best = run.folder.run_log["stages"]["train"]["best"]
    splits = run.records.splits
    rows = {"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)}
    data = {f"data/{Path(counts.file).name}/sha256": counts.sha256 for counts in run.records.row_counts}
    return {**dict(_flat({"best": best, "rows": rows})), **data}


def _epochs(trials: list[dict[str, str]]) -> dict[int, dict[str, float]]:
    """Return the figures of `trials.csv` by epoch; those of a student that is not trained have none."""
    numbers: dict[tuple[str, ...], int] = {}
    found: dict[int, dict[str, float]] = {}
    for line in trials:
        number = numbers.setdefault(tuple(line[name] for name in _OF_TRIAL), len(numbers) + 1)
        if line["epoch"]:
            at = found.setdefault(int(line["epoch"]), {})
            at |= {f"trial_{number}/{name}": float(line[name]) for name in _OF_EPOCH if line[name]}
    return found


def _figures(agreement: Agreement) -> Iterator[tuple[str, float]]:
    yield "rows", agreement.rows
    for name in ("accuracy", "macro_f1", "kappa", "mcc", "alpha"):
        estimate: Estimate | None = getattr(agreement, name)
        if estimate is not None:
            yield name, estimate.value
            yield f"{name}_low", estimate.low
            yield f"{name}_high", estimate.high


def _bundle(run: Run) -> dict[str, str]:
    manifest = run.bundle.manifest
    files = {f"bundle/{name}/sha256": entry.sha256 for name, entry in manifest.files.items()}
    return {
        "bundle/version": manifest.version,
        "bundle/verdict": manifest.known_verdict.status,
        "bundle/precision": manifest.precision,
        **files,
    }


def _cleaned(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by keys that every tracker takes."""
    return {_NOT_IN_KEYS.sub("_", name)[:250]: value for name, value in values.items()}
