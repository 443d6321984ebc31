"""A stage runs again exactly if something that it reads has changed, and it can read nothing else."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from edgedistill.data import read_records
from edgedistill.data.splitting import Splits
from edgedistill.data.types import Response
from edgedistill.pipeline import Run, RunFolder, run_stages, stages
from edgedistill.pipeline.folder import hash_json
from edgedistill.pipeline.inputs import FILES, NOT_INPUTS, StageInputs, UndeclaredInput
from edgedistill.project import read_project
from edgedistill.project.schema import Project
from edgedistill.project.student import StudentSection
from edgedistill.project.teacher import ExistingLabelsSection

TEACHER: dict[str, Any] = {
    "model": "m",
    "base_url": "http://127.0.0.1:9/v1",
    "few_shot": 4,
    "few_shot_choice": "similar",
    "logprobs": True,
    "prices": {"input_usd_per_million": 1, "output_usd_per_million": 2},
    "budget": {"usd": 5},
}
BASE: dict[str, Any] = {
    "name": "base",
    "task": {
        "kind": "ordinal",
        "instructions": "Code.",
        "labels": [{"name": "low", "definition": "little"}, {"name": "high", "definition": "much"}],
        "redact": {"ids": ["S[0-9]{6}"]},
    },
    "data": {
        "human": "human.csv",
        "unlabelled": "responses.csv",
        "reviewed": "reviewed.csv",
        "max_characters": 200,
    },
    "teacher": TEACHER,
    "generate": {},
    "mix": {"synthetic_share": 0.2},
    "student": {
        "backbone": "./backbone",
        "loss": {"targets": "both", "ordinal": "cumulative"},
        "peft": "lora",
        "lora": {"rank": 8},
        "search": {"method": "tpe", "trials": 2},
        "shrink": {"layers": 2},
    },
    "evaluation": {
        "coders": ["second"],
        "subgroups": ["school"],
        "population": "population.csv",
        "human_trained": "runs/human",
    },
    "review": {"aim": "keep_kappa", "at_least": 0.6},
    "report": {"study": "study", "compare_with": "served"},
}
SEVERAL = {key: value for key, value in BASE.items() if key != "teacher"} | {
    "teachers": [TEACHER | {"name": "one"}, TEACHER | {"name": "two"}]
}

EXISTING = {key: value for key, value in BASE.items() if key not in ("teacher", "generate", "mix")} | {
    "teacher": {"labels": "gpt4.csv"}
}

NO_TEACHER = {key: value for key, value in BASE.items() if key not in ("teacher", "generate", "mix")}


class Together(dict[str, Any]):
    """Fields that must change together, by their paths; None removes one."""


SHARES = {"train": 0.5, "validation": 0.3, "test": 0.2}
FROZEN = Together(dict.fromkeys(("student.loss", "student.peft", "student.lora")) | {"student.kind": "frozen"})


def labels(definition: str = "much", *more: str) -> Together:
    named = [{"name": "low", "definition": "little"}, {"name": "high", "definition": definition}]
    return Together({"task.labels": [*named, *({"name": name} for name in more)]})


def shares(size: int, **parts: float) -> Together:
    return Together({"mix.size": size, "mix.shares": parts, "mix.synthetic_share": None})


def search(name: str, low: float, high: float) -> Together:
    return Together({f"student.search.{name}": {"low": low, "high": high}})


def assistant(**more: Any) -> Together:
    return Together({"student.loss": None, "student.assistant": {"backbone": "./backbone", **more}})


def people(share: float) -> Together:
    return Together({"review": {"aim": "at_most_to_people", "share": share}})


def sizes(**more: Any) -> Together:
    removed = dict.fromkeys(("student.shrink", "student.peft", "student.lora"))
    return Together(removed | {"student.sizes": [1, 2], **more})


def promise(**more: Any) -> Together:
    return Together({"review": {"aim": "at_most_wrong", "share": 0.1, **more}})


CHANGES: dict[str, Any] = {
    "name": "other",
    "task.kind": Together({"task.kind": "nominal", "student.loss.ordinal": None}),
    "task.instructions": "Code it.",
    "task.labels.name": labels("much", "top"),
    "task.labels.definition": labels("a lot"),
    "task.inputs": ["question", "response"],
    "task.redact.ids": ["text"],
    "task.redact.rules": 1,
    "data.human": "others.csv",
    "data.columns": {"label": "second"},
    "data.ids": "row_numbers",
    "data.html": "remove",
    "data.label_spelling": Together({"data.label_spelling": "folded", "data.human": "spelled.csv"}),
    "data.header_row": Together(
        {"data.header_row": 2, "data.human": "below-human.csv", "data.unlabelled": "below-responses.csv"}
    ),
    "data.first_row": 3,
    "data.sheet": "Answers",
    "data.unlabelled": "others-unlabelled.csv",
    "data.reviewed": "others-reviewed.csv",
    "data.group_by": "learner",
    "data.questions": Together({"data.questions": "held_out", "data.question_by": "learner"}),
    "data.question_by": "learner",
    "data.split.known_questions": Together(
        {"data.questions": "held_out", "data.question_by": "learner", "data.split": {"known_questions": 0.2}}
    ),
    "data.split.train": Together({"data.split": SHARES}),
    "data.split.validation": Together({"data.split": SHARES}),
    "data.split.test": Together({"data.split": {"train": 0.6, "validation": 0.1, "test": 0.3}}),
    "data.split.seed": 1,
    "data.max_characters": 11,
    "teacher.name": "somebody",
    "teacher.base_url": "http://127.0.0.1:9/v2",
    "teacher.model": "n",
    "teacher.api_key_env": None,
    "teacher.votes": 5,
    "teacher.temperature": 0.2,
    "teacher.seed": False,
    "teacher.few_shot": 6,
    "teacher.few_shot_choice": "balanced",
    "teacher.few_shot_ids": Together(
        {"teacher.few_shot_ids": ["h0", "h1"], "teacher.few_shot_choice": "fixed", "teacher.few_shot": 2}
    ),
    "teacher.reasoning": True,
    "teacher.per_request": Together({"teacher.per_request": 3, "teacher.few_shot_choice": "balanced"}),
    "teacher.logprobs": False,
    "teacher.confidence": True,
    "teacher.soft_labels": "logprobs",
    "teacher.concurrency": 3,
    "teacher.tries": 2,
    "teacher.timeout_seconds": 7,
    "teacher.max_output_tokens": 40,
    "teacher.ties": "first_vote",
    "teacher.cache": "other-cache",
    "teacher.prices.input_usd_per_million": 3,
    "teacher.prices.output_usd_per_million": 3,
    "teacher.budget.usd": 6,
    "teacher.budget.tokens": Together({"teacher.budget": {"tokens": 1000}}),
    "teacher.gate.metric": "accuracy",
    "teacher.gate.at_least": 0.7,
    "teacher.gate.least_rows": 20,
    "teachers_vote": "gate_weighted",
    "generate.per_label": 3,
    "generate.temperature": [0.1, 0.2],
    "generate.samples_per_call": 4,
    "generate.examples_per_prompt": 1,
    "generate.variation": "length",
    "generate.personas": ["who is brief"],
    "generate.max_output_tokens": 50,
    "generate.near_duplicate": 0.7,
    "generate.regrade_votes": 2,
    "generate.keep": "consistent",
    "mix.human": 5,
    "mix.teacher": 5,
    "mix.synthetic_share": 0.3,
    "mix.size": shares(9, human=0.5, synthetic=0.5),
    "mix.shares.human": shares(8, human=0.4, synthetic=0.6),
    "mix.shares.teacher": shares(8, teacher=0.4, synthetic=0.6),
    "mix.shares.synthetic": shares(8, human=0.3, synthetic=0.7),
    "mix.balance": "per_label",
    "mix.labels": "hard",
    "mix.min_consistency": 0.5,
    "mix.min_confidence": Together({"mix.min_confidence": 0.5, "teacher.confidence": True}),
    "mix.seed": 3,
    "student.backbone": "./backbone2",
    "student.max_tokens": 64,
    "student.kind": FROZEN,
    "student.architecture": "cross-encoder",
    "student.loss.targets": "soft",
    "student.loss.soft_weight": 0.25,
    "student.loss.temperature": 2.0,
    "student.loss.class_weights": "balanced",
    "student.loss.ordinal": "expected_score",
    "student.patience": 2,
    "student.peft": Together({"student.peft": None, "student.lora": None}),
    "student.lora.rank": 4,
    "student.lora.alpha": 4,
    "student.lora.targets": ["q_proj"],
    "student.preset": Together({"student.preset": "quick", "student.search": None}),
    "student.search.method": Together({"student.search.method": "grid", "student.search.trials": None}),
    "student.search.trials": 3,
    "student.search.learning_rate": [1e-3],
    "student.search.learning_rate.low": search("learning_rate", 1e-5, 1e-3),
    "student.search.learning_rate.high": search("learning_rate", 1e-4, 1e-2),
    "student.search.batch_size": [4],
    "student.search.batch_size.low": search("batch_size", 4, 8),
    "student.search.batch_size.high": search("batch_size", 4, 9),
    "student.search.epochs": [2],
    "student.search.epochs.low": search("epochs", 1, 3),
    "student.search.epochs.high": search("epochs", 1, 5),
    "student.search.prune": True,
    "student.seeds": [1, 2],
    "student.prior_correction": True,
    "student.assistant.backbone": assistant(backbone="./backbone2"),
    "student.assistant.preset": assistant(preset="quick"),
    "student.assistant.learning_rate": assistant(learning_rate=1e-3),
    "student.assistant.epochs": assistant(epochs=3),
    "student.assistant.batch_size": assistant(batch_size=4),
    "student.assistant.seeds": assistant(seeds=[1]),
    "student.sizes": sizes(),
    "student.vocabulary": "cut",
    "student.not_worse_by": sizes(**{"student.not_worse_by": 0.1}),
    "student.shrink.layers": 1,
    "student.shrink.kept": [0, 1],
    "student.shrink.vocabulary": "full",
    "student.shrink.epochs": 2,
    "student.shrink.learning_rate": 1e-3,
    "student.shrink.batch_size": 2,
    "student.shrink.temperature": 3.0,
    "student.shrink.seed": 4,
    "student.shrink.export": True,
    "evaluation.calibrate": False,
    "evaluation.positive": "high",
    "evaluation.coders": [],
    "evaluation.alt_test_epsilon": 0.2,
    "evaluation.subgroups": [],
    "evaluation.smallest_subgroup": 5,
    "evaluation.population": "population2.csv",
    "evaluation.human_trained": "runs/human2",
    "review.aim": people(0.2),
    "review.at_least": 0.7,
    "review.confidence": promise(confidence=0.9),
    "review.groups": promise(groups="school"),
    "review.max_unknown_share": 0.3,
    "review.new_questions": "accept",
    "review.novelty.false_alarms": 0.2,
    "review.per_label": promise(per_label=True),
    "review.share": people(0.3),
    "export.precision": "fp32",
    "export.vocabulary": "cut",
    "export.golden": "validation",
    "export.max_flip_rate": 0.02,
    "export.fp32_beside": False,
    "report.examples": 3,
    "report.study": "study2",
    "report.compare_with": "served2",
    "track": "wandb",
}
"""By field, another value."""
OF_EXISTING_LABELS: dict[str, Any] = {
    "teacher.labels": "gpt3.csv",
    "teacher.sheet": "Runs",
    "teacher.name": "somebody",
    "teacher.model": "n",
    "teacher.id_column": "same",
    "teacher.label_column": "second",
    "teacher.votes": ["second"],
    "teacher.shares": "p_",
    "teacher.confidence": "p_low",
    "teacher.soft_labels": Together({"teacher.confidence": "p_low", "teacher.soft_labels": "confidence"}),
    "teacher.ties": Together({"teacher.votes": ["label", "second"], "teacher.ties": "first_vote"}),
    "teacher.unmatched": "set_aside",
    "teacher.gate.at_least": 0.7,
}
"""The same for a teacher whose labels exist already."""


def schema_fields(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Every field of the project file that holds a value, by its path."""
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        sections = list(models_in(field.annotation))
        for section in sections:
            yield from schema_fields(section, f"{path}{name}.")
        if not sections or all(section.__name__.endswith("Range") for section in sections):
            yield path + name


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


