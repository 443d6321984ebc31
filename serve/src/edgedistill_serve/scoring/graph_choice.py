"""The parts of a bundle that score: its tokenizer, and a graph that passes the self-check on this machine.

The self-check scores the bundle's golden responses and compares the probabilities with the recorded ones. It runs in a
child process first (`edgedistill_serve.scoring.isolated_check`), once for each bundle that this process loads.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.manifest import MODEL_FILES, Golden, Precision
from edgedistill_serve.errors import BundleError, ScoringFailed, SelfCheckFailed
from edgedistill_serve.scoring.batching import GPU_BATCHING, Batching, GraphSession, Outputs, find_invariant_batching
from edgedistill_serve.scoring.encoding import Encoded, Encoder, is_tokenizer_error
from edgedistill_serve.scoring.isolated_check import check_in_child
from edgedistill_serve.scoring.session import Device, Session
from edgedistill_serve.task.label_decoding import LabelDecoder

GraphOpener: TypeAlias = Callable[[Path, Device], GraphSession]
"""Opens a graph on a device; raises `BundleError` if it cannot run there."""

_INVARIANCE_ROWS = 16
"""Number of golden rows that are also scored in batches; more rows make loading slower."""


_SMALL = 1e-3
"""A novelty below this is compared by its absolute difference."""


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """Result of scoring the golden responses on this machine.

    Attributes:
        precision: Precision of the graph.
        rows: Number of responses that were scored.
        difference: Largest absolute difference from a golden probability, in [0, 1].
        tolerance: Largest difference that is accepted.
        novelty_difference: Largest relative difference from a golden novelty; None for a bundle without novelty.
        novelty_tolerance: Largest one that is accepted.
    """

    precision: Precision
    rows: int
    difference: float
    tolerance: float
    novelty_difference: float | None = None
    novelty_tolerance: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the graph may be used on this machine."""
        # Both comparisons are false for a number that is not one.
        return bool(self.difference <= self.tolerance) and self.novelty_passed

    @property
    def novelty_passed(self) -> bool:
        """Whether the graph's novelty may be used on this machine."""
        if self.novelty_difference is None or self.novelty_tolerance is None:
            return True
        return bool(self.novelty_difference <= self.novelty_tolerance)


def self_check(
    compute: Callable[[Mapping[str, str]], Outputs],
    golden: Golden,
    precision: Precision,
    decoder: LabelDecoder,
) -> SelfCheck:
    """Score the golden responses and compare the probabilities, and the novelty if they have one.

    Args:
        compute: Maps the inputs of a response to the outputs of the graph for this row.
        golden: Responses with the logits that each graph gave when the bundle was written.
        precision: Precision of the graph; selects the expected logits and the tolerance.
        decoder: Turns logits into probabilities.

    Raises:
        ScoringFailed: A response cannot be scored.
    """
    differences, novelty_differences = [1.0], []
    for row in golden.rows:
        found = compute(row.inputs)
        expected = decoder.probabilities(np.array(row.expected(precision), dtype=np.float64))
        actual = decoder.probabilities(found.logits.reshape(-1))
        if precision in row.novelty:
            novelty_differences.append(_relative_difference(found.novelty, row.novelty[precision]))
        comparable = actual.shape == expected.shape and actual.size > 0
        differences.append(float(np.abs(actual - expected).max()) if comparable else 1.0)
    compared = differences[1:] or differences  # without a row nothing was shown
    # A probability that is not a number is as far from the expected one as possible.
    difference = max(value if np.isfinite(value) else 1.0 for value in compared)
    return SelfCheck(
        precision,
        len(golden.rows),
        difference,
        golden.tolerance[precision],
        max(novelty_differences, default=None),
        golden.novelty_tolerance.get(precision),
    )


def _relative_difference(found: NDArray[np.float64] | None, expected: float) -> float:
    """Return the relative difference of one novelty; 1 or more if it cannot be compared."""
    if found is None or found.size != 1 or not np.isfinite(found).all():
        return 1.0
    return abs(float(found.item()) - expected) / max(expected, _SMALL)


@dataclass(frozen=True, slots=True)
class GraphChoice:
    """The graph of a bundle that passed its self-check on this machine.

    Attributes:
        device: The device that runs it.
        check: Result of the self-check.
        batching: Size of the batches; None if each response must be scored alone because other rows of a batch would
            change its score. This is measured on CPUs only; on a GPU, rows always share batches.
        notes: Why other graphs of the bundle were rejected, and why rows do not share batches.
    """

    device: Device
    check: SelfCheck
    batching: Batching | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckedGraph:
    """A graph that is ready to score.

    Attributes:
        encoder: The bundle's tokenizer.
        session: The graph, warmed up.
        choice: Why it was chosen.
    """

    encoder: Encoder
    session: GraphSession
    choice: GraphChoice


def load_encoder(bundle: Bundle) -> Encoder:
    """Return an encoder with the bundle's tokenizer.

    Raises:
        BundleError: The tokenizer cannot be read, or ``max_tokens`` leaves no token for a response.
    """
    try:
        encoder = Encoder(
            bundle.read_listed_file("tokenizer.json"), bundle.manifest.max_tokens, bundle.manifest.truncation
        )
    except BundleError:
        raise
    except BaseException as error:
        if not is_tokenizer_error(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"the tokenizer cannot be read ({reason})", where="tokenizer.json") from None
    if encoder.max_text_tokens < 1:
        raise BundleError(
            f"{bundle.manifest.max_tokens} tokens leave no room for a response", where="bundle.json, max_tokens"
        )
    return encoder


