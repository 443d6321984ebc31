"""Responses with machine codes, and human codes of some."""

import numpy as np
import pandas as pd

LABELS = ("low", "middle", "high")


def responses(rows=600, coded=120, *, seed=0, accuracy=0.8, biased=True, clusters=60):
    """A machine table, the human codes of a random sample, and the human codes of all rows.

    The machine never codes ``high`` if it errs, so that its shares are biased.
    """
    rng = np.random.default_rng(seed)
    human = rng.choice(LABELS, size=rows, p=(0.3, 0.3, 0.4))
    wrong = rng.random(rows) > accuracy
    machine = np.where(wrong, "low" if biased else rng.choice(LABELS, size=rows), human)
    table = pd.DataFrame(
        {
            "id": [f"r{row}" for row in range(rows)],
            "label": machine,
            "condition": rng.choice(["control", "treated"], size=rows),
            "words": rng.normal(20, 5, size=rows).round(2),
            "learner": [f"s{row % clusters}" for row in range(rows)],
        }
    )
    codes = pd.DataFrame({"id": table["id"], "label": human}).sample(coded, random_state=seed)
    return table, codes, human
