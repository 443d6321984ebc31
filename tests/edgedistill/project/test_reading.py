"""The project file is read strictly, and its errors say where and how to fix."""

import math
from pathlib import Path

import pytest

from edgedistill.errors import ProjectFileError
from edgedistill.project import read_project
from edgedistill.project.reading import read_yaml
from edgedistill.project.template import write_template

WHOLE = """\
name: praise
task:
  kind: nominal
  instructions: Code it.
  labels:
    - {name: process, definition: Praises effort.}
    - {name: no, definition: Praises nothing.}
  inputs: [question, response]
data:
  human: human.csv
  unlabelled: responses.csv
  group_by: student_id
  split: {train: 0.4, validation: 0.2, test: 0.4}
teacher:
  base_url: https://example.org/v1
  model: gpt-4o
  votes: 3
  temperature: 0.7
  few_shot: 8
  concurrency: 16
  prices: {input_usd_per_million: 2.5, output_usd_per_million: 10}
  budget: {tokens: 2_000_000}
  gate: {metric: kappa, at_least: 0.6}
mix: {human: all, teacher: 200}
student:
  backbone: minilm
  search: {learning_rate: [2e-5, 5e-5], batch_size: [16], epochs: [4]}
  seeds: [0, 1, 2]
export: {precision: int8, max_flip_rate: 0.01}
"""

LEAST = """\
name: praise
task: {labels: [{name: process}, {name: outcome}]}
data: {human: human.csv}
"""


@pytest.fixture
def read(tmp_path):
    def write_and_read(text: str):
        path = tmp_path / "project.yaml"
        path.write_text(text, "utf-8")
        return read_project(path)

    return write_and_read


def complaint(read, text: str) -> str:
    with pytest.raises(ProjectFileError) as error:
        read(text)
    assert "project.yaml" in str(error.value)
    return str(error.value)


def test_a_whole_project_is_read_with_its_numbers_and_its_folder(read, tmp_path):
    project = read(WHOLE)
    assert project.student.search.learning_rate == (2e-5, 5e-5)
    assert project.teacher.budget.tokens == 2_000_000
    assert project.teacher.prices.output_usd_per_million == 10
    assert project.run_folder == tmp_path / "runs" / "praise"


def test_name_task_and_human_file_are_enough(read):
    project = read("name: x\ntask: {labels: [{name: a}, {name: b}]}\ndata: {human: h.csv}\n")
    assert project.teacher is None
    assert project.task.task.inputs == ("response",)


def test_samples_cannot_be_written_without_a_teacher(read):
    bare = "name: x\ntask: {labels: [{name: a}, {name: b}]}\ndata: {human: h.csv}\ngenerate: {}\n"
    assert "generate needs a teacher section" in complaint(read, bare)


def test_one_temperature_is_a_list_of_one(read):
    section = WHOLE.replace("mix:", "generate: {temperature: 1}\nmix:")
    assert read(section).generate.temperature == (1.0,)


def test_a_label_named_no_is_text_and_no_boolean(read):
    assert read(WHOLE).task.task.names == ("process", "no")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("teacher:", "techer:", "unknown key techer; did you mean teacher?"),
        ("  model:", "  modle:", "unknown key teacher.modle; did you mean model?"),
        ("  model:", "  modle:", "the key teacher.model is missing"),
        ("definition: Praises n", "define: Praises n", "unknown key task.labels.1.define; did you mean definition?"),
        ("name: no,", "name: Process,", "'process' and 'Process' differ only in case or white space"),
        ("name: no,", "name: 1,", "task.labels.1.name is the number 1; put it in quotes"),
        ("[question, response]", "[reponse]", "unknown input 'reponse'"),
        ("[question, response]", "[response, question]", "in the order question"),
        ("[question, response]", "[question]", "inputs must include response"),
        ("train: 0.4", "train: 0.5", "sum to 1.1; they must sum to 1"),
        ("votes: 3", "votes: 0", "teacher.votes should be greater than or equal to 1, not 0"),
        ("temperature: 0.7", "temperature: 7", "teacher.temperature should be less than or equal to 2"),
        ("tokens: 2_000_000", "tokens: many", "teacher.budget.tokens should be a valid integer"),
        ("{tokens: 2_000_000}", "{tokens: 5, usd: 1}", "give the budget in either usd or tokens"),
        (
            "  prices: {input_usd_per_million: 2.5, output_usd_per_million: 10}\n  budget: {tokens: 2_000_000}",
            "  budget: {usd: 1}",
            "a budget in usd needs prices",
        ),
        ("teacher: 200", "teacher: some", "mix.teacher should be 'all' or should be a valid integer"),
        ("[4]", "4", "student.search.epochs should be a list, not 4"),
        ("2e-5", ".nan", "student.search.learning_rate.0"),
        ("2e-5", "1e-310", "student.search.learning_rate.0"),
        ("2e-5", "-0.0", "student.search.learning_rate.0"),
        ("name: praise", "name: ../praise", "name has a character that is not allowed"),
        ("mix:", "generate: {per_label: 0}\nmix:", "generate.per_label should be greater than or equal to 1, not 0"),
        ("mix:", "generate: {temperature: 7}\nmix:", "temperature.0 should be less than or equal to 2, not 7"),
        (
            "mix:",
            "generate: {temperature: [0.3, 0.3]}\nmix:",
            "generate.temperature: temperature has a duplicate value",
        ),
        ("mix:", "generate: {temperature: []}\nmix:", "generate.temperature has too few items"),
        ("mix:", "generate: {variation: mood}\nmix:", "generate.variation should be 'none', 'persona'"),
        ("teacher: 200", "synthetic_share: 0.8", "mix.synthetic_share needs a generate section"),
        ("teacher: 200", "synthetic_share: 1", "mix.synthetic_share should be less than 1, not 1"),
        ("export:", "name: again\nexport:", "line 29: the key 'name' was already given on line 1"),
        (
            "https://example.org/v1",
            "example.org",
            "teacher.base_url: 'example.org' must begin with http:// or https:// and contain no spaces",
        ),
        ("export:", "export: [", "line"),
    ],
)
def test_a_mistake_is_reported_with_its_key_and_its_hint(read, old, new, message):
    assert old in WHOLE
    assert message in complaint(read, WHOLE.replace(old, new))


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ProjectFileError, match="edgedistill init"):
        read_project(tmp_path / "absent.yaml")


