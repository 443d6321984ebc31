"""Every command that reads a table reads it as people have it, with the same options, and says what it assumed."""

import itertools
import json
import re

import pytest
from typer.testing import CliRunner

from edgedistill.cli.commands import app
from edgedistill_serve import Scorer
from edgedistill_serve.bundle.manifest import ReviewRule

from ...odd_tables import FORMS, HTML
from ..evaluation.conftest import make_bundle, make_keyword_bundle, parts
from ..monitoring.conftest import bundle, journal, with_reference
from ..monitoring.test_monitor import term

__all__ = ["bundle", "journal", "make_bundle", "make_keyword_bundle", "parts", "with_reference"]

LABELS = ("process", "outcome", "person")
SAYS = {"hard": (3, 0, 0), "smart": (0, 2, 0), "great": (0, 0, 1)}
WORDS = ("you", "worked", "hard", "great", "job", "smart", "answer", "why")
TEXTS = [" ".join(words) for words in itertools.islice(itertools.permutations(WORDS, 3), 0, 336, 4)][:40]
QUESTION = "2. Explain why caf\u00e9s praise: \u201cyou worked hard\u201d. "
HEADER = ("Nr.", QUESTION, "Code (AM)", "Model")
COLUMNS = ("id=nr.", "response=2. Explain\u2026", "label=Code (AM)")


