"""The methods section and the tables of a paper: every number is that of the run's files, and nothing else is said."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest

from edgedistill.coding import CodingSummary
from edgedistill.project.reading import read_project
from edgedistill.report.formatting import figure
from edgedistill.report.methods import MethodsInputs, PlanCheck, methods
from edgedistill.report.paper_markup import (
    PaperTable,
    bibliography,
    cite,
    cited,
    escape_latex,
    escape_markdown,
    plain,
    read_references,
    to_latex,
    to_markdown,
)
from edgedistill.report.paper_tables import paper_tables
from edgedistill.teacher import ModelVersion
from edgedistill_serve.grading.delimited import read_records

from .runs import LABELS, evaluation_of, gate_of, inputs_of_run, write_run

PROJECT = """\
name: praise
task: {labels: [{name: process}, {name: outcome}, {name: none}]}
data: {human: human.csv, unlabelled: responses.csv}
teacher: {model: recorded, api_key_env: null, base_url: "http://127.0.0.1:1/v1"}
generate: {per_label: 10}
evaluation: {coders: [coder_2], subgroups: [place]}
review: {aim: keep_kappa, at_least: 0.6}
"""
HOSTILE = ("50% & more_", r"\input{/etc/passwd}", "[x] $1$ #2 ^~ <b>|`*`|</b>", "=1+1", "a--b {c}", "κ ≥ “1”")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run folder with everything in it, and what a paper is written from."""
    folder = tmp_path_factory.mktemp("paper") / "run"
    values, lines = evaluation_of(grouped=True)
    report = inputs_of_run(write_run(folder, values, lines, gate=gate_of()))
    return folder, _inputs(folder, report)


def _inputs(folder, report, text=PROJECT, **more):
    (folder.parent / "project.yaml").write_text(text, "utf-8")
    return MethodsInputs(report=report, project=read_project(folder.parent / "project.yaml"), **more)


def _text(inputs):
    return "\n".join(f"{each.heading}. {to_markdown(each.text)}" for each in methods(inputs))


def _numbers(value):
    """Every number of a JSON value."""
    if isinstance(value, dict):
        return {number for each in value.values() for number in _numbers(each)}
    if isinstance(value, list):
        return {number for each in value for number in _numbers(each)} | {len(value)}
    return {value} if isinstance(value, int | float) and not isinstance(value, bool) else set()


def _known(folder):
    known = set()
    for file in folder.glob("*.json"):
        known |= _numbers(json.loads(file.read_text("utf-8")))
    with (folder / "trials.csv").open(newline="") as stream:
        known |= {float(cell) for line in csv.reader(stream) for cell in line if re.fullmatch(r"[\d.e-]+", cell)}
    return known


def _csv(table):
    header, *lines = read_records(io.StringIO(table.csv(), newline=""))
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_every_number_in_every_table_is_one_of_the_runs_files(made):
    folder, inputs = made
    known = _known(folder)
    names = [table.name for table in paper_tables(inputs.report)]
    assert names == [
        *("codebook", "data_flow", "inter_coder", "gate", "training_rows", "search", "agreement", "per_label"),
        *("confusion", "comparisons", "subgroups", "calibration", "decision_rule", "fidelity", "label_shares"),
    ]
    for table in paper_tables(inputs.report):
        for row in _csv(table):
            for name, cell in row.items():
                if re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", cell) and name != "trial":
                    assert any(float(cell) == number for number in known), (table.name, name, cell)


def test_the_tables_hold_the_figures_of_the_served_graph_with_all_digits(made):
    folder, inputs = made
    fidelity = json.loads((folder / "fidelity.json").read_text())
    tables = {table.name: _csv(table) for table in paper_tables(inputs.report)}
    served = tables["agreement"][0]
    assert served["coding"] == "served model (int8)"
    for name in ("accuracy", "kappa", "macro_f1", "mcc", "alpha"):
        want = fidelity["agreement"][name]
        assert [float(served[key]) for key in (name, f"{name}_low", f"{name}_high")] == [*want.values()]
    for row, (label, want) in zip(tables["per_label"], fidelity["agreement"]["per_label"].items(), strict=False):
        assert (row["label"], int(row["support"]), float(row["f1"])) == (label, want["support"], want["f1"])
        assert [float(row["f1_low"]), float(row["f1_high"])] == want["intervals"]["f1"]
    counts = [[int(row[name]) for name in LABELS] for row in tables["confusion"][:3]]
    assert counts == fidelity["agreement"]["confusion"]
    steps = [(row["before"], row["after"], int(row["flips"])) for row in tables["fidelity"]]
    evaluation = json.loads((folder / "evaluation.json").read_text())
    want = [evaluation["distillation"], *fidelity["steps"]]
    assert steps == [(each["before"], each["after"], each["flips"]) for each in want]


