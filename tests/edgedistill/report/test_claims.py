"""What a methods section says of promise, novelty, estimates and learning curve is what the run's files have."""

import json
import re
from dataclasses import asdict, replace
from html import unescape

import msgspec
import pytest

from edgedistill.decisions.learning_curve import learning_curve
from edgedistill.estimates.results import EstimateTable, MethodEstimate
from edgedistill.evaluation.files import file_sha256
from edgedistill.evaluation.types import Evaluation, ServedRule
from edgedistill.project.reading import read_project
from edgedistill.report.claims import guarantee_sentences
from edgedistill.report.methods import MethodsInputs, methods
from edgedistill.report.page import render_page
from edgedistill.report.paper_markup import bibliography, to_markdown
from edgedistill.report.paper_tables import paper_tables
from edgedistill_serve.bundle.manifest import REVIEW_ALL
from edgedistill_serve.task.task import Label, Task

from .runs import LABELS, evaluation_of, exported, inputs_of_run, noisy, write_run

PROJECT = """\
name: praise
task: {labels: [{name: process}, {name: outcome}, {name: none}]}
data: {human: human.csv}
review:
  {aim: at_most_wrong, share: 0.07, confidence: 0.91, per_label: true, groups: place, novelty: {false_alarms: 0.043}}
"""
GUARANTEE = {
    "share": 0.07,
    "confidence": 0.91,
    "rows": 412,
    "accepted": 317,
    "wrong": 13,
    "bound": 0.0637,
    "unit": "learners",
    "units": 173,
    "scope": "validated questions",
    "questions": 19,
    "compared": 23,
    "graphs": ["int8", "fp32"],
    "labels": {
        "process": {"accepted": 201, "wrong": 6, "bound": 0.0582},
        "none": {"accepted": 116, "wrong": 7, "bound": 0.0691},
    },
    "group_column": "place",
    "groups": {
        "urban": {"accepted": 211, "wrong": 9, "bound": 0.0613},
        "rural": {"accepted": 104, "wrong": 4, "bound": 0.0677},
    },
}
FIT = {"training_rows": 733, "directions": 64, "validation_rows": 397, "false_alarms": 0.043, "flagged": 18}
ESTIMATES = EstimateTable(
    rows=5021,
    human_codes=251,
    clusters=97,
    primary="DSL",
    estimates=(
        MethodEstimate("share of process", "", "naive", 0.61234, 0.0101, 0.58123, 0.64345, 251),
        MethodEstimate("share of process", "", "DSL", 0.50234, 0.0202, 0.45321, 0.54987, 251, 377.4, None),
        MethodEstimate("share of process", "B - A", "DSL", -0.0712, 0.0303, -0.1534, -0.0123, 251, 290.2, None),
        MethodEstimate("share of none", "", "DSL", human_codes=251, note="25 human-coded rows are needed"),
        MethodEstimate("share of none", "", "PPI++", 0.10234, 0.0404, 0.09123, 0.16345, 251, 300.1, 0.37),
    ),
    notes=("the human-coded rows are taken for a random sample",),
)


