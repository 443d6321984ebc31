"""`edgedistill review`: sheets out and codes back, as a user runs it."""

import csv
import json
import shutil

import msgspec
import pytest
from typer.testing import CliRunner

from edgedistill.cli.commands import app
from edgedistill.decisions.coding_sheet import merge_codes, read_codes
from edgedistill.decisions.draws_log import read_draws
from edgedistill.errors import ArgumentError, DataError, RunError
from edgedistill.pipeline import run_stage, run_stages
from edgedistill.pipeline.evaluate import measure
from edgedistill.pipeline.next_rows import discard_last, draw_again, draw_next
from edgedistill.runnable_project import Project

from ...e2e.lessons import command
from ...odd_tables import FORMS
from ..pipeline.tiny import run_of, write_tiny


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A project with a bundle that sends some responses to people, and its sheet."""
    file = write_tiny(tmp_path_factory.mktemp("tiny"))
    run_stages(run_of(file))
    message = json.loads(command("edgedistill", "review", "sheet", file, file.parent / "sheet.csv", "--json").stdout)
    return file, message


@pytest.fixture
def copy(done, tmp_path):
    """A copy of the project that a test may change."""
    return shutil.copytree(done[0].parent, tmp_path / "copy") / done[0].name


def read(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def write(file, rows):
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_the_sheet_holds_what_the_rule_sends_to_people_and_every_response_is_accounted_for(done):
    file, message = done
    rows = read(file.parent / "sheet.csv")
    assert list(rows[0]) == ["id", "response", "human_code"]
    assert len(rows) == sum(message["to_people"].values()) > 0
    assert message["accepted"] + len(rows) == message["responses"]
    assert message["responses"] + sum(message["set_aside"].values()) == 60


def test_a_sheet_that_is_there_is_not_written_over(done):
    file, _ = done
    refused = command("edgedistill", "review", "sheet", file, file.parent / "sheet.csv", expect=2)
    assert "already exists. Choose another name: the file may contain codes." in refused.stderr


def test_every_bad_row_is_named_and_nothing_is_merged(copy):
    rows = read(copy.parent / "sheet.csv")
    for row in rows:
        row["human_code"] = "process"
    rows[0]["human_code"], rows[1]["id"], rows[2]["human_code"], rows[4]["id"] = "Process", "nobody", "", rows[3]["id"]
    write(copy.parent / "bad.csv", rows)
    refused = command("edgedistill", "review", "merge", copy, copy.parent / "bad.csv", expect=2)
    for message in (
        f"row 2, id '{rows[0]['id']}': unknown label 'Process'; labels are process, outcome, other",
        "row 3, id 'nobody': unknown id: no response for review has it",
        f"row 6, id '{rows[3]['id']}': the id is also in row 5",
        f"id '{rows[2]['id']}': no code",
    ):
        assert message in refused.stdout
    assert "bad.csv: 3 rows are invalid and 1 have no code; nothing was imported." in refused.stderr
    assert "The codebook does not have 'Process'; use its labels." in refused.stderr
    assert not (copy.parent / "reviewed.csv").exists()


def test_a_sheet_comes_back_in_the_forms_of_spreadsheets(copy):
    rows = read(copy.parent / "sheet.csv")
    ids = [row["id"] for row in rows]
    for place, name in enumerate(
        ("CSV with semicolons in Windows-1252", "xlsx with titles", "labels in another spelling")
    ):
        form, part = FORMS[name], rows[2 * place : 2 * place + 2]
        table = copy.parent / f"back{place}{form.suffix}"
        form.write(table, [("id", "response", "Caf\u00e9"), *((row["id"], row["response"], "process") for row in part)])
        words = ["review", "merge", copy, table, "--column", "human_code=Caf\u00e9", *form.options, "--json"]
        done = CliRunner().invoke(app, [*map(str, words)])
        assert done.exception is None
        found = json.loads(done.stdout)
        assert (found["added"], found["uncoded"]) == (2, [])
        assert form.note in "\n".join(found["assumed"])
    reviewed = read(copy.parent / "reviewed.csv")
    assert [(row["id"], row["label"]) for row in reviewed] == [(ident, "process") for ident in ids[:6]]


def test_codes_become_train_rows_and_are_never_overwritten(copy):
    before = run_of(copy).records.splits
    rows = read(copy.parent / "sheet.csv")
    rows[0]["human_code"] = "outcome"
    write(copy.parent / "part.csv", rows)
    merge = ("edgedistill", "review", "merge", copy, copy.parent / "part.csv", "--skip-uncoded", "--json")
    first, second = (json.loads(command(*merge).stdout) for _ in range(2))
    assert (first["added"], first["known"], len(first["uncoded"])) == (1, 0, len(rows) - 1)
    assert (second["added"], second["known"]) == (0, 1)
    after = run_of(copy).records.splits
    assert [(row.response.id, row.label) for row in after.train][len(before.train) :] == [(rows[0]["id"], "outcome")]
    assert (after.validation, after.test) == (before.validation, before.test)
    rows[0]["human_code"] = "other"
    write(copy.parent / "part.csv", rows[:1])
    refused = command("edgedistill", "review", "merge", copy, copy.parent / "part.csv", expect=2)
    assert "the sheet has the code 'other', but the id already has the human code 'outcome'" in refused.stdout
    assert [row["label"] for row in read(copy.parent / "reviewed.csv")] == ["outcome"]


def test_a_project_without_a_file_for_the_codes_gets_the_name_of_the_missing_key(copy):
    copy.write_text(copy.read_text().replace(", reviewed: reviewed.csv", ""))
    refused = command("edgedistill", "review", "merge", copy, copy.parent / "sheet.csv", expect=2)
    assert "the key data.reviewed is missing" in refused.stderr
    assert "Add `reviewed: reviewed.csv` to the section data." in refused.stderr


def test_a_draw_names_the_missing_file_for_the_codes_before_people_code(copy):
    hint = "first add `reviewed: reviewed.csv` to the section data"
    assert hint not in command("edgedistill", "review", "next", copy, "--rows", "3").stdout
    copy.write_text(copy.read_text().replace(", reviewed: reviewed.csv", ""))
    assert hint in command("edgedistill", "review", "next", copy, "--rows", "3").stdout


def test_other_responses_can_be_reviewed_and_coded_ones_are_not(copy):
    coded = run_of(copy).records.splits.test.responses[0]
    lines = [["id", "response"], [coded.id, coded.text], ["n1", "so so the a is"], ["n2", "look at it very now"]]
    with (copy.parent / "more.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(lines)
    sheet = ("edgedistill", "review", "sheet", copy, copy.parent / "two.csv", "--show-suggestions")
    shown = command(*sheet, "--responses", copy.parent / "more.csv").stdout
    assert "of 2 responses go to people" in shown
    assert "set aside: 1 duplicates a test row" in shown
    rows = read(copy.parent / "two.csv")
    assert {row["suggested_label"] for row in rows} <= {"process", "outcome", "other"}
    assert coded.id not in {row["id"] for row in rows}


def test_without_a_bundle_there_is_no_sheet(copy):
    shutil.rmtree(copy.parent / "runs/tiny/bundle")
    refused = command("edgedistill", "review", "sheet", copy, copy.parent / "new.csv", expect=2)
    assert "there is no bundle" in refused.stderr


def draw(file, rows=12, **given):
    run = run_of(file)
    return draw_next(run.project, run.records, rows, **given)


def code(file, sheet, *, label="process", part=None):
    """Fill in a sheet and import it."""
    rows = read(sheet)[:part]
    for row in rows:
        row["human_code"] = label
    write(sheet, rows)
    run = run_of(file)
    return merge_codes(run.project, read_codes(run.project, run.records, sheet))


def test_rows_drawn_by_a_command_return_with_their_probabilities(copy):
    out = copy.parent / "to-code-1.csv"
    message = json.loads(command("edgedistill", "review", "next", copy, "--rows", "12", "--json").stdout)
    rows = read(out)
    assert message["sheet"] == str(out)
    assert list(rows[0]) == ["id", "response", "inclusion_probability", "human_code"]
    assert {row["id"]: float(row["inclusion_probability"]) for row in rows} == message["drawn"]
    assert len(rows) == 12
    assert message["frame"] + sum(message["excluded"].values()) == 60
    for row in rows:
        row["human_code"] = "process"
    write(out, rows)
    merged = command("edgedistill", "review", "merge", copy, out).stdout
    assert "12 codes added to" in merged
    reviewed = read(copy.parent / "reviewed.csv")
    assert {row["id"]: float(row["inclusion_probability"]) for row in reviewed} == pytest.approx(message["drawn"])
    assert {row["purpose"] for row in reviewed} == {"train"}


def test_the_log_is_enough_to_draw_the_same_rows_again(copy):
    drawn = draw(copy, strategy="mixed", seed=7)
    (logged,) = read_draws(copy.parent / "runs/tiny")
    assert logged == drawn.draw
    assert logged.recomputed() == (logged.ids, logged.validation_ids)
    assert sum(logged.probabilities) == pytest.approx(12)
    assert min(logged.probabilities) >= 0.3 * 12 / len(logged.order) - 1e-12
    assert logged.student is not None
    assert set(logged.shares) == {"random", "uncertainty", "novelty"}
    assert set(logged.missing_signals) == {"disagreement", "coverage"}


def test_the_same_seed_draws_the_same_rows_and_another_one_others(copy, tmp_path):
    other = shutil.copytree(copy.parent, tmp_path / "other") / copy.name
    third = shutil.copytree(copy.parent, tmp_path / "third") / copy.name
    assert draw(copy, strategy="uncertainty").draw.ids == draw(other, strategy="uncertainty").draw.ids
    assert draw(third, strategy="uncertainty", seed=1).draw.ids != read_draws(copy.parent / "runs/tiny")[0].ids


def test_a_changed_log_of_draws_is_refused(copy):
    draw(copy)
    file = copy.parent / "runs/tiny/review-draws.jsonl"
    line = json.loads(file.read_text())
    line["ids"][0] = line["order"][0] if line["ids"][0] != line["order"][0] else line["order"][1]
    file.write_text(json.dumps(line) + "\n")
    with pytest.raises(RunError, match="line 1: is damaged: the drawn rows do not follow"):
        draw(copy)


def test_a_row_is_drawn_once_and_a_later_wave_makes_earlier_codes_count_for_less(copy):
    first = draw(copy, out=copy.parent / "one.csv")
    code(copy, copy.parent / "one.csv")
    second = draw(copy, strategy="uncertainty", out=copy.parent / "two.csv")
    assert set(first.draw.ids).isdisjoint(second.draw.order)
    assert second.draw.continues
    assert second.draw.weight >= 0.5
    code(copy, copy.parent / "two.csv")
    found = {row["id"]: float(row["inclusion_probability"]) for row in read(copy.parent / "reviewed.csv")}
    weight = second.draw.weight
    for ident, probability in first.draw.drawn.items():
        assert 1 / found[ident] == pytest.approx((1 - weight) / probability + weight)
    for ident, probability in second.draw.drawn.items():
        assert 1 / found[ident] == pytest.approx(weight / probability)


def test_a_file_that_changed_since_the_draw_begins_anew(copy):
    first = draw(copy, out=copy.parent / "one.csv")
    code(copy, copy.parent / "one.csv")
    with (copy.parent / "responses.csv").open("a", newline="") as stream:
        csv.writer(stream).writerows([["n1", "so so the a is"], ["n2", "look at it very now"]])
    second = draw(copy, out=copy.parent / "two.csv")
    assert (second.draw.continues, second.draw.weight) == (False, 1.0)
    assert any("are not those that wave 1 left (2 new, 0 gone" in note for note in second.notes)
    code(copy, copy.parent / "two.csv")
    found = {row["id"]: float(row["inclusion_probability"]) for row in read(copy.parent / "reviewed.csv")}
    assert {found[ident] for ident in first.draw.ids} == {1.0}


def test_a_row_that_repeats_another_one_is_not_drawn_and_counted(copy):
    rows = read(copy.parent / "responses.csv")
    write(copy.parent / "twice.csv", [*rows, *({**row, "id": f"again {row['id']}"} for row in rows)])
    drawn = draw(copy, rows=500, responses=copy.parent / "twice.csv")
    assert not [ident for ident in drawn.draw.order if ident.startswith("again")]
    assert drawn.draw.excluded["the same as another row of the file"] >= len(drawn.draw.order)
    assert len(drawn.draw.order) + sum(drawn.draw.excluded.values()) == 2 * len(rows)


def test_fewer_rows_than_requested_are_all_drawn_and_the_next_draw_has_none(copy):
    drawn = draw(copy, rows=500, out=copy.parent / "all.csv")
    assert set(drawn.probabilities) == {1.0}
    assert f"500 rows were requested, and only {len(drawn.responses)} can be drawn: all of them are" in drawn.notes
    with pytest.raises(DataError, match=r"responses.csv: there is no row left to draw .*drawn in an earlier wave"):
        draw(copy)


def test_validation_rows_are_drawn_with_equal_probabilities_and_validate(copy):
    before = run_of(copy).records.splits
    drawn = draw(copy, purpose="validation", out=copy.parent / "one.csv")
    assert len(set(drawn.probabilities)) == 1
    assert code(copy, copy.parent / "one.csv").validation == 12
    after = run_of(copy).records
    assert (
        len(after.splits.validation) + sum(row.file == "reviewed.csv" for row in after.set_aside)
        == len(before.validation) + 12
    )
    assert len(after.splits.validation) > len(before.validation)
    assert (after.splits.train, after.splits.test) == (before.train, before.test)


def test_a_draw_that_nobody_codes_is_discarded_and_stays_in_the_log(copy):
    first = draw(copy, out=copy.parent / "one.csv").draw
    said = command("edgedistill", "review", "next", copy, "--discard").stdout
    assert said.startswith("wave 1 is discarded: its 12 rows can be drawn again. The log keeps it")
    folder = run_of(copy).project.run_folder
    assert read_draws(folder) == ()
    second = draw(copy).draw
    assert (second.wave, second.weight, second.continues) == (2, 1.0, False)
    assert set(second.order) == set(first.order)
    assert second.ids != first.ids
    assert [draw.wave for draw in read_draws(folder)] == [2]
    assert len((folder / "review-draws.jsonl").read_text().splitlines()) == 3
    assert draw_again(run_of(copy).project).draw == second
    with pytest.raises(DataError, match=r"one.csv: the sheet has \d+ rows of wave 1, which was discarded"):
        code(copy, copy.parent / "one.csv")


def test_a_draw_with_a_code_or_none_at_all_cannot_be_discarded(copy):
    run = run_of(copy)
    with pytest.raises(DataError, match="there is no draw to discard"):
        discard_last(run.project, run.records)
    draw(copy, out=copy.parent / "one.csv")
    rows = read(copy.parent / "one.csv")
    rows[0]["human_code"] = "process"
    write(copy.parent / "one.csv", rows)
    merge_codes(run.project, read_codes(run.project, run.records, copy.parent / "one.csv"))
    run = run_of(copy)
    with pytest.raises(
        DataError, match=f"wave 1 cannot be discarded: 1 of its 12 rows have a code, such as '{rows[0]['id']}'"
    ):
        discard_last(run.project, run.records)


def test_a_log_whose_discarded_draw_does_not_fit_is_damaged(copy):
    draw(copy)
    file = run_of(copy).project.run_folder / "review-draws.jsonl"
    file.write_text(file.read_text() + '{"discarded_wave":2,"discarded_at":"2026-01-01"}\n')
    with pytest.raises(RunError, match="line 2"):
        read_draws(file.parent)


def test_a_promise_counts_validation_rows_that_were_drawn_at_random(copy):
    copy.write_text(copy.read_text().replace("at_most_to_people, share: 0.3", "at_most_wrong, share: 0.05"))
    draw(copy, purpose="validation", out=copy.parent / "one.csv")
    code(copy, copy.parent / "one.csv")
    run = run_of(copy)
    rows = run.records.splits.validation
    assert sum(row.response.file == "reviewed.csv" for row in rows) > 0
    measured = measure(run)
    fit = sum(score.decision == "accept" for score in measured.validation.apply_rule(1.0, without_thresholds(measured)))
    assert 60 < fit <= len(rows)
    assert measured.chosen.review.notes[0].startswith(f"No threshold shows, on the {fit} validation rows that can be")


def without_thresholds(measured):
    return msgspec.structs.replace(measured.chosen.review.rule, thresholds={})


def test_validation_rows_after_a_draw_by_difficulty_make_up_for_the_rows_that_it_took(copy):
    first = draw(copy, strategy="uncertainty").draw
    second = draw(copy, purpose="validation").draw
    taken = dict(zip(first.order, first.probabilities, strict=True))
    chances = [p * (1 - taken[ident]) for ident, p in zip(second.order, second.probabilities, strict=True)]
    assert chances == pytest.approx([chances[0]] * len(chances))
    assert second.weight < 1 or not second.continues


def test_for_both_the_random_share_validates_with_equal_chances_and_the_others_train(copy):
    drawn = draw(copy, rows=20, strategy="uncertainty", purpose="both", random_share=0.5, out=copy.parent / "one.csv")
    found = drawn.draw
    assert len(found.validation_ids) == 10
    chances = [found.drawn[ident] * share for ident, share in zip(found.ids, found.validation_shares, strict=True)]
    assert chances == pytest.approx([0.5 * 20 / len(found.order)] * 20)
    assert code(copy, copy.parent / "one.csv").validation == 10
    assert {row["id"] for row in read(copy.parent / "reviewed.csv") if row["purpose"] == "validation"} == set(
        found.validation_ids
    )


def test_reviewed_codes_are_never_test_rows(copy):
    rows = read(copy.parent / "responses.csv")[:1]
    write(copy.parent / "reviewed.csv", [{**rows[0], "label": "process", "purpose": "test"}])
    with pytest.raises(DataError, match=r"reviewed.csv: row 2: unknown purpose 'test'; use one of train, validation"):
        run_of(copy)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"purpose": "validation", "strategy": "uncertainty"},
            "validation rows are drawn at random, not by uncertainty",
        ),
        ({"purpose": "test"}, "the purpose 'test' is unknown"),
        ({"strategy": "hardest"}, "the strategy 'hardest' is unknown"),
        ({"random_share": 0.0}, "the random share must be above 0"),
        ({"rows": 0}, "rows must be at least 1"),
    ],
)
def test_an_impossible_draw_is_refused_and_not_logged(copy, given, message):
    with pytest.raises(ArgumentError, match=message):
        draw(copy, **given)
    assert read_draws(copy.parent / "runs/tiny") == ()


def test_without_a_student_the_other_signals_serve_and_a_missing_one_is_named(copy):
    shutil.rmtree(copy.parent / "runs/tiny/bundle")
    drawn = draw(copy, strategy="mixed")
    assert drawn.draw.shares == {"random": 1.0}
    assert "there is no bundle" in drawn.draw.missing_signals["uncertainty"]
    with pytest.raises(RunError, match="there is no uncertainty: there is no bundle"):
        draw(copy, strategy="uncertainty")


def test_the_teachers_labels_draw_rows_without_a_student(copy):
    shutil.rmtree(copy.parent / "runs/tiny/bundle")
    ids = [row["id"] for row in read(copy.parent / "responses.csv")]
    shares = [{"process": 1.0}, {"process": 2 / 3, "other": 1 / 3}]
    lines = [
        {
            "id": ident,
            "label": "process",
            "consistency": max(shares[n % 2].values()),
            "shares": shares[n % 2],
            "votes": ["process"] * 3,
            "teacher": "t",
        }
        for n, ident in enumerate(ids)
    ]
    (copy.parent / "runs/tiny/labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = draw(copy, strategy="disagreement").draw
    chance = dict(zip(found.order, found.probabilities, strict=True))
    unsure = [p for ident, p in chance.items() if ids.index(ident) % 2]
    assert min(unsure) > 2 * max(p for ident, p in chance.items() if not ids.index(ident) % 2)


def test_an_id_that_no_longer_exists_is_a_fault(copy):
    drawn = draw(copy, out=copy.parent / "one.csv")
    rows = [row for row in read(copy.parent / "responses.csv") if row["id"] != drawn.draw.ids[0]]
    write(copy.parent / "responses.csv", rows)
    run = run_of(copy)
    (fault,) = read_codes(run.project, run.records, copy.parent / "one.csv").faults
    assert (fault.id, fault.fault) == (drawn.draw.ids[0], "unknown id: no response for review has it")
    with pytest.raises(DataError, match="1 drawn rows are no longer in the file"):
        draw_again(run.project)


def test_a_lost_sheet_is_written_again(copy):
    drawn = draw(copy, out=copy.parent / "one.csv")
    again = draw_again(run_of(copy).project, out=copy.parent / "again.csv")
    assert read(copy.parent / "again.csv") == read(copy.parent / "one.csv")
    assert again.draw == drawn.draw
    assert len(read_draws(copy.parent / "runs/tiny")) == 1


def test_a_sheet_of_an_older_codebook_is_refused_and_the_labels_are_named(copy):
    draw(copy, out=copy.parent / "one.csv")
    text = copy.read_text()
    copy.write_text(text.replace("{name: other}", "{name: other, definition: Anything else.}, {name: none at all}"))
    run = run_of(copy)
    with pytest.raises(
        DataError,
        match=r"older codebook \(wave 1; labels added: 'none at all'; definitions changed: 'other'\)",
    ):
        read_codes(run.project, run.records, copy.parent / "one.csv")
    accepted = read_codes(run.project, run.records, copy.parent / "one.csv", accept_older_codebook=True)
    assert len(accepted.uncoded) == 12


def test_drawn_rows_without_a_code_are_counted(copy):
    draw(copy, out=copy.parent / "one.csv")
    assert code(copy, copy.parent / "one.csv", part=5).open_rows == {1: 7}


def test_python_draws_what_the_command_draws(copy):
    drawn = Project.load(copy).review_next(12, strategy="uncertainty", purpose="both")
    frame = drawn.to_frame()
    assert list(frame.columns) == ["id", "response", "inclusion_probability", "purpose"]
    assert set(frame.id) == set(drawn.draw.ids)
    assert set(frame[frame.purpose == "validation"].id) == set(drawn.draw.validation_ids)
    assert repr(drawn).startswith(f"12 of {len(drawn.draw.order)} rows drawn (wave 1; 30% random, 70% uncertainty)")


def test_a_sheet_whose_probabilities_somebody_deleted_gets_them_from_the_log(copy):
    drawn = draw(copy, out=copy.parent / "one.csv")
    rows = [{"id": row["id"], "human_code": ""} for row in read(copy.parent / "one.csv")]
    write(copy.parent / "bare.csv", rows)
    code(copy, copy.parent / "bare.csv")
    found = {row["id"]: float(row["inclusion_probability"]) for row in read(copy.parent / "reviewed.csv")}
    assert found == pytest.approx(drawn.draw.drawn)


def test_a_draw_says_what_its_codes_are_expected_to_bring(copy):
    said = " ".join(draw(copy, rows=20, purpose="both", strategy="uncertainty").expected)
    assert "for comparison: 6 more test rows would put the lower end of the student's kappa at" in said
    assert "estimate: with the 20 drawn codes the share of" in said
    assert "`edgedistill review curve PROJECT` measures how much more train codes would help" in said


def test_a_gate_is_expected_to_move_with_more_validation_codes(copy):
    evaluation = json.loads((copy.parent / "runs/tiny/evaluation.json").read_text())
    agreement = evaluation["agreement"]["student"]
    teacher = {"teacher": "t", "metric": "kappa", "at_least": 0.1, "agreement_of_all": agreement}
    (copy.parent / "runs/tiny/gate.json").write_text(json.dumps({"teachers": [teacher]}))
    first = draw(copy, purpose="validation").expected[0]
    assert first.startswith("gate: with 12 more validation codes the lower end of t's kappa is expected at ")
    assert "it reaches 0.1 in " in first


def test_a_learning_curve_is_measured_and_shown_with_the_next_draw(copy):
    message = json.loads(CliRunner().invoke(app, ["review", "curve", str(copy), "--seeds", "2", "--json"]).stdout)
    assert [point["rows"] for point in message["points"]] == [15, 30, 60]
    assert message["validation_rows"] == 60
    assert json.loads((copy.parent / "runs/tiny/learning_curve.json").read_text()) == message
    assert any(line.startswith("learning curve: ") for line in draw(copy, out=copy.parent / "one.csv").expected)
    run = run_of(copy)
    assert not run_stage(run, "report").skipped
    assert run_stage(run, "report").skipped
    assert message["reason"].partition(":")[0] in run.report_html
    code(copy, copy.parent / "one.csv")
    assert any(line.startswith("learning curve (of earlier rows): ") for line in draw(copy).expected)


def test_a_damaged_learning_curve_names_the_command_that_writes_it(copy):
    (copy.parent / "runs/tiny/learning_curve.json").write_text("{}")
    with pytest.raises(RunError, match="review curve PROJECT` writes it again"):
        draw(copy)


def test_a_learning_curve_of_the_fine_tuned_student(copy):
    curve = Project.load(copy).learning_curve(student="fine-tuned", seeds=2)
    assert (curve.student, len(curve.points[0].kappas)) == ("fine-tuned", 2)
    with pytest.raises(ArgumentError, match="student must be frozen or fine-tuned"):
        Project.load(copy).learning_curve(student="large")
