"""Teacher watch: a canary set asked again shows when the model behind a name changed, and no noise is an alarm."""

import csv
import json
import random
import re
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from edgedistill.cli.commands import app
from edgedistill.data import read_records
from edgedistill.errors import ArgumentError, BudgetReached, DataError, RunError, TeacherUnreachable
from edgedistill.pipeline import Run, RunFolder, run_stages
from edgedistill.pipeline.teacher_watch import WatchOptions, read_history, watch_teacher
from edgedistill.project import read_project
from edgedistill.teacher.canaries import describe_look
from edgedistill.teacher.runner import RetryPolicy

from ..teacher.stand_in import Reply, StandIn, error

PROJECT = """\
name: lesson
task:
  labels: [{{name: process, definition: Praises effort.}}, {{name: outcome, definition: {definition}}}]
data: {{human: human.csv, unlabelled: responses.csv}}
teacher:
  base_url: {base_url}
  model: alias
  api_key_env: null
  votes: {votes}
  tries: 1
  gate: {{at_least: -1, least_rows: 1}}
  {more}
"""
WORDS = ("red", "blue", "teal", "pink", "lake", "moon", "six", "ten", "fast", "slow", "deep", "wide", "oak", "fern")
QUICK = WatchOptions(rows=20, retry_policy=RetryPolicy(first=0.001, longest=0.01))


class Model:
    """A teacher whose model a test changes: what it codes, how noisily, and what it calls itself."""

    def __init__(self):
        self.changed, self.noise, self.name, self.fingerprint = 0.0, 0.0, "alias-1", "fp-1"
        self.reply, self._draw = None, random.Random(0)

    def __call__(self, body, _before):
        """Answer a request."""
        if self.reply:
            return self.reply
        number = int(re.findall(r"response (\d+)", body["messages"][-1]["content"])[-1])
        label = ("process", "outcome")[number % 2]
        if number % 10 < 10 * self.changed:
            label = "outcome"
        if self._draw.random() < self.noise:
            label = self._draw.choice(("process", "outcome"))
        message = {"role": "assistant", "content": json.dumps({"label": label}), "refusal": None}
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": self.name,
            "system_fingerprint": self.fingerprint,
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105},
        }
        return Reply(body=json.dumps(answer).encode())


