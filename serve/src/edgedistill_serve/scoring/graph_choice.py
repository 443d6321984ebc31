"""The parts of a bundle that score: its tokenizer, and a graph that passes the self-check on this machine.

The self-check scores the bundle's golden responses and compares the probabilities with the recorded ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.manifest import Golden, Precision
from edgedistill_serve.errors import BundleError, ScoringFailed, SelfCheckFailed
from edgedistill_serve.scoring.batching import GPU_BATCHING, Batching, GraphSession, find_invariant_batching
from edgedistill_serve.scoring.encoding import Encoded, Encoder
from edgedistill_serve.scoring.session import Device, Session
from edgedistill_serve.task.label_decoding import LabelDecoder

GraphOpener: TypeAlias = Callable[[Path, Device], GraphSession]
"""Opens a graph on a device; raises `BundleError` if it cannot run there."""

_INVARIANCE_ROWS = 16
"""Number of golden rows that are also scored in batches; more rows make loading slower."""


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """Result of scoring the golden responses on this machine.

    Attributes:
        precision: Precision of the graph.
        rows: Number of responses that were scored.
        difference: Largest absolute difference from a golden probability, in [0, 1].
        tolerance: Largest difference that is accepted.
    """

    precision: Precision
    rows: int
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the graph may be used on this machine."""
        return self.difference <= self.tolerance


def self_check(
    compute_logits: Callable[[Mapping[str, str]], NDArray[np.float64]],
    golden: Golden,
    precision: Precision,
    decoder: LabelDecoder,
) -> SelfCheck:
    """Score the golden responses and compare the probabilities.

    Args:
        compute_logits: Maps the inputs of a response to its logits, shape (labels,).
        golden: Responses with the logits that each graph gave when the bundle was written.
        precision: Precision of the graph; selects the expected logits and the tolerance.
        decoder: Turns logits into probabilities.

    Raises:
        ScoringFailed: A response cannot be scored.
    """
    difference = 0.0
    for row in golden.rows:
        expected = decoder.probabilities(np.array(row.expected(precision), dtype=np.float64))
        actual = decoder.probabilities(compute_logits(row.inputs))
        same_shape = actual.shape == expected.shape
        difference = max(difference, float(np.abs(actual - expected).max()) if same_shape else 1.0)
    return SelfCheck(precision, len(golden.rows), difference, golden.tolerance[precision])


@dataclass(frozen=True, slots=True)
class CheckedGraph:
    """A graph that passed its self-check.

    Attributes:
        session: The graph, warmed up.
        device: The device that runs it.
        check: Result of the self-check.
        batching: Size of the batches; None if each response must be scored alone because other rows of a batch would
            change its score. This is measured on CPUs only; on a GPU, rows always share batches.
        notes: Why other graphs of the bundle were rejected, and why rows do not share batches.
    """

    session: GraphSession
    device: Device
    check: SelfCheck
    batching: Batching | None
    notes: tuple[str, ...]


def load_encoder(bundle: Bundle) -> Encoder:
    """Return an encoder with the bundle's tokenizer.

    Raises:
        BundleError: The tokenizer cannot be read, or ``max_tokens`` leaves no token for a response.
    """
    try:
        encoder = Encoder(bundle.tokenizer_file, bundle.manifest.max_tokens)
    except Exception as error:  # noqa: BLE001  # tokenizers raises bare exceptions
        raise BundleError(f"the tokenizer cannot be read ({error})", where="tokenizer.json") from None
    if encoder.max_text_tokens < 1:
        raise BundleError(
            f"{bundle.manifest.max_tokens} tokens leave no room for a response", where="bundle.json, max_tokens"
        )
    return encoder


def load_checked_graph(
    bundle: Bundle, encoder: Encoder, *, gpu: bool, open_graph: GraphOpener | None = None
) -> CheckedGraph:
    """Return the first graph of a bundle that passes its self-check, warmed up with the longest sequence.

    Args:
        bundle: The bundle with the graphs.
        encoder: Its tokenizer.
        gpu: Whether to try the fp32 graph on a GPU first; int8 graphs are made for CPUs.
        open_graph: Opens a graph; `Session` by default.

    Raises:
        SelfCheckFailed: No graph passes.
    """
    open_graph = open_graph or partial(Session, overflow_free=bundle.manifest.int8_overflow_free)
    faults: list[str] = []
    for precision, device in _candidates(bundle, gpu=gpu):
        try:
            session, check = _open_and_check(bundle, encoder, precision, device, open_graph)
        except (BundleError, ScoringFailed) as error:
            faults.append(f"the {precision} graph fails on this {_device_name(device)}: {error}")
            continue
        if check.passed:
            place = " on the CPU" if gpu and device == "cpu" else ""
            notes = tuple(f"{fault}; {precision}{place} is used instead" for fault in faults)
            _warm_up(session, bundle.manifest.max_tokens)
            batching = GPU_BATCHING if device == "cuda" else _measure_batching(bundle, encoder, session)
            if bundle.manifest.batch_invariant and batching is None:
                notes = (*notes, "batching changes scores on this CPU; each response is scored alone")
            return CheckedGraph(session, device, check, batching, notes)
        faults.append(
            f"the {precision} graph's probabilities differ from the golden ones by up to {check.difference:.3g} "
            f"on this {_device_name(device)}; {check.tolerance:.3g} is accepted"
        )
    raise SelfCheckFailed(
        "; ".join(faults),
        where=bundle.manifest.name,
        hint="Do not use this bundle here. Export it with an fp32 graph as fallback, or use another CPU.",
    )


def _candidates(bundle: Bundle, *, gpu: bool) -> list[tuple[Precision, Device]]:
    first = bundle.manifest.precision
    has_fp32 = bundle.model_file("fp32") is not None and "fp32" in bundle.golden.tolerance
    on_gpu: list[tuple[Precision, Device]] = [("fp32", "cuda")] if gpu and has_fp32 else []
    fallback: list[tuple[Precision, Device]] = [("fp32", "cpu")] if first != "fp32" and has_fp32 else []
    return [*on_gpu, (first, "cpu"), *fallback]


def _open_and_check(
    bundle: Bundle, encoder: Encoder, precision: Precision, device: Device, open_graph: GraphOpener
) -> tuple[GraphSession, SelfCheck]:
    model = bundle.model_file(precision)
    if model is None:
        raise BundleError(f"the bundle has no {precision} graph", where=bundle.manifest.name)
    session = open_graph(model, device)

    def compute_logits(inputs: Mapping[str, str]) -> NDArray[np.float64]:
        return session.logits(encoder.encode([inputs])[0])

    return session, self_check(compute_logits, bundle.golden, precision, bundle.manifest.label_decoder)


def _measure_batching(bundle: Bundle, encoder: Encoder, session: GraphSession) -> Batching | None:
    """Return the batching that changes no score, if the bundle claims that there is one and this CPU confirms it."""
    if not bundle.manifest.batch_invariant:
        return None
    rows = encoder.encode([row.inputs for row in bundle.golden.rows[:_INVARIANCE_ROWS]])
    return find_invariant_batching(session, rows, bundle.manifest.max_tokens)


def _warm_up(session: GraphSession, tokens: int) -> None:
    """Let the graph allocate the memory for its longest sequence now, and not at the first request that needs it."""
    try:
        session.logits(Encoded((0,) * tokens, (0,) * tokens, tokens, truncated=False))
    except ScoringFailed:  # no text gives this sequence; the golden responses were scored
        return


def _device_name(device: Device) -> str:
    return "GPU" if device == "cuda" else "CPU"