ONE_TEACHER = [path for path in dict.fromkeys(schema_fields(Project)) if not path.startswith("teachers.")]
OF_TEACHERS = [f"teachers.{path.removeprefix('teacher.')}" for path in ONE_TEACHER if path.startswith("teacher.")]


def test_every_field_of_the_schema_has_another_value_here():
    assert {*CHANGES, *OF_EXISTING_LABELS} == set(ONE_TEACHER)
    own = {f"teacher.{name}" for name in ExistingLabelsSection.model_fields if name != "gate"}
    assert {*OF_EXISTING_LABELS} == {*own, "teacher.gate.at_least"}
    assert {*ONE_TEACHER, *OF_TEACHERS} == set(schema_fields(Project))


def test_every_field_that_names_a_file_says_how_its_content_counts():
    named = {f"project.{path}" for path in schema_fields(Project) if "pathlib" in str(annotation_of(path))}
    read_with_the_rows = {"project.data.human", "project.data.unlabelled", "project.data.reviewed"}
    assert named - set(FILES) - set(NOT_INPUTS) == read_with_the_rows


def annotation_of(path: str) -> Any:
    models: list[type[BaseModel]] = [Project]
    *sections, name = path.split(".")
    for section in sections:
        models = [
            found
            for model in models
            if section in model.model_fields
            for found in models_in(model.model_fields[section].annotation)
        ]
    return [model.model_fields[name].annotation for model in models if name in model.model_fields]