def test_latex_shows_the_same_numbers_rounded(made):
    _, inputs = made
    for table in paper_tables(inputs.report):
        body = table.latex().partition("\\midrule\n")[2].partition("\\bottomrule")[0].splitlines()
        shown = table.rows[: table.printed]
        assert len(body) == len(shown)
        for line, row in zip(body, shown, strict=True):
            cells = line.removesuffix(r" \\").split(" & ")
            assert len(cells) == len(table.columns)
            for cell, value in zip(cells, row, strict=True):
                if isinstance(value, float):
                    assert cell.replace("$-$", "\u2212") == figure(value)
                elif hasattr(value, "low"):
                    found = [float(each.replace("$-$", "-")) for each in re.findall(r"(?:\$-\$)?\d*\.\d+", cell)]
                    assert found == pytest.approx([value.value, value.low, value.high], abs=0.00501)


def test_every_number_of_the_methods_is_one_of_the_runs_files_or_of_the_project(made):
    folder, inputs = made
    known = _known(folder) | _numbers(json.loads(inputs.project.model_dump_json()))
    plan = PlanCheck("2026-01-31T12:00:00+00:00", "a" * 64, ("codebook",), ("gate",), True)
    text = _text(replace(inputs, plan=plan, answers={"recorded": [_version()]}, prompts={"recorded": "b" * 64}))
    for given in ("2026-01-31", "2026-01-30", "gpt-x-2026", "a" * 64, "b" * 16, "SHA-256", "8-bit", "95\u202f%"):
        assert given in text
        text = text.replace(given, "")
    text = re.sub(r"\[@[^]]+\]|\(tables/\w+\.csv\)|macro-F1|\bF1\b|L6-v2|all-MiniLM|coder\\_2|fp\\_7", "", text)
    text = re.sub(r"Versions: .*", "", text).replace("\u202f%", "%").replace("\u202f", "").replace("\u2212", "-")
    rounded = {f"{number:.{digits}f}" for number in known for digits in (0, 1, 2, 3)}
    percents = {f"{number * 100:.{digits}f}" for number in known for digits in (0, 1) if abs(number) <= 1}
    plain_numbers = {f"{number:g}" for number in known}
    plain_numbers |= {"2", "3", "600"}  # answers of the version, trials in trials.csv, the sum of the training rows
    found = re.findall(r"(?<![\w.])-?\d*\.?\d+(?:e-?\d+)?%?", text)
    assert len(found) > 60
    for number in found:
        if number.endswith("%"):
            assert number[:-1] in percents, number
        else:
            assert re.sub(r"^(-?)\.", r"\g<1>0.", number) in rounded | plain_numbers, number


def _version():
    return ModelVersion("http://127.0.0.1:1/v1", "recorded", "gpt-x-2026", "fp_7", 2, "2026-01-30", "2026-01-30")


@pytest.mark.parametrize(
    ("path", "after"),
    [
        (("fidelity.json", "agreement", "kappa", "value"), 0.1234),
        (("fidelity.json", "agreement", "accuracy", "low"), 0.3456),
        (("evaluation.json", "calibration", "temperature"), 7.654),
        (("evaluation.json", "test_texts_also_in_train_or_validation"), 4321),
        (("evaluation.json", "agreement", "teacher", "kappa", "high"), 0.1432),
        (("run.json", "rows", 0, "read"), 9876),
        (("run.json", "stages", "train", "best", "validation_macro_f1"), 0.4567),
        (("gate.json", "teachers", 0, "at_least"), 0.37),
        (("generation.json", "kept"), 7654),
    ],
)
def test_a_number_that_changes_in_a_file_changes_in_the_text(made, tmp_path, path, after):
    folder, inputs = made
    values = {file.name: json.loads(file.read_text()) for file in folder.glob("*.json")}
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = after
    (tmp_path / "run").mkdir()
    for file in folder.iterdir():
        if file.is_file():
            (tmp_path / "run" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "run" / path[0]).write_text(json.dumps(values[path[0]]), "utf-8")
    if path[0] == "evaluation.json":
        _follow(tmp_path / "run")
    changed = _inputs(tmp_path / "run", inputs_of_run(tmp_path / "run"))
    assert _text(changed) != _text(inputs)
    shown = {f"{after:.3f}".removeprefix("0"), f"{after:.0f}", f"{after * 100:.0f}", f"{after:.2f}".removeprefix("0")}
    shown |= {f"{after:,}".replace(",", "\u202f"), f"{after:g}"}
    assert any(each in _text(changed) and each not in _text(inputs) for each in shown)


