"""Tables of every delimiter, encoding and compression, several at once, from stdin and from an object store."""

import gzip
import io
import json
import subprocess
import sys

import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from edgedistill_serve import DataError, Scorer
from edgedistill_serve.grading.grade import grade
from edgedistill_serve.grading.table_reader import read_rows

ROWS = [("1", "you worked hard, caf\u00e9"), ("2", "great job; really"), ("3", "")]


@pytest.fixture(scope="module")
def scorer(bundle) -> Scorer:
    return Scorer(bundle, threads=2)


def table(delimiter=",", encoding="utf-8", rows=ROWS):
    lines = [delimiter.join(f'"{cell}"' for cell in row) for row in [("id", "response"), *rows]]
    return ("\r\n".join(lines) + "\r\n").encode(encoding)


def graded(path):
    return [(row.values["id"], row.values["response"]) for row in read_rows(path)]


@pytest.mark.parametrize(
    ("delimiter", "encoding", "notes"),
    [
        (",", "utf-8", []),
        (",", "utf-8-sig", []),
        (";", "utf-8", ["in.csv is read as UTF-8, with fields separated by semicolons"]),
        ("\t", "utf-16", ["in.csv is read as UTF-16, with fields separated by tabs"]),
        (";", "cp1252", ["in.csv is read as Windows-1252, with fields separated by semicolons"]),
        ("|", "utf-8", ["in.csv is read as UTF-8, with fields separated by vertical bars"]),
    ],
)
def test_delimiter_and_encoding_are_detected_and_said(scorer, tmp_path, delimiter, encoding, notes):
    (tmp_path / "in.csv").write_bytes(table(delimiter, encoding))
    said = []
    grade(scorer, tmp_path / "in.csv", tmp_path / "out.csv", note=said.append)
    assert graded(tmp_path / "out.csv") == ROWS
    assert said == notes


def test_delimiter_and_encoding_can_be_stated(scorer, tmp_path):
    (tmp_path / "in.csv").write_bytes("id#response\n1#pi\u0119kny\n".encode("cp1250"))
    grade(scorer, tmp_path / "in.csv", tmp_path / "out.csv", delimiter="#", encoding="cp1250")
    assert graded(tmp_path / "out.csv") == [("1", "pi\u0119kny")]


def test_json_lines_of_another_encoding_are_read(scorer, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"id": "1", "response": "caf\u00e9"}\n', "utf-16")
    grade(scorer, tmp_path / "in.jsonl", tmp_path / "out.csv")
    assert graded(tmp_path / "out.csv") == [("1", "caf\u00e9")]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize("compression", [".gz", ".zst"])
def test_compressed_tables_are_read_and_written(scorer, tmp_path, suffix, compression):
    (tmp_path / "in.csv").write_bytes(table())
    grade(scorer, tmp_path / "in.csv", tmp_path / f"a{suffix}", part_rows=2)
    grade(scorer, tmp_path / "in.csv", tmp_path / f"b{suffix}{compression}", part_rows=2)
    with pa.input_stream(str(tmp_path / f"b{suffix}{compression}")) as stream:
        assert stream.read() == (tmp_path / f"a{suffix}").read_bytes()
    grade(scorer, tmp_path / f"b{suffix}{compression}", tmp_path / "c.csv", prefix="again_")
    assert graded(tmp_path / "c.csv") == ROWS


