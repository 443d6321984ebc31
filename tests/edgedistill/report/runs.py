"""Run folders as written by the stages, without a student."""

import csv
import json
from copy import deepcopy
from dataclasses import asdict, replace
from functools import cache

import msgspec
import numpy as np

from edgedistill.agreement import agreement, prevalence
from edgedistill.data.splitting import Splits
from edgedistill.data.twins import SplitTwins
from edgedistill.data.types import CodedResponse, Response, TestRows, TrainRows, ValidationRows
from edgedistill.decisions import TestScores, ValidationScores
from edgedistill.evaluation.build import build_evaluation, choose, measure_fidelity
from edgedistill.evaluation.files import file_sha256, to_plain
from edgedistill.evaluation.types import Evaluation, Fidelity, PopulationPrevalence, ServedFigures
from edgedistill.pipeline.folder import RunFolder
from edgedistill.project.evaluation import EvaluationSection, ReviewSection
from edgedistill.report.inputs import read_report_inputs
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.task.task import Label, Task

LABELS = ("process", "outcome", "none")
COST = {
    "asked": 12,
    "cached": 1200,
    "input_tokens": 3400,
    "output_tokens": 560,
    "nano_dollars": 1_230_000_000,
    "unmetered": 0,
    "retries": {},
}
KEEP = ReviewSection(aim="keep_kappa", at_least=0.6)


