"""Every row of a project is used, set aside with its reason, or an error that names file and row."""

import json

import pytest

from edgedistill.data import read_records
from edgedistill.errors import DataError
from edgedistill.project import read_project

PROJECT = """\
name: t
task:
  labels: [{{name: process}}, {{name: outcome}}]
  inputs: {inputs}
data: {data}
"""


@pytest.fixture
def read(tmp_path):
    def write_and_read(
        human: str | bytes, unlabelled: str = "", inputs: str = "[response]", more: str = "", name="h.csv"
    ):
        data = human if isinstance(human, bytes) else human.encode()
        (tmp_path / name).write_bytes(data)
        files = f"human: {name}"
        if unlabelled:
            (tmp_path / "u.csv").write_text(unlabelled, "utf-8")
            files += ", unlabelled: u.csv"
        (tmp_path / "p.yaml").write_text(PROJECT.format(inputs=inputs, data=f"{{{files}{more}}}"), "utf-8")
        return read_records(read_project(tmp_path / "p.yaml"))

    return write_and_read


def coded(n: int = 20, header: str = "id,response,label") -> str:
    rows = [f"r{i},text number {i},{('process', 'outcome')[i % 2]}" for i in range(n)]
    return "\n".join([header, *rows]) + "\n"


def everything(records):
    splits = records.splits
    return [*splits.train, *splits.validation, *splits.test]


def test_every_row_read_is_used_or_set_aside(read):
    records = read(coded() + "r90, ,process\nr91,fine,\n" + f"r92,{'x' * 40_000},process\n")
    (account,) = records.row_counts
    assert account.read == 23
    assert sum(account.used.values()) == 20
    assert account.set_aside == {
        "blank response": 1,
        "no human code": 1,
        "response longer than 10000 characters": 1,
    }
    assert [(row.id, row.row) for row in records.set_aside] == [("r90", 22), ("r91", 23), ("r92", 24)]


@pytest.mark.parametrize("blank", ["\u200b", "\u00a0", "\ufeff", "\u2800", "<p>&nbsp;</p>", "\u0301", "\u00ad \u3164"])
def test_a_response_with_nothing_visible_is_blank(read, blank):
    records = read(coded() + f"r90,{blank},process\n", f"id,response\nu1,{blank}\nu2,new\n")
    assert {row.id: row.reason for row in records.set_aside} == {"r90": "blank response", "u1": "blank response"}


def test_empty_rows_below_a_table_are_set_aside(read):
    records = read(coded() + ",,\n , ,\n", "id,response\nu1,new\n,\n")
    assert [(row.row, row.reason) for row in records.set_aside] == [
        (22, "empty row"),
        (23, "empty row"),
        (3, "empty row"),
    ]
    assert [account.read for account in records.row_counts] == [22, 2]


def test_unnamed_columns_at_the_end_are_left_out(read):
    records = read(coded().replace("\n", ",,\n"))
    assert len(everything(records)) == 20


def test_the_line_of_excel_that_names_the_separator_is_no_row(read):
    assert len(everything(read("sep=,\n" + coded()))) == 20


def test_emoji_and_right_to_left_text_come_through_unchanged(read):
    texts = {"e1": "👩🏽\u200d🏫 great 🎉", "e2": "אתה עבדת קשה", "e3": "أحسنت \u200f(مثابرة)"}
    rows = "".join(f"{ident},{text},process\n" for ident, text in texts.items())
    found = {row.response.id: row.response.text for row in everything(read(coded() + rows))}
    assert {ident: found[ident] for ident in texts} == texts