def test_a_file_that_is_no_utf_8_names_the_byte(tmp_path):
    path = tmp_path / "project.yaml"
    path.write_bytes(b"name: praise\n# \xff\n")
    with pytest.raises(ProjectFileError, match="byte 15 is not UTF-8"):
        read_project(path)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("010", 10),
        ("-007", -7),
        ("0o10", 8),
        ("0x1F", 31),
        ("2_000_000", 2_000_000),
        ("2e-5", 2e-5),
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        ("1.", 1.0),
        (".5", 0.5),
        (".inf", math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("Off", "Off"),
        ("y", "y"),
        ("N", "N"),
        ("1:30", "1:30"),
        ("2025-01-31", "2025-01-31"),
        ("2025-01-31 10:00:00", "2025-01-31 10:00:00"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("'010'", "010"),
        ('"2e-5"', "2e-5"),
        ("[1, 1, yes]", [1, 1, "yes"]),
        ("{a: 1, b: {a: 1}}", {"a": 1, "b": {"a": 1}}),
        ("&x {a: 1}\nother: {<<: *x, b: 2}", {"a": 1}),
    ],
)
def test_a_value_is_what_yaml_1_2_says(tmp_path, written, value):
    path = tmp_path / "project.yaml"
    path.write_text(f"key: {written}\n", "utf-8")
    found = read_yaml(path, "")["key"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "label",
    [
        "yes",
        "No",
        "on",
        "OFF",
        "y",
        "2025-01-31",
        "1:30",
        "12:30:45",
        "1.2.3",
        "08.1.2",
        "=",
        "constructor",
        "__proto__",
        "toString",
        "'0500'",
        "'1'",
        "'1e3'",
        "'~'",
        "'.inf'",
    ],
)
def test_a_label_is_the_text_that_is_written(read, label):
    assert read(WHOLE.replace("name: no,", f"name: {label},")).task.labels[1].name == label.strip("'")


@pytest.mark.parametrize(
    "label", ["0500", "08", "010", "1", "1.0", "1e3", ".inf", ".nan", "-1", "0x1F", "0o17", "0b1", "1_000"]
)
def test_a_label_that_yaml_reads_as_a_number_is_refused_with_the_advice_to_quote_it(read, label):
    with pytest.raises(ProjectFileError, match=r"task\.labels\.1\.name is the number .*; put it in quotes"):
        read(WHOLE.replace("name: no,", f"name: {label},"))


@pytest.mark.parametrize("label", ["~", "null", "", "[a]", "{a: b}"])
def test_a_label_that_is_no_text_is_refused(read, label):
    with pytest.raises(ProjectFileError, match=r"task\.labels\.1\.name should be a valid string"):
        read(WHOLE.replace("name: no,", f"name: {label},"))


@pytest.mark.parametrize("label", ["true", "False"])
def test_a_label_that_is_a_truth_value_is_refused_with_the_advice_to_quote_it(read, label):
    message = rf"name is the value {label.lower()} and not text; put it in quotes"
    with pytest.raises(ProjectFileError, match=message):
        read(WHOLE.replace("name: no,", f"name: {label},"))