@pytest.fixture(scope="module")
def bundles(make_keyword_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    make_keyword_bundle(folder / "old", {**SAYS, "smart": (0, 0, 2)})
    make_keyword_bundle(folder / "new", SAYS, review=ReviewRule(thresholds=dict.fromkeys(LABELS, 0.6)))
    return folder


@pytest.fixture(scope="module")
def rows(bundles):
    """Rows of ids, texts, human codes, of which every fifth is another one, and the bundle's labels."""
    labels = [score.label for score in Scorer(bundles / "new").score(TEXTS)]
    codes = [LABELS[(LABELS.index(each) + 1) % 3] if n % 5 == 0 else each for n, each in enumerate(labels)]
    return [HEADER, *((f"r{n}", text, codes[n], labels[n]) for n, text in enumerate(TEXTS))]


def run(*words):
    """Run a command with --json; return what it says, and the same as JSON."""
    result = CliRunner().invoke(app, [*map(str, words), "--json"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return json.loads(result.stdout)


def columns(*given):
    return [word for each in given for word in ("--column", each)]


def notes_and_figures(found, *left_out):
    notes = [*found.pop("assumed", ()), *found.pop("notes")]
    for key in ("file", "sha256", "read", "set_aside", *left_out):
        found.pop(key, None)
    return notes, found


def evaluate(bundles, table, options):
    return notes_and_figures(run("evaluate", bundles / "new", "--on", table, *columns(*COLUMNS), *options))


def compare(bundles, table, options):
    old, new = bundles / "old", bundles / "new"
    return notes_and_figures(run("compare", old, new, "--on", table, *columns(*COLUMNS), *options))


def estimate(_bundles, table, options):
    named = columns("id=Nr.", "machine=Model", "human=Code (\u2026")
    return notes_and_figures(run("estimate", "--machine", table, *named, *options))


def estimate_in_two_tables(bundles, table, options):
    graded = bundles / "graded.csv"
    graded.write_text("id,label\n" + "".join(f"r{n},{LABELS[n % 3]}\n" for n in range(60)))
    named = columns("id=Nr.", "human=code (am)")
    return notes_and_figures(run("estimate", "--machine", graded, "--human", table, *named, *options))


WITH_TEXTS = (evaluate, compare)
COMMANDS = (*WITH_TEXTS, estimate, estimate_in_two_tables)


@pytest.fixture(scope="module")
def expected(bundles, rows, tmp_path_factory):
    """What each command finds in a plain table."""
    table = tmp_path_factory.mktemp("plain") / "plain.csv"
    FORMS["CSV"].write(table, rows)
    return {command: command(bundles, table, ())[1] for command in COMMANDS}


@pytest.mark.parametrize(
    ("command", "form"),
    [*itertools.product(COMMANDS, FORMS.values()), *((command, HTML) for command in WITH_TEXTS)],
    ids=lambda each: each.__name__ if callable(each) else next((n for n, f in FORMS.items() if f is each), "HTML"),
)
def test_a_command_finds_the_same_in_every_form_of_a_table_and_says_how_it_was_read(
    command, form, bundles, rows, expected, tmp_path
):
    table = tmp_path / f"in{form.suffix}"
    form.write(table, rows)
    notes, figures = command(bundles, table, form.options)
    assert figures == expected[command]
    assert form.note in "\n".join(notes)
    assert any(re.search(r"is the column 'Code \(AM\)'", note) for note in notes)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_codes_that_come_back_are_read_in_every_form(form, bundle, journal, tmp_path):
    term(journal, weeks=2)
    for number in range(20):
        journal.draw(f"r{number}", LABELS[number % 3])
    rows = [("Nr.", "caf\u00e9", "Code (AM)"), *((f"r{n}", "", LABELS[n % 3] if n else "") for n in range(20))]
    table = tmp_path / f"in{form.suffix}"
    form.write(table, rows)
    given = columns("id=Nr.", "human_code=Code (AM)")
    found = run("monitor", bundle.folder, journal.folder, "--codes", table, *given, *form.options)
    assert (found["codes"]["coded"], found["codes"]["kappa"]["value"]) == (19, 1.0)
    assert form.note in "\n".join(found["notes"])


@pytest.mark.parametrize("form", [*FORMS.values(), HTML], ids=[*FORMS, "HTML"])
def test_a_sheet_gets_its_texts_from_the_platform_s_table_in_every_form(form, bundle, journal, tmp_path):
    term(journal, weeks=2)
    journal.draw("r1")
    table, sheet = tmp_path / f"in{form.suffix}", tmp_path / "sheet.csv"
    form.write(table, [("Nr.", QUESTION, "code"), ("r1", "you worked hard", ""), ("r2", "great job", "")])
    given = columns("id=Nr.", "response=2. Explain\u2026")
    words = ("monitor", bundle.folder, journal.folder, "--sheet", sheet, "--responses", table)
    assert run(*words, *given, *form.options)["rows"] == 1
    assert "you worked hard" in sheet.read_text()


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            [("Class 7b",), HEADER, ("r1", "great", "person", "")],
            (),
            "in.csv, row 1: the names of the columns are not in this row. Row 2 has them: --header-row 2.",
        ),
        (
            [("Class 7b", "", ""), ("id", "response", "label"), ("r1", "great", "person")],
            "plain",
            "in.csv, row 1: the names of the columns are not in this row. Row 2 has them: --header-row 2.",
        ),
        (
            [("id", "response", "Label 1"), ("r1", "great", "person")],
            "plain",
            (
                "in.csv, row 1: there is no column 'label'; the columns are A ('id'), B ('response'), C ('Label 1'). "
                "Did you mean C ('Label 1')? --column label='Label 1'."
            ),
        ),
        (
            [HEADER, ("r1", "great", "Person", "")],
            (),
            (
                "in.csv: row 2: the label 'Person' is another spelling of 'person'. Fix these rows; the labels of the "
                "bundle are process, outcome, person. The codes are in the column C ('Code (AM)'). --label-spelling "
                "folded reads 'Person' as 'person'."
            ),
        ),
        ([HEADER], (), "in.csv: has no rows"),
        (
            [HEADER, ("r1", "great", "2026-02-01", "")],
            (),
            "Spreadsheets turn entries such as 1-2 into dates. Format the column as text, and enter them again.",
        ),
        (
            [HEADER, ("r1", "great", "person", "")],
            ("--column", "question=Model"),
            "in.csv: --column question: this key is not read here. The keys are label, response, id, split.",
        ),
        (
            [("label", *HEADER), ("x", "r1", "great", "person", "")],
            ("--coder", "label"),
            (
                "--coder: 'label' stands for the column 'Code (AM)' here, and cannot stand for another one. "
                "Rename the column 'label' in the file."
            ),
        ),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_its_place_and_the_fix(bundles, tmp_path, rows, options, message):
    table = tmp_path / "in.csv"
    FORMS["CSV"].write(table, rows)
    given = () if options == "plain" else (*columns(*COLUMNS), *options)
    result = CliRunner().invoke(app, ["evaluate", str(bundles / "new"), "--on", str(table), *given])
    assert message in str(result.exception)


def test_a_workbook_whose_first_sheet_is_another_one_says_which_sheet_is_read(bundles, rows, tmp_path):
    FORMS["xlsx"].write(tmp_path / "in.xlsx", [("Codes of",), ("class 7b",)])
    result = CliRunner().invoke(app, ["evaluate", str(bundles / "new"), "--on", str(tmp_path / "in.xlsx")])
    assert str(result.exception) == (
        "in.xlsx, sheet 'Sheet', row 1: there is no column 'label'; the columns are A ('Codes of'). Say which it is: "
        "--column label=\"NAME\". The sheets are 'Sheet', 'Notes': --sheet says which is read."
    )


def test_monitor_names_its_own_option_for_the_sheet_of_a_table(bundle, journal, tmp_path):
    """Its ``--sheet`` is the file that it writes."""
    term(journal, weeks=2)
    FORMS["xlsx"].write(tmp_path / "in.xlsx", [("id", "human_code"), ("r1", "process")])
    FORMS["CSV"].write(tmp_path / "in.csv", [("id", "human_code"), ("r1", "process")])
    words = ["monitor", str(bundle.folder), str(journal.folder), "--codes"]

    def said(*more):
        result = CliRunner().invoke(app, [*words, *map(str, more)])
        return f"{result.output} {result.exception}"

    journal.draw("r1")
    table, sheet = tmp_path / "texts.xlsx", tmp_path / "sheet.csv"
    FORMS["xlsx"].write(table, [("id", "response"), ("r1", "you worked hard")])
    drawn = CliRunner().invoke(app, [*words[:-1], "--sheet", str(sheet), "--responses", str(table)]).output
    assert "the sheet 'Sheet' is read, not 'Notes'; --sheet-name takes another" in drawn
    assert "--sheet takes another" not in drawn
    assert "--sheet-name says which is read" in said(tmp_path / "in.xlsx", "--column", "id=Nr")
    assert "Leave out --sheet-name." in said(tmp_path / "in.csv", "--sheet-name", "A")
    assert "--sheet-name needs a table" in str(CliRunner().invoke(app, [*words[:-1], "--sheet-name", "A"]).exception)


def test_estimate_names_rows_as_other_commands_do_and_says_where_dates_come_from(rows, tmp_path):
    table = tmp_path / "in.csv"
    FORMS["CSV"].write(table, [*rows, ("r40", "great job", "2026-02-01", "process")])
    result = CliRunner().invoke(app, ["estimate", "--machine", str(table), *columns("machine=Model", "human=C")])
    assert "the human codes have labels that the machine never used: '2026-02-01' (row 42)" in str(result.exception)
    assert "Spreadsheets turn entries such as 1-2 into dates" in str(result.exception)


def test_a_column_of_clusters_that_is_not_computed_is_an_error(bundles, rows, tmp_path):
    header, *body = rows
    table = tmp_path / "in.xlsx"
    FORMS["xlsx"].write(table, [(*header, "Class"), *((*row, "=A1") for row in body)])
    given = (*columns(*COLUMNS), "--clusters", "Class")
    result = CliRunner().invoke(app, ["evaluate", str(bundles / "new"), "--on", str(table), *given])
    assert "the cells E2, E3, E4, E5, E6 and 35 more are formulas that no program has computed" in str(result.exception)


def test_options_of_a_table_without_a_table_are_refused(bundles, tmp_path):
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "project.yaml"), "--header-row", "2"])
    assert "--header-row needs --on, a coded file" in str(result.exception)
    result = CliRunner().invoke(app, ["monitor", str(bundles / "new"), str(tmp_path), "--delimiter", ";"])
    assert "--delimiter needs a table, and none is given. Name it with --codes or --responses." in str(result.exception)
