"""Validation of the manifest and of the golden rows beyond their types."""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise

from edgedistill_serve.bounds import (
    COUNT,
    COUNT_OR_NONE,
    LOGIT,
    MAX_TOKENS,
    NOVELTY,
    SHARE,
    TEMPERATURE,
    THRESHOLD,
    TOLERANCE,
)
from edgedistill_serve.bundle.files import MAX_FILES, max_file_bytes
from edgedistill_serve.bundle.guarantee import Guarantee, GuaranteedPart, least_p_value
from edgedistill_serve.bundle.manifest import (
    MODEL_FILES,
    NEVER_ACCEPTED,
    REVIEW_ALL,
    Golden,
    GoldenRow,
    Manifest,
    Precision,
)
from edgedistill_serve.errors import BundleError
from edgedistill_serve.task.contexts import HASH, has_context
from edgedistill_serve.task.scripts import SCRIPTS
from edgedistill_serve.task.task import INPUTS, Task, reserved_label_names

REQUIRED_FILES = ("tokenizer.json", "golden.json")
"""Files that every bundle lists, in addition to the served graph."""

CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""The control characters of Unicode (category Cc), line separators, and those that change the direction of text."""


def printable(text: str) -> str:
    r"""Return a text whose control characters are escapes, such as ``\\x1b``, so that a terminal does not obey them."""
    if text.isprintable():
        return text
    return CONTROL_CHARACTERS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def check_manifest(manifest: Manifest) -> None:
    """Check the content of `bundle.json`.

    Raises:
        BundleError: A value is invalid; the message names the first one.
    """
    _check(_manifest_faults(manifest), "bundle.json")


def check_golden(golden: Golden, manifest: Manifest) -> None:
    """Check that `golden.json` matches the manifest.

    Raises:
        BundleError: A value is invalid; the message names the first one.
    """
    _check(_golden_faults(golden, manifest), "golden.json")


def _check(faults: Iterator[tuple[str, str]], file: str) -> None:
    for key, fault in faults:
        raise BundleError(fault, where=f"{file}, {key}", hint="Export the bundle again.")


def _manifest_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield from _task_faults(manifest.task)
    if not manifest.name.strip():
        yield "name", "the name is empty"
    names = {"name": manifest.name, "version": manifest.version, "task.labels": "".join(manifest.task.names)}
    for key, text in names.items():
        if CONTROL_CHARACTERS.search(text):
            yield key, "a control character could change what terminals and logs show"
    if manifest.max_tokens not in MAX_TOKENS:
        yield "max_tokens", f"the value is not {MAX_TOKENS}"
    if manifest.temperature not in TEMPERATURE:
        yield "temperature", f"the temperature is not {TEMPERATURE}"
    yield from _threshold_faults(manifest)
    yield from _review_faults(manifest)
    yield from _letter_faults(manifest)
    yield from _guarantee_faults(manifest)
    yield from _verdict_faults(manifest)
    yield from _novelty_faults(manifest)
    yield from _context_faults(manifest)
    yield from _file_faults(manifest)


def _file_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if len(manifest.files) > MAX_FILES:
        yield "files", f"there are {len(manifest.files)} files, {MAX_FILES} are allowed"
    for name, entry in manifest.files.items():
        if not 0 <= entry.bytes <= max_file_bytes(name):
            yield "files", f"{name[:200]} has {entry.bytes} bytes, {max_file_bytes(name)} are allowed"
    for file in (*REQUIRED_FILES, MODEL_FILES[manifest.precision]):
        if file not in manifest.files:
            yield "files", f"{file} is not listed"


def _threshold_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    expected = manifest.task.names if manifest.task.kind == "multilabel" else ()
    for label in expected:
        if label not in manifest.thresholds:
            yield "thresholds", f"the label {label!r} has no threshold"
    for label, threshold in manifest.thresholds.items():
        if label not in expected:
            yield "thresholds", f"{label!r} is not a label of a multilabel task"
        if threshold not in THRESHOLD:
            yield "thresholds", f"the threshold of {label!r} is not between 0 and 1"


def _review_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if not _is_threshold(manifest.review.least_certainty):
        yield "review.least_certainty", f"the value is not between 0 and 1, or {NEVER_ACCEPTED:g} (never accepted)"
    if manifest.review.least_certainty and manifest.task.kind != "multilabel":
        yield "review.least_certainty", f"a {manifest.task.kind} task uses review.thresholds instead"
    if manifest.review.thresholds and manifest.task.kind == "multilabel":
        yield "review.thresholds", "a multilabel task uses review.least_certainty instead"
    if manifest.review.max_unknown_share not in SHARE:
        yield "review.max_unknown_share", "the value is not between 0 and 1"
    for label, threshold in manifest.review.thresholds.items():
        if label not in manifest.task.names:
            yield "review.thresholds", f"{label!r} is not a label of the task"
        if not _is_threshold(threshold):
            yield (
                "review.thresholds",
                f"the threshold of {label!r} is not between 0 and 1, or {NEVER_ACCEPTED:g} (never accepted)",
            )


def _letter_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if unknown := set(manifest.review.scripts) - SCRIPTS.keys():
        yield "review.scripts", f"{min(unknown)[:200]!r} is not the name of a script"
    if manifest.review.min_letters not in SHARE or (manifest.review.min_letters and not manifest.review.scripts):
        yield "review.min_letters", "the value is not between 0 and 1, or there are no scripts"


def _is_threshold(value: float) -> bool:
    return value in SHARE or value == NEVER_ACCEPTED


def _guarantee_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if (given := manifest.guarantee) is None:
        return
    for name in ("share", "confidence"):
        if getattr(given, name) not in THRESHOLD:
            yield f"guarantee.{name}", f"the value is not {THRESHOLD}"
    yield from _evidence_faults(given)
    yield from _promised_faults(given, manifest)


_ROUNDING = 1 + 1e-9


def _promised(given: Guarantee) -> str:
    compared = f"{given.compared} compared students"
    return f"a share of at most {given.share:g} with {given.confidence:.6g} confidence ({compared})"


def _evidence_faults(given: Guarantee) -> Iterator[tuple[str, str]]:
    """Yield numbers that cannot be, or do not show what is promised."""
    for name in ("rows", "units", "questions"):
        if getattr(given, name) not in COUNT_OR_NONE:
            yield f"guarantee.{name}", f"the value is not {COUNT_OR_NONE}"
    if given.compared not in COUNT:
        yield "guarantee.compared", f"the value is not {COUNT}"
    for name, part in _evidence(given):
        if not 0 <= part.wrong <= part.accepted <= given.rows:
            yield f"guarantee.{name}accepted", "the numbers do not satisfy wrong ≤ accepted ≤ rows"
        elif not 0 <= part.bound <= given.share:
            yield f"guarantee.{name}bound", f"the value is not between 0 and the promised share of {given.share:g}"
        elif not least_p_value(part, given.share) <= (1 - given.confidence) / given.compared * _ROUNDING:
            yield (
                f"guarantee.{name}accepted",
                f"{part.wrong} wrong of {part.accepted} accepted rows do not show {_promised(given)}",
            )


def _evidence(given: Guarantee) -> Iterator[tuple[str, GuaranteedPart]]:
    """Yield the evidence that must show the promise, with its name: of each label, or of all and of each group."""
    for name, part in given.labels.items():
        yield f"labels.{name[:200]}.", part
    if not given.labels:
        yield "", GuaranteedPart(given.accepted, given.wrong, given.bound)
        for name, part in given.groups.items():
            yield f"groups.{name[:200]}.", part


def _promised_faults(given: Guarantee, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield what a guarantee says of other things than the bundle has."""
    if set(given.labels) - set(manifest.task.names):
        yield "guarantee.labels", "a name is not a label of the task"
    thresholds = manifest.review.thresholds
    if given.labels and (
        others := [name for name in manifest.task.names if name not in given.labels and _accepts(name, thresholds)]
    ):
        yield "guarantee.labels", f"the rule accepts {others[0]!r}, for which nothing is promised"
    if given.scope == "validated questions" and not _only_validated_questions(manifest):
        yield "guarantee.scope", "the promise is for the validated questions, but others are accepted, too"
    if manifest.precision not in given.graphs:
        yield "guarantee.graphs", f"the scores of the {manifest.precision} graph, which is served, were not tested"


