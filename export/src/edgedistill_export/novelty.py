"""Novelty: how far a text is from the training texts, computed by the graph that scores it.

The vectors of the training texts (`edgedistill_export.text_vectors`) are described by a normal distribution with a free
variance in each of a few principal directions and one common variance in all others, the maximum-likelihood fit of
Tipping and Bishop (1999), "Probabilistic Principal Component Analysis", equations 5 to 8. The novelty of a text is the
Mahalanobis distance of its vector from their mean (Lee et al. 2018, "A Simple Unified Framework for Detecting
Out-of-Distribution Samples", without their classes), divided by the median of the validation texts.

The limit is chosen on validation rows as in split conformal prediction (Bates et al. 2023, "Testing for Outliers with
Conformal p-values", section 2): of exchangeable responses, at most the stated share is expected beyond it.

>>> model = fit_novelty(training_vectors, validation_vectors)
>>> limit = choose_limit(model.novelty(validation_vectors), false_alarms=0.05)
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgedistill_export.convert.graph import Graph, make_node
from edgedistill_export.counting import counted
from edgedistill_export.text_vectors import VECTOR
from edgedistill_serve.cores import available_cores
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.onnxruntime_install import import_onnxruntime
from edgedistill_serve.scoring.session import NOVELTY, build_feeds

Vectors = npt.NDArray[np.float32]
"""Shape (rows, width)."""

LEAST_TEXTS = 30
"""Distinct training texts below which no distribution is fitted."""
DIRECTIONS = 128
"""Most principal directions; docs/decisions/0045-unlike-training.md has the figures of others."""
_TEXTS_PER_DIRECTION = 4
"""No direction rests on fewer texts on average, so that none is the vector of one learner's text."""
_SLACK = 1e-4
"""Share by which the limit is larger than the novelty of a validation row, which another processor rounds otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class NoveltyModel:
    """A fitted distribution of the vectors of training texts.

    Attributes:
        mean: Shape (width,).
        directions: Orthonormal principal directions, shape (width, directions).
        variances: Variance in each of them, shape (directions,), in descending order.
        rest: Variance in every other direction.
        typical: The distance whose novelty is 1.
        texts: Number of distinct training texts.
    """

    mean: npt.NDArray[np.float64]
    directions: npt.NDArray[np.float64]
    variances: npt.NDArray[np.float64]
    rest: float
    typical: float
    texts: int

    def novelty(self, vectors: Vectors) -> npt.NDArray[np.float64]:
        """Return the novelty of texts, shape (rows,); the arithmetic of the graph, in double precision."""
        distances = _distances(self, vectors)
        return np.asarray(distances / self.typical, dtype=np.float64)


def fit_novelty(training: Vectors, validation: Vectors) -> NoveltyModel | None:
    """Fit the distribution of the training texts' vectors.

    Args:
        training: Of the training texts; equal vectors are counted once.
        validation: Of the validation texts, whose median distance has the novelty 1.

    Returns:
        The model; None if there are fewer than `LEAST_TEXTS` distinct training texts, no validation text, or all
        vectors are almost equal.
    """
    distinct = np.unique(training, axis=0).astype(np.float64)
    texts, width = distinct.shape
    if texts < LEAST_TEXTS or not len(validation):
        return None
    mean = distinct.mean(axis=0)
    _, scales, rows = np.linalg.svd(distinct - mean, full_matrices=False)
    variances = scales**2 / (texts - 1)
    kept = min(DIRECTIONS, texts // _TEXTS_PER_DIRECTION, width - 1)
    rest = float(variances[kept:].sum() / (width - kept))
    if not rest > np.finfo(np.float32).eps * variances[0]:
        return None
    model = NoveltyModel(mean, rows[:kept].T, variances[:kept], rest, 1.0, texts)
    return replace(model, typical=float(np.median(_distances(model, validation))))


def choose_limit(novelty: Sequence[float] | npt.NDArray[np.float64], false_alarms: float) -> float | None:
    """Return the largest novelty that is accepted.

    With n validation rows, it is that of the row at place ⌈(n + 1) (1 - false_alarms)⌉ in ascending order: of further
    responses that are exchangeable with them, at most this share is expected beyond it. With fewer than `least_rows`
    rows there is no such place, and it is that of the last row: `expected_alarms` is then larger than the share.

    Args:
        novelty: Of the validation rows.
        false_alarms: The share, in (0, 1).

    Returns:
        The limit; None without rows.
    """
    if not len(novelty):
        return None
    place = min(len(novelty), math.ceil((len(novelty) + 1) * (1 - false_alarms) - 1e-9))
    return float(np.sort(novelty)[place - 1]) * (1 + _SLACK)


def expected_alarms(rows: int, false_alarms: float) -> float:
    """Return the share of further responses like the validation rows that may be beyond the limit, at most.

    It is the share that was asked for, or, with too few rows for it, 1 / (rows + 1): that of responses that are more
    novel than all of them.
    """
    return max(false_alarms, 1 / (rows + 1))


def least_rows(false_alarms: float) -> int:
    """Return the number of validation rows from which a limit with this share of false alarms can be chosen."""
    return math.ceil(1 / false_alarms - 1 - 1e-9)


def too_few_rows(rows: int, false_alarms: float) -> str:
    """Return the note on a limit that rests on fewer validation rows than the false alarms need."""
    return (
        f"{false_alarms:.2%} false alarms of novelty need {least_rows(false_alarms)} readable validation rows, and "
        f"there are {rows}: the most novel of them sets the limit, and of responses like them up to "
        f"{expected_alarms(rows, false_alarms):.2%} go to a person for it."
    )


def cannot_measure(training: Sequence[Mapping[str, str]], readable: int) -> str:
    """Return why too few rows can say what is unlike the training texts; empty if there are enough.

    Args:
        training: The inputs of the training texts; empty: novelty is not to be measured.
        readable: Number of readable validation rows.
    """
    distinct = len({tuple(sorted(row.items())) for row in training})
    if 0 < distinct < LEAST_TEXTS:
        return f"there are {distinct} distinct training texts, and {LEAST_TEXTS} are needed"
    return "no validation row is readable" if distinct and not readable else ""


def read_vectors(file: Path, rows: Sequence[Encoded]) -> Vectors | None:
    """Return the vectors that a graph computes, each row alone; None if it has no such output."""
    session = import_onnxruntime().InferenceSession(str(file), _one_thread(), providers=["CPUExecutionProvider"])
    if VECTOR not in [output.name for output in session.get_outputs()]:
        return None
    names = [node.name for node in session.get_inputs()]

    def vector(row: Encoded) -> Vectors:
        feeds = build_feeds([row])
        found: Vectors = session.run([VECTOR], {name: feeds[name] for name in names})[0][0]
        return found

    with ThreadPoolExecutor(available_cores()) as callers:
        return np.array(list(counted(callers.map(vector, rows))), dtype=np.float32)


def write_with_novelty(source: Path, target: Path, model: NoveltyModel | None) -> None:
    """Copy a graph with the output ``novelty``, of shape (rows,), in the place of the vector; without either for None.

    Raises:
        ExportFailed: The graph cannot be read or written.
    """
    graph = Graph(source)
    outputs = [output for output in graph.proto.output if output.name != VECTOR]
    del graph.proto.output[:]
    graph.proto.output.extend(outputs)
    if model is not None:
        graph.proto.node.extend(_nodes(graph, model))
        graph.proto.output.append(helper.make_tensor_value_info(NOVELTY, TensorProto.FLOAT, ["batch_size"]))
    graph.save(target)


def _nodes(graph: Graph, model: NoveltyModel) -> list[onnx.NodeProto]:
    """Return the nodes of ``‖P (x - mean)‖ / typical`` with P the square root of the inverse covariance.

    P = I / √rest + V (diag(1 / √variances) - I / √rest) Vᵀ, with the directions V.
    """
    plain = 1 / math.sqrt(model.rest)
    along = (1 / np.sqrt(model.variances) - plain)[:, None] * model.directions.T
    constants = {
        "mean": model.mean,
        "directions": model.directions,
        "along": along / model.typical,
        "plain": np.array(plain / model.typical),
    }
    names = {
        name: graph.add_constant(f"{NOVELTY}.{name}", values.astype(np.float32)) for name, values in constants.items()
    }
    axis = graph.add_constant(f"{NOVELTY}.axis", np.array([1], dtype=np.int64))
    part = f"{NOVELTY}."
    return [
        make_node("Sub", [VECTOR, names["mean"]], part + "centred"),
        make_node("MatMul", [part + "centred", names["directions"]], part + "projected"),
        make_node("MatMul", [part + "projected", names["along"]], part + "moved"),
        make_node("Mul", [part + "centred", names["plain"]], part + "scaled"),
        make_node("Add", [part + "scaled", part + "moved"], part + "whitened"),
        make_node("Mul", [part + "whitened", part + "whitened"], part + "squared"),
        make_node("ReduceSum", [part + "squared", axis], part + "sum", keepdims=0),
        make_node("Sqrt", [part + "sum"], NOVELTY),
    ]


def _distances(model: NoveltyModel, vectors: Vectors) -> npt.NDArray[np.float64]:
    """Return Mahalanobis distances from the mean, shape (rows,)."""
    centred = vectors.astype(np.float64) - model.mean
    projected = centred @ model.directions
    beside = centred - projected @ model.directions.T
    squared = (projected**2 / model.variances).sum(axis=1) + (beside**2).sum(axis=1) / model.rest
    return np.asarray(np.sqrt(squared), dtype=np.float64)


def _one_thread() -> object:
    options = import_onnxruntime().SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return options