def changed(base: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The project with another value; what belongs to one teacher belongs to the first of several."""
    made = json.loads(json.dumps(base))
    for each, wanted in value.items() if isinstance(value, Together) else [(path, value)]:
        *sections, name = each.split(".")
        section = made
        for key in sections:
            several = key == "teacher" and "teachers" in made
            section = made["teachers"][0] if several else section.setdefault(key, {})
        if wanted is None and name != "api_key_env":
            section.pop(name, None)
        else:
            section[name] = wanted
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with every file that a project may name, in two versions."""
    folder = tmp_path_factory.mktemp("project")
    texts = [f"text {number}{' and more' * (number % 3)}{' &amp; so on' * (number == 1)}" for number in range(90)]
    for name, shift in (("human.csv", 0), ("others.csv", 1)):
        rows = [
            (
                f"h{n}",
                f"q{n % 2}",
                texts[n],
                ("low", "high")[(n + shift) % 2],
                ("low", "high")[n % 3 % 2],
                f"s{n % 2}",
                f"l{n % 20}",
            )
            for n in range(60)
        ]
        write(folder / name, ("id", "question", "response", "label", "second", "school", "learner"), rows)
    for name, count in (("responses.csv", 20), ("others-unlabelled.csv", 10)):
        rows = [(f"u{n}", "q0", texts[60 + n], f"v{n}") for n in range(count)]
        write(folder / name, ("id", "question", "response", "learner"), rows)
    write_other_forms(folder)
    for name, label in (("reviewed.csv", "low"), ("others-reviewed.csv", "high")):
        write(
            folder / name, ("id", "question", "response", "label", "learner"), [("r0", "q0", texts[85], label, "v85")]
        )
    labels = [(row, row, "low", "high", "0.6", "0.4") for row in (*(f"h{n}" for n in range(60)), "u0", "u1")]
    for name in ("gpt4.csv", "gpt3.csv"):
        write(folder / name, ("id", "same", "label", "second", "p_low", "p_high"), labels)
    for name in ("population.csv", "population2.csv"):
        write(folder / name, ("id", "question", "response", "learner"), [(name, "q0", texts[86], "")])
    for name in ("runs/human", "runs/human2", "study", "study2", "backbone", "backbone2", "served", "served2"):
        (folder / name).mkdir(parents=True)
        for file in ("mixture.csv", "runs.csv", "config.json", "bundle.json"):
            (folder / name / file).write_text(name)
    return folder


def write_other_forms(folder: Path) -> None:
    """Write tables with a line above the header, and with labels in another spelling."""
    for name in ("human.csv", "responses.csv"):
        (folder / f"below-{name}").write_text("Class 7b\n" + (folder / name).read_text("utf-8"), "utf-8")
    (folder / "spelled.csv").write_text((folder / "human.csv").read_text("utf-8").replace(",low,", ",LOW,"), "utf-8")


def write(file: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])


