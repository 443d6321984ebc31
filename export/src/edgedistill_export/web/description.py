"""The page's description of its bundle: `page.json`, and the golden responses with their tokens."""

from collections.abc import Sequence
from typing import Any

import msgspec

from edgedistill_export.web.patterns import to_javascript
from edgedistill_serve.bundle.guarantee import describe_guarantee
from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.manifest import NoveltyFit, ReviewRule
from edgedistill_serve.bundle.verdict import BundleVerdict
from edgedistill_serve.scoring.graph_choice import load_encoder
from edgedistill_serve.task.contexts import ShownContexts
from edgedistill_serve.task.redaction import Redaction, redaction_steps
from edgedistill_serve.task.redaction_rules import INVISIBLE, PLACEHOLDERS, RULE_SETS, SAME
from edgedistill_serve.task.scripts import COMBINING, SCRIPTS
from edgedistill_serve.task.task import CUT_ORDER, Kind, Label, Truncation, task_inputs
from edgedistill_serve.task.visible_text import (
    CHARACTER_REFERENCE,
    COMMENT_END,
    MARKUP,
    MARKUP_BUT_COMMENTS,
    PUNCTUATION,
    SPACE_LIKE,
    SPACE_LIKE_BEYOND,
)


class PageFile(msgspec.Struct, frozen=True):
    """A file that the page's scripts fetch.

    Attributes:
        path: Its path in the folder.
        integrity: Its SHA-256 as a subresource integrity value.
        bytes: Its size.
        what: Its name in progress messages.
    """

    path: str
    integrity: str
    bytes: int
    what: str


class PageDescription(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `page.json`; fields that `Manifest` has too have the same meaning.

    Attributes:
        cut_order: The order in which inputs lose tokens with the truncation ``question_first``.
        calibrated: Whether the probabilities were calibrated.
        promise: What is promised of the accepted responses, as sentences.
        verdict: What test rows say about the use of the bundle.
        redaction: The redaction steps with JavaScript patterns, and the characters of `fold`; None for no redaction.
        invisible: The patterns of `edgedistill_serve.task.visible_text`, for JavaScript.
        letters: The patterns of a letter of `ReviewRule.scripts`, and of a visible character.
        embedders: Who may show the page inside another page, as sources of the policy `frame-ancestors`, besides pages
            of its own origin; empty for nobody.
        promised: The share and the confidence of `promise`; None if nothing is promised.
        files: The files to fetch, by purpose.
    """

    name: str
    version: str
    kind: Kind
    labels: tuple[Label, ...]
    inputs: tuple[str, ...]
    max_tokens: int
    truncation: Truncation
    cut_order: tuple[str, ...]
    precision: str
    temperature: float
    thresholds: dict[str, float]
    calibrated: bool
    review: ReviewRule
    contexts: ShownContexts | None
    novelty: NoveltyFit | None
    promise: str
    promised: dict[str, float] | None
    embedders: tuple[str, ...]
    verdict: BundleVerdict
    redaction: dict[str, Any] | None
    invisible: dict[str, str]
    letters: dict[str, str]
    files: dict[str, PageFile]


def describe_page(bundle: Bundle, files: dict[str, PageFile], embedders: tuple[str, ...] = ()) -> PageDescription:
    """Return the content of `page.json`.

    Raises:
        WebFailed: A redaction pattern of the task cannot be translated to JavaScript.
    """
    manifest = bundle.manifest
    return PageDescription(
        name=manifest.name,
        version=manifest.version,
        kind=manifest.task.kind,
        labels=manifest.task.labels,
        inputs=manifest.task.inputs,
        max_tokens=manifest.max_tokens,
        truncation=manifest.truncation,
        cut_order=CUT_ORDER,
        precision=manifest.precision,
        temperature=manifest.temperature,
        thresholds=manifest.thresholds,
        calibrated=manifest.temperature != 1.0,
        review=manifest.review,
        contexts=manifest.contexts,
        novelty=manifest.novelty,
        promise=describe_guarantee(manifest.guarantee, manifest.precision),
        promised=_promised(bundle),
        embedders=embedders,
        verdict=manifest.known_verdict,
        redaction=describe_redaction(manifest.task.redact),
        invisible=invisible_patterns(),
        letters=letter_patterns(manifest.review.scripts),
        files=files,
    )


def _promised(bundle: Bundle) -> dict[str, float] | None:
    guarantee = bundle.manifest.guarantee
    if guarantee is None or bundle.manifest.precision not in guarantee.graphs:
        return None
    return {"share": guarantee.share, "confidence": guarantee.confidence}


def golden_with_tokens(bundle: Bundle) -> dict[str, Any]:
    """Return the bundle's golden responses, each with its expected token ids."""
    precision, task = bundle.manifest.precision, bundle.task
    encoded = load_encoder(bundle).encode([task_inputs(row.inputs, task) for row in bundle.golden.rows])
    return {
        "tolerance": bundle.golden.tolerance[precision],
        "noveltyTolerance": bundle.golden.novelty_tolerance.get(precision),
        "rows": [
            {
                "inputs": row.inputs,
                "ids": list(read.ids),
                "logits": list(row.expected(precision)),
                "novelty": row.novelty.get(precision),
            }
            for row, read in zip(bundle.golden.rows, encoded, strict=True)
        ],
    }


def invisible_patterns() -> dict[str, str]:
    """Return the patterns of a blank text's parts, and of a character that is not one, for JavaScript's flag ``u``."""
    beyond = "".join(f"\\u{{{first:x}}}-\\u{{{last:x}}}" for first, last in SPACE_LIKE_BEYOND)
    return {
        "spaces": f"[{SPACE_LIKE}{beyond}]+",
        "markup": MARKUP,
        "markup_but_comments": MARKUP_BUT_COMMENTS,
        "comment_end": COMMENT_END,
        "reference": CHARACTER_REFERENCE,
        "ink": f"[^{SPACE_LIKE}{beyond}{PUNCTUATION}]",
    }


def letter_patterns(scripts: Sequence[str]) -> dict[str, str]:
    """Return the patterns of `edgedistill_serve.task.scripts`, for JavaScript's flag ``u``.

    Args:
        scripts: Names in `SCRIPTS`.
    """
    beyond = "".join(f"\\u{{{first:x}}}-\\u{{{last:x}}}" for first, last in (*SPACE_LIKE_BEYOND, COMBINING))
    letters = "".join(f"\\u{{{first:x}}}-\\u{{{last:x}}}" for name in scripts for first, last in SCRIPTS[name])
    return {"letter": f"[{letters}]", "visible": f"[^{SPACE_LIKE}{beyond}]"}


def describe_redaction(redaction: Redaction | None) -> dict[str, Any] | None:
    """Return what the page's `redactor` needs; None for no redaction.

    Raises:
        WebFailed: A pattern cannot be translated to JavaScript.
    """
    if redaction is None:
        return None
    rules = RULE_SETS[redaction.rules]
    steps = [
        {
            "pattern": to_javascript(step.pattern),
            "placeholder": step.placeholder,
            "unchanged": to_javascript(step.unchanged or PLACEHOLDERS),
            "folded": step.folded,
        }
        for step in redaction_steps(redaction)
    ]
    return {
        "placeholders": to_javascript(PLACEHOLDERS),
        "same": ["".join(SAME), "".join(SAME.values())],
        "invisible": INVISIBLE,
        "passes": rules.passes,
        "isolated": rules.isolated,
        "steps": steps,
    }
