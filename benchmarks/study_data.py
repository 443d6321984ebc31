"""Project folders and study files from human-coded sets with recorded LLM answers.

    python benchmarks/study_data.py SHARED OUT
    edgedistill study label-source OUT/label-source.yaml

SHARED holds `data/` with beetle, babe, hyperbole and intimacy. Written are, for each, a project with its rows split,
recorded votes as labels in the form of `labels.jsonl`, synthetic rows with one column for what the teacher coded again,
and the study files of the figures in docs/studies.md.

Beetle's validation rows are 160 train rows without recorded votes; test_ua judges, test_uq is the transfer set. BABE's
test rows are 600 of its train rows, because only those have votes. In the rows that Llama-2-70B wrote as hyperboles, a
remark in brackets at the end, such as `(Hyperbole)`, is cut off: it names the label.
"""

import argparse
import csv
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Row = dict[str, str]
BEETLE_INPUTS = ("question", "reference_answer", "response")
PROJECT = """\
name: {name}
task:
  kind: {kind}
  labels: {labels}
  inputs: {inputs}
data: {{human: human.csv}}
student: {{max_tokens: 64}}
"""
STUDENT = "{learning_rate: [1e-4], batch_size: [8], steps: 300}"
STUDIES = {
    "label-source": """\
name: label-source
tasks:
  - {{project: babe/project.yaml, texts: train, labels: {{gpt-4: babe/gpt_4.jsonl}}, positive: biased}}
  - {{project: beetle/project.yaml, texts: train, labels: {{recorded: beetle/labels.jsonl}}}}
validation: 150
student: {{learning_rate: [1e-4], batch_size: [8], steps: 200}}
label_source: {{human: [250, 600], teacher: [600], consistent_only: false}}
""",
    "label-source-1000": """\
name: label-source-1000
tasks:
  - {{project: babe/project.yaml, texts: train, labels: {{gpt-4: babe/gpt_4.jsonl}}, positive: biased}}
validation: 150
student: {student}
label_source: {{human: [250, 1000], teacher: [1000]}}
""",
    "teachers": """\
name: teachers
tasks:
  - project: babe/project.yaml
    texts: train
    labels: {{gpt-4: babe/gpt_4.jsonl, mixtral-8x7b: babe/mixtral_8x7b.jsonl, llama-13b: babe/llama_13b.jsonl}}
    positive: biased
validation: 150
student: {student}
teachers: {{rows: 600}}
""",
    "consistency": """\
name: consistency
tasks:
  - {{project: babe/project.yaml, texts: train, labels: {{gpt-4: babe/gpt_4.jsonl}}, positive: biased}}
validation: 150
student: {student}
consistency: {{thresholds: [0, 0.7, 0.9, 1], rows: 600}}
""",
    "ratio-beetle": """\
name: ratio-beetle
tasks:
  - {{project: beetle/project.yaml, synthetic: {{llm: beetle/synthetic.csv}}, transfer: beetle/test_uq.csv}}
validation: 100
student: {student}
ratio: {{human: [50, 100, 250], shares: [0, 0.5, 0.8]}}
""",
    "ratio-hyperbole": """\
name: ratio-hyperbole
tasks:
  - project: hyperbole/project.yaml
    synthetic: {{gpt-4: hyperbole/synthetic_gpt_4.csv, llama-2-70b: hyperbole/synthetic_llama_2_70b.csv}}
    positive: hyperbole
validation: 100
student: {student}
ratio: {{human: [50, 100, 250], shares: [0, 0.5, 0.8]}}
""",
    "ratio-intimacy": """\
name: ratio-intimacy
tasks:
  - project: intimacy/project.yaml
    synthetic: {{gpt-4: intimacy/synthetic_gpt_4.csv, llama-2-70b: intimacy/synthetic_llama_2_70b.csv}}
validation: 100
student: {student}
ratio: {{human: [50, 100, 250], shares: [0, 0.5, 0.8]}}
""",
}


def read(path: Path) -> list[Row]:
    """Read a CSV file."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def write(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    """Write a CSV file of these columns."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_project(
    folder: Path,
    labels: Sequence[str],
    *,
    inputs: Sequence[str] = ("response",),
    kind: str = "nominal",
) -> None:
    """Write a project file without a teacher."""
    listed = json.dumps([{"name": label} for label in labels])
    text = PROJECT.format(name=folder.name, kind=kind, labels=listed, inputs=json.dumps(list(inputs)))
    (folder / "project.yaml").write_text(text, "utf-8")


def split(rows: Sequence[Row], sizes: Mapping[str, int]) -> list[Row]:
    """Deal rows to the splits of stated sizes; the others are train rows. Always the same ones."""
    shuffled = random.Random(0).sample(list(rows), len(rows))  # noqa: S311 - a draw of rows, not a secret
    dealt, start = [], 0
    for name, size in sizes.items():
        dealt += [row | {"split": name} for row in shuffled[start : start + size]]
        start += size
    return dealt + [row | {"split": "train"} for row in shuffled[start:]]


