"""The limit of novelty where validation rows are few: the largest one of them, or a multiple of the typical distance.

Of the human-coded rows of a finished run of the example praise, some train rows and a third as many validation rows are
drawn at random, many times. Their vectors, of the run's own student, give the distribution and the limit. Reported is
the share of texts of each kind beyond the limit, and of the rows that were not drawn (false alarms): the mean over
draws, and the 5 % and 95 % points.

    python benchmarks/novelty_few_rows.py praise/project.yaml --out docs/results/novelty_few_rows.json
"""

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from novelty import INJECTIONS, OTHER_LANGUAGES, WITHOUT_LETTERS, keyboard_noise

from edgedistill.data import read_records
from edgedistill.project import read_project
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.convert.exporter import to_onnx
from edgedistill_export.novelty import choose_limit, fit_novelty, read_vectors
from edgedistill_serve import Bundle

DRAWS = 200
VALIDATION_ROWS = (3, 6, 10, 12, 15, 18, 19, 25)
LEAST_TRAIN_ROWS = 30
MULTIPLES = (2.0, 3.0)
SCHOOL = (
    "quantum physics and cats are fun",
    "I had pizza for lunch and it was great",
    "my dog ate my homework yesterday",
    "The mitochondria is the powerhouse of the cell",
    "Napoleon lost the battle of Waterloo in 1815",
    "buy cheap watches online now",
    "the current runs back because it is a closed circuit",
    "Photosynthesis needs light, water and carbon dioxide",
    "idk lol whatever",
    "What time does the bus leave on Sunday?",
)
KINDS = {
    "sentences about other things": SCHOOL,
    "keyboard noise": tuple(keyboard_noise(30, random.Random(0))),  # noqa: S311  # a measurement
    "another language": tuple(OTHER_LANGUAGES),
    "prompt injection": INJECTIONS,
    "no letters": WITHOUT_LETTERS,
}


def main() -> None:
    """Read the command line and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    project = read_project(options.project)
    run, splits = project.run_folder, read_records(project).splits
    manifest = Bundle.load(run / "bundle").manifest
    student = Checkpoint.load(run / "student", manifest.task, manifest.max_tokens)
    rows = [dict(row.response.inputs) for split in (splits.train, splits.validation, splits.test) for row in split]
    odd = [{"response": text} for texts in KINDS.values() for text in texts]
    with tempfile.TemporaryDirectory() as work:
        to_onnx(student, Path(work) / "model.onnx")
        vectors = read_vectors(Path(work) / "model.onnx", student.encoder.encode([*rows, *odd]))
    if vectors is None:
        raise SystemExit("the student gives no vectors")
    known, others = vectors[: len(rows)], vectors[len(rows) :]
    found: dict[str, Any] = {"rows": len(rows), "draws": DRAWS}
    for number in VALIDATION_ROWS:
        train, rng = max(LEAST_TRAIN_ROWS, 3 * number), np.random.default_rng(number)
        shares: dict[str, dict[str, list[float]]] = {}
        for _ in range(DRAWS):
            order = rng.permutation(len(known))
            validation, rest = known[order[train : train + number]], known[order[train + number :]]
            model = fit_novelty(known[order[:train]], validation)
            if model is None:
                continue
            of_validation = model.novelty(validation)
            of_odd, start = model.novelty(others), 0
            limits = {f"{times:g} times": times for times in MULTIPLES}
            for name, limit in {"largest": choose_limit(of_validation, 0.05) or 0.0, **limits}.items():
                rule = shares.setdefault(name, {})
                rule.setdefault("false alarms", []).append(float((model.novelty(rest) > limit).mean()))
                start = 0
                for kind, texts in KINDS.items():
                    part = of_odd[start : start + len(texts)]
                    rule.setdefault(kind, []).append(float((part > limit).mean()))
                    start += len(texts)
        found[f"{number} validation rows"] = {
            "train rows": train,
            **{
                name: {
                    kind: [round(float(each), 3) for each in (np.mean(values), *np.quantile(values, [0.05, 0.95]))]
                    for kind, values in rule.items()
                }
                for name, rule in shares.items()
            },
        }
    options.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