def load_checked_graph(bundle: Bundle, *, gpu: bool, open_graph: GraphOpener | None = None) -> CheckedGraph:
    """Return the first graph of a bundle that passes its self-check, warmed up with the longest sequence.

    Args:
        bundle: The bundle with the graphs.
        gpu: Whether to try the fp32 graph on a GPU first; int8 graphs are made for CPUs.
        open_graph: Opens a graph. By default onnxruntime does, after a child process has checked the bundle.

    Raises:
        SelfCheckFailed: No graph passes.
        BundleError: As `load_encoder`, or a file was changed since the bundle was loaded.
    """
    if open_graph is None and (choice := _choice_of_child(bundle, gpu=gpu)) is not None:
        encoder = load_encoder(bundle)
        session: GraphSession = _open_session(bundle, choice.check.precision, choice.device)
        _warm_up(session, bundle.manifest.max_tokens)
        return CheckedGraph(encoder, session, choice)
    return _choose(bundle, gpu=gpu, open_graph=open_graph)


def check_here(bundle: Bundle, *, gpu: bool) -> GraphChoice:
    """Run the self-check of a bundle in this process.

    Raises:
        SelfCheckFailed: No graph passes.
        BundleError: As `load_encoder`.
    """
    return _choose(bundle, gpu=gpu, open_graph=None).choice


_choices: dict[bytes, GraphChoice] = {}
"""The choices of children, by everything that a choice depends on. A server loads the same bundle again and again."""


def _choice_of_child(bundle: Bundle, *, gpu: bool) -> GraphChoice | None:
    # The manifest has the checksum of every other file.
    key = sha256(msgspec.json.encode([bundle.manifest, gpu])).digest()
    if key not in _choices:
        choice = check_in_child(bundle, GraphChoice, gpu=gpu)
        if choice is None:
            return None
        _choices[key] = choice
    return _choices[key]


def _choose(bundle: Bundle, *, gpu: bool, open_graph: GraphOpener | None) -> CheckedGraph:
    encoder = load_encoder(bundle)
    faults: list[str] = []
    for precision, device in _candidates(bundle, gpu=gpu):
        try:
            session = _open(bundle, precision, device, open_graph)
            check = _check(bundle, encoder, precision, session)
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
            return CheckedGraph(encoder, session, GraphChoice(device, check, batching, notes))
        faults.append(_fault(check, device))
    raise SelfCheckFailed(
        "; ".join(faults),
        where=bundle.manifest.name,
        hint="Do not use this bundle here. Export it with an fp32 graph as fallback, or use another CPU.",
    )


def _fault(check: SelfCheck, device: Device) -> str:
    difference, tolerance = check.difference, check.tolerance
    what = f"the {check.precision} graph's probabilities differ from the golden ones by up to"
    if not check.novelty_passed and difference <= tolerance:
        difference, tolerance = check.novelty_difference or 0.0, check.novelty_tolerance or 0.0
        what = f"the {check.precision} graph's novelty differs from the golden one by a share of up to"
    return f"{what} {difference:.3g} on this {_device_name(device)}; {tolerance:.3g} is accepted"


def _candidates(bundle: Bundle, *, gpu: bool) -> list[tuple[Precision, Device]]:
    first = bundle.manifest.precision
    has_fp32 = bundle.model_file("fp32") is not None and "fp32" in bundle.golden.tolerance
    on_gpu: list[tuple[Precision, Device]] = [("fp32", "cuda")] if gpu and has_fp32 else []
    fallback: list[tuple[Precision, Device]] = [("fp32", "cpu")] if first != "fp32" and has_fp32 else []
    return [*on_gpu, (first, "cpu"), *fallback]


def _open(bundle: Bundle, precision: Precision, device: Device, open_graph: GraphOpener | None) -> GraphSession:
    if open_graph is None:
        return _open_session(bundle, precision, device)
    model = bundle.model_file(precision)
    if model is None:
        raise _no_graph(bundle, precision)
    return open_graph(model, device)


def _open_session(bundle: Bundle, precision: Precision, device: Device) -> Session:
    """Open a graph from memory, so that the bytes that run are the bytes that were checked."""
    name = MODEL_FILES[precision]
    if name not in bundle.manifest.files:
        raise _no_graph(bundle, precision)
    return Session(
        bundle.read_listed_file(name),
        device,
        overflow_free=bundle.manifest.int8_overflow_free,
        name=PurePosixPath(name).name,
    )


def _no_graph(bundle: Bundle, precision: Precision) -> BundleError:
    return BundleError(f"the bundle has no {precision} graph", where=bundle.manifest.name)


def _check(bundle: Bundle, encoder: Encoder, precision: Precision, session: GraphSession) -> SelfCheck:
    def compute(inputs: Mapping[str, str]) -> Outputs:
        return session.run(encoder.encode([inputs]))

    return self_check(compute, bundle.golden, precision, bundle.manifest.label_decoder)


def _measure_batching(bundle: Bundle, encoder: Encoder, session: GraphSession) -> Batching | None:
    """Return the batching that changes no score, if the bundle claims that there is one and this CPU confirms it."""
    if not bundle.manifest.batch_invariant:
        return None
    rows = encoder.encode([row.inputs for row in bundle.golden.rows[:_INVARIANCE_ROWS]])
    return find_invariant_batching(session, rows, bundle.manifest.max_tokens)


def _warm_up(session: GraphSession, tokens: int) -> None:
    """Let the graph allocate the memory for its longest sequence now, and not at the first request that needs it."""
    try:
        session.run([Encoded((0,) * tokens, (0,) * tokens, tokens, truncated=False)])
    except ScoringFailed:  # no text gives this sequence; the golden responses were scored
        return


def _device_name(device: Device) -> str:
    return "GPU" if device == "cuda" else "CPU"
