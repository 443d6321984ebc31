"""A finished bundle on a coded file: the figures, its promise, its training rows, and files that cannot be used."""

import csv
import itertools
import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from edgedistill.cli.commands import app
from edgedistill.errors import ArgumentError, DataError
from edgedistill.evaluation.coded_file import evaluate_bundle
from edgedistill_serve import Scorer
from edgedistill_serve.bundle.guarantee import Guarantee, GuaranteedPart
from edgedistill_serve.bundle.manifest import ReviewRule

from ...promises import promise

WORDS = ("you", "worked", "hard", "great", "job", "smart", "answer", "why")
TEXTS = [" ".join(words) for words in itertools.islice(itertools.permutations(WORDS, 3), 80)]
LABELS = ("process", "outcome", "person")
PARTS = dict.fromkeys(LABELS, GuaranteedPart(accepted=50, wrong=1, bound=0.09))
GUARANTEE = promise(share=0.1, rows=200, accepted=150, wrong=3, bound=0.08, units=150, labels=PARTS)


def another(label):
    return LABELS[(LABELS.index(label) + 1) % 3]


@pytest.fixture(scope="module")
def bundle(make_bundle, tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundles") / "praise", guarantee=GUARANTEE)


@pytest.fixture(scope="module")
def coded(bundle):
    """Rows of which every tenth has another human code than the bundle's label."""
    labels = [score.label for score in Scorer(bundle).score(TEXTS)]
    codes = [another(label) if place % 10 == 0 else label for place, label in enumerate(labels)]
    frame = pd.DataFrame({"id": [f"c{n}" for n in range(80)], "response": TEXTS, "label": codes})
    return frame.assign(school=["north", "south"] * 40, learner=[f"l{n % 20}" for n in range(80)], second=labels)


def test_agreement_and_errors_are_those_of_the_labels_that_the_bundle_gives(bundle, coded):
    found = evaluate_bundle(bundle, coded)
    assert (found.rows, found.read, dict(found.set_aside)) == (80, 80, {})
    assert found.agreement["student"].accuracy.value == pytest.approx(0.9)
    errors, outcome = found.review.errors, found.review.outcome
    assert (errors.accepted, outcome.accepted, outcome.rows) == (80, 80, 80)
    assert errors.wrong == 8
    # Clopper & Pearson for 8 of 80
    assert (errors.share.value, errors.share.low, errors.share.high) == pytest.approx((0.1, 0.0442, 0.1876), abs=1e-4)
    assert found.probabilities.rows == 80
    assert found.bundle.version == bundle.manifest.version
    assert "Cohen's kappa" in repr(found)


def test_a_promise_is_compared_with_the_errors_here_also_for_each_label(bundle, coded):
    whole, *of_labels = evaluate_bundle(bundle, coded).review.promises
    assert (whole.of, whole.promised, whole.outcome, whole.errors.wrong) == ("all", 0.1, "consistent", 8)
    assert [promise.of for promise in of_labels] == [f"label {name}" for name in LABELS]
    assert sum(promise.errors.wrong for promise in of_labels) == 8
    right = coded.assign(label=coded.second)
    assert evaluate_bundle(bundle, right).review.promises[0].outcome == "kept"
    wrong = coded.assign(label=[another(label) for label in coded.second])
    assert evaluate_bundle(bundle, wrong).review.promises[0].outcome == "contradicted"


def test_a_promise_about_another_graph_is_none_and_the_note_says_so(make_bundle, coded, tmp_path):
    of_int8 = Guarantee(**(as_dict(GUARANTEE) | {"graphs": ("int8",)}))
    other = make_bundle(tmp_path / "other", guarantee=of_int8, tolerance={"int8": 1e-12, "fp32": 1e-5})
    found = evaluate_bundle(other, coded)
    assert (found.review.guarantee, found.review.promises) == (None, ())
    assert any("Nothing is promised here" in note for note in found.notes)


def as_dict(guarantee):
    return {name: getattr(guarantee, name) for name in guarantee.__struct_fields__}


def test_a_file_whose_rows_all_have_one_code_is_measured(bundle, coded):
    found = evaluate_bundle(bundle, coded.assign(label="person"))
    assert found.rows == 80


def test_rows_that_a_rule_reviews_are_counted_by_reason_and_are_no_errors(make_bundle, coded, tmp_path):
    never = make_bundle(tmp_path / "never", review=ReviewRule(thresholds=dict.fromkeys(LABELS, 1.0)))
    found = evaluate_bundle(never, coded)
    assert found.review.outcome.reasons == {"below threshold": 80}
    assert (found.review.errors.accepted, found.review.errors.share) == (0, None)


def test_novelty_beyond_the_limit_is_counted(make_novelty_bundle, coded, tmp_path):
    found = evaluate_bundle(make_novelty_bundle(tmp_path / "new", max_novelty=0.0), coded)
    assert found.review.outcome.novelty.flagged == 80
    assert found.review.outcome.reasons == {"unlike training": 80}


def test_groups_clusters_and_coders_are_columns_of_the_file(bundle, coded):
    found = evaluate_bundle(bundle, coded, groups=["school"], clusters="learner", coders=["second"], positive="person")
    (table,) = found.subgroups
    assert [(group.value, group.rows) for group in table.groups] == [("north", 40), ("south", 40)]
    assert found.agreement["student"].groups == 20
    assert found.human_agreement.coders == ("label", "second")
    assert found.agreement["student"].averages["binary"].f1 is not None


def test_questions_with_enough_rows_have_figures(make_bundle, coded, tmp_path):
    answers = make_bundle(tmp_path / "answers", inputs=("question", "response"))
    frame = coded.assign(question=["why is this"] * 50 + ["what is that"] * 29 + ["who"])
    frame = frame.assign(
        label=[each.label for each in Scorer(answers).score(frame[["question", "response"]].to_dict("records"))]
    )
    found = evaluate_bundle(answers, frame)
    assert [(group.value, group.rows, group.suppressed) for group in found.questions.groups] == [
        ("what is that", 29, False),
        ("who", 1, True),
        ("why is this", 50, False),
    ]


def test_training_rows_are_left_out_and_other_rows_with_their_text_are_counted(bundle, coded):
    again = pd.DataFrame({"id": ["c0", "other", "x"], "response": [TEXTS[0], TEXTS[1].upper(), "nowhere"]})
    found = evaluate_bundle(bundle, coded, training=again)
    assert found.training.known
    assert (found.training.excluded, found.training.same) == (1, 1)
    assert found.rows == 79
    assert dict(found.set_aside) == {"row that the bundle was trained on, or that selected it": 1}
    assert (found.training.near, found.training.without.rows) == (2, 76)


def test_without_ids_every_row_with_the_text_of_a_training_row_is_left_out(bundle, coded):
    found = evaluate_bundle(bundle, coded, training=TEXTS[:3])
    assert (found.training.excluded, found.training.same, found.rows) == (3, 0, 77)


def test_unknown_training_rows_are_said_to_be_unknown(bundle, coded):
    found = evaluate_bundle(bundle, coded)
    assert not found.training.known
    assert found.notes[0].startswith("The bundle does not say which texts it was trained on.")


def test_rows_of_the_splits_train_and_validation_and_rows_without_a_code_are_set_aside(bundle, coded):
    split = ["train"] * 10 + ["validation"] * 5 + ["test"] * 60 + [""] * 5
    found = evaluate_bundle(bundle, coded.assign(split=split, label=[*coded.label[:-1], None]))
    assert found.rows == 64
    assert dict(found.set_aside) == {"no human code": 1, "train or validation row, by its column split": 15}


def test_a_file_gives_the_figures_of_its_frame(bundle, coded, tmp_path):
    for name, write in (
        ("coded.csv", lambda file: coded.to_csv(file, index=False)),
        ("coded.jsonl", lambda file: coded.to_json(file, orient="records", lines=True)),
        ("coded.parquet", coded.to_parquet),
    ):
        write(tmp_path / name)
        found = evaluate_bundle(bundle, tmp_path / name)
        assert found.agreement == evaluate_bundle(bundle, coded).agreement
        assert (found.file, len(found.sha256)) == (name, 64)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda frame: frame.drop(columns="label"), {}, "there is no column 'label' of human codes; the"),
        (lambda frame: frame.drop(columns="response"), {}, "there is no column 'response' that the bundle reads; the"),
        (lambda frame: frame, {"groups": ["class"]}, "there is no column 'class' of groups (--group); the columns are"),
        (lambda frame: frame, {"coders": ["third"]}, "there is no column 'third' of a coder (--coder)"),
        (
            lambda frame: frame.assign(label=["praise", *frame.label[1:]]),
            {},
            "row 0: unknown label 'praise'; use one of",
        ),
        (lambda frame: frame.assign(id="c0"), {}, "row 1: the id 'c0' is already used in row 0"),
        (lambda frame: frame.assign(label=""), {}, "none of its 80 rows can be measured (80 no human code)"),
        (lambda frame: frame[:0], {}, "has no rows"),
        (lambda frame: frame, {"training": TEXTS}, "none of its 80 rows can be measured (80 row that the bundle was"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(bundle, coded, change, options, message):
    with pytest.raises(DataError) as error:
        evaluate_bundle(bundle, change(coded), **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert "project file" not in str(error.value)


def test_arguments_that_cannot_be_used_are_refused(bundle, coded):
    with pytest.raises(ArgumentError, match="positive is not a label of the bundle, which are process, outcome"):
        evaluate_bundle(bundle, coded, positive="praise")
    with pytest.raises(ArgumentError, match="coded must be a DataFrame or a file, not list"):
        evaluate_bundle(bundle, [1])


@pytest.fixture
def command(bundle, coded, tmp_path):
    """Runs `edgedistill evaluate` on the coded file."""
    coded.to_csv(tmp_path / "coded.csv", index=False)

    def run(*options, target=bundle.folder, on=True):
        given = ["--on", str(tmp_path / "coded.csv")] if on else []
        return CliRunner().invoke(app, ["evaluate", str(target), *given, *options])

    return run


def test_the_command_prints_tables_and_writes_the_same_figures(command, tmp_path):
    done = command("--group", "school", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    for part in (
        "praise",
        "Cohen's kappa",
        "north",
        "wrong among the accepted: 8 of 80",
        "promised: at most 0.1 wrong",
    ):
        assert part in done.output
    written = json.loads((tmp_path / "out/evaluation.json").read_text())
    printed = json.loads(command("--group", "school", "--json").stdout)
    assert written == printed
    assert printed["agreement"]["student"]["rows"] == 80


@pytest.mark.parametrize(
    ("options", "on", "message"),
    [
        ((), False, "a bundle is measured on a coded file. Name the file: --on coded.csv."),
        (("--offline",), True, "--offline and --accept-teacher cannot be used with --on: it asks no teacher"),
    ],
)
def test_options_that_do_not_fit_are_refused(command, options, on, message):
    error = command(*options, on=on).exception
    assert isinstance(error, ArgumentError)
    assert message in str(error)


def test_options_of_a_coded_file_need_one(command, tmp_path):
    error = command("--group", "school", target=tmp_path / "project.yaml", on=False).exception
    assert "--group needs --on, a coded file" in str(error)


def test_a_project_leaves_out_its_training_rows(command, coded, tmp_path):
    texts = [f"{text} on this" for text in TEXTS]
    with (tmp_path / "human.csv").open("w", newline="") as stream:
        rows = [(f"h{n}", text, LABELS[n % 3], "north") for n, text in enumerate(texts[:27])]
        csv.writer(stream).writerows([("id", "response", "label", "school"), *rows, ("c0", TEXTS[0], "process", "")])
    (tmp_path / "project.yaml").write_text(
        "name: praise\ntask: {labels: [{name: process}, {name: outcome}, {name: person}]}\ndata: {human: human.csv, "
        "split: {train: 0.4, validation: 0.3, test: 0.3}}\nevaluation: {subgroups: [school]}\n"
    )
    done = command("--project", str(tmp_path / "project.yaml"), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["training"]["known"]
    assert [table["column"] for table in found["subgroups"]] == ["school"]
    assert found["rows"] + found["training"]["excluded"] == 80
