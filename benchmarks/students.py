"""How good students are by training set, preset and backbone, on five sets.

    python benchmarks/students.py DATA --out FOLDER --runs few-rows
    python benchmarks/students.py DATA --out FOLDER --runs all-rows label-source
    python benchmarks/students.py DATA --out FOLDER --runs label-source --sets babe --backbone bge-small
    python benchmarks/students.py DATA --out FOLDER --summary docs/results/students.json

DATA has folders beetle, networks, babe, hyperbole and intimacy with train.csv and test files. FOLDER gets a file per
run with the labels of the test rows; a run whose file is there is not made again, so that a stopped benchmark
continues. Train rows are shuffled once: the first 100 (``few-rows``), 150 (``label-source``) or 400 (``all-rows``) are
validation rows, which select the epoch, and the others are training rows. A training row that equals a test row stays,
as in the official splits. Test rows choose nothing; BABE's are those of test.csv, except for ``label-source``, whose
test rows are 600 train rows that GPT-4 coded.

    few-rows        100 and 250 human rows: the presets, and 4 epochs at 5e-5, which was the default
    label-source    labels of a recorded teacher: Beetle (all there are), BABE (1,000 and all): the defaults; without
                    the bi-encoder and the prior correction (``plain``); and taught by an assistant, bge-small on Beetle
                    and mpnet on BABE, on all texts, which include synthetic ones on Beetle
    all-rows        Beetle and networks, all human rows; by the default, and taught by bge-small

The summary has, for each run, macro-F1 and κ (weighted quadratically where the task is ordinal), as means over the
seeds, and for each pair of runs that differ in one setting the difference, with a 95 % bootstrap interval over rows.
"""

import argparse
import csv
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from edgedistill.agreement.confusion import kappas, macro_f1s
from edgedistill.data.twins import same_row
from edgedistill.data.types import CodedResponse, MixtureRow, Response, ValidationRows
from edgedistill.project.student import AssistantSection, SearchSection, StudentSection
from edgedistill.student import backbone_folder, train_student
from edgedistill.student.assistant import Assistants, taught_rows, taught_section, train_assistants
from edgedistill.student.model import choose_max_tokens
from edgedistill.student.prior_correction import correct_prior
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.task.task import Label, Task

CONSOLE = Console(width=150)
Row = dict[str, str]
PAIR = ("question", "reference_answer", "response")
LEVELS = ("Not-intimate-at-all", "Not-intimate", "Not-very-intimate", "Somewhat-intimate", "Intimate", "Very-intimate")
RESAMPLES = 2000


def _task(kind: Any, labels: Sequence[str], inputs: tuple[str, ...] = ("response",)) -> Task:
    return Task(kind, tuple(map(Label, labels)), inputs)


TASKS = {
    "beetle": _task("nominal", ("correct", "contradictory", "incorrect"), PAIR),
    "networks": _task("ordinal", ("Incorrect", "Partially correct", "Correct"), PAIR),
    "babe": _task("nominal", ("unbiased", "biased")),
    "hyperbole": _task("nominal", ("not hyperbole", "hyperbole")),
    "intimacy": _task("ordinal", LEVELS),
}
TESTS = {"beetle": ("test_ua", "test_uq"), "networks": ("test_ua", "test_uq")}
OLD = {"search": SearchSection(learning_rate=(5e-5,), epochs=(4,))}
PLAIN = {"architecture": "cross-encoder", "prior_correction": False}
ASSISTANTS = {
    "beetle": AssistantSection(backbone="bge-small", learning_rate=5e-5, epochs=8),
    "babe": AssistantSection(backbone="mpnet", learning_rate=4e-5, epochs=4),
    "networks": AssistantSection(backbone="bge-small", learning_rate=5e-5, epochs=4),
}
"""Learning rates and epochs of the first two were chosen for LLM labels, on rows of train.csv that neither validate nor
test here; that of networks was not tuned. With all human rows each is trained for 4 epochs."""