def scores_of(kind, rows, task, *, spread=3.0, seed=0, groups=None):
    """Scores of a student that is right as often as it says: a larger spread makes it surer."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, len(task.names))) * spread
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    codes = (shares.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return kind(
        task=task,
        ids=tuple(f"r{place}" for place in range(rows)),
        codes=tuple(task.names[code] for code in codes),
        logits=logits,
        encoded=tuple(Encoded((1, 3 + place), (0, 0), 1, False) for place in range(rows)),
        groups=groups,
    )


def noisy(codes, names, share, seed):
    """The codes with a share of them drawn anew."""
    rng = np.random.default_rng(seed)
    return [names[rng.integers(len(names))] if rng.random() < share else code for code in codes]


def evaluation_of(rows=120, **options):
    """`evaluation.json` as evaluate writes it, and the lines of `test_scores.csv`; see `_made`."""
    return deepcopy(_made(rows, **options))


@cache
def _made(
    rows,
    *,
    labels=LABELS,
    kind="nominal",
    spread=5.0,
    teacher=True,
    coders=("coder_2",),
    columns=True,
    population=True,
    review=KEEP,
    grouped=False,
    seed=0,
):
    task = Task(kind, tuple(map(Label, labels)), ("response",))
    groups = tuple(f"g{place % 12}" for place in range(rows)) if grouped else None
    validation = scores_of(ValidationScores, 60, task, spread=spread, seed=seed + 1)
    test = scores_of(TestScores, rows, task, spread=spread, seed=seed, groups=groups)
    section = EvaluationSection(coders=coders, subgroups=("place",) if columns else ())
    chosen = choose(validation, section, review)
    codings = {}
    if teacher:
        codings["teacher"] = dict(zip(test.ids, noisy(test.codes, labels, 0.2, seed), strict=True))
    made = build_evaluation(
        Splits(TrainRows(()), ValidationRows(()), _test_rows(test, seed), False, SplitTwins(), 0, ()),
        section,
        chosen,
        validation,
        test,
        codings,
        prevalence=_population(test) if population else None,
    )
    lines = [["id", "human", "student", *(f"p:{name}" for name in labels), "decision", "reason", "teacher"]]
    for row, human, score in zip(
        test.ids, test.codes, test.apply_rule(chosen.temperature, chosen.review.rule), strict=True
    ):
        shares = [f"{score.probabilities[name]:.6f}" for name in labels]
        coded = codings.get("teacher", {}).get(row, "")
        lines.append([row, human, score.label, *shares, score.decision, score.reason or "", coded])
    return to_plain(made), lines


def _test_rows(test, seed):
    """The rows that were scored, with three more coders and the place where each was written."""
    others = {f"coder_{n}": noisy(test.codes, test.task.names, 0.1, seed + 3 + n) for n in (2, 3, 4)}
    rows = []
    for place, (row, code) in enumerate(zip(test.ids, test.codes, strict=True)):
        group = test.groups[place] if test.groups else None
        where = "island" if place == 0 else "urban" if place % 3 else "rural"
        response = Response(row, {"response": f"text {place}"}, "human.csv", place + 2, group)
        codes = {name: column[place] for name, column in others.items()}
        rows.append(CodedResponse(response, code, codes, {"place": where}))
    return TestRows(tuple(rows))


def _population(test):
    known = [name for name in test.task.names for _ in range(20)]
    found = prevalence(known * 4, test.codes, test.labels, test.task, known=known)
    more = {"file": "term.csv", "read": found.rows + 1, "set_aside": {"blank response": 1}}
    return PopulationPrevalence(**asdict(found), **more)


def fidelity_of(rows=60, labels=LABELS):
    """What an export of a student says that loses nothing on the way to int8."""
    task = Task("nominal", tuple(map(Label, labels)), ("response",))
    codes = tuple(labels[place % len(labels)] for place in range(rows))
    coded = [
        CodedResponse(Response(f"r{place}", {"response": "a text"}, "human.csv", place), code)
        for place, code in enumerate(codes)
    ]
    forms = dict.fromkeys(["PyTorch", "ONNX fp32", "int8"], noisy(codes, labels, 0.1, 0))
    steps = measure_fidelity(TestRows(tuple(coded)), task, forms)
    return Fidelity(schema_version=2, evaluation="", served="int8", steps=steps, validation_steps=())


def exported(evaluation, agreement=None, **figures):
    """`fidelity.json` of an export whose served graph has this agreement; by default that of the student."""
    change = fidelity_of().steps[0]
    made = ServedFigures(
        change=replace(change, before="PyTorch", after="served"),
        review=evaluation.review.test,
        subgroups=tuple(table for table in evaluation.subgroups if table.coding == "student"),
        human_agreement=evaluation.human_agreement,
    )
    return replace(
        fidelity_of(), agreement=agreement or evaluation.student, figures=replace(made, **figures) if figures else made
    )


def gate_of(*, passed=True, accepted=False, at_least=0.6, metric="kappa"):
    """`gate.json` of one teacher."""
    codes = [LABELS[place % 3] for place in range(60)]
    task = Task("nominal", tuple(map(Label, LABELS)), ("response",))
    found = agreement(codes, noisy(codes, LABELS, 0.1 if passed else 0.8, 3), task).as_dict()
    one = {
        "teacher": "recorded",
        "metric": metric,
        "at_least": at_least,
        "rows": 60,
        "coded": 60,
        "set_aside": [],
        "agreement": found,
        "passed": passed,
        "accepted": accepted,
        "cost": COST,
    }
    return {**one, "teachers": [one], "used": ["recorded"], "weights": {"recorded": 1.0}, "between": None}


JOURNAL = {
    "versions": {"python": "3.11.7", "edgedistill": "0.1.0"},
    "rows": [
        {
            "file": "human.csv",
            "sha256": "a" * 64,
            "read": 301,
            "used": {"train": 120, "validation": 60, "test": 120},
            "set_aside": {"blank response": 1},
        }
    ],
    "notes": ["no validation row has the label none"],
    "stages": {
        "mix": {
            "seconds": 0.1,
            "by_source_and_label": {"human process": 60, "human outcome": 60, "teacher process": 480},
        },
        "train": {
            "seconds": 321.0,
            "fingerprint": "f" * 64,
            "best": {"learning_rate": 5e-5, "epochs": 4, "seed": 0, "validation_macro_f1": 0.9160839},
            "notes": ["a note of the training"],
        },
        "label": {"seconds": 2.0, "cost": COST},
    },
    "spending": {
        "label": {
            "known": {"requests": 1770, "input_tokens": 10**6, "output_tokens": 7, "nano_dollars": 25 * 10**8},
            "held": {"requests": 2, "input_tokens": 5, "output_tokens": 5},
        }
    },
}
TRIALS = """\
learning_rate,batch_size,epochs,seed,epoch,validation_loss,validation_accuracy,validation_macro_f1,best,seconds,outcome,failure
5e-05,16,2,0,1,0.8,0.7,0.52,0,6.0,done,
5e-05,16,2,0,2,0.4,0.8,0.84,1,6.0,done,
0.0001,16,2,0,1,0.8,0.7,0.61,1,6.0,done,
0.0001,16,2,0,2,0.8,0.7,0.60,0,6.0,done,
0.5,16,2,0,,,,,,1.0,failed,the loss is no number
"""
GENERATION = {
    "asked_for": 30,
    "written": 29,
    "kept": 20,
    "removed": {"duplicates a test row": 9},
    "consistent": {"coded": 19, "consistent": 17},
    "near_train": {"rows": 2, "with_another_human_code": 1},
}
STUDY = """\
study,protocol,leak,task,condition,learner,synthetic_share,test,macro_f1
ratio,corrected,,beetle,0 %,fine-tuned,0.0,test,0.61
ratio,corrected,,beetle,50 %,fine-tuned,0.5,test,0.66
ratio,corrected,,beetle,50 %,fine-tuned,0.5,test,0.64
ratio,corrected,,beetle,90 %,fine-tuned,0.9,test,
"""


def write_run(folder, values, lines, *, gate=None, full=True, fidelity=None):
    """Write a run folder: the files that must be there, and with ``full`` every other one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(values), "utf-8")
    if full:
        fidelity = fidelity or exported(msgspec.convert(values, type=Evaluation, strict=False))
        made = replace(fidelity, evaluation=file_sha256(folder / "evaluation.json"))
        (folder / "fidelity.json").write_bytes(msgspec.json.encode(to_plain(made)))
    with (folder / "test_scores.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(lines)
    (folder / "run.json").write_text(json.dumps(JOURNAL if full else {}), "utf-8")
    if gate:
        (folder / "gate.json").write_text(json.dumps(gate), "utf-8")
    if full:
        (folder / "trials.csv").write_text(TRIALS, "utf-8")
        (folder / "generation.json").write_text(json.dumps(GENERATION), "utf-8")
        votes = [{"id": f"u{place}", "label": "process", "consistency": 1.0} for place in range(3)]
        votes.append({"id": "u9", "label": "none", "consistency": 2 / 3})
        (folder / "labels.jsonl").write_text("".join(json.dumps(vote) + "\n" for vote in votes), "utf-8")
        (folder / "study").mkdir(exist_ok=True)
        (folder / "study" / "runs.csv").write_text(STUDY, "utf-8")
    return folder


def inputs_of_run(folder, **given):
    """Read a run folder back, as the report stage does."""
    about = {
        "name": "praise",
        "project_file": "project.yaml",
        "definitions": dict.fromkeys(LABELS, "Praises effort."),
    }
    return read_report_inputs(RunFolder(folder), **about | given)