def _follow(folder):
    """Let `fidelity.json` belong to the changed evaluation."""
    from edgedistill.evaluation.files import file_sha256

    fidelity = json.loads((folder / "fidelity.json").read_text())
    fidelity["evaluation"] = file_sha256(folder / "evaluation.json")
    (folder / "fidelity.json").write_text(json.dumps(fidelity), "utf-8")


def test_no_row_and_no_response_is_named(made):
    folder, inputs = made
    text = _text(inputs) + "".join(table.csv() + table.latex() for table in paper_tables(inputs.report))
    with (folder / "test_scores.csv").open(newline="") as stream:
        ids = {row["id"] for row in csv.DictReader(stream)}
    assert ids
    assert not re.findall(r"\b(r\d+|text \d+|g\d+)\b", text)
    assert not ids & set(re.findall(r"[\w-]+", text))


def test_what_a_run_lacks_is_said_not_to_have_been_measured(tmp_path):
    values, lines = evaluation_of(teacher=False, coders=(), columns=False, population=False)
    write_run(tmp_path / "run", values, lines, full=False)
    text = PROJECT.replace("teacher: {", "# {").replace("generate:", "# ").replace("coders: [coder_2], ", "")
    found = {
        each.heading: to_markdown(each.text)
        for each in methods(_inputs(tmp_path / "run", inputs_of_run(tmp_path / "run"), text))
    }
    assert found["Not measured"] == (
        "Not measured: agreement between human coders on the test rows; agreement in groups of learners; agreement of "
        "the exported model; agreement of a language model on the test rows."
    )
    assert found["Teacher"] == "No language model coded responses."
    assert found["Preregistration"] == "The analysis was not preregistered."
    assert "Agreement between human coders was not measured" in found["Codebook and human codes"]
    assert "Exported model" not in found
    assert {table.name for table in paper_tables(inputs_of_run(tmp_path / "run"))} == {
        *("codebook", "agreement", "per_label", "confusion", "calibration", "decision_rule")
    }


def test_a_preregistration_names_what_was_kept_and_what_was_changed(made):
    _, inputs = made

    def said(**given):
        plan = PlanCheck("2026-01-31T12:00:00+00:00", "a" * 64, **given)
        return next(each.text for each in methods(replace(inputs, plan=plan)) if each.heading == "Preregistration")

    every = said(kept=("codebook", "gate"), changed=(), before_evaluation=True)
    assert every.endswith("Unchanged since preregistration: codebook and gate. Nothing was changed afterwards.")
    some = said(kept=("gate",), changed=("codebook", "test rows"), before_evaluation=False)
    assert "The test rows had been evaluated before." in some
    assert some.endswith("Unchanged since preregistration: gate. Changed afterwards: codebook and test rows.")


def test_what_is_cited_is_in_the_references_and_nothing_else(made):
    _, inputs = made
    texts = [each.text for each in methods(inputs)]
    keys = {key for text in texts for key in cited(text)}
    assert {"cohen1960", "clopper1934", "rubin1981"} <= keys
    found = bibliography(texts)
    assert set(re.findall(r"^@\w+\{(\w+),$", found, re.MULTILINE)) == keys
    for key, entry in read_references().items():
        assert entry.startswith("@") and f"{{{key}," in entry  # noqa: PT018
        assert entry.count("{") == entry.count("}")
        assert re.search(r"\byear = \{\d{4}\}", entry)
    assert bibliography([]) == ""


