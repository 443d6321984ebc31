"""Codes of people, and nothing else, come from an export into the coder columns, and no cell is lost."""

import json
from pathlib import Path

import pytest

from edgedistill.coding import CodingOptions, CodingSession
from edgedistill.errors import DataError, EdgeDistillError, RunError
from edgedistill.label_studio import import_codes
from edgedistill.project import read_project

from ...e2e.lessons import command
from ...full_disk import full_disk
from ..coding.projects import read_csv, write_csv, write_project
from .exports import annotation, choices, rating, task, taxonomy, write_export

ANNA, BEN = "anna@school.edu", "ben@school.edu"


def imported(folder: Path, *tasks, kind="nominal", rows=6, **options):
    project = folder / "project.yaml"
    if not project.exists():
        write_project(folder, rows, kind=kind)
    return import_codes(read_project(project), write_export(folder, *tasks), **options)


def column(folder: Path, name: str) -> dict[str, str]:
    return {row["id"]: row[name] for row in read_csv(folder / "human.csv") if row[name]}


def test_each_annotator_has_a_column_and_rows_on_which_all_agree_have_a_label(tmp_path):
    done = imported(
        tmp_path,
        task("r0", annotation(ANNA, choices("process")), annotation(BEN, choices("process"))),
        task("r1", annotation(ANNA, choices("process")), annotation(BEN, choices("outcome"))),
        task("r2", annotation(ANNA, choices("person"))),
        task("r3"),
    )
    assert column(tmp_path, "anna") == {"r0": "process", "r1": "process", "r2": "person"}
    assert column(tmp_path, "ben") == {"r0": "process", "r1": "outcome"}
    assert column(tmp_path, "label") == {"r0": "process", "r2": "person"}
    assert (done.new, done.replaced, done.labels, done.disputed) == (5, 0, 2, ("r1",))
    assert (done.tasks, done.without_code) == (4, 1)
    assert [(pair.first, pair.second, pair.rows) for pair in done.agreement.pairs] == [("anna", "ben", 2)]


def test_the_table_as_it_was_is_kept_and_every_other_cell_stays(tmp_path):
    project = write_project(tmp_path, 3, extra=(("inclusion_probability", "0.25"), ("note", 'a, "b"')))
    before = (tmp_path / "human.csv").read_bytes()
    done = imported(tmp_path, task("r1", annotation(7, choices("outcome"))))
    assert (tmp_path / "coding" / "human.csv" / "versions" / done.version).read_bytes() == before
    assert read_csv(tmp_path / "human.csv")[1] == {
        "id": "r1",
        "response": "You tried way 1.",
        "label": "outcome",
        "inclusion_probability": "0.25",
        "note": 'a, "b"',
        "coder_7": "outcome",
    }
    again = import_codes(read_project(project), tmp_path / "project-1.json")
    assert (again.new, again.labels, again.version) == (0, 0, "")


NOT_CODES = {
    "skipped by the annotator": annotation(BEN, choices("outcome"), was_cancelled=True),
    "an annotation without a code": annotation(BEN),
    "a prediction that was submitted unchanged": annotation(BEN, choices("outcome", origin="prediction")),
    "an earlier annotation of the same row by the same person": annotation(ANNA, choices("outcome"), minute=1),
}


@pytest.mark.parametrize(("reason", "other"), NOT_CODES.items(), ids=NOT_CODES)
def test_what_is_no_code_of_a_person_is_counted_and_left_out(reason, other, tmp_path):
    done = imported(tmp_path, task("r0", annotation(ANNA, choices("process"), minute=2), other))
    assert done.left_out == {reason: 1}
    assert done.coders == {"anna": 1}
    assert column(tmp_path, "label") == {"r0": "process"}


def test_predictions_and_drafts_are_never_codes(tmp_path):
    predicted = [{"model_version": "m", "score": 0.9, "result": [choices("outcome")]}]
    drafts = [{"user": BEN, "result": [choices("outcome")]}]
    done = imported(
        tmp_path,
        task("r0", annotation(ANNA, choices("process")), predictions=predicted, drafts=drafts),
        task("r1", predictions=predicted),
    )
    assert done.left_out == {"a prediction of a model": 2, "a draft that was not submitted": 1}
    assert (done.coders, done.without_code) == ({"anna": 1}, 1)
    with pytest.raises(DataError, match=r"holds no code of a person\. a prediction of a model: 1"):
        imported(tmp_path, task("r1", predictions=predicted))


