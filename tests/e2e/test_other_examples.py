"""The examples beside praise, as their READMEs say: projects are run, and their bundles used.

Rubric and reasons are run with fewer rows and a student that trains in a second; espanol as it is.
"""

import csv
import io
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from ..processes import Process, run

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("rubric", "reasons", "espanol")
ROWS = {"human.csv": 121, "responses.csv": 21}
"""Lines that are kept of a table, the header among them."""


def table(file, encoding="utf-8-sig"):
    with Path(file).open(encoding=encoding, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the repository's examples, with less to learn, and nothing that others have run."""
    root = tmp_path_factory.mktemp("clone")
    shutil.copytree(EXAMPLES, root / "examples", ignore=shutil.ignore_patterns("runs", "__pycache__", "praise"))
    for name in ("rubric", "reasons"):
        project = root / "examples" / name / "project.yaml"
        text = re.sub(
            "^student: .*$",
            "student: {kind: nano, preset: quick, max_tokens: 48}",
            project.read_text("utf-8"),
            flags=re.MULTILINE,
        )
        project.write_text(text, "utf-8")
        for file, count in ROWS.items():
            lines = (project.with_name(file)).read_text("utf-8").splitlines(keepends=True)
            project.with_name(file).write_text("".join(lines[:count]), "utf-8")
    return root


@pytest.fixture(scope="module")
def finished(folder):
    """Run an example once."""
    done = {}

    def finish(name):
        if name not in done:
            done[name] = run("edgedistill", "run", f"examples/{name}", cwd=folder)
            assert done[name].returncode == 0, done[name].stdout[-2000:] + done[name].stderr
        return done[name]

    return finish


@pytest.fixture
def bundle(folder, finished):
    def of(name):
        finished(name)
        return folder / "examples" / name / "runs" / name / "bundle"

    return of


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_run_to_its_report_and_its_student_learns(name, finished, folder):
    done = finished(name)
    runs = folder / "examples" / name / "runs" / name
    human = table(folder / "examples" / name / "human.csv")
    assert f"human.csv: {len(human)} rows read = " in done.stdout
    kappa = json.loads((runs / "evaluation.json").read_text("utf-8"))["agreement"]["student"]["kappa"]
    assert kappa["low"] > 0.1  # by chance it is 0
    assert (runs / "report.html").exists()


def test_commands_that_a_run_suggests_can_be_typed_where_it_was_typed(finished):
    done = finished("espanol")
    assert "`edgedistill review curve examples/espanol`" in done.stdout
    assert "open examples/espanol/runs/espanol/report.html" in done.stdout


def test_a_run_says_nothing_of_classes_of_tokenizers(finished):
    assert "tokenizer class" not in finished("rubric").stderr


def test_the_data_of_an_example_have_no_text_twice_and_a_label_of_the_teacher_for_each_row():
    for name in NAMES:
        human, others = (table(EXAMPLES / name / file) for file in ("human.csv", "responses.csv"))
        texts = [row["response"].lower() for row in (*human, *others)]
        assert len(texts) == len(set(texts))
        labels = {row["id"]: row["label"] for row in table(EXAMPLES / name / "teacher.csv")}
        assert labels.keys() == {row["id"] for row in (*human, *others)}
        assert 0.9 < sum(labels[row["id"]] == row["label"] for row in human) / len(human) < 1


def script(file, *arguments, cwd):
    """Run a script of the examples: its exit code, and what it said."""
    process = Process(file, *arguments, cwd=cwd, like="edgedistill-serve")
    said, complaints = process.communicate()
    return process.wait(), said, complaints


@pytest.fixture
def grade_schools(folder, bundle, tmp_path):
    shutil.copytree(folder / "examples/batch", tmp_path / "batch")

    def grade(*arguments, term="batch/term", of="reasons"):
        return script(tmp_path / "batch/grade_schools.py", bundle(of), term, "graded", *arguments, cwd=tmp_path)

    return grade


def test_a_districts_schools_are_graded_and_counted(grade_schools, tmp_path):
    code, said, complaints = grade_schools()
    assert (code, complaints) == (0, "")
    summary = {row.pop("school"): row for row in table(tmp_path / "graded/summary.csv")}
    assert {school: row["rows"] for school, row in summary.items()} == {"north": "10", "south": "9", "west": "6"}
    for school, row in summary.items():
        graded = table(tmp_path / f"graded/{school}.csv")
        assert int(row["review"]) == sum(each["decision"] == "review" for each in graded)
        accepted = [each["label"].split(";") for each in graded if each["decision"] == "accept"]
        for label in ("health", "learning", "family", "transport"):
            assert int(row[label]) == sum(label in labels for labels in accepted)
        assert f"{school}: {row['rows']} rows, {row['review']} for review" in said


def test_no_summary_is_written_where_rows_could_not_be_read(grade_schools, tmp_path):
    assert grade_schools()[0] == 0
    file = tmp_path / "batch/term/north.csv"
    file.write_text(file.read_text("utf-8") + "n11,too,many fields\n", "utf-8")
    code, _, complaints = grade_schools()
    assert code == 2
    assert "north.csv: 1 of 11 rows cannot be read; graded/north.csv.rejected.csv says why" in complaints
    assert complaints.endswith("Correct these rows and grade again: no summary was written.\n")
    assert not (tmp_path / "graded/summary.csv").exists()
    assert len(table(tmp_path / "graded/south.csv")) == 9  # the others are there


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("north.csv", "id,text\n1,good\n", "north.csv: "),
        ("north.csv", "", "north.csv: "),
        ("south.jsonl", '{"response": "x"}\n', "batch/term: south.csv and south.jsonl would be one school"),
    ],
)
def test_a_school_whose_table_cannot_be_used_is_named(name, content, message, grade_schools, tmp_path):
    (tmp_path / "batch/term" / name).write_text(content, "utf-8")
    code, _, complaints = grade_schools()
    assert code == 2
    assert complaints.startswith(f"grade_schools: {message}")
    assert complaints.count("\n") == 1


