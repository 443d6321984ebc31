"""The report as the last stage of a run: with and without an export, and beside the bundle's model card."""

import csv
import hashlib
import json
import re
import shutil

import pytest

from edgedistill.errors import RunError
from edgedistill.pipeline import run_stage, run_stages
from edgedistill.pipeline.preregistration import check_plan
from edgedistill.pipeline.replication import require_no_quotes
from edgedistill.report.formatting import estimate
from edgedistill.report.reproduce import main

from .packages import ids_in, reproduce, texts_in, unpack
from .tiny import run_of, write_tiny


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """The project's file, and report.html before and after the export; no test changes the run."""
    file = write_tiny(tmp_path_factory.mktemp("tiny"))
    run_stages(run_of(file), until="evaluate")
    run_stage(run_of(file), "report")
    before = _page(file)
    run_stages(run_of(file))
    return file, before, _page(file)


def _page(file):
    return (file.parent / "runs/tiny/report.html").read_text("utf-8")


def _asked(file, **changes):
    run = run_of(file)
    report = run.project.report.model_copy(update=changes)
    changed = run.project.model_copy(update={"report": report})
    return type(run)(changed, run.records, run.folder)


def test_before_the_evaluation_the_missing_stage_is_named(tmp_path):
    with pytest.raises(RunError, match=r"report: mix is not done.*Run `edgedistill mix PROJECT`"):
        run_stage(run_of(write_tiny(tmp_path)), "report")


def test_without_an_export_it_says_that_there_is_none(steps):
    _, before, after = steps
    assert "No bundle has been exported yet" in before
    assert "No bundle has been exported yet" not in after
    assert "bundle version <code>" in after
    assert "its model card may differ" not in after


def test_what_is_done_is_skipped_and_what_is_asked_otherwise_is_made_anew(steps):
    file, _, after = steps
    assert run_stage(run_of(file), "report").skipped
    assert not run_stage(_asked(file, examples=2), "report").skipped
    assert not run_stage(run_of(file), "report").skipped
    assert _page(file) == after


def test_texts_stand_in_it_only_where_examples_are_asked_for(steps):
    file, _, after = steps
    with (file.parent / "runs/tiny/test_scores.csv").open(newline="") as stream:
        wrong = {row["id"] for row in csv.DictReader(stream) if row["human"] != row["student"]}
    texts = {row.id: row.text for row in run_of(file).records.splits.test.responses}
    assert len(wrong) > 2
    assert not [text for text in texts.values() if text in after]
    run_stage(_asked(file, examples=2), "report")
    asked = _page(file)
    run_stage(run_of(file), "report")
    message = re.findall(r"<summary>show</summary><bdi>(.+?)</bdi></details>", asked)
    assert len(message) == 2
    assert set(message) <= {texts[row] for row in wrong}


def test_the_verdict_stands_in_the_journal(steps):
    file, _, after = steps
    entry = json.loads((file.parent / "runs/tiny/run.json").read_text())["stages"]["report"]
    assert entry["headline"].partition(":")[0] in after
    assert set(entry["outputs"]) == {"report.html"}


def test_the_models_card_and_the_report_tell_the_same_kappa(steps):
    file, _, after = steps
    card = (file.parent / "runs/tiny/bundle/README.md").read_text("utf-8")
    line = next(line for line in card.splitlines() if line.startswith("| Cohen's kappa |"))
    kappas = [cell.split()[0].removeprefix("0") for cell in line.split("|")[2:-1]]
    shown = re.search(r"<th scope=\"row\">Cohen&#39;s kappa</th>(.*?)</tr>", after)[1]
    found = re.findall(r">\u2212?(\d*\.\d+)\u00a0", shown)
    del found[1]  # the student before the export, which the card does not state
    assert found == [each.removeprefix("-") for each in kappas]


def test_a_damaged_evaluation_is_not_done(steps, tmp_path):
    file, _, _ = steps
    evaluation = file.parent / "runs/tiny/evaluation.json"
    whole = evaluation.read_bytes()
    evaluation.write_bytes(whole[:-9])
    try:
        with pytest.raises(RunError, match=r"evaluate is not done"):
            run_stage(run_of(file), "report")
    finally:
        evaluation.write_bytes(whole)


def test_the_paper_is_written_beside_the_report_and_replaced_as_a_whole(steps):
    file, _, _ = steps
    (file.parent / "runs/tiny/paper").mkdir()
    (file.parent / "runs/tiny/paper/of_another_run.csv").write_text("x")
    folder = run_of(file).methods()
    assert {path.name for path in folder.iterdir()} == {"methods.md", "methods.tex", "references.bib", "tables"}
    text = (folder / "methods.md").read_text("utf-8")
    kappa = run_of(file).served_evaluation.student.kappa
    assert f"has a κ of {estimate(kappa)}" in text.replace("\\", "")
    assert "The analysis was not preregistered." in text
    assert "No language model coded responses." in text
    tables = {path.stem for path in (folder / "tables").glob("*.csv")}
    assert {"agreement", "inter_coder", "subgroups", "fidelity", "data_flow", "label_shares"} <= tables
    assert tables == {path.stem for path in (folder / "tables").glob("*.tex")}
    texts = [row.text for row in run_of(file).records.splits.test.responses]
    written = "".join(path.read_text("utf-8") for path in folder.rglob("*") if path.is_file())
    assert not [text for text in texts if text in written]