@pytest.mark.parametrize(
    ("human", "message"),
    [
        ("id,answer,label\nr1,x,process\n", "h.csv, row 2: there is no column 'response'"),
        (coded(header="id,respons,label"), "Did you mean 'respons'? Rename it to 'response'"),
        (coded(header="ID,response,label"), "Did you mean 'ID'? Rename it to 'id'"),
        (coded(header="id,Response ,label"), "Did you mean 'Response '? Rename it to 'response'"),
        (coded(header="id,response,LABEL"), "Did you mean 'LABEL'? Rename it to 'label'"),
        (
            "id,response,label\n" + "".join(f"r{i},the same,{('process', 'outcome')[i % 2]}\n" for i in range(9)),
            "split is empty: all rows have the same text, and rows with the same text stay in one split",
        ),
        (coded() + "r90,x,proces\n", "row 22: unknown label 'proces'; did you mean 'process'?"),
        (coded() + "r90,x,Process\n", "row 22: the label 'Process' is another spelling of 'process'"),
        (coded() + "r3,x,process\n", "row 22: the id 'r3' is already used in row 5"),
        (coded() + ",x,process\n", "row 22: the id is empty"),
        ("id,response,label\nr1,x,process\nr2,y,process\n", "every coded row has the label 'process'"),
        ("id,response,label\nr1,x,\n", "no row is coded"),
        ("id,response,label\n", "no row is coded"),
        ("", "empty"),
        (coded() + 'r90,"he said "go" on",process\n', "row 22"),
        (coded() + 'r90,"never closed,process\nr91,x,process\n', "row 22"),
        (coded() + "r90,x,process,more\n", "row 22"),
        (
            "id,response,label,split\nr1,x,process,train\nr2,y,outcome,tset\n",
            "row 3: unknown split 'tset'; did you mean 'test'",
        ),
    ],
)
def test_a_file_that_cannot_be_used_names_the_row_and_the_hint(read, human, message):
    with pytest.raises(DataError) as error:
        read(human)
    assert "h.csv" in str(error.value)
    assert message in str(error.value)


def test_many_wrong_rows_are_reported_at_once_and_counted(read):
    with pytest.raises(DataError, match=r"row 2: .*and 15 more"):
        read(coded().replace(",process", ",prozess").replace(",outcome", ",outkome"))


def test_a_response_text_never_straddles_a_random_split(read):
    twins = "".join(f"t{i},  Text NUMBER {i % 7} ,{('process', 'outcome')[i % 7 % 2]}\n" for i in range(60))
    splits = read(coded() + twins).splits
    sides = [
        {" ".join(row.response.text.casefold().split()) for row in side}
        for side in (splits.train, splits.validation, splits.test)
    ]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert splits.twins.test_same == splits.twins.validation_same == ()


def test_a_group_never_straddles_a_random_split(read):
    rows = "".join(f"r{i},text {i},{('process', 'outcome')[i % 2]},s{i // 4}\n" for i in range(80))
    splits = read("id,response,label,student\n" + rows, more=", group_by: student").splits
    sides = [{row.response.group for row in side} for side in (splits.train, splits.validation, splits.test)]
    assert sum(len(side) for side in sides) == 20


def test_rows_without_a_group_beside_rows_with_one_are_noted(read):
    rows = "".join(f"r{i},text {i},{('process', 'outcome')[i % 2]},{i // 4 or ' '}\n" for i in range(80))
    (note,) = read("id,response,label,student\n" + rows, more=", group_by: student").splits.notes
    assert note == "human-coded rows without a group: 4; each counts as its own group"


def test_where_no_row_has_a_group_nothing_is_noted(read):
    rows = "".join(f"r{i},text {i},{('process', 'outcome')[i % 2]},\n" for i in range(80))
    assert read("id,response,label,student\n" + rows, more=", group_by: student").splits.notes == ()


def test_a_random_split_keeps_shares_and_labels(read):
    splits = read(coded(100)).splits
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (60, 20, 20)
    assert sorted(splits.test.labels).count("process") == 10


def test_a_random_split_does_not_depend_on_the_order_of_the_file(read):
    lines = coded(50).splitlines()
    there = {row.response.id for row in read("\n".join(lines)).splits.test}
    back = {row.response.id for row in read("\n".join([lines[0], *reversed(lines[1:])])).splits.test}
    assert there == back


def test_a_split_column_wins_and_repeated_test_texts_are_counted(read):
    rows = "".join(
        f"r{i},{'same answer' if i in (0, 8) else f'text {i}'},{('process', 'outcome')[i % 2]},{split}\n"
        for i, split in enumerate(["train"] * 4 + ["validation"] * 4 + ["test"] * 4)
    )
    splits = read("id,response,label,split\n" + rows).splits
    assert splits.predefined
    assert {row.response.id for row in splits.test} == {"r8", "r9", "r10", "r11"}
    assert splits.twins.test_same == ("r8",)
    assert any("1 of 4 test rows" in note for note in splits.notes)