def test_a_prediction_that_somebody_changed_is_a_code(tmp_path):
    imported(tmp_path, task("r0", annotation(ANNA, choices("outcome", origin="prediction-changed"))))
    assert column(tmp_path, "anna") == {"r0": "outcome"}


@pytest.mark.parametrize(
    ("kind", "result", "code"),
    [
        ("nominal", choices("person"), "person"),
        ("nominal", taxonomy(["praise", "person"]), "person"),
        ("ordinal", rating(2), "outcome"),
        ("ordinal", taxonomy(["process"]), "process"),
        ("multilabel", choices("person", "process"), "process;person"),
        ("multilabel", taxonomy(["process"], ["all", "person"]), "process;person"),
        ("multilabel", choices("none"), "none"),
    ],
)
def test_every_control_is_read_in_both_formats(kind, result, code, tmp_path):
    imported(tmp_path, task("r0", annotation(ANNA, result)), kind=kind)
    assert column(tmp_path, "anna") == {"r0": code}
    value = result["value"]
    names = value.get("choices", ())
    minimal = names[0] if len(names) == 1 else value if names else [value]
    record = {"response_id": "r1", "response": "You tried way 1.", "id": 5, "code": minimal, "annotator": ANNA}
    done = imported(tmp_path, record | {"annotation_id": 8, "created_at": "2026-11-01T10:00:00Z", "lead_time": 1.0})
    assert column(tmp_path, "anna") == {"r0": code, "r1": code}
    assert done.tasks == 1


def test_json_min_lists_tasks_without_an_annotation_and_annotators_by_number(tmp_path):
    record = {"response": "You tried way 0.", "response_id": "r0", "id": 5, "annotation_id": 8, "annotator": 3}
    nobody = {"response": "You tried way 1.", "response_id": "r1", "id": 6, "annotation_id": None, "annotator": None}
    done = imported(
        tmp_path,
        record | {"code": "process", "updated_at": "2026-11-01T10:05:00Z"},
        record | {"code": "outcome", "updated_at": "2026-11-01T10:09:00+00:00", "annotation_id": 2},
        nobody,
        coders={"3": "cleo"},
    )
    assert column(tmp_path, "cleo") == {"r0": "outcome"}
    assert (done.tasks, done.without_code) == (2, 1)


FAULTS = {
    "human.csv has no such row that can be coded": task("r9", annotation(ANNA, choices("process"))),
    "its response has changed since": task("r1", annotation(ANNA, choices("process")), text="Another text."),
    "anna@school.edu gave 2 labels": task("r1", annotation(ANNA, choices("process", "outcome"))),
    "an annotation has no annotator": task("r1", annotation(None, choices("process"))),
}


@pytest.mark.parametrize(("fault", "other"), FAULTS.items(), ids=FAULTS)
def test_a_row_that_cannot_be_imported_is_named_and_nothing_is_written_unless_asked_for(fault, other, tmp_path):
    project, good = write_project(tmp_path), task("r0", annotation(ANNA, choices("process")))
    before = (tmp_path / "human.csv").read_bytes()
    with pytest.raises(DataError, match=fault) as raised:
        imported(tmp_path, good, other)
    assert repr(other["data"]["response_id"]) in str(raised.value)
    assert (tmp_path / "human.csv").read_bytes() == before
    done = import_codes(read_project(project), tmp_path / "project-1.json", skip_faults=True)
    assert (done.new, [each.fault for each in done.skipped]) == (1, [fault])


@pytest.mark.parametrize(
    ("kind", "result", "named"),
    [
        ("nominal", choices("sung"), "'sung'"),
        ("nominal", taxonomy(["praise", "sung"]), "'praise > sung'"),
        ("nominal", rating(1), "rating 1"),
        ("ordinal", rating(4), "rating 4"),
        ("ordinal", rating(True), "rating True"),
        ("ordinal", rating(1.5), "rating 1.5"),
        ("nominal", choices("none"), "'none'"),
    ],
)
def test_a_label_of_another_codebook_is_refused_by_name_even_where_faults_are_skipped(kind, result, named, tmp_path):
    with pytest.raises(DataError, match="the codebook does not have") as raised:
        imported(tmp_path, task("r0", annotation(ANNA, result)), kind=kind, skip_faults=True)
    assert named in str(raised.value)
    assert "process, outcome, person" in str(raised.value)


