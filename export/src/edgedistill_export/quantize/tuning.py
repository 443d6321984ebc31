"""Which graph to serve: the fastest that keeps the labels, of those that every recipe makes, or fp32.

Measured on validation rows and this processor. Test rows have no part in it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgedistill_export.errors import ExportFailed
from edgedistill_export.quantize.overflow import check_products
from edgedistill_export.quantize.recipes import Recipe
from edgedistill_export.quantize.speed import Speed, speeds
from edgedistill_export.verify.fidelity import agreement, fidelity
from edgedistill_export.verify.parity import Logits, flipped
from edgedistill_serve.errors import BundleError, ScoringFailed
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.label_decoding import LabelDecoder


@dataclass(frozen=True, slots=True)
class Tried:
    """One recipe, measured beside fp32 on the same rows, each scored alone unless said otherwise.

    Attributes:
        recipe: Its name.
        fault: Why there is no graph, then the figures are None; or None.
        bytes: Size of the file.
        flips: Rows whose label is not fp32's.
        flip_rate: Their share, in [0, 1].
        expected_flip_rate: The share that is to be expected of other rows (`edgedistill_export.verify.fidelity`).
        max_probability_difference: Largest change of a probability from fp32.
        worst_group_flip_rate: Highest flip rate of a group of at least 10 rows; None without such a group.
        batch_flips: Rows whose label changes when they are scored in batches.
        kappa_lost: Agreement with the human codes that is lost against fp32, as in `fidelity.Agreement`; None without
            codes, or where it is undefined.
        calibration_error: As in `fidelity.Agreement`; None without codes.
        worst_recall_change: Of all labels, the largest loss of recall against fp32, below 0; None without codes.
        texts_per_second: Responses scored alone in a second of each caller's processor time: by the number of callers.
        batched_per_second: The same in batches, sorted by length.
        load_seconds: Until the graph is ready.
    """

    recipe: str
    fault: str | None = None
    bytes: int | None = None
    flips: int | None = None
    flip_rate: float | None = None
    expected_flip_rate: float | None = None
    max_probability_difference: float | None = None
    worst_group_flip_rate: float | None = None
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
        label_decoder: How logits are read.
        max_flip_rate: Share of rows whose label may change.
        codes: The human code of each row, or nothing.
        groups: What each row belongs to, such as its learner or its school, or nothing.
        callers: Numbers of callers to time.
    """

    rows: Sequence[Encoded]
    label_decoder: LabelDecoder
    max_flip_rate: float
    codes: Sequence[str] = ()
    groups: Sequence[str] = ()
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
            check_products(work / f"{name}.onnx")
            graphs.append(_open(name, work / f"{name}.onnx", judge))
        except (BundleError, ExportFailed, ScoringFailed) as error:
            faults[name] = str(error)
    timed = speeds({graph.name: graph.session for graph in graphs}, judge.rows, judge.callers)
    tried = [_measured(graph, graphs[0].logits, timed[graph.name], judge) for graph in graphs]
    chosen = choose(tried, judge.max_flip_rate)
    tried += [Tried(name, fault) for name, fault in faults.items()]
    return Tuning(chosen, tuple(tried), len(judge.rows), judge.max_flip_rate, _told(chosen, tried, judge))


def choose(tried: Sequence[Tried], max_flip_rate: float) -> str:
    """Return the recipe that scores most responses alone, with one caller, of those that keep the flip rate.

    Args:
        tried: fp32 and other graphs.
        max_flip_rate: Share of rows whose label may change, and may be expected to change among other rows.
    """
    fit = [one for one in tried if _keeps(one, max_flip_rate)]
    return max(fit, key=lambda one: (one.texts_per_second or {}).get(1, 0.0)).recipe


def _keeps(tried: Tried, max_flip_rate: float) -> bool:
    """Whether flips were few, and are to be expected few: of 80 rows none may flip by chance."""
    rates = tried.flip_rate, tried.expected_flip_rate
    return tried.fault is None and all(rate is None or rate <= max_flip_rate for rate in rates)


def _open(name: str, file: Path, judge: Judge) -> _Graph:
    start = time.perf_counter()
    session = Session(file, overflow_free=True)
    loading = time.perf_counter() - start
    return _Graph(name, file, session, np.array([session.logits(row) for row in judge.rows], np.float32), loading)


def _measured(graph: _Graph, fp32: Logits, speed: Speed, judge: Judge) -> Tried:
    kept = fidelity(fp32, graph.logits, judge.label_decoder, judge.groups)
    coded = agreement(fp32, graph.logits, judge.label_decoder, judge.codes) if judge.codes else None
    batch_flips = int(flipped(graph.logits, _in_batches(graph.session, judge.rows), judge.label_decoder).sum())
    return Tried(
        recipe=graph.name,
        bytes=graph.file.stat().st_size,
        batch_flips=batch_flips,
        **asdict(kept),
        **(asdict(coded) if coded else {}),
        texts_per_second=speed.alone,
        batched_per_second=speed.batched,
        load_seconds=graph.loading,
    )


def _in_batches(session: Session, rows: Sequence[Encoded]) -> Logits:
    """Score rows in batches of 32 strangers."""
    batches = [session.batch_logits(rows[start : start + 32]) for start in range(0, len(rows), 32)]
    return np.concatenate(batches).astype(np.float32)


def _told(chosen: str, tried: Sequence[Tried], judge: Judge) -> str:
    if chosen != "fp32":
        return f"{chosen} is served: the fastest that changes at most {judge.max_flip_rate:.2%} of the labels."
    if any(_keeps(one, judge.max_flip_rate) for one in tried if one.recipe != "fp32"):
        return "fp32 is served: every recipe that keeps the labels is slower on this processor."
    return f"fp32 is served: every recipe changes more than {judge.max_flip_rate:.2%} of the labels, or has no graph."
