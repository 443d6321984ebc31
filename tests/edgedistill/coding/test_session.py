"""A coding: who codes what, blindness, disagreements, and what is in the table and the journal afterwards."""

import json

import pytest

from edgedistill.coding import coding_summary
from edgedistill.coding.session import Conflict
from edgedistill.errors import DataError, EdgeDistillError, RunError
from edgedistill.project import read_project

from .projects import PROJECT, code_all, open_session, read_csv, write_csv, write_project


def test_codes_labels_and_all_other_cells_are_in_the_table_when_the_session_is_closed(tmp_path):
    file = write_project(tmp_path, 4, extra=[("school", "Zürich, north"), ("note", '=1+"1"')])
    before = read_csv(tmp_path / "human.csv")
    with open_session(file, coders=("anna",)) as session:
        code_all(session, "anna", lambda ident: "outcome" if ident == "r2" else "process")
    after = read_csv(tmp_path / "human.csv")
    assert [row.pop("anna") for row in after] == ["process", "process", "outcome", "process"]
    assert [row.pop("label") for row in after] == ["process", "process", "outcome", "process"]
    for row in before:
        del row["label"]
    assert after == before


def test_every_earlier_table_is_kept(tmp_path):
    file = write_project(tmp_path, 2)
    first = (tmp_path / "human.csv").read_bytes()
    with open_session(file, coders=("anna",)) as session:
        second = (tmp_path / "human.csv").read_bytes()
        code_all(session, "anna", lambda _: "process")
        session.write()
        third = (tmp_path / "human.csv").read_bytes()
        session.undo("anna")
    versions = sorted((tmp_path / "coding/human.csv/versions").iterdir())
    assert [version.read_bytes() for version in versions] == [first, second, third]


def test_rows_with_a_label_are_not_coded_again(tmp_path):
    file = write_project(tmp_path, 3)
    rows = read_csv(tmp_path / "human.csv")
    rows[1]["label"] = "person"
    write_csv(tmp_path / "human.csv", [list(rows[0]), *(row.values() for row in rows)])
    with open_session(file, coders=("anna",)) as session:
        assert {row["id"] for row in session.rows("anna")} == {"r0", "r2"}
        code_all(session, "anna", lambda _: "process")
    assert [row["label"] for row in read_csv(tmp_path / "human.csv")] == ["process", "person", "process"]


def test_a_table_in_which_every_row_has_a_label_is_refused(tmp_path):
    file = write_project(tmp_path, 0)
    write_csv(tmp_path / "human.csv", [["id", "response", "label"], ["r0", "You tried.", "process"]])
    with pytest.raises(DataError, match="every row has a label: there is nothing to code"):
        open_session(file)


def test_a_table_may_begin_without_a_column_of_labels(tmp_path):
    file = write_project(tmp_path, 0)
    write_csv(tmp_path / "human.csv", [["id", "response"], ["r0", "You tried."]])
    with open_session(file, coders=("anna",)) as session:
        code_all(session, "anna", lambda _: "process")
    assert read_csv(tmp_path / "human.csv") == [
        {"id": "r0", "response": "You tried.", "label": "process", "anna": "process"}
    ]


@pytest.mark.parametrize("share", [0, 0.2, 1])
def test_that_share_of_the_rows_has_two_coders_and_coders_have_equally_many(tmp_path, share):
    with open_session(write_project(tmp_path, 100), coders=("anna", "ben", "cem"), double_share=share) as session:
        plan = session.codings.plan
        assert sum(len(coders) == 2 for coders in plan.values()) == 100 * share
        assert all(len(set(coders)) == len(coders) for coders in plan.values())
        loads = [len(session.rows(coder)) for coder in ("anna", "ben", "cem")]
    assert max(loads) - min(loads) <= 1


def test_each_coder_has_an_order_of_their_own_which_a_seed_repeats(tmp_path):
    orders = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        file = write_project(tmp_path / folder, 30)
        with open_session(file, coders=("anna", "ben"), double_share=1, seed=seed) as session:
            orders.append([[row["id"] for row in session.rows(coder)] for coder in ("anna", "ben")])
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0][0] != orders[0][1]
    assert sorted(orders[0][0]) == sorted(orders[0][1])