def run_of(files: Path, project: dict[str, Any], folder: Path) -> Run:
    (files / "project.yaml").write_text(json.dumps(project))
    made = read_project(files / "project.yaml")
    return Run(made, read_records(made), RunFolder(folder))


def read_field(project: Any, path: str) -> list[Any]:
    """The values of a field: several for several teachers or labels, none where its section is left out."""
    values = [project]
    for name in path.split("."):
        items = [each for value in values for each in (value if isinstance(value, tuple) else (value,))]
        values = [getattr(item, name) for item in items if name in getattr(item.__class__, "model_fields", ())]
    return values


def with_texts(value: Any) -> str:
    """Rows with their texts, which `repr` leaves out."""
    rows = getattr(value, "responses", value if isinstance(value, tuple) else ())
    return repr((value, [row.inputs for row in rows if isinstance(row, Response)]))


def everything_readable(run: Run, stage: stages.Stage, project: Project) -> dict[str, Any]:
    """What a stage can read of the run that it is handed: fields, files, rows and results."""
    paths = [path for path in (*ONE_TEACHER, *OF_TEACHERS) if not is_exempt(path)]
    found = {path: unless_refused(lambda path=path: repr(read_field(run.project, path))) for path in paths}
    for path, names in FILES.items():
        named = read_field(project, path.removeprefix("project."))
        if found[path.removeprefix("project.")] != REFUSED and named:
            found[f"content of {path}"] = [content(project.folder / str(named[0]) / name) for name in names]
    for part in fields(Splits):
        found[part.name] = unless_refused(lambda part=part: with_texts(getattr(run.records.splits, part.name)))
    for name in ("unlabelled", "row_counts", "set_aside"):
        found[name] = unless_refused(lambda name=name: with_texts(getattr(run.records, name)))
    for earlier in stages.STAGES[: stages.NAMES.index(stage.name)]:
        for name in earlier.written(project):
            found[name] = unless_refused(lambda name=name: content(run.folder / name))
            if found[name] == REFUSED and name.endswith(".json"):
                found[name] = unless_refused(lambda name=name: run.folder.read_json(name))
    return found


