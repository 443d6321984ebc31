"""Which source says best whether a teacher is right: the share of its votes, or the confidence that it states?

    python benchmarks/teacher_confidence.py SHARED_DATA [--out docs/results/teacher_confidence.json]

SHARED_DATA contains `beetle/` (train.csv, test_ua.csv, votes.jsonl: three votes with a confidence each) and `babe/`
(train.csv, votes_*.jsonl: up to nine votes without one). Each vote was given once by an LLM; nothing is requested.

For each source: the calibration error over ten bins and the AUROC of being right, with 95 % intervals; rows of a
learner are resampled together. Calibrated versions are fitted on nine tenths of the rows and judged on the other tenth,
ten times, learners apart.
"""

import argparse
import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from edgedistill.agreement import certainty_metrics
from edgedistill.data.types import TeacherLabel
from edgedistill.teacher.voting import Vote, count_votes

Values = NDArray[np.float64]


def read_codes(file: Path) -> dict[str, str]:
    """Return the human code of each row by id."""
    with file.open(encoding="utf-8", newline="") as stream:
        return {row["id"]: row["label"] for row in csv.DictReader(stream)}


def read_votes(file: Path, codes: Mapping[str, str]) -> Iterator[tuple[str, list[Vote]]]:
    """Yield the id and the votes of each row with a human code and several votes."""
    for line in file.read_text("utf-8").splitlines():
        row = json.loads(line)
        votes = [Vote(vote["label"], None, vote.get("confidence")) for vote in row["votes"]]
        if row["id"] in codes and len(votes) > 1:
            yield row["id"], votes


def learner(ident: str) -> str:
    """Return the learner in an id of Beetle such as ``ITEM.sbj10-l2.qa118``; other rows are their own group."""
    return next((part for part in ident.split(".") if part.startswith("sbj")), ident)


def calibrated(columns: Values, right: NDArray[np.bool_], groups: Sequence[str], kind: str) -> Values:
    """Return the probability of being right of each row by a model that was fitted on other groups.

    Args:
        columns: The sources, (rows, sources).
        right: Whether each label is right, (rows,).
        groups: The group of each row.
        kind: ``platt``: logistic regression on the log odds; ``isotonic``: of the only source.
    """
    odds = np.log(np.clip(columns, 0.01, 0.99) / np.clip(1 - columns, 0.01, 0.99))
    found = np.zeros(len(right))
    for train, test in GroupKFold(n_splits=10, shuffle=True, random_state=0).split(columns, right, groups):
        if kind == "platt":
            found[test] = LogisticRegression(C=1e3).fit(odds[train], right[train]).predict_proba(odds[test])[:, 1]
        else:
            model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(columns[train, 0], right[train])
            found[test] = model.predict(columns[test, 0])
    return np.clip(found, 0, 1)


def measure(values: Values, right: NDArray[np.bool_], groups: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of one source as plain numbers."""
    own = None if len(set(groups)) == len(groups) else list(groups)
    found = asdict(certainty_metrics(values.tolist(), right.tolist(), groups=own))
    return {
        name: {end: round(number, 4) for end, number in each.items()} if isinstance(each, dict) else round(each, 4)
        for name, each in found.items()
    }


Source = Callable[[TeacherLabel], float | None]
SOURCES: dict[str, Source] = {
    "votes": lambda label: label.consistency,
    "confidence": lambda label: label.confidence,
    "confidence of agreeing votes": lambda label: (
        None
        if not label.confidences
        else float(np.mean([c for vote, c in zip(label.votes, label.confidences, strict=True) if vote == label.label]))
    ),
}


def compare(rows: Sequence[tuple[str, list[Vote]]], codes: Mapping[str, str], most: int) -> dict[str, Any]:
    """Return the metrics of each source by number of votes, and of calibrated versions with all votes."""
    groups = [learner(ident) for ident, _ in rows]
    result: dict[str, Any] = {"rows": len(rows), "groups": len(set(groups)), "by_votes": {}}
    for count in [each for each in (1, 2, 3, 5, most) if each <= most]:
        # A tie goes to the label of the earliest vote, so that every number of votes has the same rows.
        labels = [count_votes(ident, votes[:count], "first_vote", "recorded") for ident, votes in rows]
        known = [label for label in labels if label is not None]
        right = np.array([label.label == codes[label.id] for label in known])
        measured = {}
        for name, source in SOURCES.items():
            values = [source(label) for label in known]
            if None not in values and not (name == "votes" and count == 1):
                measured[name] = measure(np.array(values, dtype=np.float64), right, groups)
        result["by_votes"][str(count)] = {"accuracy": round(float(right.mean()), 4), "sources": measured}
    sources = [name for name in ("votes", "confidence") if all(SOURCES[name](label) is not None for label in known)]
    table = np.array([[SOURCES[name](label) for name in sources] for label in known], dtype=np.float64)
    result["calibrated"] = {
        f"{name}, {kind}": measure(calibrated(table[:, [place]], right, groups, kind), right, groups)
        for place, name in enumerate(sources)
        for kind in ("platt", "isotonic")
    }
    if len(sources) > 1:
        together = calibrated(table, right, groups, "platt")
        result["calibrated"]["votes and confidence, platt"] = measure(together, right, groups)
    return result


def main() -> None:
    """Compare the sources on Beetle and BABE and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/teacher_confidence.json"))
    options = parser.parse_args()
    beetle, babe = options.data / "beetle", options.data / "babe"
    codes = read_codes(beetle / "train.csv") | read_codes(beetle / "test_ua.csv")
    result = {"beetle": compare(list(read_votes(beetle / "votes.jsonl", codes)), codes, 3)}
    codes = read_codes(babe / "train.csv")
    for name in ("gpt_4", "mixtral_8x7b", "llama_13b"):
        every = [(ident, votes) for ident, votes in read_votes(babe / f"votes_{name}.jsonl", codes) if len(votes) >= 8]
        result[f"babe {name}"] = compare([(ident, votes[:8]) for ident, votes in every], codes, 8)
    options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    for name, found in result.items():
        print(name, found["rows"], "rows,", found["groups"], "groups")
        lines = {f"{n} votes, {s}": m for n, each in found["by_votes"].items() for s, m in each["sources"].items()}
        for source, measured in (lines | found["calibrated"]).items():
            ends = ("{value:.3f} [{low:.3f}, {high:.3f}]".format(**measured[each]) for each in ("ece", "auc"))
            print(f"  {source:42} mean {measured['mean']:.3f}  ECE {next(ends)}  AUROC {next(ends)}")


if __name__ == "__main__":
    main()