def test_a_coder_sees_only_their_own_codes_and_notes(tmp_path):
    with open_session(write_project(tmp_path, 4), coders=("anna", "ben"), double_share=1) as session:
        row = session.rows("anna")[0]
        row = session.note("anna", row["id"], "only mine", row["revision"])
        session.code("anna", row["id"], "person", row["revision"])
        shown = json.dumps([session.rows("ben"), session.overview()])
    assert "only mine" not in shown
    assert all(row["code"] == "" for row in json.loads(shown)[0])


def test_codes_of_the_model_are_never_shown(tmp_path):
    file = write_project(tmp_path, 1)
    sheet = tmp_path / "sheet.csv"
    write_csv(
        sheet,
        [
            ["id", "response", "suggested_label", "probability", "reason", "inclusion_probability", "human_code"],
            ["u1", "You tried.", "outcome", "0.61", "below threshold", "0.25", ""],
        ],
    )
    with open_session(file, sheet=sheet, coders=("anna",)) as session:
        assert session.rows("anna")[0]["inputs"] == {"response": "You tried."}
        code_all(session, "anna", lambda _: "process")
    assert read_csv(sheet)[0] == {
        "id": "u1",
        "response": "You tried.",
        "suggested_label": "outcome",
        "probability": "0.61",
        "reason": "below threshold",
        "inclusion_probability": "0.25",
        "human_code": "process",
        "anna": "process",
    }
    assert coding_summary(read_project(file)) is None


def test_texts_are_shown_as_the_task_redacts_them(tmp_path):
    file = write_project(tmp_path, 0, more="  redact: true")
    write_csv(tmp_path / "human.csv", [["id", "response", "label"], ["r0", "Write to kim@example.org", ""]])
    with open_session(file, coders=("anna",)) as session:
        assert "kim@example.org" not in json.dumps(session.rows("anna"))
    assert "kim@example.org" in (tmp_path / "human.csv").read_text()


def test_disagreements_have_no_label_until_they_are_adjudicated(tmp_path):
    file = write_project(tmp_path, 5)
    with open_session(file, coders=("anna", "ben"), double_share=1) as session:
        code_all(session, "anna", lambda _: "process")
        code_all(session, "ben", lambda ident: "outcome" if ident == "r3" else "process")
        session.write()
        assert [row["label"] for row in read_csv(tmp_path / "human.csv")] == ["process"] * 3 + [""] + ["process"]
        (dispute,) = session.reveal("chris")
        assert {each["coder"]: each["code"] for each in dispute["codes"]} == {"anna": "process", "ben": "outcome"}
        decided = session.finalize("chris", "r3", "person", "both saw a part", 0)
        assert (decided["label"], decided["by"]) == ("person", "chris")
    assert [row["label"] for row in read_csv(tmp_path / "human.csv")] == ["process"] * 3 + ["person", "process"]
    assert [row["ben"] for row in read_csv(tmp_path / "human.csv")] == ["process"] * 3 + ["outcome", "process"]
    summary = coding_summary(read_project(file))
    assert (summary.coders, summary.double_coded, summary.disputed, summary.adjudicated) == (
        {"anna": 5, "ben": 5},
        5,
        1,
        1,
    )
    reasons = {row["reason"] for row in read_csv(tmp_path / "coding/human.csv/codings.csv") if row["id"] == "r3"}
    assert reasons == {"both saw a part"}


def test_codes_that_somebody_has_seen_do_not_change_any_more(tmp_path):
    with open_session(write_project(tmp_path, 1), coders=("anna", "ben"), double_share=1) as session:
        code_all(session, "anna", lambda _: "process")
        code_all(session, "ben", lambda _: "outcome")
        session.reveal("anna")
        revision = session.rows("ben")[0]["revision"]
        with pytest.raises(Conflict, match="in adjudication"):
            session.code("ben", "r0", "process", revision)
        with pytest.raises(Conflict, match="in adjudication"):
            session.undo("ben")
        assert session.rows("ben")[0]["code"] == "outcome"


def test_a_flagged_row_is_adjudicated_although_its_coders_agree(tmp_path):
    with open_session(write_project(tmp_path, 2), coders=("anna",)) as session:
        row = session.rows("anna")[0]
        session.flag("anna", row["id"], True, 0)
        code_all(session, "anna", lambda _: "process")
        assert session.codings.label(row["id"]) == ""
        assert [each["id"] for each in session.reveal("anna")] == [row["id"]]


