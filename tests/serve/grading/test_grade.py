"""Every row of a table is written, in order, with its score or its error."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedistill_serve import DataError, Scorer
from edgedistill_serve.grading.grade import GradingCounts, grade
from edgedistill_serve.grading.table_reader import read_rows
from edgedistill_serve.scoring.score import score_columns

TEXTS = ("you worked hard", "", "great job", "poisonous", "you worked hard", 'a "quoted", long\nline', "=SUM(A1)")
ADDED = (
    "label",
    "probability",
    "probability_process",
    "probability_outcome",
    "probability_person",
    "decision",
    "reason",
    "truncated",
    "tokens",
    "unknown_share",
    "context_tokens",
    "context_tokens_lost",
    "novelty",
    "error",
)


@pytest.fixture(scope="module")
def scorer(bundle) -> Scorer:
    return Scorer(bundle, threads=2)


def write(path, texts=TEXTS):
    rows = [{"id": number, "response": text} for number, text in enumerate(texts)]
    if path.suffix == ".parquet":
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "response"], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def values(path):
    return [row.values for row in read_rows(path)]


@pytest.mark.parametrize("source", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("target", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_kind_of_table_is_graded_into_every_other(scorer, tmp_path, source, target):
    out = tmp_path / f"out{target}"
    counts = grade(scorer, write(tmp_path / f"in{source}"), out)
    graded = values(out)
    assert counts == GradingCounts(read=7, scored=6, errors=1, review=1)
    assert [(row["id"], row["response"]) for row in graded] == [(str(i), text) for i, text in enumerate(TEXTS)]
    assert tuple(graded[0]) == ("id", "response", *ADDED)
    for row, result in zip(graded, scorer.score_each(TEXTS), strict=True):
        if row["error"]:
            assert (row["label"], row["probability"], row["decision"]) == ("", "", "")
            assert row["error"] == str(result)
        else:
            assert row["label"] == result.label
            assert float(row["probability"]) == result.probability
            assert {name: float(row[f"probability_{name}"]) for name in result.probabilities} == result.probabilities
            assert (row["decision"], row["reason"] or None) == (result.decision, result.reason)
            assert (row["truncated"], row["tokens"]) == ("false", str(result.tokens))


def test_types_are_kept_from_jsonl_to_jsonl_and_from_parquet_to_parquet(scorer, tmp_path):
    grade(scorer, write(tmp_path / "in.jsonl"), tmp_path / "out.jsonl")
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert (first["id"], first["truncated"], first["tokens"], first["error"]) == (0, False, 3, None)
    grade(scorer, write(tmp_path / "in.parquet"), tmp_path / "out.parquet")
    schema = pa.parquet.read_schema(tmp_path / "out.parquet")
    assert [str(schema.field(name).type) for name in ("id", "response", "probability", "truncated", "tokens")] == [
        "int64",
        "string",
        "double",
        "bool",
        "int64",
    ]


def test_a_row_that_is_not_a_text_is_written_with_its_error(scorer, tmp_path):
    lines = ['{"id": 1}', '{"response": null}', '{"response": 5}', '{"response": ["x"]}', '{"response": "fine"}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    counts = grade(scorer, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert counts == GradingCounts(read=5, scored=1, errors=4, review=0)
    graded = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [bool(row["error"]) for row in graded] == [True, True, True, True, False]
    assert [row.get("response") for row in graded] == [None, None, 5, ["x"], "fine"]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(TEXTS), max_size=30))
def test_rows_read_are_rows_written(scorer, tmp_path, texts):
    counts = grade(scorer, write(tmp_path / "in.csv", texts), tmp_path / "out.csv", overwrite=True)
    assert counts.read == counts.scored + counts.errors == len(texts)
    assert [row["response"] for row in values(tmp_path / "out.csv")] == texts


def test_several_parts_keep_their_order_and_scores(scorer, tmp_path):
    texts = [f"{TEXTS[n % 3]} {n % 7}" for n in range(1000)]
    seen = []
    grade(
        scorer,
        write(tmp_path / "in.csv", texts),
        tmp_path / "out.csv",
        part_rows=256,
        progress=lambda counts, share: seen.append((counts.read, share)),
    )
    graded = values(tmp_path / "out.csv")
    assert [row["response"] for row in graded] == texts
    assert [float(row["probability"]) for row in graded] == [score.probability for score in scorer.score(texts)]
    assert [rows for rows, _ in seen] == [256, 512, 768, 1000]
    assert seen[-1][1] == 1.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_a_header_alone_gives_a_header_alone(scorer, tmp_path):
    (tmp_path / "in.csv").write_text("id,response\n")
    assert grade(scorer, tmp_path / "in.csv", tmp_path / "out.csv") == GradingCounts()
    assert (tmp_path / "out.csv").read_text().strip() == ",".join(("id", "response", *ADDED))


def test_a_response_in_the_place_of_a_header_is_not_quoted(scorer, tmp_path):
    (tmp_path / "in.csv").write_text("Zoe Quxley said it was me,Student Answer\n", "utf-8")
    with pytest.raises(DataError, match=r"the file has A \(a text of 25 characters\), B \('Student Answer'\)\."):
        grade(scorer, tmp_path / "in.csv", tmp_path / "out.csv")


def test_a_table_without_the_input_is_refused(answers_bundle, tmp_path):
    (tmp_path / "in.csv").write_text("id,question,response\n1,why,because\n")
    with pytest.raises(
        DataError, match=r"in\.csv: there is no column 'reference_answer'.* the file has A \('id'\), B \('question'\)"
    ):
        grade(Scorer(answers_bundle), tmp_path / "in.csv", tmp_path / "out.csv")


def test_a_column_that_is_there_already_is_not_overwritten(scorer, tmp_path):
    (tmp_path / "in.csv").write_text("response,label\ngreat job,process\n")
    with pytest.raises(DataError, match=r"already has the column 'label'.*--prefix"):
        grade(scorer, tmp_path / "in.csv", tmp_path / "out.csv")
    grade(scorer, tmp_path / "in.csv", tmp_path / "out.csv", prefix="scored_")
    (row,) = values(tmp_path / "out.csv")
    assert row["label"] == "process"
    assert row["scored_label"] == scorer.score(["great job"])[0].label


def test_the_added_columns_are_those_of_the_task(bundle):
    assert tuple(score_columns(bundle.task)) == ADDED


def test_an_existing_table_is_replaced_only_with_overwrite(scorer, tmp_path):
    write(tmp_path / "in.csv")
    (tmp_path / "out.csv").write_text("precious")
    with pytest.raises(DataError, match=r"exists already\. Use --force"):
        grade(scorer, tmp_path / "in.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "precious"
    grade(scorer, tmp_path / "in.csv", tmp_path / "out.csv", overwrite=True)
    assert len(values(tmp_path / "out.csv")) == len(TEXTS)


def test_a_table_is_not_graded_into_itself(scorer, tmp_path):
    path = write(tmp_path / "in.csv")
    before = path.read_bytes()
    for target in (path, tmp_path / "other" / ".." / "in.csv", tmp_path / "link.csv"):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "link.csv").unlink(missing_ok=True)
        (tmp_path / "link.csv").symlink_to(path)
        with pytest.raises(DataError, match=r"IN and OUT are the same file\. Write to another file\."):
            grade(scorer, path, target, overwrite=True)
    assert path.read_bytes() == before


def test_a_malformed_row_is_an_error_if_strict_and_leaves_no_output(scorer, tmp_path):
    (tmp_path / "in.csv").write_text("response\n" + 600 * "great job\n" + '"open\n')
    with pytest.raises(DataError, match=r"in\.csv, row 602"):
        grade(scorer, tmp_path / "in.csv", tmp_path / "out.csv", strict=True)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_malformed_rows_are_in_a_file_of_their_own_and_counted(scorer, tmp_path):
    (tmp_path / "in.csv").write_bytes(
        b'id,response\n1,great job \xc3\xa9\xc3\xa9\n2\n3,"open\n4,poisonous\n5,\xff\n6,why\n'
    )
    counts = grade(scorer, tmp_path / "in.csv", tmp_path / "out.jsonl", part_rows=2)
    assert counts == GradingCounts(read=6, scored=2, errors=1, review=0, rejected=3)
    assert counts.read == counts.scored + counts.errors + counts.rejected
    assert [row["id"] for row in values(tmp_path / "out.jsonl")] == ["1", "4", "6"]
    rejected = values(tmp_path / "out.jsonl.rejected.csv")
    assert [(row["file"], row["row"]) for row in rejected] == [("in.csv", "3"), ("in.csv", "4"), ("in.csv", "6")]
    assert rejected[0]["reason"].startswith("the number of fields is 1, the header has 2")
    (tmp_path / "in.csv").write_text("id,response\n1,great job\n")
    grade(scorer, tmp_path / "in.csv", tmp_path / "out.jsonl", overwrite=True)
    assert not (tmp_path / "out.jsonl.rejected.csv").exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("out.docx", "not supported for tables"),
        ("out.xlsx", "tables cannot be written as .xlsx"),
        ("nowhere/out.csv", "folder does not exist"),
        ("folder.csv", "is a folder and not a file"),
    ],
)
def test_a_target_that_cannot_be_written_is_refused_before_scoring(scorer, tmp_path, target, message):
    write(tmp_path / "in.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=message):
        grade(scorer, tmp_path / "in.csv", tmp_path / target)