def test_no_paper_is_written_about_results_of_other_settings(steps):
    file, _, _ = steps
    run = run_of(file)
    export = run.project.export.model_copy(update={"max_flip_rate": 0.5})
    changed = type(run)(run.project.model_copy(update={"export": export}), run.records, run.folder)
    with pytest.raises(RunError, match=r"export was done with other settings.*edgedistill export PROJECT"):
        changed.methods()
    review = run.project.review.model_copy(update={"share": 0.4})
    changed = type(run)(run.project.model_copy(update={"review": review}), run.records, run.folder)
    with pytest.raises(RunError, match="evaluate is not done with the current settings"):
        changed.methods()


def test_a_plan_is_laid_down_once_and_before_the_evaluation(steps, tmp_path):
    with pytest.raises(RunError, match="the test rows of this project have been evaluated"):
        run_of(steps[0]).preregister()
    file = write_tiny(tmp_path)
    plan = run_of(file).preregister()
    assert plan == tmp_path / "tiny.preregistration.json"
    with pytest.raises(RunError, match="never overwritten"):
        run_of(file).preregister()
    read = plan.with_suffix(".md").read_text("utf-8")
    assert hashlib.sha256(plan.read_bytes()).hexdigest() in read
    for part in json.loads(plan.read_text("utf-8"))["parts"]:
        assert f"## {part[0].upper()}{part[1:]}" in read
    rows = run_of(file).records.splits
    for text in (plan.read_text("utf-8"), read):
        assert not [row.response.id for row in rows.test if f'"{row.response.id}"' in text or row.response.text in text]


def test_the_methods_compare_the_run_with_its_plan(steps, tmp_path):
    done = steps[0].parent
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    runs, file = tmp_path / "runs", tmp_path / "tiny.yaml"
    runs.rename(tmp_path / "later")
    run_of(file).preregister()
    (tmp_path / "later").rename(runs)
    check = check_plan(run_of(file))
    assert check.changed == ()
    assert not check.before_evaluation  # it was written after the evaluation that stands in the run's log
    settings = file.read_text()
    file.write_text(settings.replace("share: 0.3", "share: 0.2"))
    assert check_plan(run_of(file)).changed == ("decision rule",)
    file.write_text(settings.replace("epochs: [2]", "epochs: [2, 3]"))
    assert check_plan(run_of(file)).changed == ("student and its search",)
    file.write_text(settings)
    human = (tmp_path / "human.csv").read_text()
    row = run_of(file).records.splits.test.rows[0]
    lines = [line for line in human.splitlines() if line.startswith(f"{row.response.id},")]
    other = next(name for name in ("process", "outcome") if name != row.label)
    before, _, after = lines[0].partition(f",{row.label},")
    (tmp_path / "human.csv").write_text(human.replace(lines[0], f"{before},{other},{after}"))
    assert check_plan(run_of(file)).changed == ("human codes of the test rows",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda plan: plan["parts"]["decision rule"].update(share=0.9),
            "was changed after it was written: decision rule",
        ),
        (lambda plan: plan.update(format=9), "of another version or project"),
        (lambda plan: plan.update(project="other"), "of another version or project"),
        (lambda plan: plan.pop("date"), "of another version or damaged"),
    ],
)
def test_a_plan_that_was_tampered_with_is_refused(tmp_path, change, message):
    file = write_tiny(tmp_path)
    plan = run_of(file).preregister()
    values = json.loads(plan.read_text("utf-8"))
    change(values)
    plan.write_text(json.dumps(values), "utf-8")
    with pytest.raises(RunError, match=message):
        check_plan(run_of(file))


@pytest.fixture(scope="module")
def package(steps, tmp_path_factory):
    """A package of the run without texts, and the folder that it was unpacked into."""
    folder = tmp_path_factory.mktemp("package")
    packed = run_of(steps[0]).replication(folder / "out.zip")
    return packed, unpack(packed, folder / "unpacked")


def test_a_package_computes_every_table_again_in_a_process_of_its_own(steps, package):
    code, lines = reproduce(package[1])
    assert lines[-1] == "REPRODUCED"
    assert code == 0
    assert not [line for line in lines[:-1] if not line.startswith("same ")]
    checked = {line.split()[1] for line in lines[:-1]}
    tables = {file.stem for file in (package[1] / "paper/tables").glob("*.csv")}
    assert tables - checked == {"codebook", "search", "subgroups"}  # texts, a copy of trials.csv, and too few rows
    assert "the column school, in which a group has too few test rows" in (package[1] / "README.md").read_text("utf-8")
    assert {"inter_coder", "fidelity", "label_shares", "comparisons"} <= checked


def test_without_edgedistill_figures_are_computed_by_python_alone(package):
    code, lines = reproduce(package[1], without_edgedistill=True)
    assert code == 3
    assert [line.split()[1] for line in lines if line.startswith("same")] == ["agreement", "per_label", "confusion"]
    assert lines[-2].startswith("NOT DONE  intervals")