def test_undo_takes_back_one_code_after_another_also_in_the_next_session(tmp_path):
    file = write_project(tmp_path, 3)
    with open_session(file, coders=("anna",)) as session:
        first, second, _ = (row["id"] for row in session.rows("anna"))
        row = session.code("anna", first, "process", 0)
        session.code("anna", second, "outcome", 0)
        session.code("anna", first, "person", row["revision"])
    with open_session(file) as session:
        assert (session.undo("anna")["id"], session.codings.coding("anna", first).code) == (first, "process")
        assert (session.undo("anna")["id"], session.codings.coding("anna", second).code) == (second, "")
        assert (session.undo("anna")["id"], session.codings.coding("anna", first).code) == (first, "")
        assert session.undo("anna") is None


def test_a_memo_is_shown_to_all_and_kept(tmp_path):
    file = write_project(tmp_path, 1)
    with open_session(file, coders=("anna", "ben")) as session:
        session.memo("anna", "process", "Luck is no effort.")
        with pytest.raises(DataError, match="no label 'luck'"):
            session.memo("anna", "luck", "x")
    with open_session(file) as session:
        (memo,) = session.overview()["memos"]
        assert (memo["by"], memo["label"], memo["text"]) == ("anna", "process", "Luck is no effort.")
        assert memo["time"].startswith("20")


def test_a_second_tab_that_is_out_of_date_changes_nothing_and_is_told_the_code(tmp_path):
    with open_session(write_project(tmp_path, 1), coders=("anna",)) as session:
        session.code("anna", "r0", "process", 0)
        with pytest.raises(Conflict, match="changed in another tab") as refused:
            session.code("anna", "r0", "outcome", 0)
        assert refused.value.row["code"] == "process"
        # The answer to a request may be lost: the same request again is no conflict, and nothing new.
        count = session.codings.coding("anna", "r0").revision
        assert session.code("anna", "r0", "process", 0)["revision"] == count


def test_a_coder_who_joins_later_gets_open_rows_and_no_coded_row_is_taken_from_anybody(tmp_path):
    with open_session(write_project(tmp_path, 20), double_share=0) as session:
        session.join("anna")
        assert len(session.rows("anna")) == 20
        coded = [row["id"] for row in session.rows("anna")][:6]
        for ident in coded:
            session.code("anna", ident, "process", 0)
        session.join("ben")
        rows = {coder: [row["id"] for row in session.rows(coder)] for coder in ("anna", "ben")}
        assert set(coded) <= set(rows["anna"])
        assert (len(rows["anna"]), len(rows["ben"])) == (10, 10)
        # Somebody still had a row of the other's before them: the code counts.
        session.code("anna", rows["ben"][0], "person", 0)
        assert session.codings.label(rows["ben"][0]) == "person"
        session.leave("anna")
        assert len(session.rows("ben")) == 20 - 7


@pytest.mark.parametrize(
    "name", ["", " anna", "label", "Response", "school", "split", "=cmd", "a\nb", "x" * 61, "inclusion_probability"]
)
def test_a_name_that_could_not_be_a_column_is_refused(tmp_path, name):
    file = write_project(tmp_path, 1, extra=[("school", "north")])
    with open_session(file) as session, pytest.raises(DataError, match=r"name|column"):
        session.join(name)


def test_names_that_differ_only_in_case_are_one_name(tmp_path):
    with (
        open_session(write_project(tmp_path, 1), coders=("anna",)) as session,
        pytest.raises(DataError, match="'anna'"),
    ):
        session.join("Anna")


def test_two_processes_do_not_code_one_project_at_once(tmp_path):
    file = write_project(tmp_path, 1)
    with open_session(file), pytest.raises(RunError, match="another process codes this project"):
        open_session(file)
    open_session(file).close()


def test_codes_that_are_in_the_table_already_are_taken_over_and_blanks_are_open(tmp_path):
    file = write_project(tmp_path, 0, more="evaluation: {coders: [anna, ben]}")
    lines = [
        ["r0", "A b c", "", "process", ""],
        ["r1", "D e f", "", "", ""],
        ["r2", "G h i", "", " person ", "outcome"],
    ]
    write_csv(tmp_path / "human.csv", [["id", "response", "label", "anna", "ben"], *lines])
    with open_session(file, double_share=1) as session:
        assert session.codings.codes_by_coder(session.ids) == {
            "anna": {"r0": "process", "r2": "person"},
            "ben": {"r2": "outcome"},
        }
        code_all(session, "ben", lambda _: "process")
    assert [row["label"] for row in read_csv(tmp_path / "human.csv")] == ["process", "", ""]


