"""Tasks and labelling interface for Label Studio: the codebook as it is, the texts redacted, and no code of anybody."""

import json
from xml.etree import ElementTree as ET

import pytest

from edgedistill.errors import ArgumentError, DataError
from edgedistill.label_studio import export_tasks, labelling_configuration
from edgedistill.project import read_project

from ...e2e.lessons import command
from ..coding.projects import write_csv, write_project

ODD = ['a "quoted" <b> & $response', "x=$5", "naïve 日本", "1;2"]


def view(project, **options):
    return ET.fromstring(labelling_configuration(project, **options))


def shown(root):
    return [tag.get("value") for tag in root.iter("Header")]


def test_the_interface_shows_codebook_and_inputs_and_has_one_control(tmp_path):
    more = "  inputs: [question, reference_answer, response]"
    root = view(read_project(write_project(tmp_path, more=more)))
    assert shown(root)[:4] == [
        "Code what is praised.",
        "process: Praises effort.",
        "outcome: Praises the result.",
        "person",
    ]
    assert [(tag.get("name"), tag.get("value"), tag.get("valueType")) for tag in root.iter("Text")] == [
        (name, f"${name}", "text") for name in ("question", "reference_answer", "response")
    ]
    (control,) = root.iter("Choices")
    assert (control.get("name"), control.get("toName"), control.get("choice")) == ("code", "response", "single")
    assert control.get("required") == "true"
    assert [choice.get("value") for choice in control] == ["process", "outcome", "person"]
    assert [choice.get("hint") for choice in control] == ["Praises effort.", "Praises the result.", None]


def test_several_labels_may_be_chosen_or_none(tmp_path):
    root = view(read_project(write_project(tmp_path, kind="multilabel")))
    (control,) = root.iter("Choices")
    assert control.get("choice") == "multiple"
    assert [choice.get("value") for choice in control] == ["process", "outcome", "person", "none"]
    (control,) = view(read_project(tmp_path / "project.yaml"), control="taxonomy").iter("Taxonomy")
    assert (control.get("maxUsages"), len(control)) == (None, 4)


def test_an_ordinal_task_can_be_coded_with_stars_whose_meaning_is_shown(tmp_path):
    root = view(read_project(write_project(tmp_path, kind="ordinal")), control="rating")
    (control,) = root.iter("Rating")
    assert control.get("maxRating") == "3"
    assert "1 = process: Praises effort." in shown(root)
    (control,) = view(read_project(tmp_path / "project.yaml"), control="taxonomy").iter("Taxonomy")
    assert (control.get("maxUsages"), len(control)) == ("1", 3)


def test_only_an_ordinal_task_can_be_coded_with_stars(tmp_path):
    with pytest.raises(ArgumentError, match="a nominal task cannot be coded by a rating"):
        labelling_configuration(read_project(write_project(tmp_path)), "rating")


def test_odd_characters_of_labels_and_definitions_are_shown_and_returned_as_they_are(tmp_path):
    labels = [{"name": name, "definition": f"defines\n{name}"} for name in ODD]
    project = {"name": "p", "task": {"instructions": "Costs $5 & <more>", "labels": labels}, "data": {"human": "h.csv"}}
    (tmp_path / "project.yaml").write_text(json.dumps(project))
    root = view(read_project(tmp_path / "project.yaml"))
    (control,) = root.iter("Choices")
    assert [choice.get("alias") or choice.get("value") for choice in control] == ODD
    # `$response` and `$5` would be replaced by data of the task, and are not with a word joiner in between.
    assert [choice.get("value").replace("\u2060", "") for choice in control] == ODD
    assert [choice.get("value") for choice in control] == [ODD[0].replace("$", "$\u2060"), "x=$\u20605", *ODD[2:]]
    assert all("$r" not in choice.get("hint") for choice in control)
    assert shown(root)[0] == "Costs $\u20605 & <more>"


def test_a_label_that_xml_cannot_hold_is_refused(tmp_path):
    project = {"name": "p", "task": {"labels": [{"name": "a\ufffe"}, {"name": "c"}]}, "data": {"human": "h.csv"}}
    (tmp_path / "project.yaml").write_text(json.dumps(project))
    with pytest.raises(DataError, match="has a character that XML cannot hold"):
        labelling_configuration(read_project(tmp_path / "project.yaml"))


def test_uncoded_rows_are_exported_redacted_and_without_any_code(tmp_path):
    project = write_project(tmp_path, more="  redact: {ids: ['S[0-9]{6}']}")
    rows = [["r0", "S123456 wrote to a@b.org", "", "process"], ["r1", "done", "outcome", ""], ["r2", " ", "", ""]]
    write_csv(tmp_path / "human.csv", [["id", "response", "label", "anna"], *rows])
    done = export_tasks(read_project(project), tmp_path / "out")
    assert json.loads(done.tasks.read_text()) == [{"data": {"response_id": "r0", "response": "[ID] wrote to [EMAIL]"}}]
    assert (done.rows, done.labelled, dict(done.set_aside)) == (1, 1, {"blank response": 1})
    assert done.configuration.read_text().startswith("<View>")
    assert export_tasks(read_project(project), tmp_path / "all", all_rows=True).rows == 2


def test_a_coding_sheet_is_exported_with_the_rows_that_have_no_code_yet(tmp_path):
    project = read_project(write_project(tmp_path))
    sheet = tmp_path / "to-code.csv"
    write_csv(
        sheet,
        [["id", "response", "inclusion_probability", "human_code"], ["u1", "a", "0.5", ""], ["u2", "b", "0.5", "x"]],
    )
    done = export_tasks(project, tmp_path / "out", sheet=sheet)
    assert [each["data"] for each in json.loads(done.tasks.read_text())] == [{"response_id": "u1", "response": "a"}]


def test_files_of_an_earlier_export_are_replaced_only_where_that_is_asked_for(tmp_path):
    project = write_project(tmp_path, 2)
    first = command("edgedistill", "review", "label-studio", "export", project, tmp_path / "out", "--json")
    assert json.loads(first.stdout)["rows"] == 2
    again = command("edgedistill", "review", "label-studio", "export", project, tmp_path / "out", expect=2)
    assert "tasks.json, labelling-interface.xml exists. Replace it with --overwrite." in again.stderr
    done = command("edgedistill", "review", "label-studio", "export", project, tmp_path / "out", "--overwrite")
    assert "Settings > Labeling Interface" in done.stdout


def test_a_table_whose_rows_all_have_labels_is_not_exported_unasked(tmp_path):
    project = write_project(tmp_path)
    write_csv(tmp_path / "human.csv", [["id", "response", "label"], ["r0", "a", "process"]])
    with pytest.raises(DataError, match=r"all 1 rows have a label\. Export them all the same with --all"):
        export_tasks(read_project(project), tmp_path / "out")
