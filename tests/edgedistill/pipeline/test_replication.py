"""A package of a run with a teacher, groups of learners and three coders, of which no table is left out."""

import json
import random

import pytest

from edgedistill.pipeline import run_stages

from ..student.conftest import KEYWORDS
from ..teacher.stand_in import StandIn, coded, text_of
from .packages import ids_in, reproduce, texts_in, unpack
from .tiny import add_columns, run_of, write_tiny


def judge(body, before):
    """Codes by the keyword, and now and then otherwise; two texts get no code at all."""
    text = text_of(body)
    if len(text) % 41 == 0:
        return coded("no such label")
    right = next(name for name, keyword in KEYWORDS.items() if keyword in text.split())
    return coded("other" if len(text) % 7 == 0 else right)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The run."""
    file = write_tiny(tmp_path_factory.mktemp("grouped"))
    draw = random.Random(1)

    def coder(_, row):
        return "" if draw.random() < 0.1 else draw.choice(list(KEYWORDS)) if draw.random() < 0.1 else row["label"]

    learner = {"learner": lambda number, row: f"{row.get('split', 'further')}-kid{number % 17}"}
    add_columns(file.parent / "human.csv", learner | {"third": coder, "fourth": coder})
    for name in ("responses.csv", "population.csv"):
        add_columns(file.parent / name, learner)
    with StandIn(judge) as teacher:
        text = file.read_text().replace("reviewed.csv}", "reviewed.csv, group_by: learner}")
        text = text.replace("coders: [second]", "smallest_subgroup: 10\n  coders: [second, third, fourth]")
        text += f"teacher: {{base_url: '{teacher.base_url}', model: m, api_key_env: null, votes: 2, tries: 1, "
        file.write_text(text + "gate: {at_least: -1}}\n")
        run_stages(run_of(file))
    return file


def test_every_table_of_a_run_with_groups_coders_and_a_teacher_is_reproduced(done, tmp_path):
    run = run_of(done)
    folder = unpack(run.replication(tmp_path / "out.zip"), tmp_path / "unpacked")
    code, lines = reproduce(folder)
    assert (code, lines[-1]) == (0, "REPRODUCED")
    checked = {line.split()[1] for line in lines[:-1] if line.startswith("same")}
    assert {file.stem for file in (folder / "paper/tables").glob("*.csv")} - checked == {"codebook", "search"}
    assert {"alt_test", "gate", "subgroups"} <= checked
    assert texts_in(folder, run) == []
    assert ids_in(folder, run) == []
    assert "kid" not in "".join(file.read_text("utf-8") for file in folder.rglob("*") if file.is_file())
    settings = json.loads((folder / "data/settings.json").read_text("utf-8"))
    assert settings["teachers"][0]["uncoded"]
    assert "Rows of one group (a learner) have the same number." in (folder / "README.md").read_text("utf-8")


def test_the_methods_name_the_test_of_the_coders_and_the_groups(done):
    text = (run_of(done).methods() / "methods.md").read_text("utf-8")
    assert "alternative annotator test [@calderon2025]" in text
    assert "Whole groups of rows (learners) were resampled, of which the test split has 17" in text
    assert "3 human coders" in text.replace("\u00a0", " ")
    assert "kid" not in text