def test_a_folder_without_tables_is_an_error(grade_schools):
    code, _, complaints = grade_schools(term="batch")
    assert code == 2
    assert "batch: there is no table in this folder. Tables end in .csv" in complaints


REFERENCE = table(EXAMPLES / "rubric/human.csv")
ICE = next(row["reference_answer"] for row in REFERENCE if "ice" in row["question"])
ASKED = ("--question", "5101", "--assignment", "9001", "--reference-answer", ICE)


@pytest.fixture
def canvas(folder, bundle, tmp_path):
    """Return a function that grades the quiz, and the folder of its files."""
    for file in (folder / "examples/canvas").iterdir():
        shutil.copy(file, tmp_path)

    def grade(*arguments, of="rubric"):
        place = tmp_path / "canvas_grades.py"
        return script(place, bundle(of), "analysis.csv", "gradebook.csv", "import.csv", *arguments, cwd=tmp_path)

    return grade, tmp_path


def rows_of(file):
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def test_the_gradebook_comes_back_with_points_where_the_model_is_sure_and_as_it_was_elsewhere(canvas):
    grade, place = canvas
    code, said, complaints = grade(*ASKED, "--unvalidated")
    assert (code, complaints) == (0, "")
    before, after = rows_of(place / "gradebook.csv"), rows_of(place / "import.csv")
    assert after[0] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Ice (9001)"]
    assert [row[:5] for row in after] == [row[:5] for row in before]
    assert after[2] == ["    Points Possible", "", "", "", "", "3.00"]
    review = {row["ID"]: row for row in table(place / "import.csv.review.csv")}
    changed = {new[1]: new[5] for old, new in zip(before, after, strict=True) if old[6] != new[5]}
    assert changed
    assert set(changed.values()) <= {"0", "1", "2", "3"}
    assert not changed.keys() & review.keys()
    answered = {row["id"] for row in table(place / "analysis.csv")}
    assert answered == changed.keys() | review.keys() | {"40104"}  # who was graded before
    assert {row[1]: row[5] for row in after}["40104"] == "1.00"
    assert {row[1]: row[5] for row in after}["40111"] == "EX"
    assert review["40112"]["reason"] == "blank"
    assert review["40113"]["reason"] == review[""]["reason"] == "not in the gradebook"
    assert re.search(rf"13 students: .*\b{len(changed)} graded now", said)


def test_of_two_attempts_the_last_one_is_graded(canvas):
    grade, place = canvas
    file = place / "analysis.csv"
    text = file.read_text("utf-8")
    file.write_text(
        text.replace('"Since the water expands when it freezes, its density is smaller."', "=1+1 second"), "utf-8"
    )
    assert grade(*ASKED)[0] == 0
    review = {row["ID"]: row["response"] for row in table(place / "import.csv.review.csv")}
    assert review["40101"] == "'\t=1+1 second"  # and a spreadsheet does not compute it


def test_answers_of_students_who_were_graded_or_excused_are_not_for_review(canvas):
    grade, place = canvas
    file = place / "analysis.csv"
    text = (
        file.read_text("utf-8")
        .replace("Because it is frozen.", "Cats.")
        .replace("Student 06,40106", "Student 11,40111")
    )
    file.write_text(text, "utf-8")
    assert grade(*ASKED)[0] == 0
    review = {row["ID"] for row in table(place / "import.csv.review.csv")}
    assert not review & {"40104", "40111"}
    assert grade(*ASKED, "--replace")[0] == 0
    review = {row["ID"] for row in table(place / "import.csv.review.csv")}
    assert review & {"40104", "40111"} == {"40104"}
    assert {row[1]: row[5] for row in rows_of(place / "import.csv")}["40104"] == "1.00"


