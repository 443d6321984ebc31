"""The parts of a bundle that score: its tokenizer, and a graph that gives its golden scores on this machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.manifest import Precision
from edgedistill_serve.errors import BundleError, ScoringFailed, SelfCheckFailed
from edgedistill_serve.scoring.batch_invariance import GraphSession, find_invariant_batching
from edgedistill_serve.scoring.batching import GPU_BATCHING, Batching
from edgedistill_serve.scoring.encoding import Encoded, Encoder
from edgedistill_serve.scoring.selfcheck import SelfCheck, self_check
from edgedistill_serve.scoring.session import Device, Session

GraphOpener: TypeAlias = Callable[[Path, Device], GraphSession]
"""Opens a graph on a device; raises `BundleError` where it cannot run there."""

_TRIED = 16
"""Golden rows that are scored in batches too; more make loading slower."""


@dataclass(frozen=True, slots=True)
class CheckedGraph:
    """A graph that passed.

    Attributes:
        session: The graph, warm.
        device: Where it runs.
        check: What its self-check found.
        batching: What a batch may hold; None where each response must be scored alone, since others in its batch would
            move its score. That is for a CPU to decide; on a GPU rows share batches.
        notes: What was wrong with those that were tried before it, and why rows do not share batches.
    """

    session: GraphSession
    device: Device
    check: SelfCheck
    batching: Batching | None
    notes: tuple[str, ...]


def load_encoder(bundle: Bundle) -> Encoder:
    """Return the bundle's tokenizer.

    Raises:
        BundleError: It cannot be read, or the bundle's longest sequence has no room for a response.
    """
    try:
        encoder = Encoder(bundle.tokenizer_file, bundle.manifest.max_tokens)
    except Exception as error:  # noqa: BLE001  # tokenizers raises bare exceptions
        raise BundleError(f"the tokenizer cannot be read ({error})", where="tokenizer.json") from None
    if encoder.room < 1:
        raise BundleError(
            f"{bundle.manifest.max_tokens} tokens leave no room for a response", where="bundle.json, max_tokens"
        )
    return encoder


def load_checked_graph(
    bundle: Bundle, encoder: Encoder, *, gpu: bool, open_graph: GraphOpener | None = None
) -> CheckedGraph:
    """Return the first graph of a bundle that gives its golden scores here, and warm it with its longest sequence.

    Args:
        bundle: Holds the graphs.
        encoder: Its tokenizer.
        gpu: Whether to try the fp32 graph on a GPU first; int8 is made for CPUs.
        open_graph: Opens a graph; `Session` where there is none.

    Raises:
        SelfCheckFailed: None does.
    """
    open_graph = open_graph or partial(Session, overflow_free=bundle.manifest.int8_overflow_free)
    faults: list[str] = []
    for precision, device in _candidates(bundle, gpu=gpu):
        try:
            session, check = _check(bundle, encoder, precision, device, open_graph)
        except (BundleError, ScoringFailed) as error:
            faults.append(f"the {precision} graph fails on this {_name(device)}: {error}")
            continue
        if check.passed:
            place = " on the CPU" if gpu and device == "cpu" else ""
            notes = tuple(f"{fault}; {precision}{place} is used instead" for fault in faults)
            _warm(session, bundle.manifest.max_tokens)
            batching = GPU_BATCHING if device == "cuda" else _batching(bundle, encoder, session)
            if bundle.manifest.batch_invariant and batching is None:
                notes = (*notes, "on this CPU a batch moves scores; each response is scored alone")
            return CheckedGraph(session, device, check, batching, notes)
        faults.append(
            f"the {precision} graph's probabilities differ by up to {check.difference:.3g} from its golden ones "
            f"on this {_name(device)}, {check.tolerance:.3g} is accepted"
        )
    raise SelfCheckFailed(
        "; ".join(faults),
        where=bundle.manifest.name,
        hint="Do not use this bundle here; export it with fp32 beside int8, or use another CPU.",
    )


def _candidates(bundle: Bundle, *, gpu: bool) -> list[tuple[Precision, Device]]:
    first = bundle.manifest.precision
    has_fp32 = bundle.model_file("fp32") is not None and "fp32" in bundle.golden.tolerance
    on_gpu: list[tuple[Precision, Device]] = [("fp32", "cuda")] if gpu and has_fp32 else []
    behind: list[tuple[Precision, Device]] = [("fp32", "cpu")] if first != "fp32" and has_fp32 else []
    return [*on_gpu, (first, "cpu"), *behind]


def _check(
    bundle: Bundle, encoder: Encoder, precision: Precision, device: Device, open_graph: GraphOpener
) -> tuple[GraphSession, SelfCheck]:
    model = bundle.model_file(precision)
    if model is None:
        raise BundleError(f"the bundle has no {precision} graph", where=bundle.manifest.name)
    session = open_graph(model, device)

    def logits_of(inputs: Mapping[str, str]) -> NDArray[np.float64]:
        return session.logits(encoder.encode([inputs])[0])

    return session, self_check(logits_of, bundle.golden, precision, bundle.manifest.label_decoder)


def _batching(bundle: Bundle, encoder: Encoder, session: GraphSession) -> Batching | None:
    """Return what a batch may hold and move no score: as the bundle says, and as is seen here."""
    if not bundle.manifest.batch_invariant:
        return None
    rows = encoder.encode([row.inputs for row in bundle.golden.rows[:_TRIED]])
    return find_invariant_batching(session, rows, bundle.manifest.max_tokens)


def _warm(session: GraphSession, tokens: int) -> None:
    """Let the graph take the memory of its longest sequence now, and not from the first who sends one."""
    try:
        session.logits(Encoded((0,) * tokens, (0,) * tokens, tokens, truncated=False))
    except ScoringFailed:  # a sequence that no text has; the golden responses were scored
        return


def _name(device: Device) -> str:
    return "GPU" if device == "cuda" else "CPU"
