"""Two teachers, a redacted task, and several responses per request, from the first row to the bundle."""

import json
import re

import pytest

from edgedistill_serve.task.redaction import RULES

from ..edgedistill.teacher.stand_in import StandIn, completion
from ..export.tiny import BERT, PRAISE, save_student
from .lessons import PROJECT, command, disagree, judge, write_lesson

PANEL = """\
teachers:
  - {{name: careful, base_url: "{careful}", model: stand-in, api_key_env: null, votes: 2, per_request: 5,
     gate: {{at_least: 0.6}}}}
  - {{name: careless, base_url: "{careless}", model: stand-in, api_key_env: null, votes: 1, tries: 1,
     gate: {{at_least: 0.6}}}}
"""
RAW = "Jordan, you tried again and again with fraction number 7, says jo@school.edu"
READ = "Jordan, you tried again and again with fraction number 7, says [EMAIL]"


def judge_several(body, before):
    """The stand-in's script: it codes each numbered response as `judge` does."""
    content = body["messages"][-1]["content"]
    codings = []
    for block in content.split('<response id="')[1:]:
        ident, _, text = block.partition('">')
        alone = {"messages": [{"content": f"<response>{text.partition('</response>')[0]}</response>"}]}
        said = json.loads(json.loads(judge(alone, before).body)["choices"][0]["message"]["content"])
        codings.append({"id": ident, **said})
    return completion(json.dumps({"codings": codings}))


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """A project of two teachers that has run to its bundle, of whom one was refused: its file, and what was shown."""
    folder = tmp_path_factory.mktemp("panel")
    with StandIn(judge_several) as careful, StandIn(disagree) as careless:
        project = write_lesson(folder, "unused")
        head, _, tail = PROJECT.format(base_url="unused").partition("teacher:\n")
        panel = PANEL.format(careful=careful.base_url, careless=careless.base_url)
        student = f"student:\n  backbone: {save_student(folder / 'tiny', PRAISE, BERT)}" + tail.partition("student:")[2]
        project.write_text(head.replace("task:\n", "task:\n  redact: true\n") + panel + student)
        done = command("edgedistill", "run", project)
    return project, done.stdout


def test_each_teacher_is_gated_and_the_refused_one_is_left_out(lesson):
    project, shown = lesson
    assert "careful: kappa at least 0.6 (lower end of the 95 % interval), at least 30 rows: passed" in shown
    assert "careless: kappa at least 0.6 (lower end of the 95 % interval), at least 30 rows: refused" in shown
    assert "careful and careless: kappa 0.000" in shown
    verdict = json.loads((project.parent / "runs/lesson/gate.json").read_text())
    assert (verdict["used"], verdict["teacher"], verdict["passed"]) == (["careful"], "careful", True)
    first = json.loads((project.parent / "runs/lesson/labels.jsonl").read_text().splitlines()[0])
    assert (first["teacher"], first["soft"], len(first["votes"])) == ("careful", "votes", 2)


def test_the_bundle_tells_its_teachers_and_redacts_as_training_did(lesson):
    project, _ = lesson
    bundle = project.parent / "runs/lesson/bundle"
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert set(manifest["provenance"]["teachers"]) == {"careful", "careless"}
    assert manifest["provenance"]["gate"]["used"] == ["careful"]
    assert manifest["task"]["redact"] == {"ids": [], "rules": RULES}
    raw, read = (
        json.loads(command("edgedistill-serve", "score", bundle, text, "--json").stdout) for text in (RAW, READ)
    )
    assert raw["probabilities"] == read["probabilities"]


def test_a_prompt_of_each_teacher_can_be_looked_at(lesson):
    project, _ = lesson
    done = command("edgedistill", "label", project, "--show-prompt", "r101")
    assert "teacher careful, model stand-in" in done.stdout
    assert re.search('<response id="[a-z][0-9]{2}">Jordan, you', done.stdout)
    assert "<response>Jordan, you" in done.stdout
    message = command("edgedistill", "gate", project, "--show-prompt", "nobody", expect=2).stderr
    assert "no response in use has the id 'nobody'" in message
