"""Which graph to serve: the fastest that keeps the labels, of those that every recipe makes, or fp32.

Measured on validation rows and this processor. Test rows have no part in it.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import cohen_kappa_score, recall_score

from edgedistill_export.errors import ExportFailed
from edgedistill_export.parity import Logits, differences, probabilities
from edgedistill_export.quantization import Recipe
from edgedistill_serve.encoding import Encoded
from edgedistill_serve.errors import BundleError, ScoringFailed
from edgedistill_serve.planner import BUDGET, token_batches
from edgedistill_serve.session import Session
from edgedistill_serve.task import Task

ROUNDS = 3
"""Every graph is timed so often, the graphs in turns; the fastest round counts, for other work only slows."""
TIMED_ROWS = 64
_BINS = 10


@dataclass(frozen=True, slots=True)
class Tried:
    """One recipe, measured beside fp32 on the same rows, each scored alone unless said otherwise.

    Attributes:
        recipe: Its name.
        fault: Why there is no graph, then the figures are None; or None.
        bytes: Size of the file.
        flips: Rows whose label is not fp32's.
        flip_rate: Their share, in [0, 1].
        max_probability_difference: Largest change of a probability from fp32.
        batch_flips: Rows whose label changes when they are scored in batches.
        kappa_lost: Agreement with the human codes that is lost against fp32: Cohen's κ, quadratic weighted for an
            ordinal task; None without codes, or where it is undefined.
        calibration_error: Expected calibration error in ten bins (Guo et al. 2017, equation 3); None without codes.
        worst_recall_change: Of all labels, the largest loss of recall against fp32, below 0; None without codes.
        texts_per_second: Responses scored alone: by the number of callers.
        batched_per_second: Responses scored in batches, sorted by length: by the number of callers.
        load_seconds: Until the graph is ready.
    """

    recipe: str
    fault: str | None = None
    bytes: int | None = None
    flips: int | None = None
    flip_rate: float | None = None
    max_probability_difference: float | None = None
    batch_flips: int | None = None
    kappa_lost: float | None = None
    calibration_error: float | None = None
    worst_recall_change: float | None = None
    texts_per_second: Mapping[int, float] | None = None
    batched_per_second: Mapping[int, float] | None = None
    load_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was tried, and what is served.

    Attributes:
        chosen: The fastest recipe that keeps the flip rate, or ``fp32``.
        tried: fp32 first, then every recipe.
        rows: Validation rows.
        max_flip_rate: What was allowed.
        note: The choice in a sentence.
    """

    chosen: str
    tried: tuple[Tried, ...]
    rows: int
    max_flip_rate: float
    note: str


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """What candidates are judged by.

    Attributes:
        rows: Validation rows as the graph reads them, at least one.
        task: Its labels.
        temperature: Divides the logits.
        max_flip_rate: Share of rows whose label may change.
        codes: The human code of each row, or nothing.
        callers: Numbers of callers to time.
    """

    rows: Sequence[Encoded]
    task: Task
    temperature: float
    max_flip_rate: float
    codes: Sequence[str] = ()
    callers: Sequence[int] = (1, 2)


@dataclass(slots=True, eq=False)
class _Graph:
    name: str
    file: Path
    session: Session
    logits: Logits
    loading: float


def tune(fp32: Path, recipes: Mapping[str, Recipe], work: Path, judge: Judge) -> Tuning:
    """Make and measure every recipe and choose one.

    Args:
        fp32: The fp32 graph.
        recipes: By name.
        work: An empty folder; each graph is written there as ``NAME.onnx``.
        judge: What the candidates are judged by.

    Raises:
        BundleError: The fp32 graph cannot be loaded.
        ScoringFailed: It fails on a row.
    """
    graphs, faults = [_open("fp32", fp32, judge)], {}
    for name, recipe in recipes.items():
        try:
            recipe(fp32, work / f"{name}.onnx", judge.rows)
            graphs.append(_open(name, work / f"{name}.onnx", judge))
        except (BundleError, ExportFailed, ScoringFailed) as error:
            faults[name] = str(error)
    speeds = _speeds(graphs, judge)
    tried = [_measured(graph, graphs[0].logits, speeds[graph.name], judge) for graph in graphs]
    chosen = choose(tried, judge.max_flip_rate)
    tried += [Tried(name, fault) for name, fault in faults.items()]
    return Tuning(chosen, tuple(tried), len(judge.rows), judge.max_flip_rate, _told(chosen, tried, judge))


def choose(tried: Sequence[Tried], max_flip_rate: float) -> str:
    """Return the recipe that scores most responses alone, with one caller, of those that keep the flip rate.

    Args:
        tried: Graphs without fault, fp32 among them.
        max_flip_rate: Share of rows whose label may change.
    """
    fit = [one for one in tried if (one.flip_rate or 0.0) <= max_flip_rate]
    return max(fit, key=lambda one: (one.texts_per_second or {}).get(1, 0.0)).recipe