@dataclass(frozen=True, slots=True)
class Run:
    """One student.

    Attributes:
        group: A group of runs of this script.
        data: A set.
        source: ``human``, or ``teacher`` for a recorded teacher's labels.
        rows: Training rows; 0: all.
        setting: ``old``, ``plain``, ``assistant``, or a preset.
        seed: Chooses the rows and trains.
        backbone: As in a project file.
    """

    group: str
    data: str
    source: str
    rows: int
    setting: str
    seed: int
    backbone: str = "minilm"

    @property
    def condition(self) -> str:
        """The name of the run without its seed."""
        return "-".join((self.group, self.data, self.source, str(self.rows or "all"), self.setting, self.backbone))

    @property
    def section(self) -> dict[str, Any]:
        """The settings of training."""
        named = {"old": OLD, "plain": PLAIN, "assistant": {}}
        return named.get(self.setting, {"preset": self.setting})


CONDITIONS = {
    "few-rows": [(data, "human", rows, name) for data in TASKS for rows in (100, 250) for name in ("old", "standard")],
    "label-source": [
        *(("beetle", "teacher", 0, name) for name in ("plain", "standard", "assistant")),
        *(("babe", "teacher", 1000, name) for name in ("plain", "standard", "assistant")),
        *(("babe", "teacher", 0, name) for name in ("standard", "assistant")),
    ],
    "all-rows": [(data, "human", 0, name) for data in ("beetle", "networks") for name in ("standard", "assistant")],
}
"""The set, the source of labels, the number of rows and the setting of the runs of each group."""


def runs(group: str, seeds: Sequence[int], backbone: str) -> Iterator[Run]:
    """The runs of a group; complete for one seed before the next."""
    for seed in seeds:
        yield from (Run(group, *condition, seed, backbone) for condition in CONDITIONS[group])


VALIDATION = {"few-rows": 100, "label-source": 150, "all-rows": 400}


def read(path: Path) -> list[Row]:
    """Read a CSV file; each reference answer becomes a line, as in a project's cell."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [row | {"reference_answer": row.get("reference_answer", "").replace(" || ", "\n")} for row in rows]


def votes(data: Path, name: str, file: str = "") -> dict[str, dict[str, float]]:
    """Shares of a recorded teacher's votes by row; rows without a majority are left out."""
    found = {}
    file = file or {"beetle": "votes.jsonl", "babe": "votes_gpt_4.jsonl"}[name]
    for line in (data / name / file).open(encoding="utf-8"):
        row = json.loads(line)
        counts = Counter(vote["label"] for vote in row["votes"]).most_common()
        if counts and (len(counts) == 1 or counts[0][1] > counts[1][1]):
            total = sum(count for _, count in counts)
            found[row["id"]] = {label: count / total for label, count in counts}
    return found


Inputs = dict[str, str]


def parts(run: Run, data: Path) -> tuple[list[MixtureRow], ValidationRows, dict[str, list[Row]], list[Inputs]]:
    """The training rows, the validation rows, the test rows by file, and the other texts that may be trained on."""
    rows = read(data / run.data / "train.csv")
    random.Random(0).shuffle(rows)  # noqa: S311  a draw of rows, not a secret
    tests = {name: read(data / run.data / f"{name}.csv") for name in TESTS.get(run.data, ("test",))}
    shares: dict[str, dict[str, float]] = {}
    if run.source == "teacher":
        shares = votes(data, run.data)
        if run.data == "babe":  # only its train rows have votes
            tests, rows = {"test": [row for row in rows if row["id"] in shares][:600]}, rows[600:]
            tested = {row["id"] for row in tests["test"]}
            rows = [row for row in rows if row["id"] not in tested]
        rows.sort(key=lambda row: row["id"] in shares)  # stable: rows without votes validate, as far as there are any
    held = rows[: VALIDATION[run.group]]
    unheld = rows[VALIDATION[run.group] :]
    others = [row for row in unheld if not shares or row["id"] in shares]
    random.Random(1 + run.seed).shuffle(others)  # noqa: S311
    task = TASKS[run.data]
    training = [
        MixtureRow(
            row["id"],
            {name: row[name] for name in task.inputs},
            max(share, key=share.__getitem__),
            "teacher" if shares else "human",
            share,
        )
        for row in others[: run.rows or len(others)]
        for share in (shares.get(row["id"]) or {row["label"]: 1.0},)
    ]
    validation = [
        CodedResponse(Response(row["id"], {name: row[name] for name in task.inputs}, "train.csv", 0), row["label"])
        for row in held
    ]
    synthetic = data / run.data / "synthetic.csv"
    texts = [
        {name: row[name] for name in task.inputs} for row in unheld + (read(synthetic) if synthetic.is_file() else [])
    ]
    locked = {same_row(row) for row in [*tests_inputs(tests, task), *(dict(row.response.inputs) for row in validation)]}
    return training, ValidationRows(tuple(validation)), tests, [text for text in texts if same_row(text) not in locked]