def _accepts(label: str, thresholds: Mapping[str, float]) -> bool:
    return thresholds.get(label, 0.0) < NEVER_ACCEPTED


def _only_validated_questions(manifest: Manifest) -> bool:
    return manifest.review.new_question and manifest.contexts is not None and manifest.contexts.closed


def _verdict_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if (given := manifest.verdict) is None:
        return
    if CONTROL_CHARACTERS.search(given.headline + given.reason):
        yield "verdict", "a control character could change what terminals and logs show"
    if not given.headline.strip():
        yield "verdict.headline", "the sentence is empty"
    if set(given.labels) - set(manifest.task.names):
        yield "verdict.labels", "a name is not a label of the task"
    if given.is_validated != bool(given.labels):
        yield (
            "verdict.labels",
            f"a verdict that is {given.status} {'needs' if given.is_validated else 'covers no'} labels",
        )


def _novelty_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    limit, fit = manifest.review.max_novelty, manifest.novelty
    if limit is not None and limit not in NOVELTY:
        yield "review.max_novelty", f"the value is not {NOVELTY}"
    if limit not in (None, REVIEW_ALL) and fit is None:
        yield "review.max_novelty", "the graphs compute no novelty"
    if fit is None:
        return
    for name in ("training_rows", "directions", "validation_rows", "flagged"):
        if getattr(fit, name) not in COUNT_OR_NONE:
            yield f"novelty.{name}", f"the value is not {COUNT_OR_NONE}"
    if fit.flagged > fit.validation_rows:
        yield "novelty.flagged", f"the value is larger than that of the {fit.validation_rows} validation rows"
    if fit.false_alarms is not None and fit.false_alarms not in SHARE:
        yield "novelty.false_alarms", "the value is not between 0 and 1"


