"""Columns of every type that Parquet has keep type and value through grading, or are refused in one line."""

import contextlib
import datetime as dt
import decimal
import sys

import pyarrow as pa
import pyarrow.parquet
import pytest

from edgedistill_serve import DataError, Scorer
from edgedistill_serve.grading.grade import grade
from edgedistill_serve.grading.table_reader import read_rows

NANOSECONDS = 1_700_000_000_000_000_001
COLUMNS = {
    "ns": pa.array([NANOSECONDS, None], pa.timestamp("ns")),
    "ns, zone": pa.array([NANOSECONDS, None], pa.timestamp("ns", "Europe/Berlin")),
    "time, ns": pa.array([1, None], pa.time64("ns")),
    "duration, ns": pa.array([NANOSECONDS, None], pa.duration("ns")),
    "us": pa.array([1_700_000_000_000_001, None], pa.timestamp("us", "UTC")),
    "date": pa.array([dt.date(2024, 1, 2), None]),
    "decimal": pa.array([decimal.Decimal("1.10"), None]),
    "decimal of 50 digits": pa.array([decimal.Decimal("1.10"), None], pa.decimal256(50, 2)),
    "dictionary": pa.array(["a", None]).dictionary_encode(),
    "large string": pa.array(["a", None], pa.large_string()),
    "null": pa.nulls(2),
    "list": pa.array([[1, None], None]),
    "nested": pa.array([{"a": [{"b": 1}]}, None]),
    "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
    "bytes": pa.array([b"\xff", None]),
    "half": pa.array([1.5, None], pa.float32()).cast(pa.float16()),
    "unsigned": pa.array([2**64 - 1, None], pa.uint64()),
    "nan": pa.array([float("nan"), None]),
}
RESPONSE = pa.array(["great job", "you worked hard"])


@pytest.fixture(scope="module")
def scorer(bundle) -> Scorer:
    return Scorer(bundle, threads=1)


@pytest.fixture(params=[False, True], ids=["with pandas", "without pandas"])
def pandas(request, monkeypatch):
    """Hide pandas, or not: pyarrow reads nanoseconds by it, and edgedistill-serve does not require it."""
    if request.param:
        monkeypatch.setitem(sys.modules, "pandas", None)


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.usefixtures("pandas")
def test_a_column_keeps_its_type_and_values(scorer, tmp_path, name):
    pa.parquet.write_table(pa.table({name: COLUMNS[name], "response": RESPONSE}), tmp_path / "in.parquet")
    source = pa.parquet.read_table(tmp_path / "in.parquet")
    counts = grade(scorer, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert (counts.read, counts.errors) == (2, 0)
    graded = pa.parquet.read_table(tmp_path / "out.parquet")
    assert graded.schema.field(name).type == source.schema.field(name).type
    column, expected = graded.column(name), source.column(name)
    assert column.equals(expected) or (name == "nan" and str(column) == str(expected))
    for suffix in (".csv", ".jsonl"):
        grade(scorer, tmp_path / "in.parquet", tmp_path / f"out{suffix}")
        assert len(list(read_rows(tmp_path / f"out{suffix}"))) == 2


@pytest.mark.usefixtures("pandas")
def test_nanoseconds_are_written_as_text_to_the_last_digit(scorer, tmp_path):
    names = ["ns", "ns, zone", "time, ns", "duration, ns"]
    pa.parquet.write_table(
        pa.table({**{name: COLUMNS[name] for name in names}, "response": RESPONSE}), tmp_path / "in.parquet"
    )
    for suffix in (".csv", ".jsonl"):
        grade(scorer, tmp_path / "in.parquet", tmp_path / f"out{suffix}")
        first, second = (row.values for row in read_rows(tmp_path / f"out{suffix}"))
        assert [first[name] for name in names] == [
            "2023-11-14 22:13:20.000000001",
            "2023-11-14 23:13:20.000000001+0100",
            "00:00:00.000000001",
            str(NANOSECONDS),
        ]
        assert [second[name] for name in names] == [""] * 4


@pytest.mark.usefixtures("pandas")
@pytest.mark.parametrize(
    "column",
    [pa.array([10**18, None], pa.timestamp("us")), pa.array([[NANOSECONDS], None], pa.list_(pa.timestamp("ns")))],
    ids=["a year that Python does not have", "nanoseconds in a list"],
)
def test_what_cannot_be_read_is_one_line(scorer, tmp_path, column):
    pa.parquet.write_table(pa.table({"t": column, "response": RESPONSE}), tmp_path / "in.parquet")
    with contextlib.suppress(DataError):
        grade(scorer, tmp_path / "in.parquet", tmp_path / "out.parquet")
        # With pandas, nanoseconds in a list can be read.
        assert pa.parquet.read_table(tmp_path / "out.parquet").column("t").equals(pa.chunked_array([column]))
        return
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]
    with pytest.raises(DataError, match=r"^in\.parquet: the file cannot be read beyond row 0 \("):
        list(read_rows(tmp_path / "in.parquet"))


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_response_column_of_any_text_type_is_scored(scorer, tmp_path, kind):
    pa.parquet.write_table(pa.table({"response": RESPONSE.cast(kind)}), tmp_path / "in.parquet")
    assert grade(scorer, tmp_path / "in.parquet", tmp_path / "out.parquet").scored == 2


@pytest.mark.parametrize("column", [pa.nulls(2), pa.array([1, 2]), pa.array([["a"], ["b"]])])
def test_a_response_column_that_is_no_text_has_an_error_in_every_row(scorer, tmp_path, column):
    pa.parquet.write_table(pa.table({"response": column}), tmp_path / "in.parquet")
    assert grade(scorer, tmp_path / "in.parquet", tmp_path / "out.parquet").errors == 2


def test_a_table_without_rows_is_graded_into_one_without_rows(scorer, tmp_path):
    pa.parquet.write_table(pa.table({"response": RESPONSE[:0], "n": pa.array([], pa.int8())}), tmp_path / "in.parquet")
    assert grade(scorer, tmp_path / "in.parquet", tmp_path / "out.parquet").read == 0
    assert pa.parquet.read_schema(tmp_path / "out.parquet").field("n").type == pa.int8()


def test_two_columns_of_one_name_are_refused(scorer, tmp_path):
    table = pa.Table.from_arrays([RESPONSE, RESPONSE], names=["response", "response"])
    pa.parquet.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(DataError, match="two columns have the name 'response'"):
        grade(scorer, tmp_path / "in.parquet", tmp_path / "out.parquet")