def test_no_response_and_no_id_stands_in_a_package(steps, package):
    run = run_of(steps[0])
    assert texts_in(package[1], run) == []
    assert ids_in(package[1], run) == []
    readme = (package[1] / "README.md").read_text("utf-8")
    assert "every response, question and reference answer" in readme
    assert "in the order of the data file" in readme  # the splits are given


def test_a_package_with_texts_has_them_and_says_so(steps, tmp_path):
    run = run_of(steps[0])
    folder = unpack(run.replication(tmp_path / "texts.zip", texts=True), tmp_path / "unpacked")
    assert {file for file, _ in texts_in(folder, run)} == {
        "texts/human.csv",
        "texts/responses.csv",
        "texts/mixture.csv",
    }
    assert (folder / "texts/human.csv").read_bytes() == (steps[0].parent / "human.csv").read_bytes()
    assert (folder / "project.yaml").read_bytes() == steps[0].read_bytes()
    rows = dict(line.split(",") for line in (folder / "texts/ids.csv").read_text().splitlines())
    assert rows["test-1"] == run.records.splits.test.rows[0].response.id
    assert "personal data" in (folder / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "before", "after", "said"),
    [
        ("data/rows.csv", "test-1,test,,", None, "FAILED   agreement"),
        ("paper/tables/agreement.csv", None, "9", "FAILED   agreement"),
        ("paper/tables/inter_coder.csv", None, "9", "FAILED   inter_coder"),
        ("run/run.json", "{", "{ ", "CHANGED  run/run.json"),
        ("data/settings.json", '"labels"', '"label"', "the files do not fit each other"),
    ],
)
def test_a_package_that_was_altered_says_where(package, tmp_path, name, before, after, said):
    shutil.copytree(package[1], tmp_path / "altered")
    file = tmp_path / "altered" / name
    text = file.read_text("utf-8")
    if after is None:  # another human code of one row
        line = next(line for line in text.splitlines() if line.startswith(before))
        cells = line.split(",")
        cells[4] = next(label for label in ("process", "outcome") if label != cells[4])
        changed = text.replace(line, ",".join(cells))
    elif before is None:  # the last digit of the first figure
        figure = re.search(r"0\.\d{3}", text)[0]
        changed = text.replace(figure, f"{figure[:-1]}{(int(figure[-1]) + 5) % 10}", 1)
    else:
        changed = text.replace(before, after, 1)
    assert changed != text
    file.write_text(changed, "utf-8", newline="")
    lines = []
    assert main([tmp_path / "altered"], lines.append) == 1
    assert lines[-1] == "NOT REPRODUCED"
    assert f"CHANGED  {name} is not the file that was packed" in lines
    assert any(line.startswith(said) or said in line for line in lines)


def test_a_package_is_the_same_bytes_again_and_replaces_a_file_only_on_request(steps, package, tmp_path):
    run = run_of(steps[0])
    again = tmp_path / "again.zip"
    again.write_text("something else")
    with pytest.raises(RunError, match="exists already"):
        run.replication(again)
    assert run.replication(again, overwrite=True).read_bytes() == package[0].read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"again.zip"}


def test_a_package_without_logits_does_not_compute_the_calibration_again(steps, tmp_path):
    folder = unpack(run_of(steps[0]).replication(tmp_path / "out.zip", logits=False), tmp_path / "unpacked")
    assert "logit:" not in (folder / "data/rows.csv").read_text("utf-8")
    lines = []
    assert main([folder], lines.append) == 0
    assert not [line for line in lines if "calibration" in line]
    assert "`calibration` is not computed again" in (folder / "README.md").read_text("utf-8")


def test_a_codebook_that_quotes_a_response_is_not_packed_without_texts(steps):
    run = run_of(steps[0])
    longest, *others = sorted(run.records.splits.train.responses, key=lambda row: -len(row.text))
    short = others[-1].text
    require_no_quotes(run, {"project.yaml": f"definition: {short}".encode(), "data/x.csv": longest.text.encode()})
    words = longest.text.split()
    quotes = {
        "project.yaml": f"definition: As in  {longest.text.upper()}!",
        "codebook.md": "\\'".join(words),
        "paper/methods.tex": "\\& ".join(words),
        "paper/tables/codebook.csv": '""'.join(words),
        "preregistration.json": json.dumps({"codebook": f"\u00e9 {longest.text}"}),
    }
    for name, content in quotes.items():
        with pytest.raises(RunError, match=rf"quotes the response in human\.csv, row {longest.row}\..*--texts"):
            require_no_quotes(run, {name: content.encode()})


def test_a_package_whose_tables_are_not_reproduced_is_not_written(steps, tmp_path, monkeypatch):
    from edgedistill.pipeline import replication

    monkeypatch.setattr(replication._Package, "_student_decisions", lambda self: {})
    with pytest.raises(RunError, match=r"not reproduced from its rows: FAILED +decision_rule"):
        run_of(steps[0]).replication(tmp_path / "out.zip")
    assert list(tmp_path.iterdir()) == []