def test_names_are_in_nothing_but_the_file_for_canvas(canvas):
    grade, place = canvas
    for arguments in ((*ASKED, "--unvalidated"), ("--question", "5102", "--assignment", "1")):
        _, said, complaints = grade(*arguments)
        assert not re.search(r"Student \d|login\d", said + complaints)
    assert not re.search(r"Student \d|login\d|S0\d", (place / "import.csv.review.csv").read_text("utf-8-sig"))


def test_the_model_reads_question_reference_answer_and_response_alone(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES / "canvas")
    import canvas_grades

    read = []

    class Recorder:
        class bundle:  # noqa: N801  # an attribute of a scorer
            class task:  # noqa: N801
                inputs = ("question", "reference_answer", "response")

        def score_each(self, responses):
            read.extend(responses)
            return []

    question = canvas_grades.Question("Why?", "Because.", {})
    canvas_grades.score_answers(Recorder(), question, [canvas_grades.Answer("40101", (1, "now"), "text")])
    assert read == [{"question": "Why?", "reference_answer": "Because.", "response": "text"}]
    sys.modules.pop("canvas_grades")


def test_scores_that_the_verdict_does_not_cover_are_not_entered(canvas):
    grade, place = canvas
    code, said, _ = grade(*ASKED)
    assert code == 0
    assert "Inconclusive:" in said  # fewer than 50 test rows
    assert rows_of(place / "import.csv") == [[*row[:5], row[6]] for row in rows_of(place / "gradebook.csv")]
    reasons = {row["reason"] for row in table(place / "import.csv.review.csv")}
    assert {"not validated", "blank", "not in the gradebook"} <= reasons


def edited(place, name, change):
    file = place / name
    file.write_bytes(change(file.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("analysis.csv", lambda _: b"", "analysis.csv: the file is empty. Export it from Canvas again."),
        ("gradebook.csv", lambda _: b"", "gradebook.csv: the file is empty. Export it from Canvas again."),
        (
            "analysis.csv",
            lambda content: content.replace(b"5101: ", b"5103: "),
            "analysis.csv: no column begins with '5101: '. Its questions are: 5103: Why does ice float on water?;",
        ),
        (
            "gradebook.csv",
            lambda content: content.replace(b"(9001)", b"(9002)"),
            "gradebook.csv: there is no assignment with the id 9001. Its assignments are: Essay (9000); Ice (9002).",
        ),
        (
            "gradebook.csv",
            lambda content: content.replace(b"Section,", b"Group,"),
            "gradebook.csv: this is not a gradebook with the columns Student, ID and Section. Export it in Canvas:",
        ),
        (
            "gradebook.csv",
            lambda content: content.replace(b"3.00", b"5.00"),
            "gradebook.csv: 'Ice (9001)' has 5.00 points, and the bundle's rubric 3. Give the assignment 3 points in",
        ),
        (
            "gradebook.csv",
            lambda content: content.replace(b"40102", b"40101"),
            "gradebook.csv: the student with the ID 40101 has 2 rows",
        ),
        ("analysis.csv", lambda content: content + b"a,b\n", "analysis.csv, row 15: 2 fields where the header has 15"),
        ("analysis.csv", lambda content: content + b"\xff\n", "analysis.csv: the file is not UTF-8. "),
        (
            "analysis.csv",
            lambda content: content.replace(b"name,id,", b"name,ident,"),
            "analysis.csv: there is no column 'id'. A survey is anonymous: grade it by hand.",
        ),
    ],
)
def test_a_file_that_cannot_be_graded_is_one_line_with_the_fix(name, change, message, canvas):
    grade, place = canvas
    edited(place, name, change)
    code, _, complaints = grade(*ASKED)
    assert code == 2
    assert complaints.startswith(f"canvas_grades: {message}")
    assert complaints.count("\n") == 1
    assert not (place / "import.csv").exists()


def test_a_bundle_without_points_and_a_missing_reference_answer_are_errors(canvas):
    grade, _ = canvas
    assert "the labels of this bundle are not numbers" in grade(*ASKED, of="espanol")[2]
    assert "the bundle compares with a reference answer. Give it by --reference-answer." in grade(*ASKED[:4])[2]


def test_semicolons_and_a_byte_order_mark_come_back(canvas):
    grade, place = canvas
    rows = rows_of(place / "gradebook.csv")
    stream = io.StringIO()
    csv.writer(stream, delimiter=";").writerows([[cell.replace("3.00", "3,00") for cell in row] for row in rows])
    (place / "gradebook.csv").write_text(stream.getvalue(), "utf-8-sig")
    assert grade(*ASKED)[0] == 0
    assert (place / "import.csv").read_text("utf-8").startswith("\ufeffStudent;ID;SIS User ID;SIS Login ID;Section;Ice")
