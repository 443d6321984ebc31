"""Choose the graph to serve: the fastest one within the allowed flip rate, of all recipes and fp32.

All graphs are measured on validation rows on this processor. Test rows are not used.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgedistill_export.errors import ExportFailed
from edgedistill_export.quantize.overflow import check_overflow
from edgedistill_export.quantize.recipes import Recipe
from edgedistill_export.quantize.speed import Speed, measure_speeds
from edgedistill_export.verify.fidelity import measure_agreement_loss, measure_fidelity
from edgedistill_export.verify.parity import Logits, flipped
from edgedistill_serve.errors import BundleError, ScoringFailed
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.label_decoding import LabelDecoder


@dataclass(frozen=True, slots=True)
class RecipeResult:
    """The measurements of one recipe against fp32 on the same rows, each scored alone unless stated otherwise.

    Attributes:
        recipe: Its name.
        fault: Why the recipe failed, then all measurements are None; or None.
        bytes: Size of the file.
        flips: Rows whose label differs from fp32's.
        flip_rate: Their share, in [0, 1].
        expected_flip_rate: Estimated share for other rows (`edgedistill_export.verify.fidelity`).
        max_probability_difference: Largest change of a probability from fp32.
        worst_group_flip_rate: Highest flip rate of a group of at least 10 rows; None without such a group.
        batch_flips: Rows whose label changes when they are scored in batches.
        kappa_lost: Loss of Cohen's kappa against fp32, as in `fidelity.AgreementLoss`; None without codes or if it is
            undefined.
        calibration_error: As in `fidelity.AgreementLoss`; None without codes.
        worst_recall_change: The largest loss of recall of any label against fp32, at most 0; None without codes.
        texts_per_second: Responses scored alone per second of processor time of each caller, by number of callers.
        batched_per_second: The same in batches, sorted by length.
        load_seconds: Loading time of the graph.
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
    """The measurements of all recipes, and the choice.

    Attributes:
        chosen: The fastest recipe within the flip rate, or ``fp32``.
        tried: fp32 first, then every recipe.
        rows: Number of validation rows.
        max_flip_rate: The allowed flip rate.
        note: The choice in one sentence.
    """

    chosen: str
    tried: tuple[RecipeResult, ...]
    rows: int
    max_flip_rate: float
    note: str


@dataclass(frozen=True, slots=True, eq=False)
class TuningData:
    """The data and limits that recipes are evaluated with.

    Attributes:
        rows: Encoded validation rows, at least one.
        label_decoder: Decodes logits to labels.
        max_flip_rate: Allowed share of rows whose label changes, in [0, 1].
        codes: The human code of each row; empty if there are none.
        groups: The group of each row, such as its learner or school; empty if there are none.
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


def tune(fp32: Path, recipes: Mapping[str, Recipe], work: Path, data: TuningData) -> Tuning:
    """Apply and measure every recipe, and choose one.

    Args:
        fp32: The fp32 graph.
        recipes: By name.
        work: An empty folder; each graph is written there as ``NAME.onnx``.
        data: Data and limits of the evaluation.

    Raises:
        BundleError: The fp32 graph cannot be loaded.
        ScoringFailed: The fp32 graph fails on a row.
    """
    graphs, faults = [_open("fp32", fp32, data)], {}
    for name, recipe in recipes.items():
        try:
            recipe(fp32, work / f"{name}.onnx", data.rows)
            check_overflow(work / f"{name}.onnx")
            graphs.append(_open(name, work / f"{name}.onnx", data))
        except (BundleError, ExportFailed, ScoringFailed) as error:
            faults[name] = str(error)
    timed = measure_speeds({graph.name: graph.session for graph in graphs}, data.rows, data.callers)
    tried = [_measure(graph, graphs[0].logits, timed[graph.name], data) for graph in graphs]
    chosen = choose_recipe(tried, data.max_flip_rate)
    tried += [RecipeResult(name, fault) for name, fault in faults.items()]
    return Tuning(chosen, tuple(tried), len(data.rows), data.max_flip_rate, _format_note(chosen, tried, data))


def choose_recipe(tried: Sequence[RecipeResult], max_flip_rate: float) -> str:
    """Return the recipe with the most responses per second, alone and with one caller, within the flip rate.

    Args:
        tried: fp32 and other graphs.
        max_flip_rate: Limit of the measured and of the expected flip rate, in [0, 1].
    """
    fit = [one for one in tried if _within_flip_rate(one, max_flip_rate)]
    return max(fit, key=lambda one: (one.texts_per_second or {}).get(1, 0.0)).recipe


def _within_flip_rate(tried: RecipeResult, max_flip_rate: float) -> bool:
    """Whether both rates are within the limit; with few rows, zero measured flips may be chance."""
    rates = tried.flip_rate, tried.expected_flip_rate
    return tried.fault is None and all(rate is None or rate <= max_flip_rate for rate in rates)


def _open(name: str, file: Path, data: TuningData) -> _Graph:
    start = time.perf_counter()
    session = Session(file, overflow_free=True)
    loading = time.perf_counter() - start
    return _Graph(name, file, session, np.array([session.logits(row) for row in data.rows], np.float32), loading)


def _measure(graph: _Graph, fp32: Logits, speed: Speed, data: TuningData) -> RecipeResult:
    kept = measure_fidelity(fp32, graph.logits, data.label_decoder, data.groups)
    coded = measure_agreement_loss(fp32, graph.logits, data.label_decoder, data.codes) if data.codes else None
    batch_flips = int(flipped(graph.logits, _in_batches(graph.session, data.rows), data.label_decoder).sum())
    return RecipeResult(
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
    """Score rows in batches of 32, in their given order."""
    batches = [session.batch_logits(rows[start : start + 32]) for start in range(0, len(rows), 32)]
    return np.concatenate(batches).astype(np.float32)


def _format_note(chosen: str, tried: Sequence[RecipeResult], data: TuningData) -> str:
    if chosen != "fp32":
        return f"{chosen} is served: the fastest graph that changes at most {data.max_flip_rate:.2%} of the labels."
    if any(_within_flip_rate(one, data.max_flip_rate) for one in tried if one.recipe != "fp32"):
        return "fp32 is served: every recipe within the allowed flip rate is slower on this processor."
    return f"fp32 is served: every recipe failed or changes more than {data.max_flip_rate:.2%} of the labels."