def test_no_label_together_with_labels_is_a_fault(tmp_path):
    with pytest.raises(DataError, match="'none' is combined with labels"):
        imported(tmp_path, task("r0", annotation(ANNA, choices("none", "person"))), kind="multilabel")


def test_a_code_that_differs_from_that_in_the_table_is_replaced_only_where_that_is_asked_for(tmp_path):
    imported(tmp_path, task("r0", annotation(ANNA, choices("process"))))
    with pytest.raises(DataError, match=r"1 codes differ from those in the table: 'r0' of anna"):
        imported(tmp_path, task("r0", annotation(ANNA, choices("person"))))
    done = imported(tmp_path, task("r0", annotation(ANNA, choices("person"))), replace=True)
    assert (done.new, done.replaced, column(tmp_path, "label")) == (0, 1, {"r0": "person"})


def test_a_label_of_an_import_is_emptied_when_another_coder_disagrees_and_a_label_of_people_stays(tmp_path):
    write_project(tmp_path, more="", extra=())
    rows = [["r0", "You tried way 0.", ""], ["r1", "You tried way 1.", "person"]]
    write_csv(tmp_path / "human.csv", [["id", "response", "label"], *rows])
    first = imported(tmp_path, *(task(f"r{n}", annotation(ANNA, choices("process"))) for n in range(2)))
    assert (column(tmp_path, "label"), first.kept) == ({"r0": "process", "r1": "person"}, ("r1",))
    (tmp_path / "project.yaml").write_text((tmp_path / "project.yaml").read_text() + "evaluation: {coders: [anna]}\n")
    second = imported(tmp_path, *(task(f"r{n}", annotation(BEN, choices("outcome"))) for n in range(2)))
    assert (second.emptied, second.disputed, column(tmp_path, "label")) == (1, ("r0",), {"r1": "person"})
    assert second.agreement.rows == 2


def test_a_code_marked_as_ground_truth_decides_only_where_that_is_asked_for(tmp_path):
    given = task("r0", annotation(ANNA, choices("process")), annotation(BEN, choices("outcome"), ground_truth=True))
    assert (imported(tmp_path, given).disputed, column(tmp_path, "label")) == (("r0",), {})
    done = imported(tmp_path, given, ground_truth=True)
    assert (done.ground_truth, column(tmp_path, "label")) == (1, {"r0": "outcome"})


def test_disputed_rows_are_adjudicated_on_the_coding_page(tmp_path):
    imported(tmp_path, task("r0", annotation(ANNA, choices("process")), annotation(BEN, choices("outcome"))), rows=2)
    with CodingSession(read_project(tmp_path / "project.yaml"), CodingOptions(coders=("cleo",))) as session:
        with pytest.raises(RunError, match="the project is open on the coding page"):
            imported(tmp_path, task("r1", annotation(ANNA, choices("process"))))
        assert session.ids == ("r0", "r1")
    (tmp_path / "project.yaml").write_text(
        (tmp_path / "project.yaml").read_text() + "evaluation: {coders: [anna, ben]}\n"
    )
    with CodingSession(read_project(tmp_path / "project.yaml")) as session:
        assert session.codings.codes("r0") == {"anna": "process", "ben": "outcome"}
        assert [row["id"] for row in session.reveal("anna")] == ["r0"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not valid JSON"),
        ("[1]", "the file should be a list of objects"),
        ('"x"', "the file should be a list of objects"),
        ("[]", "holds no code of a person"),
        ('[{"data": {"text": "a"}, "annotations": []}]', r"task 1 has no 'response_id' among its data \(text\)"),
        ('[{"data": {"response_id": "r0"}, "annotations": [3]}]', "task 1: the annotations should be a list"),
        ('[{"data": {"response_id": "r0"}, "annotations": [{"result": {}}]}]', "holds no code of a person"),
        ('[{"data": {"response_id": "r0"}, "drafts": 2, "predictions": [7]}]', "holds no code of a person"),
        ('[{"data": {"response_id": "r0"}, "id": [1]}]', "holds no code of a person"),
        ('[{"text": "a", "annotator": 1}]', r"task 1 has no 'response_id' among its data \(text, annotator\)"),
        ("[" * 100_000, "is not valid JSON"),
    ],
)
def test_what_is_no_export_is_one_message(content, message, tmp_path):
    project = read_project(write_project(tmp_path))
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(EdgeDistillError, match=message):
        import_codes(project, tmp_path / "export.json")