def test_hostile_labels_are_printed_and_not_obeyed():
    rows = tuple((label, index) for index, label in enumerate(map(plain, HOSTILE)))
    table = PaperTable("x", "Of " + HOSTILE[0], (("label", HOSTILE[2]), ("n", "N")), rows)
    latex = table.latex()
    commands = set(re.findall(r"\\([a-zA-Z]+)", latex))
    assert commands <= {
        *("begin", "end", "centering", "caption", "label", "textbf", "toprule", "midrule", "bottomrule", "char"),
        *("textbackslash", "textasciicircum", "textasciitilde", "textless", "textgreater", "textbar"),
        *("textasciigrave", "kappa", "geq", "kern"),
    }
    body = latex.partition("\\midrule\n")[2].partition("\\bottomrule")[0].splitlines()
    assert [line.count(" & ") for line in body] == [1] * len(HOSTILE)
    assert all(not line.startswith(("[", "*")) for line in body)
    for character in "%&#_$":
        assert not re.search(rf"(?<!\\)\{character}", body[0].replace(" & ", "").replace(r"$\geq$", ""))
    assert "--" not in body[4]
    header, *lines = read_records(io.StringIO(table.csv(), newline=""))
    assert header == ["label", "n"]
    assert [line[0] for line in lines] == list(HOSTILE)
    assert "'\t=1+1" in table.csv()


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("a--b---c", "a-|-b-|-|-c"),
        ("''two''", "'|'two'|'"),
        (",,low", ",|,low"),
        ("?`!`", r"?\textasciigrave{}!\textasciigrave{}"),
        ("<<x>>", r"\textless{}|\textless{}x\textgreater{}|\textgreater{}"),
        ("e\u0301", "\u00e9"),
        ("a\u200b\ufeff\u202eb\u2011c", "ab-c"),
        ("\u03b2-error \u2260 \u2248 \u221e", r"$\beta$-error $\neq$ $\approx$ $\infty$"),
        ("\\", r"\textbackslash{}"),
        ("{}$&#%_^~", r"\{\}\$\&\#\%\_\textasciicircum{}\textasciitilde{}"),
        ("Gr\u00f6\u00dfe \u65e5\u672c", "Gr\u00f6\u00dfe \u65e5\u672c"),
    ],
)
def test_latex_prints_a_text_as_it_is(text, latex):
    assert escape_latex(text) == latex.replace("|", r"{\kern0pt}")


def test_no_unescaped_character_of_any_plane_is_a_command_of_latex():
    special = set("\\{}$&#%_^~")
    for character in map(chr, range(0x20, 0x3000)):
        found = escape_latex(character)
        assert found == character or not set(found) & special or found[0] in "\\$~", found
        assert (character in special) <= (found != character)


def test_marks_cannot_be_smuggled_in_by_a_label():
    label = plain("a\x01cohen1960\x03\nb")
    assert "\x01" not in label
    assert cited(f"{label} {cite('rubin1981')}") == ["rubin1981"]
    assert to_latex(f"{label}: {cite('rubin1981')}") == r"a cohen1960 b: \citep{rubin1981}"
    assert to_markdown(f"[@x] {cite('rubin1981', 'cohen1960')}") == r"\[\@x\] [@rubin1981; @cohen1960]"


@pytest.mark.parametrize("text", ["plain words, with (commas) and 'quotes'.", "1.5 x-y"])
def test_harmless_text_is_left_as_it_is(text):
    assert escape_latex(text) == text
    assert escape_markdown(text) == text


@pytest.mark.parametrize("ties", ["set_aside", "first_vote", "logprobs", "confidence"])
def test_every_setting_of_ties_is_described(made, ties):
    folder, inputs = made
    asked = f"ties: {ties}, logprobs: true, confidence: true, reasoning: true"
    project = PROJECT.replace("model: recorded", f"model: recorded, {asked}")
    text = _text(_inputs(folder, inputs.report, project))
    assert "asks for a reason before the label and for the teacher's confidence in it" in text
    assert "The label is the most frequent vote; a " in text


def test_how_many_codes_of_coder_columns_were_in_the_table_already_is_said(made):
    _, inputs = made
    summary = CodingSummary({"ada": 70, "ben": 65}, 130, 120, 11, 40, 7, 5, 3, 0, 0.3)

    def said(summary):
        return _text(replace(inputs, report=replace(inputs.report, coding=summary)))

    text = said(summary).replace("\u00a0", " ")
    assert (
        "The human codes of 120 rows were given by 2 coders, each in a random order and without the codes of others or "
        "of a model (except 11 codes of the table); 40 rows were coded by at least two coders, 7 of them differently, "
        "and the labels of 5 rows were decided by adjudication."
    ) in text
    assert "(except 1 code of the table)" in said(replace(summary, from_table=1)).replace("\u00a0", " ")
    assert "of the table)" not in said(replace(summary, from_table=0))
    assert "of the table)" not in _text(inputs)