def test_a_split_column_without_validation_gives_it_train_rows(read):
    rows = "".join(
        f"r{i},text {i},{('process', 'outcome')[i % 2]},{'test' if i < 10 else 'train'}\n" for i in range(50)
    )
    splits = read("id,response,label,split\n" + rows).splits
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (30, 10, 10)
    assert any("10 train rows were used" in note for note in splits.notes)


def test_a_split_column_without_test_rows_is_refused(read):
    with pytest.raises(DataError, match="the test split is empty"):
        read("id,response,label,split\nr1,x,process,train\nr2,y,outcome,train\nr3,z,outcome,validation\n")


def test_uncoded_rows_that_repeat_coded_ones_are_set_aside(read):
    splits = read(coded()).splits
    test, train = splits.test.responses[0], splits.train.responses[0]
    records = read(coded(), f"id,response\nu1,new\nu2,{test.text.upper()}\n{train.id},{train.text}\nu3, \n")
    assert [response.id for response in records.unlabelled] == ["u1"]
    assert {row.id: row.reason for row in records.set_aside} == {
        "u2": "duplicates a test row",
        train.id: "duplicates a train row",
        "u3": "blank response",
    }
    assert records.row_counts[1].read == 4


def test_the_same_answer_to_another_question_is_another_row(read):
    rows = "".join(
        f"r{i},why {i}?,because,{('process', 'outcome')[i % 2]},{split}\n"
        for i, split in enumerate(["train", "validation", "test"] * 2)
    )
    records = read(
        "id,question,response,label,split\n" + rows,
        "id,question,response\nu1,why not?,because\nu2,why 2?,because\n",
        inputs="[question, response]",
    )
    assert [response.id for response in records.unlabelled] == ["u1"]


def test_an_uncoded_row_of_a_locked_group_is_set_aside(read):
    rows = "".join(f"r{i},text {i},{('process', 'outcome')[i % 2]},s{i // 4}\n" for i in range(40))
    human = "id,response,label,student\n" + rows
    splits = read(human, more=", group_by: student").splits
    locked, free = splits.test.responses[0].group, splits.train.responses[0].group
    records = read(human, f"id,response,student\nu1,new,{locked}\nu2,newer,{free}\n", more=", group_by: student")
    assert [response.id for response in records.unlabelled] == ["u2"]
    assert [(row.id, row.reason) for row in records.set_aside] == [("u1", "shares a group with test rows")]


def test_an_id_with_another_text_in_the_second_file_is_refused(read):
    with pytest.raises(DataError, match=r"u\.csv, row 2: the id 'r1' is already used in h.csv, row 3"):
        read(coded(), "id,response\nr1,something else\n")


def test_json_lines_are_read_as_a_table_is(read):
    lines = "".join(
        json.dumps({"id": i, "response": f"text {i}", "label": ("process", "outcome")[i % 2]}) + "\n" for i in range(10)
    )
    records = read(lines, name="h.jsonl")
    assert {row.response.id for row in everything(records)} == {str(i) for i in range(10)}
    with pytest.raises(DataError, match=r"h.jsonl, row 11: there is no column 'label'.*other rows have it"):
        read(lines + '{"id": 11, "response": "x"}\n', name="h.jsonl")


def test_a_row_of_json_without_the_split_that_others_have_is_refused(read):
    for without in range(12):
        rows = [
            {"id": f"r{i}", "response": f"text {i}", "label": ("process", "outcome")[i % 2], "split": side}
            for i, side in enumerate(["train", "validation", "test"] * 4)
        ]
        del rows[without]["split"]
        with pytest.raises(DataError, match=rf"h.jsonl, row {without + 1}: there is no column 'split'.*other rows"):
            read("".join(json.dumps(row) + "\n" for row in rows), name="h.jsonl")


@pytest.mark.parametrize("column", ["group", "label", "response", "id"])
@pytest.mark.parametrize("without", [0, 5, 11])
def test_a_row_of_json_without_a_column_is_refused_wherever_it_stands(read, column, without):
    rows = [
        {"id": f"r{i}", "response": f"text {i}", "label": ("process", "outcome")[i % 2], "group": "a"}
        for i in range(12)
    ]
    del rows[without][column]
    with pytest.raises(DataError, match=rf"h.jsonl, row {without + 1}: there is no column '{column}'"):
        read("".join(json.dumps(row) + "\n" for row in rows), name="h.jsonl", more=", group_by: group")