def tests_inputs(tests: Mapping[str, Sequence[Row]], task: Task) -> list[Inputs]:
    """The task's inputs of all test rows."""
    return [{name: row[name] for name in task.inputs} for rows in tests.values() for row in rows]


def labels_of(student: Checkpoint | Assistants, rows: Sequence[Inputs]) -> list[str]:
    """The label with the highest logit of each row."""
    return [student.task.names[place] for place in student.logits(rows).argmax(axis=1)]


def make(run: Run, data: Path, out: Path) -> None:
    """Train a student and write the labels of the test rows."""
    training, validation, tests, texts = parts(run, data)
    task, backbone = TASKS[run.data], backbone_folder(run.backbone, Path())
    max_tokens = choose_max_tokens(backbone, task, (row.inputs for row in training))
    section = StudentSection(max_tokens=max_tokens, seeds=(run.seed,), **run.section)
    start = time.perf_counter(), time.process_time()
    with TemporaryDirectory() as folder:
        student_rows, student_section, assistant = list(training), section, None
        if run.setting == "assistant":
            given = ASSISTANTS[run.data]
            if run.group == "all-rows":
                given = given.model_copy(update={"epochs": 4})
            large = backbone_folder(given.backbone, Path())
            train_assistants(training, validation, task, given, section, large, Path(folder) / "assistant")
            assistant = Assistants.load(Path(folder) / "assistant", task, max_tokens)
            student_rows, student_section = taught_rows(assistant, training, texts), taught_section(section)
        trained = train_student(student_rows, validation, task, student_section, backbone, Path(folder) / "student")
        corrected = correct_prior(Path(folder) / "student", training, validation, task, section)
        seconds, cpu_seconds = time.perf_counter() - start[0], time.process_time() - start[1]
        student = Checkpoint.load(Path(folder) / "student", task, max_tokens)
        found = {}
        for name, rows in tests.items():
            inputs = [{one: row[one] for one in task.inputs} for row in rows]
            found[name] = {"codes": [row["label"] for row in rows], "labels": labels_of(student, inputs)}
            if assistant:
                found[name]["assistant"] = labels_of(assistant, inputs)
    best = trained.best
    result = {
        "run": asdict(run),
        "rows": len(training),
        "taught_on": len(student_rows),
        "architecture": trained.architecture,
        "shift": dict(corrected.shift) if corrected else {},
        "learning_rate": best.learning_rate,
        "epochs": best.epochs,
        "best_epoch": best.best_epoch,
        "max_tokens": max_tokens,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "tests": found,
    }
    file = out / f"{run.condition}-{run.seed}.json"
    file.with_suffix(".part").write_text(json.dumps(result), "utf-8")
    file.with_suffix(".part").rename(file)


Statistics = Mapping[str, NDArray[np.float64]]
Results = Sequence[Mapping[str, Any]]


