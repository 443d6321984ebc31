"""A project whose backbone is tiny and random, and which has everything that an evaluation can show."""

import csv
import random

from edgedistill.data import read_records
from edgedistill.pipeline import Run, RunFolder
from edgedistill.project import read_project

from ..student.conftest import make_model, make_tokenizer, toy

PROJECT = """\
name: tiny
task: {labels: [{name: process}, {name: outcome}, {name: other}]}
data: {human: human.csv, unlabelled: responses.csv, reviewed: reviewed.csv}
student:
  backbone: ./backbone
  max_tokens: 24
  search: {learning_rate: [5e-3], batch_size: [8], epochs: [2]}
evaluation:
  positive: process
  coders: [second]
  subgroups: [school]
  population: population.csv
review: {aim: at_most_to_people, share: 0.3}
export: {precision: fp32}
"""


def add_columns(file, columns):
    """Write a table again with more columns, by functions of a row's number and its cells by name."""
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows = [row | {name: cell(number, row) for name, cell in columns.items()} for number, row in enumerate(rows)]
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_tiny(folder):
    """Write the project; one code in eight, and one of the second coder in five, is drawn by chance."""
    folder.mkdir(exist_ok=True)
    tokenizer = make_tokenizer("bert")
    tokenizer.save_pretrained(folder / "backbone")
    make_model("bert", len(tokenizer)).save_pretrained(folder / "backbone")
    draw = random.Random(0)
    labels, rows = ("process", "outcome", "other"), []
    for row, (label, text) in enumerate(toy(180, 3)):
        codes = [draw.choice(labels) if draw.random() < share else label for share in (1 / 8, 1 / 5)]
        rows.append(
            (f"h{row}", text, *codes, "north" if row % 5 else "south", ("train", "validation", "test")[row % 3])
        )
    draw.shuffle(rows)
    _write(folder / "human.csv", ("id", "response", "label", "second", "school", "split"), rows)
    for name, first, seed in (("responses.csv", "u", 4), ("population.csv", "p", 5)):
        _write(folder / name, ("id", "response"), [(f"{first}{n}", text) for n, (_, text) in enumerate(toy(60, seed))])
    (folder / "tiny.yaml").write_text(PROJECT)
    return folder / "tiny.yaml"


def run_of(file, **given):
    """A run of the project as it stands."""
    project = read_project(file)
    return Run(project, read_records(project), RunFolder(project.run_folder), **given)


def _write(file, columns, rows):
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])
