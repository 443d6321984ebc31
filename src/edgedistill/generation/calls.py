"""Which requests a generation makes: how many samples of which label, on which question, shown which examples."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgedistill.errors import ProjectFileError
from edgedistill.project.sections import GenerateSection
from edgedistill.records.coding import folded
from edgedistill.records.types import CodedResponse, TestRows, TrainRows, ValidationRows
from edgedistill.teacher import Codebook


@dataclass(frozen=True, slots=True)
class Call:
    """One request for samples.

    Attributes:
        label: What they are to be coded as.
        context: The inputs beside the response, such as the question.
        size: How many samples.
        number: Which of the requests with this label, context and temperature it is, from 0.
        temperature: At which they are written.
        examples: Human-coded responses of the label that it shows.
        persona: As whom to write; empty for nobody in particular.
        words: How long each sample is to be; None leaves it open.
    """

    label: str
    context: Mapping[str, str]
    size: int
    number: int
    temperature: float
    examples: tuple[CodedResponse, ...] = ()
    persona: str = ""
    words: int | None = None


def seed_rows(train: TrainRows, validation: ValidationRows, test: TestRows) -> TrainRows:
    """Return the train rows that may be shown: those whose response (folded) stands in no validation or test row."""
    locked = {folded(row.response.text) for rows in (validation, test) for row in rows}
    return TrainRows(tuple(row for row in train if folded(row.response.text) not in locked))


def plan_calls(seeds: TrainRows, codebook: Codebook, section: GenerateSection) -> tuple[Call, ...]:
    """Return the requests that give `per_label` samples of every label at every temperature.

    The samples of a label are spread evenly over the questions that occur in the seed rows. Each request shows
    examples of its own, those to its question first, chosen by a hash of label, question, request and id: the choice
    does not depend on the order of the file. Personas take turns; a length is that of a seed row of the label.

    Args:
        seeds: Human-coded train rows, from `seed_rows`.
        codebook: Its labels are written for.
        section: How many samples, at which temperatures, shown how many examples.

    Raises:
        ProjectFileError: There are no seed rows, or a label has fewer than examples are wanted.
    """
    if not len(seeds):
        raise ProjectFileError(
            "every human train row repeats a validation or test row, so that none can be shown",
            where="generate",
            mend="Code more responses.",
        )
    names = [name for name in codebook.inputs if name != "response"]
    contexts = sorted({tuple(row.response.inputs[name] for name in names) for row in seeds})
    calls: list[Call] = []
    for label in codebook.names:
        of_label = [row for row in seeds if row.label == label]
        _require(of_label, label, section.examples_per_prompt)
        for temperature in section.temperature:
            sizes = _sizes(contexts, label, section)
            for turn, (context, number, size) in enumerate(sizes):
                given = dict(zip(names, context, strict=True))
                ranked = _ranked(of_label, given, number)
                lengths = ranked if section.variation in ("length", "both") else []
                calls.append(
                    Call(
                        label=label,
                        context=given,
                        size=size,
                        number=number,
                        temperature=temperature,
                        examples=tuple(ranked[: section.examples_per_prompt]),
                        persona=section.personas[turn % len(section.personas)]
                        if section.variation in ("persona", "both")
                        else "",
                        words=len(lengths[-1].response.text.split()) if lengths else None,
                    )
                )
    return tuple(calls)


def _require(of_label: Sequence[CodedResponse], label: str, wanted: int) -> None:
    if len(of_label) < wanted:
        raise ProjectFileError(
            f"{wanted} examples of the label {label!r} are wanted, and {len(of_label)} human train rows can be shown",
            where="generate.examples_per_prompt",
            mend="Lower it, or code more responses of this label; rows that repeat a validation or test row are never "
            "shown.",
        )


def _sizes(
    contexts: Sequence[tuple[str, ...]], label: str, section: GenerateSection
) -> list[tuple[tuple[str, ...], int, int]]:
    """Context, number and size of each request for one label; first requests of all contexts come first."""
    share, more = divmod(section.per_label, len(contexts))
    ordered = sorted(contexts, key=lambda context: _hash(label, *context))
    calls = [
        (context, number, size)
        for place, context in enumerate(ordered)
        for number, size in enumerate(_parts(share + (place < more), section.samples_per_call))
    ]
    return sorted(calls, key=lambda call: call[1])


def _parts(total: int, most: int) -> Iterator[int]:
    while total > 0:
        yield min(total, most)
        total -= most


def _ranked(of_label: Sequence[CodedResponse], context: Mapping[str, str], number: int) -> list[CodedResponse]:
    """The rows of a label: those to the same question first, in an order of this request's own."""

    def rank(row: CodedResponse) -> tuple[bool, str]:
        elsewhere = any(row.response.inputs[name] != text for name, text in context.items())
        return elsewhere, _hash(row.label, *context.values(), str(number), row.response.id)

    return sorted(of_label, key=rank)


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