def curve():
    human = [LABELS[place % 3] for place in range(150)]
    codings = {
        size: [noisy(human, LABELS, share, 7 * size + seed) for seed in range(3)]
        for size, share in ((20, 0.5), (40, 0.4), (80, 0.33), (160, 0.25))
    }
    return learning_curve(human, codings, Task("nominal", tuple(map(Label, LABELS)), ("response",)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run whose bundle promises something of each label and group, with a limit of novelty, estimates and a curve."""
    folder = tmp_path_factory.mktemp("claims") / "run"
    values, lines = evaluation_of(teacher=False, population=False)
    values["review"]["aim"] = {"aim": "at_most_wrong", "share": 0.07, "confidence": 0.91, "per_label": True}
    values["review"]["aim"] |= {"at_least": None, "groups": "place"}
    values["review"] |= {"met": True, "guarantee": GUARANTEE}
    student = values["agreement"]["student"]
    novel = {"limit": 1.2345, "flagged": 14, "agreement_of_flagged": None, "agreement_of_others": student}
    for split in ("validation", "test"):
        values["review"][split]["novelty"] = novel
    evaluation = msgspec.convert(values, type=Evaluation, strict=False)
    served = exported(evaluation)
    rule = {name: values["review"][name] for name in ("rule", "least_chance", "label_shifts", "notes", "guarantee")}
    figures = replace(served.figures, rule=msgspec.convert({"met": True, **rule}, type=ServedRule))
    write_run(folder, values, lines, fidelity=replace(served, figures=figures))
    (folder / "estimates.json").write_text(ESTIMATES.to_json(), "utf-8")
    (folder / "learning_curve.json").write_text(json.dumps(asdict(curve())), "utf-8")
    manifest = {"version": "1", "precision": "int8", "novelty": FIT, "metrics": {"student": student}}
    (folder / "bundle").mkdir()
    files = {"onnx/model_quantized.onnx": {"bytes": 23_456_789}}
    (folder / "bundle" / "bundle.json").write_text(json.dumps(manifest | {"files": files}), "utf-8")
    return folder


def inputs_of(folder):
    (folder.parent / "project.yaml").write_text(PROJECT, "utf-8")
    return MethodsInputs(report=inputs_of_run(folder), project=read_project(folder.parent / "project.yaml"))


def said(inputs):
    """The paragraphs by heading, with spaces as in a typescript."""
    return {
        each.heading: re.sub("[\u00a0\u202f]", " ", to_markdown(each.text).replace("\\", ""))
        for each in methods(inputs)
    }


def tables_of(inputs):
    return {table.name: table for table in paper_tables(inputs.report)}


def changed(folder, target, file, path, value):
    """A copy of the run in which a number of a file has another value."""
    target.mkdir()
    for each in folder.rglob("*"):
        if each.is_file():
            (target / each.relative_to(folder)).parent.mkdir(exist_ok=True)
            (target / each.relative_to(folder)).write_bytes(each.read_bytes())
    values = place = json.loads((target / file).read_text("utf-8"))
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (target / file).write_text(json.dumps(values), "utf-8")
    if file == "evaluation.json":
        fidelity = json.loads((target / "fidelity.json").read_text("utf-8"))
        fidelity["evaluation"] = file_sha256(target / file)
        (target / "fidelity.json").write_text(json.dumps(fidelity), "utf-8")
    return inputs_of(target)


def leaves(value, path=()):
    """The path of every number in a JSON value."""
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def test_the_promise_is_written_with_its_evidence_and_scope(folder):
    text = said(inputs_of(folder))["Calibration and decision rule"]
    assert (
        "at most 7.0 % differ from the human code (for each label and in each group of place), with 91 % confidence"
    ) in text
    assert (
        "On 412 rows of the validation split with the scores of the int8 and fp32 graphs the rule accepts 317, of "
        "which 13 differ from the human code; the upper 91 % confidence limit of that share is 6.4 % (Table "
        "[guarantee](tables/guarantee.csv))."
    ) in text
    assert "Rows of one learner were not taken as independent: errors were summed by learner (173 with an" in text
    assert "23 students were compared on the same rows" in text
    assert "By label, accepted rows that differ are process 6 of 201 (limit 5.8 %) and none 7 of 116 (limit 6.9" in text
    assert "By place, accepted rows that differ are urban 9 of 211 (limit 6.1 %) and rural 4 of 104 (limit 6.8" in text
    assert "Responses with the label outcome always go to a person." in text
    assert "It holds for responses to the 19 questions of the validation rows and to no other." in text


@pytest.mark.parametrize("path", [*leaves(GUARANTEE)], ids=lambda path: ".".join(map(str, path)))
def test_every_number_of_the_promise_changes_the_text(folder, tmp_path, path):
    before, after = said(inputs_of(folder)), {"share": 0.08, "confidence": 0.97}.get(path[-1], 0.0412)
    value = 29 if path[-1] in ("rows", "accepted", "wrong", "units", "questions", "compared") else after
    inputs = changed(folder, tmp_path / "run", "fidelity.json", ("figures", "rule", "guarantee", *path), value)
    if path in (("share",), ("confidence",)):  # the text has the aim of the project, the table what is promised
        assert f"{value:g}" in tables_of(inputs)["guarantee"].csv()
        return
    shown = f"{100 * value:.1f} %" if isinstance(value, float) else f"{value}"
    after = said(inputs)["Calibration and decision rule"]
    assert after.count(shown) == before["Calibration and decision rule"].count(shown) + 1


def test_the_table_of_the_promise_has_a_row_for_all_for_each_label_and_for_each_group(folder):
    rows = tables_of(inputs_of(folder))["guarantee"].rows
    assert [(row[0], row[1]) for row in rows] == [
        ("all", ""),
        *(("label", name) for name in GUARANTEE["labels"]),
        *(("place", name) for name in GUARANTEE["groups"]),
    ]
    parts = [GUARANTEE, *GUARANTEE["labels"].values(), *GUARANTEE["groups"].values()]
    assert [row[2:] for row in rows] == [
        (each["accepted"], each["wrong"], each["bound"], "0.07", "0.91") for each in parts
    ]


def test_what_could_not_be_promised_is_said_with_the_number_of_rows_that_would_be_enough(folder):
    report = inputs_of(folder).report
    note = "About 140 more coded validation rows would be enough. So every response goes to a person."
    rule = replace(report.fidelity.figures.rule, guarantee=None, met=False, notes=(note,))
    fidelity = replace(report.fidelity, figures=replace(report.fidelity.figures, rule=rule))
    *_, last = guarantee_sentences(replace(report, fidelity=fidelity))
    assert last == f"This could not be promised. {note}"
    assert "guarantee" not in {table.name for table in paper_tables(replace(report, fidelity=fidelity))}


def test_novelty_is_written_with_its_limit_and_its_rate_of_false_alarms(folder):
    inputs = inputs_of(folder)
    text = said(inputs)["Calibration and decision rule"]
    assert "from a normal distribution fitted to the vectors of 733 training texts [@tipping1999]" in text
    assert (
        "The limit, 1.234 times the typical distance, was chosen on the validation rows such that of responses like "
        "them at most 4.3 % are expected beyond it (false alarms); 18 of 397 rows of the validation split and 14 of "
        "120 rows of the test split are (Table [novelty](tables/novelty.csv))."
    ) in text
    kept = inputs.report.served.student.accuracy
    assert tables_of(inputs)["novelty"].rows == (
        ("validation", 397, 18, 1.2345, None, None),
        ("test", 120, 14, 1.2345, None, kept),
    )


def test_without_an_export_novelty_is_that_of_the_student(folder):
    inputs = inputs_of(folder)
    inputs = replace(inputs, report=replace(inputs.report, fidelity=None, bundle=None))
    assert (
        "14 of 60 rows of the validation split and 14 of 120 rows of the test split are"
        in (said(inputs)["Calibration and decision rule"])
    )
    assert [row[:4] for row in tables_of(inputs)["novelty"].rows] == [
        ("validation", 60, 14, 1.2345),
        ("test", 120, 14, 1.2345),
    ]


def test_a_limit_of_novelty_that_rests_on_few_validation_rows_says_so(folder):
    inputs = inputs_of(folder)
    fit = replace_fit(inputs.report.bundle, false_alarms=1 / 13, flagged=0, validation_rows=12)
    text = said(replace(inputs, report=replace(inputs.report, bundle=fit)))["Calibration and decision rule"]
    assert "at most 7.7 % are expected beyond it (false alarms; the project asks for 4.3 %, which takes 23 rows" in text


def test_that_every_response_goes_to_a_person_because_texts_are_few_is_said(folder):
    inputs = inputs_of(folder)
    report = replace(inputs.report, fidelity=None, bundle=None)
    review = report.evaluation.review
    closed = replace(review, rule=msgspec.structs.replace(review.rule, max_novelty=REVIEW_ALL))
    report = replace(report, evaluation=replace(report.evaluation, review=closed))
    text = said(replace(inputs, report=report))["Calibration and decision rule"]
    assert "so that every response goes to a person" in text


def test_without_a_limit_of_novelty_nothing_is_said_to_go_to_a_person_for_it(folder):
    inputs = inputs_of(folder)
    report = inputs.report
    figures = replace(report.fidelity.figures, review=replace(report.fidelity.figures.review, novelty=None))
    fit = replace_fit(report.bundle, false_alarms=None, flagged=0, validation_rows=22)
    report = replace(report, fidelity=replace(report.fidelity, figures=figures), bundle=fit)
    text = said(replace(inputs, report=report))["Calibration and decision rule"]
    assert "but no response goes to a person for it." in text
    assert "novelty" not in {table.name for table in paper_tables(report)}


def replace_fit(bundle, **fields):
    return replace(bundle, novelty=msgspec.structs.replace(bundle.novelty, **fields))


def test_estimates_are_written_by_the_method_to_report(folder):
    inputs = inputs_of(folder)
    text = said(inputs)["Estimates"]
    assert (
        "Label shares and their differences between groups were estimated from machine codes of 5 021 "
        "responses, corrected by human codes of 251 of them in 97 clusters, by DSL [@egami2023]"
    ) in text
    assert (
        "Beside it stand naive estimates, which take machine codes for human codes and PPI++ [@angelopoulos2023]"
        in text
    )
    assert "Share of process: 50 % [45 %, 55 %], as precise as 377 human codes alone." in text
    assert "Share of process, B - A: \u2212.071 [\u2212.15, \u2212.01], as precise as 290 human codes alone." in text
    assert "Where DSL has no estimate, the human-only one is to be reported." in text
    assert "The human-coded rows are taken for a random sample." in text
    assert ".612" not in text
    assert "61 %" not in text
    rows = tables_of(inputs)["estimates"].rows
    for row, each in zip(rows, ESTIMATES.estimates, strict=True):
        value, *rest = row[4:]
        assert (value and (value.value, value.low, value.high)) == (
            (each.value, each.low, each.high) if each.value is not None else None
        )
        assert rest == [
            *(each.standard_error, each.human_codes, each.effective_human_codes, each.machine_weight, each.note)
        ]
        assert row[:4] == (each.estimand, each.group, each.method, each.method == "DSL")


@pytest.mark.parametrize("path", [*leaves(json.loads(ESTIMATES.to_json()))], ids=lambda path: ".".join(map(str, path)))
def test_every_number_of_the_estimates_changes_text_or_table(folder, tmp_path, path):
    if path == ("schema_version",):
        return
    before = inputs_of(folder)
    value = 59 if isinstance(path[-1], str) and path[-1] in ("rows", "human_codes", "clusters") else 0.0592
    after = changed(folder, tmp_path / "run", "estimates.json", path, value)
    both = [(said(each)["Estimates"], tables_of(each)["estimates"].csv()) for each in (before, after)]
    assert both[0] != both[1]


def test_the_learning_curve_is_written_with_its_points_and_predictions(folder):
    inputs, found = inputs_of(folder), curve()
    text = said(inputs)["Learning curve"]
    assert found.predictions
    assert "(3 subsets of each size) and compared with the human codes of 150 rows of the validation split" in text
    for point in found.points:
        assert f"\u03ba {_shown(point.mean)} with {point.rows} rows" in text
    for each in found.predictions:
        assert (
            f"With {each.rows} rows, {each.factor:g} times as many, \u03ba is expected at {_shown(each.kappa)}." in text
        )
    assert f"The last doubling changed \u03ba by {_shown(found.last_doubling)}." in text
    rows = tables_of(inputs)["learning_curve"].rows
    assert [row[1] for row in rows] == [each.rows for each in (*found.points, *found.predictions)]
    assert [row[3] for row in rows] == [
        *(each.mean for each in found.points),
        *(each.kappa for each in found.predictions),
    ]


def test_a_learning_curve_of_earlier_rows_is_left_out(folder):
    inputs = inputs_of(folder)
    older = replace(inputs, report=replace(inputs.report, learning_curve_is_current=False))
    assert "Learning curve" not in said(older)
    assert "learning_curve" not in tables_of(older)


def _shown(estimate):
    def number(value, digits):
        text = f"{abs(value):.{digits}f}"
        return ("\u2212" if value < 0 and float(text) else "") + text.removeprefix("0" if value < 1 else "")

    return f"{number(estimate.value, 3)} [{number(estimate.low, 2)}, {number(estimate.high, 2)}]"


def test_the_sources_of_the_methods_are_in_the_references(folder):
    texts = [each.text for each in methods(inputs_of(folder))]
    found = bibliography(texts)
    for key in ("angelopoulos2021", "hoeffding1963", "bentkus2004", "tipping1999", "egami2023", "angelopoulos2023"):
        assert f"{{{key}," in found


def page_of(report):
    """The words of the page."""
    text = re.sub(r"<(style|svg)\b.*?</\1>", " ", render_page(report)[1], flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text)).replace("\u202f", " "))


def test_the_page_names_the_aim_the_evidence_and_the_rate_of_false_alarms(folder):
    page = page_of(inputs_of(folder).report)
    assert (
        "accept as many responses as possible, of which at most 7.0 % differ from the human code, for each label, in "
        "each group of place, with 91 % confidence. The validation rows met this aim."
    ) in page
    assert "to people, the least confident first" not in page
    for row in ("all 317 13 6.4 %", "label process 201 6 5.8 %", "place urban 211 9 6.1 %"):
        assert row in page
    assert "label outcome never accepted: nothing could be promised" in page
    assert "at most 4.3 % do (false alarms). 14 of 120 test rows are beyond the limit, and 18 of 397 validation" in page


def test_the_page_shows_the_estimates_to_report_before_all_methods(folder):
    page = page_of(inputs_of(folder).report)
    first, _, rest = page.partition("All methods")
    assert "DSL corrects the machine's codes by the human codes" in first
    assert "share of process .502 [.45, .55] 377 .612 [.58, .64]" in first
    assert "share of none no estimate: 25 human-coded rows are needed" in first
    assert "The human-coded rows are taken for a random sample." in first
    assert "PPI++" not in first.partition("Estimates corrected")[2]
    assert "PPI++ 0.102" in rest


def test_the_page_says_that_a_learning_curve_is_of_earlier_rows(folder):
    report = inputs_of(folder).report
    words = "This curve is of earlier train or validation rows"
    assert words not in page_of(report)
    assert words in page_of(replace(report, learning_curve_is_current=False))