def test_an_unknown_code_in_a_column_of_a_coder_is_named(tmp_path):
    file = write_project(tmp_path, 2, more="evaluation: {coders: [anna]}", extra=[("anna", "proces")])
    with pytest.raises(DataError, match="'anna' has unknown codes: row 2: 'proces' is not a label of the task; row 3"):
        open_session(file)


def test_what_was_changed_by_hand_meanwhile_is_left_and_read_the_next_time(tmp_path):
    file = write_project(tmp_path, 3)
    with open_session(file, coders=("anna",)) as session:
        code_all(session, "anna", lambda _: "process")
        session.write()
        rows = read_csv(tmp_path / "human.csv")
        rows[0]["anna"], rows[1]["label"] = "outcome", "person"
        rows.append({**rows[2], "id": "new", "response": "Added meanwhile", "label": "", "anna": ""})
        write_csv(tmp_path / "human.csv", [list(rows[0]), *(row.values() for row in rows)])
        revision = session.codings.coding("anna", "r2").revision
        session.code("anna", "r2", "person", revision)
        assert session.write() == 2
    with open_session(file) as session:
        assert session.codings.codes_by_coder(session.ids) == {
            "anna": {"r0": "outcome", "r1": "process", "r2": "person"}
        }
        assert {ident: session.codings.label(ident) for ident in session.ids} == {
            "r0": "outcome",
            "r1": "person",
            "r2": "person",
            "new": "",
        }


def replace_labels(file, labels):
    file.write_text(file.read_text().replace("{name: process, definition: Praises effort.}", labels))


def test_codes_by_an_older_codebook_are_refused_and_the_labels_are_named(tmp_path):
    file = write_project(tmp_path, 3)
    with open_session(file, coders=("anna",)) as session:
        code_all(session, "anna", lambda ident: "outcome" if ident == "r1" else "process")
    table = (tmp_path / "human.csv").read_bytes()
    replace_labels(file, "{name: effort, definition: Praises effort.}")
    with pytest.raises(EdgeDistillError, match=r"2 rows were coded with an older codebook.*: 'process'\. "):
        open_session(file)
    assert (tmp_path / "human.csv").read_bytes() == table
    with open_session(file, recode=True) as session:
        assert [row["id"] for row in session.rows("anna") if row["code"]] == ["r1"]
        assert "label process removed" in session.notices[0]
        code_all(session, "anna", lambda _: "effort")
    assert [row["label"] for row in read_csv(tmp_path / "human.csv")] == ["effort", "outcome", "effort"]
    assert '"code":"process"' in (tmp_path / "coding/human.csv/journal.jsonl").read_text()


def test_a_changed_definition_is_noticed(tmp_path):
    file = write_project(tmp_path, 1)
    with open_session(file, coders=("anna",)) as session:
        code_all(session, "anna", lambda _: "process")
    replace_labels(file, "{name: process, definition: Praises strategy.}")
    with open_session(file) as session:
        assert "definition of process" in session.notices[0]


def test_codes_of_ids_that_no_longer_exist_are_kept_and_count_again_when_they_are_back(tmp_path):
    file = write_project(tmp_path, 3)
    with open_session(file, coders=("anna",)) as session:
        code_all(session, "anna", lambda _: "process")
    whole = (tmp_path / "human.csv").read_text()
    (tmp_path / "human.csv").write_text("".join(line for line in whole.splitlines(True) if not line.startswith("r1")))
    with open_session(file) as session:
        assert "1 rows that were planned or coded are no longer in human.csv (r1)" in session.notices[0]
        assert len(session.rows("anna")) == 2
    (tmp_path / "human.csv").write_text(whole)
    with open_session(file) as session:
        assert session.codings.label("r1") == "process"


def test_a_response_that_changed_after_it_was_coded_is_named(tmp_path):
    file = write_project(tmp_path, 2)
    with open_session(file, coders=("anna",)) as session:
        code_all(session, "anna", lambda _: "process")
    table = tmp_path / "human.csv"
    table.write_text(table.read_text().replace("way 1", "way one"))
    with pytest.raises(DataError, match="the responses of 1 rows were changed after they were coded: r1"):
        open_session(file)
    with open_session(file, recode=True) as session:
        assert [row["id"] for row in session.rows("anna") if not row["code"]] == ["r1"]