def _context_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    contexts = manifest.contexts
    if contexts is None:
        return
    if not has_context(manifest.task):
        yield "contexts", "the task has no input besides the response"
    if not 1 <= contexts.distinct <= contexts.rows:
        yield "contexts.distinct", f"the value is not between 1 and the {contexts.rows} validation rows"
    if len(set(contexts.hashes)) != (contexts.distinct if contexts.closed else 0):
        yield "contexts.hashes", "a closed set needs one hash for each context, an open one has none"
    if not all(HASH.fullmatch(each) for each in contexts.hashes):
        yield "contexts.hashes", "a hash does not have 32 hexadecimal digits"


def _task_faults(task: Task) -> Iterator[tuple[str, str]]:
    if len(task.labels) < 2:
        yield "task.labels", "a task needs at least two labels"
    if any(not name.strip() for name in task.names):
        yield "task.labels", "a label has an empty name"
    for before, after in pairwise(sorted(task.names)):
        if before == after:
            yield "task.labels", f"two labels have the name {before!r}"
    if task.kind == "multilabel":
        for name in reserved_label_names(task):
            yield "task.labels", f"a multilabel task cannot have a label {name!r}"
    if task.inputs[-1:] != ("response",) or len(set(task.inputs)) < len(task.inputs) or set(task.inputs) - set(INPUTS):
        yield "task.inputs", f"the inputs must be a selection of {', '.join(INPUTS)}, each once, ending with response"


def _golden_faults(golden: Golden, manifest: Manifest) -> Iterator[tuple[str, str]]:
    if not golden.rows:
        yield "rows", "there are no golden rows"
    for index, row in enumerate(golden.rows):
        for fault in _golden_row_faults(row, manifest):
            yield f"rows[{index}]", fault
    yield from _tolerance_faults("tolerance", golden.tolerance, manifest.precision)
    if manifest.novelty is not None:
        yield from _tolerance_faults("novelty_tolerance", golden.novelty_tolerance, manifest.precision)


def _tolerance_faults(name: str, tolerances: Mapping[Precision, float], served: Precision) -> Iterator[tuple[str, str]]:
    if served not in tolerances:
        yield name, f"the precision {served} has no tolerance"
    for precision, tolerance in tolerances.items():
        if tolerance not in TOLERANCE:
            yield f"{name}.{precision}", f"the tolerance is not {TOLERANCE}"


def _golden_row_faults(row: GoldenRow, manifest: Manifest) -> Iterator[str]:
    for logits in (row.logits, *row.logits_by_precision.values()):
        if len(logits) != len(manifest.task.labels):
            yield f"{len(logits)} logits for {len(manifest.task.labels)} labels"
        if any(logit not in LOGIT for logit in logits):
            yield f"a logit is not {LOGIT}"
    if manifest.novelty is not None and manifest.precision not in row.novelty:
        yield f"the precision {manifest.precision} has no novelty"
    if any(novelty not in NOVELTY for novelty in row.novelty.values()):
        yield f"a novelty is not {NOVELTY}"
    if set(row.inputs) != set(manifest.task.inputs):
        yield f"the inputs must be {', '.join(manifest.task.inputs)}"