@pytest.mark.parametrize("value", [None, "", "  ", "\u00a0"])
def test_a_blank_split_is_refused_with_its_row(read, value):
    rows = [
        {"id": f"r{i}", "response": f"text {i}", "label": ("process", "outcome")[i % 2], "split": side}
        for i, side in enumerate(["train", "validation", "test"] * 4)
    ]
    rows[4]["split"] = value
    with pytest.raises(DataError, match=r"row 5: the split is missing; use one of train, validation, test"):
        read("".join(json.dumps(row) + "\n" for row in rows), name="h.jsonl")
    lines = "".join(f"{row['id']},{row['response']},{row['label']},{row['split'] or ''}\n" for row in rows)
    with pytest.raises(DataError, match=r"row 6: the split is missing"):
        read("id,response,label,split\n" + lines)


@pytest.mark.parametrize("name", ["Split", "SPLIT", " split", "split\u200b"])
def test_a_column_that_looks_like_the_split_is_not_ignored(read, name):
    with pytest.raises(DataError, match="is another spelling of 'split'"):
        read(f"id,response,label,{name}\nr1,x,process,train\nr2,y,outcome,test\n")


def test_a_missing_split_or_group_in_parquet_is_no_value(read, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "id": [f"r{i}" for i in range(20)],
        "response": [f"text number {i}" for i in range(20)],
        "label": ["process", "outcome"] * 10,
    }
    pq.write_table(pa.table(columns | {"group": [float("nan"), None] * 10}), tmp_path / "made.parquet")
    records = read((tmp_path / "made.parquet").read_bytes(), name="h.parquet", more=", group_by: group")
    assert {row.response.group for row in everything(records)} == {None}
    split = ["train", "validation", "test", None] * 5
    pq.write_table(pa.table(columns | {"split": split}), tmp_path / "made.parquet")
    with pytest.raises(DataError, match="row 4: the split is missing"):
        read((tmp_path / "made.parquet").read_bytes(), name="h.parquet")


def test_tabs_and_parquet_are_read_as_a_table_is(read, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = {row.response.id for row in everything(read(coded().replace(",", "\t"), name="h.tsv"))}
    table = pa.table(
        {
            "id": [f"r{i}" for i in range(20)],
            "response": [f"text number {i}" for i in range(20)],
            "label": ["process", "outcome"] * 10,
        }
    )
    pq.write_table(table, tmp_path / "made.parquet")
    parquet = read((tmp_path / "made.parquet").read_bytes(), name="h.parquet")
    assert {row.response.id for row in everything(parquet)} == ids


@pytest.mark.parametrize(
    "spelling", ["{}.0", "{}.00", " {} ", "{}\u200b", "\ufeff{}", "student {}", "STUDENT {}", "\uff33tudent {}"]
)
def test_a_group_is_found_in_whatever_way_another_file_writes_it(read, spelling):
    prefix = "Student " if "tudent" in spelling.lower() else ""
    rows = "".join(f"r{i},text {i},{('process', 'outcome')[i % 2]},{prefix}{i // 4}\n" for i in range(40))
    human = "id,response,label,student\n" + rows
    locked = read(human, more=", group_by: student").splits.test.responses[0].group.removeprefix("Student ")
    pool = f'id,response,student\nu1,new,"{spelling.format(locked)}"\nu2,newer,"{spelling.format(99)}"\n'
    records = read(human, pool, more=", group_by: student")
    assert [response.id for response in records.unlabelled] == ["u2"]
    assert [row.reason for row in records.set_aside] == ["shares a group with test rows"]


@pytest.mark.parametrize("predefined", [False, True])
def test_one_group_in_two_spellings_is_one_group_in_the_splits(read, predefined):
    groups = [f"{i // 2}.0" if i % 2 else f"{i // 2}" for i in range(40)]
    split = [",train", ",test"] if predefined else ["", ""]
    rows = "".join(
        f"r{i},text {i},{('process', 'outcome')[i // 2 % 2]},{group}{split[i % 2]}\n" for i, group in enumerate(groups)
    )
    header = "id,response,label,student" + (",split" if predefined else "")
    splits = read(f"{header}\n{rows}", more=", group_by: student").splits
    assert splits.repeated_groups == (20 if predefined else 0)
    sides = [{row.response.group.removesuffix(".0") for row in side} for side in (splits.train, splits.test)]
    assert bool(sides[0] & sides[1]) == predefined