def test_several_labels_are_a_draft_until_they_are_confirmed(tmp_path):
    file = write_project(tmp_path, 2, kind="multilabel")
    with open_session(file, coders=("anna",)) as session:
        first = session.rows("anna")[0]["id"]
        row = session.draft("anna", first, "person;process", 0)
        assert (row["draft"], row["code"]) == ("process;person", "")
    with open_session(file) as session:
        row = session.rows("anna")[0]
        assert (row["draft"], row["code"]) == ("process;person", "")
        session.code("anna", first, row["draft"], row["revision"])
        second = session.rows("anna")[1]["id"]
        session.code("anna", second, "none", 0)
    labels = {row["id"]: row["label"] for row in read_csv(tmp_path / "human.csv")}
    assert labels == {first: "process;person", second: "none"}


def agreement_of(session, first, second):
    code_all(session, "anna", first)
    code_all(session, "ben", second)
    return session.agreement()


def test_agreement_is_shown_from_the_stated_number_of_double_coded_rows_on(tmp_path):
    file = write_project(tmp_path, 10)
    with open_session(file, coders=("anna", "ben"), double_share=1, kappa_after=10) as session:
        code_all(session, "anna", lambda ident: "process" if ident < "r5" else "outcome")
        for row in session.rows("ben")[:9]:
            session.code("ben", row["id"], "process", 0)
        assert (session.agreement()["rows"], session.agreement()["pairs"]) == (9, [])
        code_all(session, "ben", lambda _: "outcome")
        (pair,) = session.agreement()["pairs"]
        assert (pair["rows"], pair["name"]) == (10, "Cohen's kappa")
        assert pair["kappa"]["low"] <= pair["kappa"]["value"] <= pair["kappa"]["high"]


@pytest.mark.parametrize(
    ("kind", "name"), [("ordinal", "quadratic weighted kappa"), ("multilabel", "mean kappa over labels")]
)
def test_agreement_is_the_one_of_the_kind_of_task(tmp_path, kind, name):
    file = write_project(tmp_path, 6, kind=kind)
    with open_session(file, coders=("anna", "ben"), double_share=1, kappa_after=2) as session:
        labels = ("process", "outcome", "person")
        (pair,) = agreement_of(session, *[lambda ident: labels[int(ident[1]) % 3]] * 2)["pairs"]
    assert (pair["name"], pair["kappa"]["value"]) == (name, 1)


def test_what_agreement_cannot_say_is_said(tmp_path):
    with open_session(write_project(tmp_path / "one", 4), coders=("anna",)) as session:
        assert "needs a second one" in session.agreement()["messages"][0]
    with open_session(write_project(tmp_path / "none", 4), coders=("anna", "ben"), double_share=0) as session:
        assert "No row is to be coded by two coders" in session.agreement()["messages"][0]
    with open_session(write_project(tmp_path / "open", 4), coders=("anna", "ben"), double_share=0.5) as session:
        assert "No row has been coded by two coders yet; 2 of 4 rows are to be" in session.agreement()["messages"][0]
    file = write_project(tmp_path / "same", 4, extra=[("learner", "kim")])
    file.write_text(PROJECT.format(kind="nominal", more="", human="human.csv, group_by: learner"))
    with open_session(file, coders=("anna", "ben"), double_share=1, kappa_after=2) as session:
        found = agreement_of(session, lambda _: "process", lambda ident: "outcome" if ident == "r1" else "process")
    assert "anna has used only one label" in found["messages"][0]
    assert "process" not in found["messages"][0]
    assert "No coder has used person" in found["messages"][1]
    assert "of one group" in found["messages"][2]
    assert found["pairs"][0]["kappa"]["value"] == 0


def test_what_is_set_aside_is_not_shown(tmp_path):
    file = write_project(tmp_path, 0)
    write_csv(tmp_path / "human.csv", [["id", "response", "label"], ["r0", " ", ""], ["r1", "You tried.", ""]])
    with open_session(file, coders=("anna",)) as session:
        assert [row["id"] for row in session.rows("anna")] == ["r1"]
        assert [(row.id, row.reason) for row in session.table.set_aside] == [("r0", "blank response")]


