"""Loading the inputs of a study, and the rows that are set aside."""

import csv
import json

import pytest

from edgedistill.errors import DataError, ProjectFileError, TeacherError
from edgedistill.studies import read_study
from edgedistill.studies.inputs import Requirements, read_task, request_inputs
from edgedistill.studies.registry import DESIGNS
from edgedistill.studies.study import run_study

from ..generation.writings import parse_request, wrote
from ..teacher.stand_in import StandIn, completion, text_of
from ..teacher.stand_in import coded as answer

PROJECT = """\
name: toy
task: {labels: [{name: good}, {name: bad}]}
data: {human: human.csv, unlabelled: new.csv}
"""
WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron"]
WORDS += ["inlet", "jetty", "knoll", "lunar", "maple", "north", "ocean", "prism"]


def text(number):
    """Texts that are not near-duplicates of one another."""
    return f"{WORDS[number % 16]} {WORDS[number // 16 % 16]} {number} {WORDS[(number * 7 + 3) % 16]}"


def write(path, header, rows):
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


@pytest.fixture
def folder(tmp_path):
    split = ["train"] * 20 + ["validation"] * 10 + ["test"] * 10
    rows = [(f"r{i}", text(i), ("good", "bad")[i % 2], split[i]) for i in range(40)]
    write(tmp_path / "human.csv", ["id", "response", "label", "split"], rows)
    write(tmp_path / "new.csv", ["id", "response"], [(f"n{i}", text(i + 100)) for i in range(12)])
    (tmp_path / "project.yaml").write_text(PROJECT, "utf-8")
    return tmp_path


def load_first(study, requirements):
    """Load the inputs of the first task of a study."""
    return request_inputs(read_task(study, study.tasks[0], requirements))


def load(folder, requirements, more="", student=""):
    (folder / "study.yaml").write_text(f"name: s\ntasks:\n  - {{project: project.yaml{more}}}\n{student}", "utf-8")
    study = read_study(folder / "study.yaml")
    return load_first(study, requirements)


