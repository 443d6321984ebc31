"""The loop: rows that people code at review make the next run better, and no answer is paid for twice."""

import csv
import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from edgedistill.cli.commands import app
from edgedistill.data import read_records
from edgedistill.errors import RunError
from edgedistill.evaluation.bundle_rows import row_digest
from edgedistill.pipeline import Run, RunFolder, run_stage, run_stages
from edgedistill.project import read_project

from ..generation.writings import parse_request, wrote
from ..student.conftest import make_model, make_tokenizer
from ..teacher.stand_in import StandIn, coded, completion
from .tiny import run_of, write_tiny

PROJECT = """\
name: lesson
task:
  labels: [{{name: process, definition: Praises effort.}}, {{name: outcome, definition: Praises the result.}}]
  inputs: [question, response]
data: {{human: human.csv, unlabelled: responses.csv, reviewed: reviewed.csv}}
teacher:
  base_url: {base_url}
  model: stand-in
  api_key_env: null
  votes: 2
  gate: {{at_least: -1, least_rows: 1}}
  {teacher}
student: {{backbone: ./backbone}}
{generate}
"""
GENERATE = "generate: {per_label: 4, samples_per_call: 2, examples_per_prompt: 2}\nmix: {synthetic_share: 0.2}"
WORDS = ("red", "blue", "teal", "pink", "one", "two", "six", "ten", "fast", "slow", "deep", "wide")


def text(number):
    word = WORDS[number % 12], WORDS[number * 5 % 12], WORDS[number * 7 % 12]
    return f"you {'tried' if number % 2 else 'answered'} {' '.join(word)} {number}"


def code(response):
    return "process" if "tried" in response else "outcome"


def script(body, _before):
    """Codes by one word; of several responses, each by its id; and writes samples."""
    last = body["messages"][-1]["content"]
    if "<label>" in last:
        label, size = parse_request(body)
        verb = "tried" if label == "process" else "answered"
        return wrote([f"they {verb} {body['seed']} sample {n} {WORDS[n]} {WORDS[-n]}" for n in range(size)])
    several = re.findall(r'<response id="(\w+)">(.*?)</response>', last, re.DOTALL)
    if several:
        entries = ", ".join(f'{{"id": "{ident}", "label": "{code(response)}"}}' for ident, response in several)
        return completion(f'{{"codes": [{entries}]}}')
    return coded(code(re.findall(r"<response>(.*?)</response>", last, re.DOTALL)[-1]))


def write(file, columns, rows):
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])