def write_project(folder, teacher, votes=3, more="", definition="Praises the result."):
    words = random.Random(1)

    def rows(first, count, *columns):
        numbers = [n + (first == "u") * 100 for n in range(count)]
        return [(f"{first}{n % 100}", f"{' '.join(words.sample(WORDS, 4))} response {n}", *columns) for n in numbers]

    splits = ("train", "validation", "test")
    human = [(*row, ("process", "outcome")[n % 2], splits[n // 2 % 3]) for n, row in enumerate(rows("h", 12))]
    for name, columns, lines in (
        ("human.csv", ("id", "response", "label", "split"), human),
        ("responses.csv", ("id", "response"), rows("u", 30)),
    ):
        with (folder / name).open("w", newline="") as stream:
            csv.writer(stream).writerows([columns, *lines])
    (folder / "project.yaml").write_text(
        PROJECT.format(base_url=teacher.base_url, votes=votes, more=more, definition=definition)
    )
    return folder / "project.yaml"


def run_of(file):
    project = read_project(file)
    return Run(project, read_records(project), RunFolder(project.run_folder))


@pytest.fixture
def watched(tmp_path):
    """A project whose responses are coded: its file, the model, and the stand-in that counts its requests."""
    model = Model()
    with StandIn(model) as teacher:
        file = write_project(tmp_path, teacher)
        run_stages(run_of(file), until="label")
        yield file, model, teacher


def test_the_same_requests_are_sent_past_the_cache_and_what_is_the_same_is_no_alarm(watched):
    file, _, teacher = watched
    paid = teacher.bodies[:]
    look = watch_teacher(run_of(file), QUICK)
    again = teacher.bodies[len(paid) :]
    assert (look.verdict, look.rows, look.votes, len(again), look.requests) == ("no change shown", 20, 60, 60, 60)
    assert all(body in paid for body in again)
    assert (look.equal, look.equal_before, look.equal_now, look.p, look.level) == (1, 1, 1, 1, 0.025)
    assert look.kappa.value == 1
    asked = len(teacher.bodies)
    run_stages(run_of(file), until="label")
    assert len(teacher.bodies) == asked  # the cache is as it was


def test_a_changed_model_is_an_alarm_at_once_with_the_labels_that_moved(watched):
    file, model, _ = watched
    watch_teacher(run_of(file), QUICK)
    model.changed = 1.0
    look = watch_teacher(run_of(file), QUICK)
    assert (look.verdict, look.look) == ("answers changed", 2)
    assert look.p < 1e-6 < look.level == pytest.approx(0.05 / 6)
    assert look.shares["process"] == (0.5, 0.0)
    assert "answers differently" in describe_look(look)[0]


def test_a_teacher_that_samples_raises_no_alarm_and_its_noise_is_measured(tmp_path):
    model = Model()
    model.noise = 0.5
    with StandIn(model) as teacher:
        file = write_project(tmp_path, teacher)
        run_stages(run_of(file), until="label")
        looks = [watch_teacher(run_of(file), QUICK) for _ in range(6)]
    assert {look.verdict for look in looks} == {"no change shown"}
    assert looks[0].equal_before < 0.9
    assert looks[0].equal < 0.9


def test_a_teacher_with_one_vote_is_asked_twice_so_that_its_noise_is_known(tmp_path):
    model = Model()
    with StandIn(model) as teacher:
        file = write_project(tmp_path, teacher, votes=1, more="temperature: 0")
        run_stages(run_of(file), until="label")
        look = watch_teacher(run_of(file), QUICK)
        assert (look.votes, look.equal_before, look.equal_now) == (40, None, 1)
        model.changed = 1.0
        assert watch_teacher(run_of(file), QUICK).verdict == "answers changed"


def test_another_name_of_the_model_is_an_alarm_and_another_fingerprint_is_reported(watched):
    file, model, _ = watched
    model.fingerprint = "fp-2"
    look = watch_teacher(run_of(file), QUICK)
    assert (look.verdict, dict(look.new_fingerprints)) == ("no change shown", {"fp-2": 60})
    model.name = "alias-2"
    look = watch_teacher(run_of(file), QUICK)
    assert (look.verdict, dict(look.new_models)) == ("model renamed", {"alias-2": 60})


def test_the_set_is_stratified_by_label_drawn_by_the_seed_and_has_no_text(watched):
    file, *_ = watched
    watch_teacher(run_of(file), QUICK)
    stored = (file.parent / "runs/lesson/teacher_watch/alias/canary.json").read_text()
    found = json.loads(stored)
    assert [row["label"] for row in found["rows"]].count("process") in (9, 10, 11)
    assert "response" not in stored
    watch_teacher(run_of(file), QUICK)
    assert (file.parent / "runs/lesson/teacher_watch/alias/canary.json").read_text() == stored
    look = watch_teacher(run_of(file), WatchOptions(rows=20, seed=1, renew=True))
    renewed = json.loads((file.parent / "runs/lesson/teacher_watch/alias/canary.json").read_text())
    assert (look.set, look.look) == (2, 1)
    assert {row["id"] for row in renewed["rows"]} != {row["id"] for row in found["rows"]}
    assert [(each.set, each.look) for each in read_history(run_of(file), "alias")] == [(1, 1), (1, 2), (2, 1)]


@pytest.mark.parametrize("status", [200, 400])
def test_a_teacher_that_now_refuses_everything_is_an_alarm(status, watched):
    file, model, _ = watched
    message = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
    refusal = {"model": "alias-1", "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    model.reply = error(400, "no such content") if status == 400 else Reply(body=json.dumps(refusal).encode())
    look = watch_teacher(run_of(file), QUICK)
    assert (look.verdict, look.no_answer, look.votes) == ("answers changed", 60, 60)
    assert look.kappa is None
    assert any("refuses one response after the other" in note for note in look.notes) == (status == 400)


def test_an_endpoint_that_is_down_is_an_error_and_no_look(watched):
    file, model, _ = watched
    model.reply = error(500)
    with pytest.raises(TeacherUnreachable):
        watch_teacher(run_of(file), QUICK)
    assert read_history(run_of(file), "alias") == ()
    model.reply = None
    assert watch_teacher(run_of(file), QUICK).look == 1


@pytest.mark.parametrize("line", [b'{"look": 1}', b"[]", b"\xff", b'{"schema_version": 99, "look": 1}'])
def test_a_look_that_cannot_be_read_is_an_error_and_one_that_was_cut_short_is_none(line, tmp_path):
    run = SimpleNamespace(folder=SimpleNamespace(path=tmp_path))
    history = tmp_path / "teacher_watch" / "alias" / "history.jsonl"
    history.parent.mkdir(parents=True)
    history.write_bytes(b'{"schema_version": 1, "lo\n\n')
    assert read_history(run, "alias") == ()
    history.write_bytes(history.read_bytes() + line + b"\n")
    with pytest.raises(RunError, match=r"history\.jsonl, line 3: is damaged, or another version"):
        read_history(run, "alias")


def test_an_older_codebook_another_model_and_other_parameters_are_refused_with_the_reason(watched):
    file, *_ = watched
    watch_teacher(run_of(file), QUICK)
    before = file.read_text()
    for changed, what in (
        (before.replace("Praises the result", "Praises talent"), "older codebook .definitions changed: 'outcome'."),
        (
            before.replace("model: alias", "name: alias\n  model: other"),
            "it was drawn for the model alias, and the project has other",
        ),
        (before.replace("tries: 1", "temperature: 0.1"), "0 of 20 requests are the same"),
    ):
        file.write_text(changed)
        with pytest.raises(RunError, match=what):
            watch_teacher(run_of(file), QUICK)
    assert len(read_history(run_of(file), "alias")) == 1


def test_the_cost_is_estimated_before_and_stays_within_the_budget_and_a_stopped_look_continues(tmp_path):
    with StandIn(Model()) as teacher:
        prices = "prices: {input_usd_per_million: 1, output_usd_per_million: 1}"
        file = write_project(tmp_path, teacher, more=prices)
        run_stages(run_of(file), until="label")
        before = len(teacher.bodies)
        shown = CliRunner().invoke(app, ["teacher", "watch", str(file), "--rows", "20", "--estimate"])
        assert shown.exit_code == 0
        assert "estimate: 60 requests" in shown.output
        assert len(teacher.bodies) == before
        spent = 105 * before / 1e6
        file.write_text(file.read_text() + f"  budget: {{usd: {spent + 0.0035}}}\n")
        with pytest.raises(BudgetReached):
            watch_teacher(run_of(file), QUICK)
        arrived = len(teacher.bodies) - before
        assert 0 < arrived < 60
        file.write_text(file.read_text().replace(f"{spent + 0.0035}", "5"))
        look = watch_teacher(run_of(file), QUICK)
        assert (look.look, look.requests, len(teacher.bodies)) == (1, 60 - arrived, before + 60)
        assert look.nano_dollars == 105 * 1000 * look.requests


def test_too_few_coded_responses_and_unknown_teachers_are_errors(tmp_path):
    with StandIn(Model()) as teacher:
        file = write_project(tmp_path, teacher)
        with pytest.raises(
            DataError, match=r"alias has coded 0 responses with these settings.*Run `edgedistill gate PROJECT`"
        ):
            watch_teacher(run_of(file), QUICK)
        with pytest.raises(ArgumentError, match="there is no teacher 'other' with an endpoint; there is alias"):
            watch_teacher(run_of(file), WatchOptions("other"))


def test_the_command_exits_with_6_for_an_alarm_so_that_cron_reports_it(watched):
    file, model, _ = watched
    arguments = ["teacher", "watch", str(file), "--rows", "20"]
    quiet = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert (quiet.exit_code, "no change of alias is shown" in quiet.output) == (0, True)
    model.changed = 1.0
    alarm = CliRunner().invoke(app, [*arguments, "--json"])
    assert alarm.exception.exit_code == 6
    assert "alias answers differently" in str(alarm.exception)
    assert json.loads(alarm.output)["verdict"] == "answers changed"