def test_nothing_that_a_coder_sees_changes_with_a_single_code(tmp_path):
    with open_session(write_project(tmp_path, 30), coders=("anna", "ben"), double_share=1, kappa_after=20) as session:
        labels = ("process", "outcome", "person")
        code_all(session, "anna", lambda ident: labels[int(ident[1:]) % 3])
        for row in session.rows("ben")[:21]:
            session.code("ben", row["id"], "process", 0)
        seen = []
        for label in labels * 2:
            row = session.rows("ben")[0]
            session.code("ben", row["id"], label, row["revision"])
            overview = session.overview()
            seen.append((overview["totals"], [each["coded"] for each in overview["coders"]], session.agreement()))
        assert seen[0][2]["pairs"]
        assert all(each == seen[0] for each in seen)
        for row in session.rows("ben")[21:26]:
            session.code("ben", row["id"], "process", 0)
        assert (seen[0][2]["rows"], session.agreement()["rows"]) == (21, 26)
        code_all(session, "ben", lambda _: "process")
        assert session.agreement()["rows"] == 30
        last = session.rows("ben")[-1]
        before = session.agreement()
        session.code("ben", last["id"], "outcome", last["revision"])
        assert session.agreement() == before


def test_undo_gives_no_label_that_the_codebook_has_lost(tmp_path):
    file = write_project(tmp_path, 2)
    with open_session(file, coders=("anna",)) as session:
        row = session.rows("anna")[0]
        row = session.code("anna", row["id"], "person", 0)
        session.code("anna", row["id"], "process", row["revision"])
    file.write_text(file.read_text().replace("  - {name: person}\n", ""))
    with open_session(file) as session:
        assert session.undo("anna")["code"] == ""
    with open_session(file) as session:
        assert session.rows("anna")[0]["code"] == ""


def test_undo_is_the_same_after_a_restart_when_a_coded_row_has_left_the_table(tmp_path):
    file = write_project(tmp_path, 3)
    with open_session(file, coders=("anna",)) as session:
        first, second, _ = (row["id"] for row in session.rows("anna"))
        for ident in (first, second):
            session.code("anna", ident, "process", 0)
    rows = read_csv(tmp_path / "human.csv")
    write_csv(tmp_path / "human.csv", [list(rows[0]), *(row.values() for row in rows if row["id"] != second)])
    with open_session(file) as session:
        assert session.undo("anna")["id"] == first
        assert session.codings.history["anna"] == []
    with open_session(file) as session:
        assert session.codings.history["anna"] == []
        assert session.undo("anna") is None


def test_codes_for_an_older_response_are_not_undone(tmp_path):
    file = write_project(tmp_path, 2)
    with open_session(file, coders=("anna",)) as session:
        row = session.rows("anna")[0]
        row = session.code("anna", row["id"], "person", 0)
        session.code("anna", row["id"], "process", row["revision"])
    table = tmp_path / "human.csv"
    table.write_text(table.read_text().replace(f"way {row['id'][1:]}.", "another way."))
    with open_session(file, recode=True) as session:
        assert session.undo("anna") is None


def test_a_row_that_somebody_labelled_in_the_table_needs_no_code_any_more(tmp_path):
    file = write_project(tmp_path, 3)
    with open_session(file, coders=("anna",)):
        pass
    rows = read_csv(tmp_path / "human.csv")
    rows[0]["label"] = "process"
    write_csv(tmp_path / "human.csv", [list(rows[0]), *(row.values() for row in rows)])
    with open_session(file) as session:
        assert sorted(row["id"] for row in session.rows("anna")) == ["r1", "r2"]
        assert session.overview()["totals"] == {"rows": 3, "finished": 1, "adjudicated": 1}


def test_codes_are_written_to_the_rows_of_json_lines_whatever_kind_of_value_their_ids_are(tmp_path):
    file = write_project(tmp_path, 1, human="human.jsonl")
    ids = ["true", "7", "1.0", "1e3", '"a b"', '"None"']
    lines = [f'{{"id": {ident}, "response": "text {place}"}}' for place, ident in enumerate(ids)]
    (tmp_path / "human.jsonl").write_text("\n\n".join(lines))
    with open_session(file, coders=("anna",)) as session:
        code_all(session, "anna", lambda _: "process")
    written = [json.loads(line) for line in (tmp_path / "human.jsonl").read_text().splitlines()]
    assert [row["anna"] for row in written] == ["process"] * len(ids)
    assert coding_summary(read_project(file)).from_table == 0
