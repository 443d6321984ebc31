"""What the open requests will cost, told before the first of them is paid for.

Estimate    requests, tokens and dollars, from a few of the prompts themselves
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgedistill.teacher.request import TeacherRequest
from edgedistill.teacher.spending import Budget

SAMPLE = 20  # prompts that are rendered and counted
_BYTES_PER_TOKEN = 3.5  # English prose has about 4 bytes a token; JSON, code and other languages have fewer


@dataclass(frozen=True, slots=True)
class Estimate:
    """What some requests will take if each is answered at the first try.

    Attributes:
        requests: How many.
        input_tokens: Of all prompts, from the mean of the sampled ones.
        rule: How input tokens were estimated.
        sampled: Prompts that were counted.
        most_output_tokens: With every answer at its token limit.
        likely_output_tokens: At the mean of this stage's answers so far; None before there are any.
        input_nano_dollars: Cost of the input tokens; None where the price is unknown.
        most_nano_dollars: Cost with every answer at its token limit; None likewise.
        likely_nano_dollars: Cost at the mean of this stage's answers so far; None likewise.
    """

    requests: int
    input_tokens: int
    rule: str
    sampled: int
    most_output_tokens: int
    likely_output_tokens: int | None
    input_nano_dollars: int | None
    most_nano_dollars: int | None
    likely_nano_dollars: int | None

    @property
    def told(self) -> str:
        """The estimate in one line."""
        if not self.requests:
            return "estimate: every answer is in the cache; nothing will be asked"
        likely, dollars = "", "price unknown: tokens only"
        if self.likely_output_tokens is not None:
            likely = f" (about {self.likely_output_tokens:,}, going by the answers so far)"
        if self.input_nano_dollars is not None and self.most_nano_dollars is not None:
            dollars = f"${self.input_nano_dollars / 1e9:.4f} for the input, at most ${self.most_nano_dollars / 1e9:.4f}"
            if self.likely_nano_dollars is not None:
                dollars += f", about ${self.likely_nano_dollars / 1e9:.4f}"
        return (
            f"estimate: {self.requests:,} requests, about {self.input_tokens:,} input tokens ({self.rule}, from "
            f"{self.sampled} prompts), at most {self.most_output_tokens:,} output tokens{likely}; {dollars}"
        )


def estimate(requests: Sequence[TeacherRequest], total: int, budget: Budget) -> Estimate:
    """Return what ``total`` requests will take, going by some of them.

    Args:
        requests: The sample.
        total: How many requests there are.
        budget: Knows the price, the stage, and what the stage's answers took so far.
    """
    if not requests:
        return Estimate(0, 0, "", 0, 0, None, *([None] * 3) if budget.price is None else [0, 0, None])
    counted = sum(estimated_tokens(text) for request in requests for text in _texts(request))
    input_tokens = -(-counted * total // len(requests))
    most = -(-sum(request.max_output_tokens for request in requests) * total // len(requests))
    budget.ledger.catch_up()
    so_far = budget.ledger.stages().get(budget.stage)
    likely = None
    if so_far and so_far.known.requests and so_far.known.output_tokens:
        likely = -(-so_far.known.output_tokens * total // so_far.known.requests)
    return Estimate(
        total,
        input_tokens,
        f"estimated as UTF-8 bytes / {_BYTES_PER_TOKEN}",
        len(requests),
        most,
        likely,
        budget.amount(input_tokens, 0).nano,
        budget.amount(input_tokens, most).nano,
        None if likely is None else budget.amount(input_tokens, likely).nano,
    )


def estimated_tokens(text: str) -> int:
    """Return about how many tokens a text has, by its length in UTF-8; no model's own tokenizer is asked.

    The budget does not rely on this figure: it reserves one token for each byte (`spending.most_input_tokens`).
    """
    return math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN)


def sample_places(count: int) -> list[int]:
    """Return the places of the prompts to be counted among so many, evenly spread."""
    return sorted({place * count // SAMPLE for place in range(SAMPLE)}) if count else []


def _texts(request: TeacherRequest) -> list[str]:
    schema = [] if request.response_format is None else [json.dumps(request.response_format)]
    return [message["content"] for message in request.messages] + schema