def as_labels(votes: Path, teacher: str, parts: Iterable[str | None]) -> Iterable[str]:
    """Yield lines of `labels.jsonl`: the mode of a response's votes; ties and rows without votes are left out."""
    for line in votes.open(encoding="utf-8"):
        row = json.loads(line)
        given = [vote["label"] for vote in row["votes"]]
        counts = Counter(given).most_common()
        if row.get("part") not in parts or not given or (len(counts) > 1 and counts[0][1] == counts[1][1]):
            continue
        label, most = counts[0]
        yield json.dumps(
            {
                "id": row["id"],
                "label": label,
                "consistency": most / len(given),
                "shares": {name: count / len(given) for name, count in counts},
                "votes": given,
                "teacher": teacher,
            },
            ensure_ascii=False,
        )


def first_reference(row: Row) -> Row:
    """Keep the first of the reference answers, which tells items with the same question apart."""
    return row | {"reference_answer": row["reference_answer"].split("||")[0].strip()}


def beetle(data: Path, folder: Path) -> None:
    """Train rows with votes and as many others; 160 validation rows without votes; test_ua; test_uq for transfer."""
    voted = {json.loads(line)["id"] for line in (data / "votes.jsonl").open(encoding="utf-8")}
    train = [first_reference(row) for row in read(data / "train.csv")]
    dealt = split([row for row in train if row["id"] not in voted], {"validation": 160})
    rows = dealt + [row | {"split": "train"} for row in train if row["id"] in voted]
    rows += [row | {"split": "test"} for row in map(first_reference, read(data / "test_ua.csv"))]
    write(folder / "human.csv", rows, ("id", *BEETLE_INPUTS, "label", "split"))
    write(folder / "test_uq.csv", [*map(first_reference, read(data / "test_uq.csv"))], ("id", *BEETLE_INPUTS, "label"))
    again = {
        row["id"]: row["votes"][0]["label"]
        for row in map(json.loads, (data / "votes.jsonl").open(encoding="utf-8"))
        if row["part"] == "synthetic"
    }
    synthetic = [first_reference(row) | {"regraded": again.get(row["id"], "")} for row in read(data / "synthetic.csv")]
    write(folder / "synthetic.csv", synthetic, ("id", *BEETLE_INPUTS, "label", "regraded"))
    labels = as_labels(data / "votes.jsonl", "recorded", {"train", "test_ua"})
    (folder / "labels.jsonl").write_text("".join(f"{line}\n" for line in labels), "utf-8")
    write_project(folder, ("correct", "contradictory", "incorrect"), inputs=BEETLE_INPUTS)


def babe(data: Path, folder: Path) -> None:
    """600 test and 300 validation rows of the train rows, which have votes; three teachers."""
    rows = split(read(data / "train.csv"), {"test": 600, "validation": 300})
    write(folder / "human.csv", rows, ("id", "response", "label", "split"))
    for name in ("gpt_4", "mixtral_8x7b", "llama_13b"):
        labels = as_labels(data / f"votes_{name}.jsonl", name.replace("_", "-"), {None})
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in labels), "utf-8")
    write_project(folder, ("unbiased", "biased"))


def worker_vs_gpt(data: Path, folder: Path, labels: Sequence[str], kind: str) -> None:
    """200 validation rows of the train rows, the test rows as they are, and two writers' synthetic rows."""
    rows = split(read(data / "train.csv"), {"validation": 200})
    rows += [row | {"split": "test"} for row in read(data / "test.csv")]
    write(folder / "human.csv", rows, ("id", "response", "label", "split"))
    for name in ("synthetic_gpt_4.csv", "synthetic_llama_2_70b.csv"):
        synthetic = [row | {"response": without_remark(row["response"])} for row in read(data / name)]
        write(folder / name, synthetic, ("id", "response", "label"))
    write_project(folder, labels, kind=kind)


def without_remark(text: str) -> str:
    """Cut a remark in brackets that speaks of hyperbole off the end of a text."""
    return re.sub(r"\s*\([^()]*hyperbol[^()]*\)[.\s]*$", "", text, flags=re.IGNORECASE)


def main() -> None:
    """Write the folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    data = given.shared / "data"
    for name in ("beetle", "babe", "hyperbole", "intimacy"):
        (given.out / name).mkdir(parents=True, exist_ok=True)
    beetle(data / "beetle", given.out / "beetle")
    babe(data / "babe", given.out / "babe")
    worker_vs_gpt(data / "hyperbole", given.out / "hyperbole", ("not hyperbole", "hyperbole"), "nominal")
    levels = ("Not-intimate-at-all", "Not-intimate", "Not-very-intimate", "Somewhat-intimate", "Intimate")
    worker_vs_gpt(data / "intimacy", given.out / "intimacy", (*levels, "Very-intimate"), "ordinal")
    for name, text in STUDIES.items():
        (given.out / f"{name}.yaml").write_text(text.format(student=STUDENT), "utf-8")
    print(f"wrote {given.out}: {', '.join(f'{name}.yaml' for name in STUDIES)}")


if __name__ == "__main__":
    main()
