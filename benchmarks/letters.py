"""Which texts the letters of a response send to a person, and which of them the novelty misses.

    python benchmarks/letters.py FOLDER … --run PROJECT.yaml --out docs/results/letters.json

Each FOLDER has train.csv and test files test*.csv with the column ``response``: from the train rows follows whether
responses are judged by their letters; the test rows show how many known responses that sends to people. With a finished
run (its human.csv has the column split), the served graph scores the same odd texts, and the novelty's limits at 5 and
1 % false alarms are chosen on its validation rows.
"""

# ruff: noqa: RUF001  # other scripts

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgedistill.data import read_records
from edgedistill.decisions.familiar_scripts import MIN_LETTERS, familiar_scripts
from edgedistill.project import read_project
from edgedistill_export.novelty import choose_limit
from edgedistill_serve import Bundle, Scorer
from edgedistill_serve.task.scripts import count_letters

OTHER_SCRIPTS = (
    "Я не знаю ответа на этот вопрос.",
    "Лампа горит, потому что цепь замкнута.",
    "Η λάμπα ανάβει επειδή το κύκλωμα είναι κλειστό.",
    "لا أعرف الجواب",
    "المصباح يضيء لأن الدائرة مغلقة",
    "बल्ब जलता है क्योंकि परिपथ बंद है",
    "灯泡亮是因为电路是闭合的。",
    "わかりません。",
    "전구가 켜지는 것은 회로가 닫혀 있기 때문입니다.",
    "אני לא יודע את התשובה",
    "ไม่รู้",
)
WITHOUT_LETTERS = ("?", "1", "...", "123 456", "42", "!!!", "- - -", "2+2=4", "0", "100%", "...!", "3.14")
KINDS = {"other scripts": OTHER_SCRIPTS, "no letters": WITHOUT_LETTERS}


def responses(files: Sequence[Path]) -> list[str]:
    """The responses of CSV files."""
    texts = []
    for file in files:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            texts += [row["response"] for row in csv.DictReader(lines)]
    return texts


def of_texts(train: Sequence[str], test: Sequence[str]) -> dict[str, Any]:
    """What is judged, and how many texts of each kind have too few letters."""
    familiar = familiar_scripts([count_letters(text) for text in train])

    def few(texts: Sequence[str]) -> int:
        return sum(not count_letters(text).share(familiar.names) >= familiar.min_letters for text in texts)

    return {
        "train rows": len(train),
        "scripts": list(familiar.names),
        "judged": familiar.min_letters == MIN_LETTERS,
        "known": [few(test), len(test)],
    } | {kind: [few(texts), len(texts)] for kind, texts in KINDS.items()}


def of_run(project_file: Path) -> dict[str, Any]:
    """How many texts of each kind are unreadable or beyond the limits of the novelty."""
    project = read_project(project_file)
    scorer = Scorer(Bundle.load(project.run_folder / "bundle"), threads=1)
    rows = [dict(row.response.inputs) for row in read_records(project).splits.validation]
    novelty = [score.novelty or 0.0 for score in scorer.score(rows)]
    limits = {share: choose_limit(novelty, share) for share in (0.05, 0.01)}
    found: dict[str, Any] = {"validation rows": len(rows)}
    for kind, texts in KINDS.items():
        scores = scorer.score(list(texts))
        few = [not count_letters(text).share(["Latin"]) >= MIN_LETTERS for text in texts]
        unreadable = [score.unknown_share > 0.5 for score in scores]
        beyond = {
            share: [limit is not None and (score.novelty or 0.0) > limit for score in scores]
            for share, limit in limits.items()
        }
        found[kind] = {
            "texts": len(texts),
            "unreadable": sum(unreadable),
            **{
                f"unreadable or novel at {share}": sum(map(any, zip(unreadable, each, strict=True)))
                for share, each in beyond.items()
            },
            "too few letters": sum(few),
        }
    return found


def main() -> None:
    """Read the command line and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    found = {
        folder.name: of_texts(responses([folder / "train.csv"]), responses(sorted(folder.glob("test*.csv"))))
        for folder in options.folders
    }
    if options.run:
        found["run"] = of_run(options.run)
    options.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
