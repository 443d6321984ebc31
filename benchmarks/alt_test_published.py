"""The alternative annotator test on the data that its authors publish, beside the figures that they print.

    git clone https://github.com/nitaytech/AltTest
    python benchmarks/alt_test_published.py AltTest/data

Prints, for each data set and model, winning rate and average advantage probability by the authors' t-test, which must
be those of their notebook `alt_test_example.ipynb`, and by the exact test.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from edgedistill.agreement import alt_test
from edgedistill_serve.task.task import Label, Task

SETS = {
    "wax": ("nominal", 0.1),
    "lgbteen": ("nominal", 0.2),
    "mtbench": ("nominal", 0.2),
    "framing": ("nominal", 0.15),
    "cebab_aspects": ("nominal", 0.1),
    "summeval": ("ordinal", 0.2),
    "10k_prompts": ("ordinal", 0.15),
    "cebab_stars": ("ordinal", 0.1),
    "lesion": ("ordinal", 0.15),
}
"""By data set, the kind of its labels and the ε of the authors."""


def scale(values: set[Any], kind: str) -> list[str]:
    """Return the labels in order; numbers in equal steps for an ordinal scale."""
    if kind == "nominal":
        return sorted(map(str, values))
    numbers = sorted({float(value) for value in values})
    step = min(after - before for before, after in pairwise(numbers))
    return [f"{numbers[0] + step * place:g}" for place in range(round((numbers[-1] - numbers[0]) / step) + 1)]


def main() -> None:
    """Print a line for each data set and model."""
    data = Path(sys.argv[1])
    for name, (kind, epsilon) in SETS.items():
        humans = json.loads((data / name / "human_annotations.json").read_text("utf-8"))
        models = json.loads((data / name / "llm_annotations.json").read_text("utf-8"))
        for model, given in models.items():
            ids = [ident for ident in {row: None for codes in humans.values() for row in codes} if ident in given]
            values = {value for codes in (*humans.values(), given) for value in codes.values()}
            task = Task(
                "ordinal" if kind == "ordinal" else "nominal", tuple(map(Label, scale(values, kind))), ("response",)
            )
            text = str if kind == "nominal" else lambda value: f"{float(value):g}"
            columns = {who: [text(codes[i]) if i in codes else None for i in ids] for who, codes in humans.items()}
            for decision in ("t", "exact"):
                found = alt_test(
                    [text(given[ident]) for ident in ids],
                    columns,
                    task,
                    epsilon=epsilon,
                    decision=decision,
                    resamples=1,
                )
                print(f"{name} {model} {decision}: {found.winning_rate:.2f} {found.advantage.value:.2f}")


if __name__ == "__main__":
    main()