def statistics_of(results: Results, test: str, task: Task, labels_key: str = "labels") -> Statistics:
    """Macro-F1 and κ of the rows and of each resample, (1 + resamples,): means over the seeds on the same resamples."""
    rows = len(results[0]["tests"][test]["codes"])
    rng = np.random.default_rng(0)
    drawn = np.vstack([np.ones(rows, int), rng.multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES)])
    place = {name: number for number, name in enumerate(task.names)}
    found: dict[str, list[NDArray[np.float64]]] = {"macro_f1": [], "kappa": []}
    for result in results:
        codes, labels = (np.array([place[one] for one in result["tests"][test][key]]) for key in ("codes", labels_key))
        cells = np.eye(len(place) ** 2)[codes * len(place) + labels]
        tables = (drawn @ cells).reshape(-1, len(place), len(place))
        found["macro_f1"].append(macro_f1s(tables))
        found["kappa"].append(kappas(tables, quadratic=task.kind == "ordinal"))
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def interval(values: NDArray[np.float64]) -> dict[str, float]:
    """The value of the rows, and the 95 % percentile interval over resamples."""
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return {"value": round(float(values[0]), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


COMPARED_WITH = {"standard": "old", "assistant": "standard", "plain": "standard"}
"""The setting from which the difference of each is given; of another backbone's student, from that of minilm."""


def compared(run: Run) -> Run:
    """The run that differs from this one in one setting, and is the usual one."""
    if run.backbone != "minilm":
        return replace(run, backbone="minilm")
    return replace(run, setting=COMPARED_WITH.get(run.setting, run.setting))


def difference(one: Results, other: Results, test: str, task: Task) -> dict[str, Any]:
    """The mean difference of the figures on the seeds that both have, with its interval over rows."""
    seeds = {result["run"]["seed"] for result in one} & {result["run"]["seed"] for result in other}
    if not seeds:
        return {}
    pair = [statistics_of([each for each in side if each["run"]["seed"] in seeds], test, task) for side in (one, other)]
    figures = {name: interval(values - pair[1][name]) for name, values in pair[0].items()}
    return {"seeds": len(seeds), **figures}


def summary(out: Path) -> dict[str, Any]:
    """Figures of all finished runs."""
    results: dict[str, list[Mapping[str, Any]]] = {}
    for file in sorted(out.glob("*.json")):
        result = json.loads(file.read_text("utf-8"))
        results.setdefault(Run(**result["run"]).condition, []).append(result)
    figures: dict[str, Any] = {}
    for condition, found in results.items():
        run = Run(**found[0]["run"])
        task, other = TASKS[run.data], compared(run)
        entry: dict[str, Any] = {
            "seeds": len(found),
            "rows": found[0]["rows"],
            "epochs": [result["epochs"] for result in found],
            "cpu_seconds": [result["cpu_seconds"] for result in found],
            "tests": {},
        }
        for test in found[0]["tests"]:
            of_test = {name: interval(values) for name, values in statistics_of(found, test, task).items()}
            if "assistant" in found[0]["tests"][test]:
                of_assistants = statistics_of(found, test, task, "assistant")
                of_test["assistant"] = {name: interval(values) for name, values in of_assistants.items()}
            if other != run and (minus := difference(found, results.get(other.condition, []), test, task)):
                of_test[f"minus_{other.backbone if other.setting == run.setting else other.setting}"] = minus
            entry["tests"][test] = of_test
        figures[condition] = entry
    return figures


def main() -> None:
    """Make runs, or summarize them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", nargs="+", choices=VALIDATION, default=[])
    parser.add_argument("--sets", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--backbone", default="minilm", help="of the students")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--summary", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for group in given.runs:
        for run in runs(group, given.seeds, given.backbone):
            if run.data in given.sets and not (given.out / f"{run.condition}-{run.seed}.json").is_file():
                CONSOLE.print(run.condition, run.seed)
                make(run, given.data, given.out)
    figures = summary(given.out)
    for condition, entry in figures.items():
        for test, values in entry["tests"].items():
            CONSOLE.print(
                condition, test, {name: tuple(each.values()) for name, each in values.items() if "value" in each}
            )
    if given.summary:
        given.summary.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