def is_exempt(path: str) -> bool:
    return any(f"project.{path}.".startswith(f"{exempt}.") for exempt in NOT_INPUTS)


REFUSED = "not declared"


def unless_refused(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except UndeclaredInput:
        return REFUSED


def content(file: Path) -> Any:
    if file.is_dir():
        return [content(each) for each in sorted(file.rglob("*")) if each.is_file()]
    return file.read_bytes().decode() if file.exists() else None


def fake(stage: stages.Stage, project: Project) -> stages.Stage:
    """The stage with work that only writes down what it can read."""

    def work(run: Run) -> dict[str, Any]:
        seen = hash_json(everything_readable(run, stage, project))
        used = [teacher.called for teacher in project.panel]
        gate = {"passed": True, "accepted": False, "teachers": [], "used": used, "weights": dict.fromkeys(used, 1.0)}
        for name in stage.written(project):
            if "." in name:
                run.folder.write_text(name, json.dumps({"seen": seen} | (gate if name == "gate.json" else {})))
            else:
                (run.folder / name).mkdir(exist_ok=True)
                (run.folder / name / "file").write_text(seen)
        return {"seen": seen, "best": seen, "by_source_and_label": seen}

    return replace(stage, work=work)


def do(run: Run, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[bool, str]]:
    """Run every stage; by stage whether it ran, and what it saw."""
    monkeypatch.setattr("edgedistill.pipeline.compare.require_served_bundle", lambda _: None)  # it is no bundle here
    monkeypatch.setattr(stages, "require_tracker", lambda _: None)  # no tracker is installed
    monkeypatch.setattr(stages, "log_run", lambda *_, **__: None)  # what the fake stages write is no evaluation
    monkeypatch.setattr(stages, "STAGES", tuple(fake(stage, run.project) for stage in STAGES))
    return {step.stage: (not step.skipped, step.entry["seen"]) for step in run_stages(run)}


STAGES = stages.STAGES
PROJECTS = {
    "one teacher": BASE,
    "several teachers": SEVERAL,
    "existing labels": EXISTING,
    "no teacher": NO_TEACHER,
}
NOT_READ_WITHOUT_A_TEACHER = {
    "task.instructions": "only teachers read the codebook's instructions",
    "mix.labels": "human rows have no vote shares",
    "teachers_vote": "there are no teachers whose labels could be combined",
}
"""Fields that change nothing in a project without a teacher, with the reason; a stage may count them nevertheless."""


def is_tried(path: str, project: str) -> bool:
    """Whether a field can have another value in this project."""
    if project == "existing labels":
        return path in OF_EXISTING_LABELS
    if path not in CHANGES:
        return False
    if project == "several teachers":
        return path.startswith("teacher")
    needs_teacher = path.startswith(("teacher.", "generate.", "mix.s", "mix.min_confidence")) and path != "mix.seed"
    return project == "one teacher" or not needs_teacher


@pytest.fixture(scope="module")
def base(files, tmp_path_factory):
    """By the name of a project: the project, its folder after a run, and what each stage saw."""

    @cache
    def run_once(name):
        project, folder = PROJECTS[name], tmp_path_factory.mktemp("base")
        with pytest.MonkeyPatch.context() as monkeypatch:
            done = do(run_of(files, project, folder), monkeypatch)
            assert all(ran for ran, _ in done.values())
            again = do(run_of(files, project, folder), monkeypatch)
            assert not any(ran for ran, _ in again.values())
        return project, folder, {stage: seen for stage, (_, seen) in done.items()}

    return run_once


@pytest.mark.parametrize(
    ("name", "path"),
    [(name, path) for name in PROJECTS for path in ONE_TEACHER if path != "name" and is_tried(path, name)],
)
def test_another_value_of_a_field_runs_just_the_stages_again_that_read_it(
    name, path, base, files, tmp_path, monkeypatch
):
    project, folder, before = base(name)
    other = changed(project, path, (OF_EXISTING_LABELS if name == "existing labels" else CHANGES)[path])
    fresh = do(run_of(files, other, tmp_path / "fresh"), monkeypatch)
    shutil.copytree(folder, tmp_path / "copy")
    again = do(run_of(files, other, tmp_path / "copy"), monkeypatch)
    expected = {stage for stage, (_, seen) in fresh.items() if seen != before.get(stage)}
    assert {stage for stage, (ran, _) in again.items() if ran} == expected
    assert {stage: seen for stage, (_, seen) in again.items()} == {stage: seen for stage, (_, seen) in fresh.items()}
    if not (path in NOT_READ_WITHOUT_A_TEACHER and "generate" not in project):
        assert bool(expected) == (not is_exempt(path))


@pytest.mark.parametrize("name", PROJECTS)
def test_another_order_of_the_labels_runs_everything_again_from_the_first_stage_that_knows_them(
    name, base, files, tmp_path, monkeypatch
):
    project, folder, _ = base(name)
    other = changed(project, "task.labels", project["task"]["labels"][::-1])
    shutil.copytree(folder, tmp_path / "copy")
    again = do(run_of(files, other, tmp_path / "copy"), monkeypatch)
    assert all(ran for ran, _ in again.values())


@pytest.mark.parametrize("name", PROJECTS)
@pytest.mark.parametrize(
    ("file", "old", "new", "first"),
    [
        ("human.csv", "text ", "texts ", "gate, mix"),
        ("responses.csv", "text 61", "another text", "label, mix"),
        ("reviewed.csv", ",low,", ",high,", "gate, mix"),
        ("backbone/config.json", "backbone", "another backbone", "gate, mix"),
        ("population.csv", "text ", "texts ", "evaluate"),
        ("runs/human/mixture.csv", "human", "another", "evaluate"),
        ("study/runs.csv", "study", "another", "report"),
        ("served/bundle.json", "served", "another", "compare"),
    ],
)
def test_another_content_of_a_file_runs_the_stages_again_that_read_it(
    file, old, new, first, name, base, files, tmp_path, monkeypatch
):
    project, folder, _ = base(name)
    shutil.copytree(files, tmp_path / "files")
    shutil.copytree(folder, tmp_path / "copy")
    text = (tmp_path / "files" / file).read_text()
    (tmp_path / "files" / file).write_text(text.replace(old, new))
    again = do(run_of(tmp_path / "files", project, tmp_path / "copy"), monkeypatch)
    assert next(stage for stage, (ran, _) in again.items() if ran) in first.split(", ")


READ_BY = {
    "task.kind": "gate label generate mix train evaluate export",
    "task.instructions": "gate label generate evaluate",
    "task.labels.name": "gate label generate mix train evaluate export report",
    "task.labels.definition": "gate label generate evaluate export report",
    "teacher.votes": "gate label generate evaluate export",
    "teacher.tries": "gate label generate evaluate",
    "teacher.gate.at_least": "gate",
    "teacher.concurrency": "",
    "teachers_vote": "gate export",
    "generate.keep": "generate",
    "mix.seed": "mix",
    "student.patience": "train",
    "student.kind": "mix train evaluate",
    "student.shrink.epochs": "train",
    "student.shrink.export": "evaluate export",
    "evaluation.positive": "evaluate export",
    "review.at_least": "evaluate export",
    "export.precision": "export",
    "report.examples": "report",
    "report.compare_with": "compare",
    "evaluation.subgroups": "evaluate export compare",
}


@pytest.mark.parametrize(("path", "readers"), READ_BY.items())
def test_the_stages_declare_what_is_expected_of_them(path, readers, files, tmp_path):
    project = run_of(files, BASE, tmp_path).project
    assert " ".join(stage.name for stage in STAGES if stage.inputs(project).counts(f"project.{path}")) == readers


def test_a_project_without_a_teacher_does_not_depend_on_the_codebooks_text(files, tmp_path):
    without = {key: value for key, value in BASE.items() if key not in ("teacher", "generate", "mix")}
    project = run_of(files, without | {"evaluation": {}}, tmp_path).project
    for path, readers in (("task.instructions", []), ("task.kind", ["mix", "train", "evaluate", "export"])):
        wanted = [stage for stage in STAGES if stage.wanted(project)]
        assert [stage.name for stage in wanted if stage.inputs(project).counts(f"project.{path}")] == readers


@pytest.mark.parametrize("examples", [{"few_shot": 2}, {"few_shot_choice": "fixed", "few_shot_ids": ["h0"]}])
def test_train_rows_are_an_input_of_a_teacher_whose_prompts_show_them(examples, files, tmp_path):
    project = run_of(files, BASE | {"teacher": {"model": "m"} | examples}, tmp_path).project
    assert all(stage.inputs(project).counts("records.splits.train") for stage in STAGES[:2])
    project = run_of(files, BASE | {"teacher": {"model": "m"}}, tmp_path).project
    assert not any(stage.inputs(project).counts("records.splits.train") for stage in STAGES[:2])


def test_every_declared_result_is_written_by_an_earlier_stage_or_a_command(files, tmp_path):
    project = run_of(files, BASE, tmp_path).project
    written: set[str] = set()
    for stage in STAGES:
        declared = [
            path.removeprefix("results.") for path in stage.inputs(project).paths if path.startswith("results.")
        ]
        for path in declared:
            assert any(f"{path}.".startswith(f"{name}.") for name in (*written, *stage.beside, "run.json.stages")), path
        written |= set(stage.written(project))


def test_every_field_that_is_not_an_input_is_one_of_the_schema_and_says_why():
    known = {f"project.{path}" for path in schema_fields(Project)} | {"project.path", "results.run.json.versions"}
    for path, reason in NOT_INPUTS.items():
        assert any(f"{field}.".startswith(f"{path}.") for field in known), path
        assert len(reason.split()) > 4


@pytest.fixture
def restricted(files, tmp_path):
    """A run as a stage sees it that declares a few things."""
    run = run_of(files, BASE, tmp_path / "run")
    run.folder.write_json("gate.json", {"used": ["m"], "weights": {"m": 1.0}, "cost": {"asked": 1}})
    run.folder.write_text("labels.jsonl", "")
    inputs = StageInputs(
        ("project.student", "project.task.labels.name", "records.splits.train", "results.gate.json.used"),
        ("project.student.shrink.export",),
    )
    return run.restricted("stage", inputs, ("own.json",), ("gate.json", "labels.jsonl"))


@pytest.mark.parametrize(
    "read",
    [
        lambda run: run.project.mix,
        lambda run: run.project.panel,
        lambda run: run.project.task.task,
        lambda run: run.project.task.labels[0].definition,
        lambda run: run.project.student.shrink.export,
        lambda run: run.project.student.shrink.model_copy(update={"seed": 1}).export,
        lambda run: run.exported_student,
        lambda run: run.records.unlabelled,
        lambda run: run.records.splits.test,
        lambda run: run.folder / "labels.jsonl",
        lambda run: run.folder / "gate.json",
        lambda run: run.folder.has("labels.jsonl"),
        lambda run: run.folder.read_json("labels.jsonl"),
        lambda run: run.folder.run_log,
        lambda run: run.folder.path,
        lambda run: run.folder.write_json("another.json", {}),
    ],
)
def test_what_a_stage_does_not_declare_it_cannot_read(read, restricted):
    with pytest.raises(UndeclaredInput, match="the stage stage "):
        read(restricted)


def test_what_a_stage_declares_it_reads_as_it_is(restricted):
    student = restricted.project.student
    assert student.search.trials == 2
    assert student.adapters.rank == 8
    assert isinstance(student, StudentSection)
    assert "export" not in student.model_dump()["shrink"]
    assert [label.name for label in restricted.project.task.labels] == ["low", "high"]
    assert restricted.folder.read_json("gate.json") == {"used": ["m"]}
    assert {(*row.codes, *row.subgroups) for row in restricted.records.splits.train} == {()}
    restricted.folder.write_json("own.json", {"a": 1})
    assert restricted.folder.read_json("own.json") == {"a": 1}


def test_which_fields_a_project_gives_is_known_of_the_fields_that_can_be_read(restricted):
    assert {"search", "shrink"} <= restricted.project.student.model_fields_set
    assert "model" not in restricted.project.student.model_fields_set
    changed = restricted.project.student.shrink.model_copy(update={"export": True, "seed": 1})
    assert "seed" in changed.model_fields_set
    assert "export" not in changed.model_fields_set