def _open(name: str, file: Path, judge: Judge) -> _Graph:
    start = time.perf_counter()
    session = Session(file)
    loading = time.perf_counter() - start
    return _Graph(name, file, session, np.array([session.logits(row) for row in judge.rows], np.float32), loading)


def _speeds(graphs: Sequence[_Graph], judge: Judge) -> dict[str, dict[tuple[bool, int], float]]:
    """Responses per second, in batches or not and by callers; the graphs take turns, so that all meet the same load."""
    some = judge.rows[:: -(-len(judge.rows) // TIMED_ROWS)]
    batches = [[some[place] for place in batch] for batch in token_batches([len(row.ids) for row in some], BUDGET)]
    best: dict[str, dict[tuple[bool, int], float]] = {graph.name: {} for graph in graphs}
    for _ in range(ROUNDS):
        for callers in judge.callers:
            with ThreadPoolExecutor(callers) as pool:
                for graph in graphs:
                    for batched, work in ((False, [[row] for row in some]), (True, batches)):
                        start = time.perf_counter()
                        list(pool.map(graph.session.batch_logits, work))
                        speed = len(some) / (time.perf_counter() - start)
                        best[graph.name][batched, callers] = max(speed, best[graph.name].get((batched, callers), 0.0))
    return best


def _measured(graph: _Graph, fp32: Logits, speeds: Mapping[tuple[bool, int], float], judge: Judge) -> Tried:
    labels, wanted = graph.logits.argmax(axis=1), fp32.argmax(axis=1)
    flips = int((labels != wanted).sum())
    figures = _against_codes(graph.logits, fp32, judge) if judge.codes else (None, None, None)
    return Tried(
        recipe=graph.name,
        bytes=graph.file.stat().st_size,
        flips=flips,
        flip_rate=flips / len(labels),
        max_probability_difference=float(differences(fp32, graph.logits, judge.temperature).max()),
        batch_flips=int((_in_batches(graph.session, judge.rows).argmax(axis=1) != labels).sum()),
        kappa_lost=figures[0],
        calibration_error=figures[1],
        worst_recall_change=figures[2],
        texts_per_second={callers: speed for (batched, callers), speed in speeds.items() if not batched},
        batched_per_second={callers: speed for (batched, callers), speed in speeds.items() if batched},
        load_seconds=graph.loading,
    )


def _in_batches(session: Session, rows: Sequence[Encoded]) -> npt.NDArray[np.float64]:
    """Score rows in batches of 32 strangers."""
    return np.concatenate([session.batch_logits(rows[start : start + 32]) for start in range(0, len(rows), 32)])


def _against_codes(logits: Logits, fp32: Logits, judge: Judge) -> tuple[float | None, float, float]:
    names = judge.task.names
    truth = np.array([names.index(code) for code in judge.codes])
    found, wanted = logits.argmax(axis=1), fp32.argmax(axis=1)
    weights = "quadratic" if judge.task.kind == "ordinal" else None
    kappas = [
        None
        if len(set(truth) | set(labels)) == 1
        else float(cohen_kappa_score(truth, labels, labels=range(len(names)), weights=weights))
        for labels in (wanted, found)
    ]
    lost = None if kappas[0] is None or kappas[1] is None else kappas[0] - kappas[1]
    recalls = [
        recall_score(truth, labels, labels=sorted(set(truth)), average=None, zero_division=0)
        for labels in (wanted, found)
    ]
    change = min(0.0, float((recalls[1] - recalls[0]).min()))
    return lost, _calibration_error(probabilities(logits, judge.temperature), truth), change


def _calibration_error(given: npt.NDArray[np.float64], truth: npt.NDArray[np.int64]) -> float:
    sure, right = given.max(axis=1), given.argmax(axis=1) == truth
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    parts = [(bins == number) for number in range(_BINS)]
    return float(sum(abs(sure[part].mean() - right[part].mean()) * part.mean() for part in parts if part.any()))


def _told(chosen: str, tried: Sequence[Tried], judge: Judge) -> str:
    if chosen != "fp32":
        return f"{chosen} is served: the fastest that changes at most {judge.max_flip_rate:.2%} of the labels."
    if any(one.flip_rate is not None and one.flip_rate <= judge.max_flip_rate for one in tried if one.recipe != "fp32"):
        return "fp32 is served: every recipe that keeps the labels is slower on this processor."
    return f"fp32 is served: every recipe changes more than {judge.max_flip_rate:.2%} of the labels, or has no graph."
