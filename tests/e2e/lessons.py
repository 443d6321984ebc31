"""A small lesson that a real backbone learns in seconds, with a teacher on a real socket."""

import csv
import random
import subprocess

from ..edgedistill.teacher.stand_in import coded, text_of
from ..processes import PROGRAMS, SLOWEST, run

PROJECT = """\
name: lesson
task:
  instructions: Code the praise.
  labels: [{{name: process, definition: Praises effort.}}, {{name: outcome, definition: Praises the result.}}]
data: {{human: human.csv, unlabelled: responses.csv, split: {{train: 0.4, validation: 0.3, test: 0.3}}}}
teacher:
  base_url: {base_url}
  model: stand-in
  api_key_env: null
  votes: 2
  tries: 2
  gate: {{metric: kappa, at_least: 0.6}}
student:
  max_tokens: 32
  search: {{learning_rate: [1e-4], batch_size: [8], epochs: [2]}}
"""


MORE = [
    "you",
    "the",
    "a",
    "bulb",
    "circuit",
    "again",
    "so",
    "very",
    "now",
    "please",
    "look",
    "battery",
    "is",
    "it",
    "page",
    "what",
]
"""Words that the tiny backbones of other tests know."""


def responses(first, count):
    """(id, text, label): what was praised decides the label; no text nearly repeats another one."""
    effort, result = ("tried again and again", "worked hard at it"), ("got it right", "are so clever")
    for i in range(first, first + count):
        label, phrases = (("process", effort), ("outcome", result))[i % 2]
        more = " ".join(random.Random(i).sample(MORE, 11))
        yield f"r{i}", f"Jordan, you {phrases[i // 2 % 2]} with fraction number {i}: {more}", label


def judge(body, _before):
    """The stand-in's script: it codes as the human coders do."""
    return coded("process" if any(word in text_of(body) for word in ("tried", "worked")) else "outcome")


def disagree(body, _before):
    """A teacher that codes everything the same."""
    return coded("outcome")


def write_lesson(folder, base_url):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "project.yaml").write_text(PROJECT.format(base_url=base_url), "utf-8")
    for name, header, rows in (
        ("human.csv", ["id", "response", "label"], list(responses(0, 100))),
        ("responses.csv", ["id", "response"], [row[:2] for row in responses(100, 20)]),
    ):
        with (folder / name).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([header, *rows])
    return folder / "project.yaml"


def command(*parts, expect=0, cwd=None, anew=False):
    """Run one of the two programs as a user does; its output and errors.

    With `anew` it imports everything itself, for seconds, as it does for a user.
    """
    if anew:
        asked = [PROGRAMS / parts[0], *map(str, parts[1:])]
        done = subprocess.run(asked, capture_output=True, text=True, cwd=cwd, timeout=SLOWEST)
    else:
        done = run(*parts, cwd=cwd)
    assert done.returncode == expect, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done