def test_a_number_with_leading_zeros_is_decimal_where_a_number_is_expected(read):
    found = read(WHOLE.replace("  human: human.csv\n", "  human: human.csv\n  max_characters: 0500\n"))
    assert found.data.max_characters == 500


def test_a_merged_mapping_gives_the_keys_that_are_not_given(tmp_path):
    path = tmp_path / "project.yaml"
    path.write_text("base: &base {a: 1, b: 1}\nmine: {<<: *base, b: 2}\n", "utf-8")
    assert read_yaml(path, "") == {"base": {"a": 1, "b": 1}, "mine": {"a": 1, "b": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "project.yaml, line 3: the key 'a' was already given on line 1"),
        ("a: 1\n'a': 3\n", "line 2: the key 'a' was already given on line 1"),
        ("s:\n  - {x: 1,\n     y: 1,\n     x: 1}\n", "line 4: the key 'x' was already given on line 2"),
        ("s: {x: 1, x: 2}\n", "line 1: the key 'x' was already given on line 1"),
        ("b: &b {x: 1}\nc:\n  <<: *b\n  x: 2\n  x: 3\n", "line 5: the key 'x' was already given on line 4"),
        ("b: &b {x: 1}\nc:\n  <<: *b\n  <<: *b\n", "line 4: the key '<<' was already given on line 3"),
        ("10: a\n010: b\n", "line 2: found duplicate key"),
        ("a: 1\nb: [1,\n", "line 3: "),
        ("a: 1\n\tb: 2\n", "line 2: "),
        ("a: 1\n---\na: 2\n", "line 2: but found another document"),
        ("a: 1\nb: *c\n", "line 2: found undefined alias"),
        ("a: 1\nb: x\x07\n", "line 2: the character U+0007 is not allowed in YAML"),
        ("a: 1\nb: " + "[" * 999 + "]" * 999, "line 2: is nested more than 50"),
        ("a: -_\n", "is not valid YAML"),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_line(tmp_path, text, message):
    path = tmp_path / "project.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ProjectFileError) as error:
        read_yaml(path, "")
    assert message in str(error.value)


def test_an_object_tag_makes_no_object(read):
    message = complaint(read, "name: x\ntask: !!python/object/apply:os.getcwd []\n")
    assert "project.yaml, line 2: could not determine a constructor" in message


def test_a_new_project_can_be_read_and_every_commented_line_holds(tmp_path):
    files = write_template(tmp_path / "praise")
    assert read_project(files[0]).name == "praise"
    text = files[0].read_text()
    uncommented = (
        text.replace("# teacher:", "teacher:", 1).replace("# generate:", "generate:").replace("\n#   ", "\n  ")
    )
    files[0].write_text(uncommented.replace("  # unlabelled", "  unlabelled").replace("  # group_by", "  group_by"))
    project = read_project(files[0])
    assert project.teacher.model == "gpt-4o"
    assert project.teacher.budget.usd == 5
    assert project.data.unlabelled == Path("responses.csv")
    assert project.generate == type(project.generate)()
    files[0].write_text(text.replace("# teacher: {", "teacher: {"))
    assert read_project(files[0]).teacher.labels == Path("gpt4.csv")


def test_what_the_new_project_calls_a_default_is_one(tmp_path):
    path = write_template(tmp_path / "praise")[0]
    written = read_project(path)
    path.write_text("name: praise\ntask: {labels: [{name: a}, {name: b}]}\ndata: {human: human.csv}\n")
    bare = read_project(path)
    assert (written.mix, written.student, written.export) == (bare.mix, bare.student, bare.export)
    assert written.data == bare.data


def test_a_folder_with_files_is_not_written_into(tmp_path):
    write_template(tmp_path / "praise")
    with pytest.raises(ProjectFileError, match="already exists"):
        write_template(tmp_path / "praise")


def test_a_name_that_no_project_can_have_is_refused(tmp_path):
    with pytest.raises(ProjectFileError, match="is not a valid project name"):
        write_template(tmp_path / "two words")


@pytest.mark.parametrize(
    ("old", "note"),
    [
        ("{objective: {targets: soft}}", "the key objective is deprecated; use loss"),
        ("{loss: {labels: soft}}", "the key labels is deprecated; use targets"),
    ],
)
def test_an_old_key_is_read_with_one_line_that_names_the_new_one(read, caplog, old, note):
    section = read(f"{LEAST}student: {old}\n").student
    assert section.loss.targets == "soft"
    assert [record.getMessage() for record in caplog.records] == [f"edgedistill: {note}"]


def test_an_old_key_beside_its_new_name_is_refused(read):
    with pytest.raises(ProjectFileError, match="objective is the old name of loss; give only loss"):
        read(f"{LEAST}student: {{objective: {{}}, loss: {{}}}}\n")