def labels(folder, ids, **given):
    lines = [
        {"id": i, "label": "good", "consistency": 1.0, "shares": {"good": 1.0}, "votes": ["good"], "teacher": "m"}
        | given
        for i in ids
    ]
    (folder / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def test_recorded_labels_are_read_for_texts_and_test_rows(folder):
    labels(folder, ["n0", "n1", "r30", "r31"])
    found = load(folder, Requirements(teachers="one"), ", labels: {m: m.jsonl}").teacher_labels["m"]
    assert [label.id for label in found.labels] == ["n0", "n1"]
    assert found.test == {"r30": "good", "r31": "good"}


def test_the_teacher_can_label_the_train_texts(folder):
    labels(folder, ["n0", "r1"])
    task = load(folder, Requirements(teachers="one"), ", texts: train, labels: {m: m.jsonl}")
    assert [label.id for label in task.teacher_labels["m"].labels] == ["r1"]
    assert task.codes["r1"] == "bad"


def test_recorded_labels_of_other_rows_are_refused(folder):
    labels(folder, ["x"])
    with pytest.raises(DataError, match="none of its ids belongs to a text to label"):
        load(folder, Requirements(teachers="one"), ", labels: {m: m.jsonl}")


def test_only_the_labels_of_the_required_teacher_are_read(folder):
    labels(folder, ["n0"])
    two = ", labels: {gone: gone.jsonl, m: m.jsonl}"
    assert list(load(folder, Requirements(teachers="one", names=("m",)), two).teacher_labels) == ["m"]


def test_the_error_for_an_unknown_teacher_lists_the_available_ones(folder):
    labels(folder, ["n0"])
    with pytest.raises(ProjectFileError, match=r"the task 'toy' has no teacher 'gpt'. It has m"):
        load(folder, Requirements(teachers="one", names=("gpt",)), ", labels: {m: m.jsonl}")


@pytest.mark.parametrize(
    ("given", "message"), [({"label": "fair"}, "no label 'fair'"), ({"wrong": 1}, "m.jsonl, line 1")]
)
def test_invalid_recorded_labels_are_refused(folder, given, message):
    labels(folder, ["n0"], **given)
    with pytest.raises(DataError, match=message):
        load(folder, Requirements(teachers="one"), ", labels: {m: m.jsonl}")


def test_a_text_of_the_transfer_set_is_not_labelled_for_training(folder):
    labels(folder, ["n0", "n1", "n2"])
    write(folder / "more.csv", ["id", "response", "label"], [("m0", text(101), "good"), ("m1", text(200), "bad")])
    task = load(folder, Requirements(teachers="one"), ", labels: {m: m.jsonl}, transfer: more.csv")
    assert [label.id for label in task.teacher_labels["m"].labels] == ["n0", "n2"]
    assert len(task.tests["transfer"]) == 2


def transfer(folder, *rows):
    write(
        folder / "more.csv", ["id", "response", "label"], [*rows, ("m8", text(208), "good"), ("m9", text(209), "bad")]
    )
    return load(folder, Requirements(), ", transfer: more.csv")


@pytest.mark.parametrize(
    ("taken", "place"),
    [("r1", "human.csv, row 3"), ("r25", "human.csv, row 27"), ("r31", "human.csv, row 33"), ("n0", "new.csv, row 2")],
)
def test_a_transfer_row_with_the_id_of_another_text_is_refused(folder, taken, place):
    with pytest.raises(DataError) as error:
        transfer(folder, ("m0", text(300), "good"), (taken, text(301), "good"))
    assert f"more.csv, row 3: the id '{taken}' is already used in {place}, with another text" in str(error.value)
    assert "unique ids" in str(error.value)


def test_transfer_rows_that_duplicate_train_or_validation_rows_are_set_aside_and_counted(folder):
    repeated = [("m0", text(3).upper(), "bad"), ("r4", text(4), "good"), ("m2", text(24), "good")]
    task = transfer(folder, *repeated, ("m3", " ", "good"), ("m4", text(210), ""))
    assert [row.response.id for row in task.tests["transfer"]] == ["m8", "m9"]
    note = (
        "more.csv: 7 transfer rows read = 2 used + 1 set aside (blank response) + 1 set aside (no human code)"
        " + 2 set aside (duplicates a train row) + 1 set aside (duplicates a validation row)"
    )
    assert note in task.notes


def test_a_transfer_set_of_train_rows_only_is_refused(folder):
    write(folder / "more.csv", ["id", "response", "label"], [("m0", text(3), "bad"), ("m1", text(4), "good")])
    with pytest.raises(DataError, match=r"no test row remains; .* 2 set aside \(duplicates a train row\)"):
        load(folder, Requirements(), ", transfer: more.csv")


def test_texts_that_the_teacher_does_not_label_are_counted(folder):
    labels(folder, ["n0", "n2"])
    write(folder / "more.csv", ["id", "response", "label"], [("m0", text(101), "good"), ("m1", text(200), "bad")])
    task = load(folder, Requirements(teachers="one"), ", labels: {m: m.jsonl}, transfer: more.csv")
    note = "texts for the teacher: 12 unlabelled rows read = 11 used + 1 set aside (also in a test set)"
    assert note in task.notes


@pytest.mark.parametrize(
    "how", ["few_shot: 8", "few_shot_choice: fixed, few_shot_ids: [r0, r1, r2, r3, r4, r5]", "few_shot: 19"]
)
def test_no_prompt_contains_the_human_code_of_the_train_row_to_label(folder, how):
    split = ["train"] * 20 + ["validation"] * 10 + ["test"] * 10
    texts = [text(i) for i in range(40)]
    texts[10] = texts[0].upper()  # one answer, typed twice
    texts[11] = texts[1]
    rows = [(f"r{i}", texts[i], ("good", "bad")[i % 2], split[i]) for i in range(40)]
    write(folder / "human.csv", ["id", "response", "label", "split"], rows)
    with StandIn(answer("good")) as teacher:
        (folder / "project.yaml").write_text(
            PROJECT + f"teacher: {{base_url: '{teacher.base_url}', model: m, api_key_env: null, {how}}}\n", "utf-8"
        )
        task = load(folder, Requirements(teachers="one"), ", texts: train")
    shown = [(text_of(body), [message["content"] for message in body["messages"][:-1]]) for body in teacher.bodies]
    assert any(len(before) > 2 for _, before in shown)
    assert all(asked.casefold() not in content.casefold() for asked, before in shown for content in before)
    (labels_of_teacher,) = task.teacher_labels.values()
    assert len(labels_of_teacher.labels) == 20  # a twin is left out of the prompt, not the row out of the study
    assert "texts for the teacher: 20 train rows read = 20 used" in task.notes


def test_recorded_synthetic_rows_similar_to_a_validation_or_test_row_are_set_aside(folder):
    rows = [
        ("a", text(300), "good"),
        ("b", text(25) + "!", "bad"),
        ("c", text(35) + "!", "bad"),
        ("d", text(301), "bad"),
    ]
    write(folder / "s.csv", ["id", "response", "label"], rows)
    task = load(folder, Requirements(synthetic=True), ", synthetic: {gpt: s.csv}")
    assert [row.id for row in task.synthetic["gpt"]] == ["gpt/a", "gpt/d"]
    note = (
        "s.csv: 4 synthetic rows read = 2 used + 1 set aside (nearly repeats a validation row)"
        " + 1 set aside (nearly repeats a test row)"
    )
    assert note in task.notes


def test_synthetic_rows_similar_to_the_transfer_set_are_set_aside(folder):
    write(folder / "s.csv", ["id", "response", "label"], [("a", text(300), "good"), ("b", text(301), "bad")])
    write(folder / "more.csv", ["id", "response", "label"], [("m0", text(300), "good"), ("m1", text(200), "bad")])
    task = load(folder, Requirements(synthetic=True), ", synthetic: {gpt: s.csv}, transfer: more.csv")
    assert [row.id for row in task.synthetic["gpt"]] == ["gpt/b"]


def test_generated_rows_similar_to_the_transfer_set_are_set_aside(folder):
    def script(body, _before):
        if "<label>" not in body["messages"][-1]["content"]:
            return answer("good")
        label, _ = parse_request(body)
        return wrote({"good": [text(300), text(301)], "bad": [text(302), text(303)]}[label])

    write(folder / "more.csv", ["id", "response", "label"], [("m0", text(300), "good"), ("m1", text(200), "bad")])
    with StandIn(script) as teacher:
        (folder / "project.yaml").write_text(
            PROJECT + f"teacher: {{base_url: '{teacher.base_url}', model: m, api_key_env: null}}\n"
            "generate: {per_label: 2, samples_per_call: 2, examples_per_prompt: 2}\n",
            "utf-8",
        )
        task = load(folder, Requirements(synthetic=True), ", transfer: more.csv")
    assert sorted(row.inputs["response"] for row in task.synthetic["m"]) == sorted(map(text, (301, 302, 303)))


def test_a_recorded_synthetic_row_keeps_its_lineage(folder):
    rows = [("a", text(300), "good", "0.7", "bad"), ("b", text(301), "bad", "", "")]
    write(folder / "s.csv", ["id", "response", "label", "temperature", "regraded"], rows)
    one, other = load(folder, Requirements(synthetic=True), ", synthetic: {gpt: s.csv}").synthetic["gpt"]
    assert one.lineage == {
        "teacher": "gpt",
        "file": "s.csv",
        "row": "2",
        "temperature": "0.7",
        "regraded": "bad",
        "consistent": "false",
    }
    assert other.lineage == {"teacher": "gpt", "file": "s.csv", "row": "3"}


def test_without_recorded_rows_and_without_generation_the_hint_names_both(folder):
    with pytest.raises(ProjectFileError, match="Add the section generate, or give the study's task recorded rows"):
        load(folder, Requirements(synthetic=True))


def test_an_unknown_positive_label_is_refused(folder):
    with pytest.raises(ProjectFileError, match=r"tasks.positive: the task 'toy' has no label 'fair'"):
        load(folder, Requirements(), ", positive: fair")


def test_a_backbone_replaced_in_place_changes_the_fingerprint(folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "model.safetensors").write_bytes(b"before")
    before = load(folder, Requirements(), student="student: {backbone: mine}\n").weights
    assert load(folder, Requirements(), student="student: {backbone: mine}\n").weights == before
    (folder / "mine" / "model.safetensors").write_bytes(b"after")
    assert load(folder, Requirements(), student="student: {backbone: mine}\n").weights != before


def test_the_number_of_validation_rows_can_be_limited(folder):
    assert len(load(folder, Requirements(), student="validation: 4\n").validation) == 4


def with_teacher(folder, teacher, study, pool=60, more="votes: 1"):
    write(folder / "new.csv", ["id", "response"], [(f"n{i}", text(i + 100)) for i in range(pool)])
    (folder / "project.yaml").write_text(
        PROJECT + f"teacher: {{base_url: '{teacher.base_url}', model: m, api_key_env: null, {more}}}\n", "utf-8"
    )
    (folder / "study.yaml").write_text("name: s\ntasks: [{project: project.yaml}]\n" + study, "utf-8")
    return read_study(folder / "study.yaml")


STUDIES = {
    "label-source": "label_source: {human: [10], teacher: [3, 7]}\n",
    "consistency": "consistency: {rows: 7, human: 5}\n",
    "teachers": "teachers: {rows: 7}\n",
}


def chosen_label(body, _before=0):
    return answer("good" if len(text_of(body)) % 2 else "bad")


@pytest.mark.parametrize("kind", STUDIES)
@pytest.mark.parametrize("refused", [(), ("n3", "n7", "n11", "n19", "n23", "n31", "n42")])
def test_a_teacher_labels_only_the_texts_that_the_study_draws(folder, kind, refused):
    unlabelled = {text(int(ident[1:]) + 100) for ident in refused}

    def script(body, before):
        return completion(None, refusal="no") if text_of(body) in unlabelled else chosen_label(body)

    with StandIn(script) as teacher:
        study = with_teacher(folder, teacher, STUDIES[kind])
        requirements = DESIGNS[kind].requirements(study)
        found = load_first(study, requirements)
        few = {text_of(body) for body in teacher.bodies}
        everything = Requirements(requirements.teachers, label_test_rows=requirements.label_test_rows)
        whole = load_first(study, everything)
    drawn = {text(i + 100) for i in range(60)} & few
    assert 7 <= len(drawn) <= 3 * 7 + len(refused)
    plans, of_whole = (list(DESIGNS[kind].plans(study, inputs)) for inputs in (found, whole))
    assert plans
    assert plans == of_whole
    assert not any(plan.missing for plan in plans)
    used = {row.inputs["response"] for plan in plans for row in plan.rows if row.source == "teacher"}
    assert used == drawn - unlabelled if kind != "consistency" else used <= drawn - unlabelled


@pytest.mark.parametrize("kind", ["label-source", "consistency"])
def test_a_teacher_that_cannot_code_does_not_have_the_whole_pool_requested(folder, kind):
    with StandIn(completion("I cannot say")) as teacher:
        study = with_teacher(folder, teacher, STUDIES[kind], pool=120, more="votes: 1, tries: 1")
        for _ in range(2):
            teacher.bodies.clear()
            with pytest.raises(TeacherError, match=r"of the \d+ texts requested so far were set aside \(\d+ "):
                load_first(study, DESIGNS[kind].requirements(study))
            texts = {text_of(body) for body in teacher.bodies} & {text(i + 100) for i in range(120)}
            assert len(texts) <= 2 * 21 + 20


def test_no_text_is_labelled_for_a_size_that_the_pool_does_not_reach(folder):
    with StandIn(chosen_label) as teacher:
        study = with_teacher(folder, teacher, "label_source: {human: [10], teacher: [5, 1000]}\n")
        inputs = load_first(study, DESIGNS["label-source"].requirements(study))
    (labels_of_teacher,) = inputs.teacher_labels.values()
    assert 5 <= len(labels_of_teacher.labels) <= 15
    assert any("only they are labelled" in note for note in inputs.notes)
    missing = {plan.condition for plan in DESIGNS["label-source"].plans(study, inputs) if plan.missing}
    assert missing == {"teacher 1000", "teacher 1000, frozen", "teacher 1000, consistent only"}


@pytest.mark.parametrize("kind", STUDIES)
def test_a_study_without_a_published_protocol_is_refused_before_the_first_request(folder, kind):
    with StandIn(chosen_label) as teacher:
        study = with_teacher(folder, teacher, STUDIES[kind] + "protocol: as-published\n")
        with pytest.raises(ProjectFileError, match="as-published replicates"):
            run_study(study, kind)
        assert not teacher.bodies


def test_the_files_of_every_task_are_checked_before_the_first_request(folder):
    with StandIn(chosen_label) as teacher:
        study = with_teacher(folder, teacher, STUDIES["label-source"])
        for second, message in (
            ("{project: gone.yaml}", "gone.yaml"),
            ("{project: project.yaml}", "two tasks are named 'toy'"),
            ("{project: project.yaml, name: b, transfer: gone.csv}", "gone.csv"),
            ("{project: project.yaml, name: b, positive: fair}", "no label 'fair'"),
        ):
            (folder / "study.yaml").write_text(
                f"name: s\ntasks: [{{project: project.yaml}}, {second}]\n" + STUDIES["label-source"], "utf-8"
            )
            study = read_study(folder / "study.yaml")
            with pytest.raises((ProjectFileError, DataError), match=message):
                run_study(study, "label-source")
        assert not teacher.bodies