def write_project(folder, teacher, settings, generate):
    rows = [
        (f"h{n}", f"q{n % 2}", text(n), code(text(n)), ("train", "validation", "test")[n // 2 % 3]) for n in range(36)
    ]
    # The text of a train row, to another question: one that a reviewed validation row has, too.
    rows.append(("same", "q0", "you tried the same again", "process", "train"))
    write(folder / "human.csv", ("id", "question", "response", "label", "split"), rows)
    others = [(f"u{n}", f"q{n % 2}", text(n)) for n in range(36, 76)]
    write(
        folder / "responses.csv", ("id", "question", "response"), [*others, ("twin", "q1", "you tried the same again")]
    )
    tokenizer = make_tokenizer("bert")
    tokenizer.save_pretrained(folder / "backbone")
    make_model("bert", len(tokenizer)).save_pretrained(folder / "backbone")
    (folder / "project.yaml").write_text(
        PROJECT.format(
            base_url=teacher.base_url,
            teacher=settings,
            generate=GENERATE if generate else "",
        )
    )
    return folder / "project.yaml"


def run_until(file, stage):
    project = read_project(file)
    run = Run(project, read_records(project), RunFolder(project.run_folder))
    return {step.stage: step for step in run_stages(run, until=stage)}


def review(file, rows, purpose):
    """Draw rows, code them, and merge the sheet, as people do."""

    def call(*arguments):
        done = CliRunner().invoke(app, ["review", *map(str, arguments)], catch_exceptions=False)
        assert done.exit_code == 0, done.output

    sheet = file.parent / f"{purpose}.csv"
    call("next", file, "--rows", rows, "--for", purpose, "--out", sheet)
    with sheet.open(newline="") as stream:
        drawn = list(csv.DictReader(stream))
    for row in drawn:
        row["human_code"] = code(row["response"])
    write(sheet, tuple(drawn[0]), [tuple(row.values()) for row in drawn])
    call("merge", file, sheet)
    return drawn


SETTINGS = {
    "examples of each label": "few_shot: 4",
    "similar examples": "few_shot: 2, few_shot_choice: similar",
    "named examples": "few_shot_choice: fixed, few_shot_ids: [h1, h0]",
    "several responses in a request": "per_request: 4, few_shot: 2",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_no_answer_is_paid_for_twice_after_people_coded_more_rows(name, tmp_path):
    with StandIn(script) as teacher:
        settings = "\n  ".join(SETTINGS[name].split(", few")).replace("\n  _shot", "\n  few_shot")
        file = write_project(tmp_path, teacher, settings, generate=name == "examples of each label")
        last = "generate" if name == "examples of each label" else "label"
        run_until(file, last)
        paid = len(teacher.bodies)
        before = read_records(read_project(file)).splits
        drawn = [*review(file, 12, "train"), *review(file, 10, "validation")]
        steps = run_until(file, last)
        after = read_records(read_project(file)).splits
        assert len(after.train) + len(after.validation) == len(before.train) + len(before.validation) + len(drawn)
        assert not steps["label"].skipped
        assert len(teacher.bodies) == paid


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    """A project after the loop: its file, the locked rows before, both draws, and the steps of the second run."""
    file = write_tiny(tmp_path_factory.mktemp("tiny"))
    run_stages(run_of(file))
    served = file.parent / "served"
    shutil.copytree(file.parent / "runs/tiny/bundle", served)
    locked = read_records(read_project(file)).splits.test
    drawn = {purpose: review(file, 12, purpose) for purpose in ("train", "validation")}
    file.write_text(file.read_text() + "report: {compare_with: served}\n")
    steps = {step.stage: step for step in run_stages(run_of(file))}
    return file, locked, drawn, steps


def test_the_new_bundle_is_compared_with_the_one_in_use_on_the_locked_rows(loop):
    file, locked, _, steps = loop
    found = run_of(file).comparison
    assert (found.old.version, found.rows) == (
        json.loads((file.parent / "served/bundle.json").read_text())["version"],
        len(locked),
    )
    assert found.new.version == run_of(file).bundle.manifest.version != found.old.version
    assert steps["compare"].entry["verdict"] == found.verdict
    page = run_of(file).report_html
    assert "Compared with the bundle in use" in page
    assert f"<code>{found.old.version}</code>" in page
    assert run_stages(run_of(file))[-2].skipped


def test_both_bundles_are_known_not_to_have_learned_from_the_locked_rows(loop):
    file, *_ = loop
    found = run_of(file).comparison
    assert all((each.known, each.trained, each.selected) == (True, 0, 0) for each in found.learned.values())
    assert not [note for note in found.notes if note.startswith("warning")]


def test_locked_rows_that_trained_the_bundle_in_use_are_left_out_with_a_warning(loop, tmp_path):
    """Somebody made test rows of rows that had trained the bundle in use."""
    file, locked, *_ = loop
    copy = shutil.copytree(file.parent, tmp_path / "copy") / file.name
    record = copy.parent / f"runs/tiny/bundle_rows/{run_of(copy).comparison.old.version}.json"
    learned = json.loads(record.read_text())
    learned["trained"] += [[row.response.id, row_digest(row.response.inputs, ("response",))] for row in locked.rows[:5]]
    record.write_text(json.dumps(learned))
    for stage in ("compare", "report"):
        assert not run_stage(run_of(copy), stage).skipped
    found = run_of(copy).comparison
    assert (found.learned["old"].trained, found.rows) == (5, len(locked) - 5)
    assert "5 rows trained the old bundle, and are left out." in run_of(copy).report_html


def test_the_locked_rows_never_change_and_reviewed_rows_have_the_chance_with_which_they_were_drawn(loop):
    file, locked, drawn, _ = loop
    records = read_records(read_project(file))
    assert records.splits.test == locked
    with (file.parent / "reviewed.csv").open(newline="") as stream:
        reviewed = {row["id"]: row for row in csv.DictReader(stream)}
    assert len(reviewed) == 24
    for purpose, rows in drawn.items():
        of_split = {row.response.id for row in getattr(records.splits, purpose)}
        for row in rows:
            assert row["id"] in of_split
            assert reviewed[row["id"]]["purpose"] == purpose
            assert 0 < float(reviewed[row["id"]]["inclusion_probability"]) <= 1
    assert {row["inclusion_probability"] for row in drawn["train"]} == {"0.2"}


def test_a_run_stops_before_it_trains_if_the_bundle_in_use_cannot_be_compared(loop, tmp_path, make_bundle):
    file, *_ = loop
    inside = file.parent / "runs/tiny/bundle"
    other = make_bundle(tmp_path / "other", labels=("process", "outcome", "person")).folder
    for folder, what in (
        (inside, "is the folder into which this project exports"),
        (other, "only the old bundle has 'person'; only the new bundle has 'other'"),
        (tmp_path / "nothing", "the folder does not exist"),
    ):
        run = run_of(file)
        report = run.project.report.model_copy(update={"compare_with": folder})
        changed = Run(run.project.model_copy(update={"report": report}), run.records, RunFolder(tmp_path / "fresh"))
        for start in (run_stages, lambda run: run_stage(run, "compare")):
            with pytest.raises(RunError, match=what):
                start(changed)
        assert not (tmp_path / "fresh").exists()
    unnamed = Run(read_project(file).model_copy(update={"report": type(report)()}), run.records, run.folder)
    with pytest.raises(RunError, match="Name it with --served BUNDLE"):
        run_stage(unnamed, "compare")


def test_the_report_needs_a_comparison_of_the_present_bundle(loop, tmp_path):
    file, *_ = loop
    copy = shutil.copytree(file.parent, tmp_path / "copy") / file.name
    (copy.parent / "runs/tiny/comparison.json").unlink()
    with pytest.raises(RunError, match=r"compare is not done.*Run `edgedistill compare PROJECT`"):
        run_stage(run_of(copy), "report")
    shown = CliRunner().invoke(app, ["report", str(copy)], catch_exceptions=False)
    assert (shown.exit_code, run_stage(run_of(copy), "report").skipped) == (0, True)