@pytest.mark.parametrize(
    ("coders", "message"),
    [
        ({ANNA: "label"}, "there is already 'label'"),
        ({ANNA: "response"}, "there is already 'response'"),
        ({ANNA: "ben"}, "there is already 'ben'"),
        ({ANNA: "=x"}, "cannot be the name of a column"),
        (
            {"nobody": "x"},
            r"nobody called nobody has a code in the export\. Annotators: anna@school.edu, ben@school.edu",
        ),
    ],
)
def test_a_column_that_cannot_be_a_coders_is_refused(coders, message, tmp_path):
    with pytest.raises(DataError, match=message):
        imported(
            tmp_path,
            task("r0", annotation(ANNA, choices("process")), annotation(BEN, choices("process"))),
            coders=coders,
        )


def test_an_import_that_does_not_fit_on_the_disk_changes_nothing_and_can_be_repeated(tmp_path):
    imported(tmp_path, task("r0", annotation(ANNA, choices("process"))))
    log = tmp_path / "coding" / "human.csv" / "label-studio.jsonl"
    before = {each: each.read_bytes() for each in (log, tmp_path / "human.csv")}
    project = read_project(tmp_path / "project.yaml")
    export = write_export(tmp_path, task("r1", annotation(ANNA, choices("outcome"))))
    with full_disk(log.stat().st_size + 20), pytest.raises(DataError, match="log of imports cannot be written"):
        import_codes(project, export)
    assert {each: each.read_bytes() for each in before} == before
    assert import_codes(project, export).labels == 1


def test_a_file_name_with_a_line_separator_is_one_line_of_the_log(tmp_path):
    project = read_project(write_project(tmp_path))
    for number, label in enumerate(("process", "outcome")):
        export = write_export(tmp_path, task(f"r{number}", annotation(ANNA, choices(label))))
        assert import_codes(project, export.rename(tmp_path / f"round\u2028{number}.json")).labels == 1


@pytest.mark.parametrize("line", ["[]", '{"labels": ["process"]}', '{"labels"'])
def test_a_log_of_imports_that_is_no_log_is_refused(line, tmp_path):
    imported(tmp_path, task("r0", annotation(ANNA, choices("process"))))
    (tmp_path / "coding" / "human.csv" / "label-studio.jsonl").write_text(line)
    with pytest.raises(DataError, match=r"the log of imports cannot be read .* or move it away"):
        imported(tmp_path, task("r1", annotation(ANNA, choices("outcome"))))


def test_a_coding_sheet_gets_its_columns_and_keeps_its_probabilities(tmp_path):
    project, sheet = read_project(write_project(tmp_path)), tmp_path / "to-code.csv"
    write_csv(sheet, [["id", "response", "inclusion_probability", "human_code"], ["u1", "a", "0.125", ""]])
    export = write_export(tmp_path, task("u1", annotation(ANNA, choices("process")), text="a"))
    import_codes(project, export, sheet=sheet)
    assert read_csv(sheet) == [
        {"id": "u1", "response": "a", "inclusion_probability": "0.125", "human_code": "process", "anna": "process"}
    ]


def test_the_command_prints_counts_agreement_and_what_to_do(tmp_path):
    project = write_project(tmp_path)
    both = [
        task(f"r{n}", annotation(3, choices(("process", "outcome")[n % 2])), annotation(4, choices("process")))
        for n in range(6)
    ]
    export = write_export(tmp_path, *both)
    done = command("edgedistill", "review", "label-studio", "import", project, export, "--coder", "3=anna")
    assert "12 new codes and 0 replaced" in done.stdout
    assert "anna and coder_4: κ 0.00" in done.stdout
    assert "3 rows got a label; on 3 rows the coders disagree" in done.stdout
    assert "add anna, coder_4 to evaluation.coders in project.yaml" in done.stdout
    assert "coder_4 gave all 6 rows the label 'process'" in done.stdout
    again = command("edgedistill", "review", "label-studio", "import", project, export, "--coder", "3=anna", "--json")
    assert json.loads(again.stdout)["agreement"]["pairs"][0]["rows"] == 6
    wrong = command("edgedistill", "review", "label-studio", "import", project, export, "--coder", "anna", expect=2)
    assert "--coder cannot be 'anna'" in wrong.stderr