@pytest.mark.parametrize(
    "content",
    [gzip.compress(table(), mtime=0)[:-9], b"no gzip", gzip.compress(table(), mtime=0)[:20]],
    ids=["cut at the end", "another format", "cut in the data"],
)
def test_a_damaged_compressed_file_is_an_error_with_its_name(scorer, tmp_path, content):
    (tmp_path / "in.csv.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"in\.csv\.gz: the file is damaged or is not compressed"):
        grade(scorer, tmp_path / "in.csv.gz", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("source", ["", "*.csv", "in*", "in[12].csv"])
def test_the_tables_of_a_folder_or_a_pattern_are_one_table(scorer, tmp_path, source):
    folder = tmp_path / "terms"
    folder.mkdir()
    (folder / "in1.csv").write_bytes(table(rows=ROWS[:1]))
    (folder / "in2.csv").write_bytes(table(";", rows=ROWS[1:]))
    (folder / "notes.txt" if not source else tmp_path / "notes.txt").write_text("not a table")
    counts = grade(scorer, f"{folder}/{source}" if source else folder, tmp_path / "out.csv", part_rows=2)
    assert counts.read == 3
    assert graded(tmp_path / "out.csv") == ROWS


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing*.csv", r"nothing\*\.csv: no file matches"),
        ("empty", "empty: the folder has no tables"),
        ("absent.csv", r"absent\.csv: the file does not exist"),
        ("**bad/[", "no file matches|cannot be read"),
    ],
)
def test_a_pattern_or_folder_without_tables_is_an_error(scorer, tmp_path, source, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        grade(scorer, f"{tmp_path}/{source}", tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_tables_with_other_columns_are_not_one_table(scorer, tmp_path):
    (tmp_path / "a.csv").write_text("id,response\n1,x\n")
    (tmp_path / "b.csv").write_text("response,name\nx,y\n")
    with pytest.raises(DataError, match=r"b\.csv: the columns differ from those of a\.csv"):
        grade(scorer, f"{tmp_path}/*.csv", tmp_path / "out.csv")


def test_columns_in_another_order_are_put_in_the_order_of_the_first_file(scorer, tmp_path):
    (tmp_path / "a.csv").write_text("id,response\n1,x\n")
    (tmp_path / "b.csv").write_text("response,id\ny,2\n")
    grade(scorer, f"{tmp_path}/?.csv", tmp_path / "out.csv")
    assert graded(tmp_path / "out.csv") == [("1", "x"), ("2", "y")]


def test_json_values_have_their_types_in_parquet(scorer, tmp_path):
    lines = [
        {"response": "x", "whole": 1, "share": 1, "flag": True, "mixed": 1, "big": 2**70, "null": None},
        {"response": "y", "whole": None, "share": 0.5, "mixed": "a", "list": [1]},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    grade(scorer, tmp_path / "in.jsonl", tmp_path / "out.parquet")
    found = pa.parquet.read_table(tmp_path / "out.parquet")
    types = {name: str(found.schema.field(name).type) for name in found.column_names[:8]}
    assert types == {
        "response": "string",
        "whole": "int64",
        "share": "double",
        "flag": "bool",
        "mixed": "string",
        "big": "string",
        "null": "string",
        "list": "string",
    }
    assert found.column("share").to_pylist() == [1.0, 0.5]
    assert found.column("list").to_pylist() == [None, "[1]"]


def test_stdin_and_stdout_are_tables(bundle, tmp_path):
    command = [sys.executable, "-m", "edgedistill_serve", "grade", str(bundle.folder), "-", "-"]
    ended = subprocess.run(
        [*command, "--from", "csv", "--to", "jsonl"], input=table() + b"4\r\n", capture_output=True, check=True
    )
    assert [json.loads(line)["id"] for line in ended.stdout.splitlines()] == ["1", "2", "3"]
    assert b"stdin, row 5: the number of fields is 1" in ended.stderr
    assert b"4 rows read, 3 scored (1 to review), 0 could not be scored, 1 could not be read" in ended.stderr


def test_a_table_at_an_address_is_graded_to_an_address(scorer, tmp_path):
    (tmp_path / "in.csv").write_bytes(table())
    grade(scorer, tmp_path / "in.csv", "memory://a/out.csv")
    grade(scorer, "memory://a/*.csv", "memory://b/graded/", prefix="x_", write_format="jsonl", part_rows=2)
    store = fsspec.filesystem("memory")
    assert sorted(store.ls("/b/graded", detail=False)) == [
        "/b/graded/manifest.json",
        "/b/graded/part-00000.jsonl",
        "/b/graded/part-00001.jsonl",
    ]
    lines = store.cat("/b/graded/part-00000.jsonl") + store.cat("/b/graded/part-00001.jsonl")
    assert [json.loads(line)["id"] for line in lines.splitlines()] == ["1", "2", "3"]
    with pytest.raises(DataError, match=r"memory://a/out\.csv: the file exists already"):
        grade(scorer, tmp_path / "in.csv", "memory://a/out.csv")
    with pytest.raises(DataError, match="no file matches"):
        grade(scorer, "memory://a/*.parquet", tmp_path / "out.csv")


class FailingStore(MemoryFileSystem):
    """An object store that fails when it is read beyond its first bytes, or when a part is written."""

    protocol = "failing"
    reads_left = 10**9
    writes_left = 10**9
    down = False
    """Whether it answers nothing more, once a part cannot be written."""

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("failing://", "memory://"))

    def _open(self, path, mode="rb", **given):
        file = super()._open(path, mode, **given)
        if mode != "rb":
            return file
        data = io.BytesIO(file.read())
        read = data.read

        def fail_later(size=-1):
            type(self).reads_left -= 1
            if type(self).reads_left < 0:
                raise RuntimeError("SlowDown: Please reduce your request rate")
            return read(min(size, 4096) if size > 0 else size)

        data.read = fail_later
        return data

    def put_file(self, *given, **more):  # noqa: D102
        type(self).writes_left -= 1
        if type(self).writes_left < 0:
            raise RuntimeError("ServiceUnavailable")
        return super().put_file(*given, **more)

    def ls(self, *given, **more):  # noqa: D102
        if self.down and self.writes_left < 0:
            raise OSError("Could not connect")
        return super().ls(*given, **more)


@pytest.fixture
def store():
    fsspec.register_implementation("failing", FailingStore, clobber=True)
    FailingStore.down = False
    FailingStore.reads_left = FailingStore.writes_left = 10**9
    MemoryFileSystem.store.clear()
    yield FailingStore()
    MemoryFileSystem.store.clear()


@pytest.mark.parametrize(
    ("down", "kept"),
    [
        (False, "200 rows are in whole parts in failing://a/out.csv.parts; the same command goes on after them."),
        (
            True,
            "failing://a/out.csv.parts cannot be reached; the same command goes on after the whole parts that it has.",
        ),
    ],
)
def test_an_object_store_that_fails_midway_loses_no_whole_part(scorer, tmp_path, store, down, kept):
    (tmp_path / "in.csv").write_bytes(table(rows=[(str(n), f"great job {n}") for n in range(600)]))
    grade(scorer, tmp_path / "in.csv", tmp_path / "whole.csv")
    type(store).writes_left, type(store).down = 5, down
    with pytest.raises(
        DataError, match=r"failing://a/out\.csv\.parts/.*cannot be written \(ServiceUnavailable\)"
    ) as caught:
        grade(scorer, tmp_path / "in.csv", "failing://a/out.csv", part_rows=100)
    assert caught.value.hint == kept
    assert not store.exists("/a/out.csv")
    type(store).writes_left = 10**9
    notes = []
    grade(scorer, tmp_path / "in.csv", "failing://a/out.csv", part_rows=100, note=notes.append)
    assert notes == ["200 rows are in whole parts of an earlier grading; it goes on after them"]
    assert store.cat("/a/out.csv") == (tmp_path / "whole.csv").read_bytes()


def test_an_object_store_that_cannot_be_read_to_the_end_is_an_error_with_the_address(scorer, tmp_path, store):
    (tmp_path / "in.csv").write_bytes(table(rows=[(str(n), f"great job {n}") for n in range(2000)]))
    store.pipe("/a/in.csv", (tmp_path / "in.csv").read_bytes())
    type(store).reads_left = 25
    with pytest.raises(DataError, match=r"failing://a/in\.csv: the file cannot be read \(SlowDown"):
        grade(scorer, "failing://a/in.csv", tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize("address", ["nosuch://bucket/in.csv", "s3://"])
def test_an_address_that_cannot_be_used_is_an_error(scorer, tmp_path, address):
    with pytest.raises(DataError):
        grade(scorer, address, tmp_path / "out.csv")


def test_a_workbook_is_a_table(scorer, tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [("id", "response", "points"), (1, "great job", 2.5), (2, 42, None), (3, None, 1), (None, None, None)]:
        book.active.append(row)
    book.save(tmp_path / "in.xlsx")
    grade(scorer, tmp_path / "in.xlsx", tmp_path / "out.parquet")
    found = pa.parquet.read_table(tmp_path / "out.parquet").select(["id", "response", "points"]).to_pydict()
    assert found == {"id": [1, 2, 3], "response": ["great job", "42", ""], "points": [2.5, None, 1.0]}
    (tmp_path / "bad.xlsx").write_bytes(b"PK no more")
    with pytest.raises(DataError, match=r"bad\.xlsx: the file is not a valid workbook"):
        grade(scorer, tmp_path / "bad.xlsx", tmp_path / "new.csv")


def test_a_workbook_without_openpyxl_names_its_requirement(scorer, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "in.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r'pip install "edgedistill-serve\[xlsx\]"'):
        grade(scorer, tmp_path / "in.xlsx", tmp_path / "out.csv")


def test_a_table_in_s3_is_graded_to_s3(scorer, tmp_path, monkeypatch):
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        fsspec.filesystem("s3").mkdir("district")
        (tmp_path / "in.csv").write_bytes(table())
        fsspec.filesystem("s3").put_file(str(tmp_path / "in.csv"), "district/terms/in.csv")
        grade(scorer, "s3://district/terms/*.csv", "s3://district/graded.parquet", part_rows=2)
        with fsspec.open("s3://district/graded.parquet") as file:
            assert pa.parquet.read_table(file).column("id").to_pylist() == ["1", "2", "3"]
        assert fsspec.filesystem("s3").find("district") == ["district/graded.parquet", "district/terms/in.csv"]
        with pytest.raises(DataError, match=r"s3://nobucket/in\.csv"):
            grade(scorer, "s3://nobucket/in.csv", tmp_path / "out.csv")
    finally:
        server.stop()


def test_a_file_of_jsonl_without_a_row_that_can_be_read_says_why(scorer, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"response": "great job\n[1]\n')
    with pytest.raises(DataError, match=r"in\.jsonl, row 1: the line is not valid JSON"):
        grade(scorer, tmp_path / "in.jsonl", tmp_path / "out.csv")
