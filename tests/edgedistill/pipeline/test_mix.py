"""What the mixture's file says, and which rows never reach it."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.data.types import MixtureRow, TeacherLabel
from edgedistill.errors import RunError
from edgedistill.pipeline import run_stages
from edgedistill.pipeline.folder import RunFolder
from edgedistill.pipeline.generate import read_synthetic
from edgedistill.pipeline.label import read_labels
from edgedistill.pipeline.mix import mix, novelty_rows, read_mixture, write_mixture
from edgedistill.project.evaluation import ReviewSection
from edgedistill.student.data import FEWEST_TOKENS, MOST_TOKENS, InputSummary, fit_max_tokens
from edgedistill_serve.scoring.encoding import Encoded

from .tiny import run_of, write_tiny


def test_a_mixture_comes_back_from_its_file_unchanged(tmp_path):
    rows = (
        MixtureRow("h\n1", {"response": 'a "quote",\r\nאב 🎉\ttab'}, "yes", "human", {"yes": 1.0}),
        MixtureRow("u", {"response": "new"}, "no", "teacher", {"no": 2 / 3, "yes": 1 / 3}, {"consistency": "0.666667"}),
    )
    write_mixture(RunFolder(tmp_path), rows, ["response"])
    assert read_mixture(RunFolder(tmp_path), ["response"]) == rows


TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text("\r\n\x00\",;\t'=+-@\u2028\x85\x0b\x1c\ufeff ")


@given(texts=st.lists(TEXTS, min_size=6, max_size=6))
def test_a_mixture_of_any_texts_comes_back_from_its_file_unchanged(tmp_path_factory, texts):
    folder = RunFolder(tmp_path_factory.getbasetemp() / "any")
    ident, question, response, label, key, value = texts
    rows = (
        MixtureRow(ident, {"question": question, "response": response}, label, "teacher", {label: 0.5}, {key: value}),
        MixtureRow("b", {"question": response, "response": question}, "no", "human", {"no": 1.0}),
    )
    write_mixture(folder, rows, ["question", "response"])
    assert read_mixture(folder, ["question", "response"]) == rows


@pytest.mark.parametrize("text", ["\r", "a\rb", "\x00", "x" * 200_000, "\u2028", "\x85", '"' * 140_000])
def test_texts_that_are_hard_to_quote_come_back(tmp_path, text):
    rows = (MixtureRow("a", {"response": text}, "yes", "human", {"yes": 1.0}),)
    write_mixture(RunFolder(tmp_path), rows, ["response"])
    assert read_mixture(RunFolder(tmp_path), ["response"]) == rows


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_line_separator_inside_a_text_does_not_end_a_line_of_json(tmp_path, separator):
    folder, text = RunFolder(tmp_path), f"one{separator}two"
    label = TeacherLabel(text, text, 1.0, {text: 1.0}, (text,), "m")
    line = {"id": text, "label": text, "consistency": 1.0, "shares": {text: 1.0}, "votes": [text], "teacher": "m"}
    folder.write_text("labels.jsonl", json.dumps(line, ensure_ascii=False) + "\n")
    assert read_labels(folder) == (label,)
    sample = {"id": "s", "inputs": {"response": text}, "label": "yes", "lineage": {}, "regraded": "yes"}
    folder.write_text("synthetic.jsonl", json.dumps(sample | {"consistent": True}, ensure_ascii=False) + "\n")
    assert [row.inputs for row in read_synthetic(folder)] == [{"response": text}]


@pytest.mark.parametrize("text", ["{", "[]\n", '{"id": "s"}\n'])
def test_damaged_synthetic_responses_are_refused_in_one_sentence(tmp_path, text):
    folder = RunFolder(tmp_path)
    folder.write_text("synthetic.jsonl", text)
    with pytest.raises(RunError, match=r"synthetic\.jsonl: is damaged. `edgedistill generate PROJECT` writes it again"):
        read_synthetic(folder)


def test_half_a_character_is_refused_in_one_sentence(tmp_path):
    rows = (MixtureRow("a", {"response": "\ud800"}, "yes", "human", {"yes": 1.0}),)
    with pytest.raises(RunError, match=r"mixture\.csv: cannot be written: it would hold half a character"):
        write_mixture(RunFolder(tmp_path), rows, ["response"])


def test_a_mixture_of_another_task_is_refused(tmp_path):
    write_mixture(
        RunFolder(tmp_path), (MixtureRow("a", {"response": "x"}, "yes", "human", {"yes": 1.0}),), ["response"]
    )
    with pytest.raises(RunError, match="belongs to a project with another task"):
        read_mixture(RunFolder(tmp_path), ["question", "response"])


def write_rows(file, columns, rows):
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])


@pytest.fixture
def project(tmp_path):
    """A project whose tokenizer knows a few words, with texts that it cannot read or tell apart."""
    file = write_tiny(tmp_path / "p")
    file.write_text(
        "name: tiny\ntask: {labels: [{name: process}, {name: outcome}]}\n"
        "data: {human: human.csv, unlabelled: responses.csv}\nstudent: {backbone: ./backbone}\n"
    )
    split = ["train"] * 8 + ["validation"] * 4 + ["test"] * 4
    words = ["you", "the", "a", "bulb", "circuit", "again", "so", "very", "now", "please", "look", "battery", "is"]
    words += ["it", "tried", "smart"]
    human = [(f"h{n}", f"{word} {word} did", ("process", "outcome")[n % 2], split[n]) for n, word in enumerate(words)]
    human += [("bad", "\U0001f44d \U0001f44d zzz", "process", "train"), ("odd", "qqq rrr", "process", "validation")]
    human += [("smiley", "smart now \U0001f600", "outcome", "test")]
    write_rows(file.parent / "human.csv", ("id", "response", "label", "split"), human)
    pool = [("u0", "smart now \U0001f44d"), ("u1", "tried it"), ("u2", "ppp qqq"), ("u3", "look now please very did")]
    write_rows(file.parent / "responses.csv", ("id", "response"), pool)
    run = run_of(file)
    labels = [
        {"id": name, "label": "process", "consistency": 1.0, "shares": {"process": 1.0}, "votes": ["process"]}
        | {"teacher": "m"}
        for name, _ in pool
    ]
    run.folder.write_text("labels.jsonl", "".join(json.dumps(line) + "\n" for line in labels))
    return file


def test_rows_that_the_student_cannot_read_or_tell_from_a_locked_row_are_set_aside(project):
    run = run_of(project)
    entry = mix(run)
    unknown = "mostly unknown to the student's vocabulary"
    assert entry["rows_set_aside"] == [
        {"id": "bad", "source": "human", "reason": unknown, "detail": ""},
        {"id": "u0", "source": "teacher", "reason": "the same tokens as a test row", "detail": "smiley"},
        {"id": "u2", "source": "teacher", "reason": unknown, "detail": ""},
    ]
    assert entry["unreadable_validation_rows"] == ["odd"]
    assert {row.id for row in read_mixture(run.folder, ["response"])} == {*(f"h{n}" for n in range(8)), "u1", "u3"}
    assert entry["rows"] + len(entry["rows_set_aside"]) == len(run.records.splits.train) + 4
    assert f"9 human rows = 8 used + 1 {unknown}." in entry["notes"]
    assert f"4 teacher rows = 2 used + 1 the same tokens as a test row + 1 {unknown}." in entry["notes"]
    assert "Rows set aside are listed in run.json, in stages.mix.rows_set_aside." in entry["notes"]
    assert "1 validation rows set aside, which the student cannot read." in entry["notes"]


def test_the_longest_input_follows_the_training_rows_unless_it_is_given(project):
    entry = mix(run_of(project))
    assert entry["max_tokens"] == FEWEST_TOKENS
    assert "max_tokens = 32, from the lengths of the training rows." in entry["notes"]
    project.write_text(project.read_text().replace("./backbone}", "./backbone, max_tokens: 8}"))
    entry = mix(run_of(project))
    assert entry["max_tokens"] == 8
    assert entry["inputs"]["responses_cut"] == 0


def encoded(length, *, response=None, context=0, lost=0, unknown=0.0):
    truncated = response is not None and response > length
    return Encoded((1,) * length, (0,) * length, response or length, truncated, False, unknown, context, lost)


@pytest.mark.parametrize(
    ("lengths", "positions", "expected"),
    [
        ([10] * 99 + [400], 512, FEWEST_TOKENS),
        ([10] * 90 + [100] * 10, 512, 112),
        ([96] * 100, 512, 96),
        ([97] * 100, 512, 112),
        ([700] * 100, None, MOST_TOKENS),
        ([700] * 100, 8192, MOST_TOKENS),
        ([700] * 100, 64, 64),
        ([10], 24, 24),
        ([], None, FEWEST_TOKENS),
    ],
)
def test_the_longest_input_is_a_percentile_within_limits(lengths, positions, expected):
    assert fit_max_tokens([encoded(length) for length in lengths], positions) == expected


def test_every_cut_input_is_counted():
    rows = [
        encoded(8),
        encoded(8, response=9, context=5, lost=5),
        encoded(8, context=6, lost=2),
        encoded(8, context=6, lost=6),
        encoded(8, context=2, unknown=0.75),
    ]
    summary = InputSummary.of(rows)
    assert summary == InputSummary(5, 0.15, 1, 1, 3, 2)
    assert summary.notes("test", 8) == (
        "1 of 5 test responses are mostly unknown to the student's vocabulary.",
        "1 of 5 test responses were truncated to max_tokens = 8.",
        "3 of 5 test rows lost part of their context to max_tokens = 8, 2 of them all of it.",
    )
    assert InputSummary.of(rows[:1]).notes("test", 8) == ()


def test_rows_whose_context_the_student_cannot_read_are_counted():
    rows = [replace(encoded(8, context=6), context_unknown_share=share) for share in (0.0, 0.5, 0.51, 1.0)]
    summary = InputSummary.of(rows)
    assert (summary.contexts_unknown, summary.mostly_unknown) == (2, 0)
    assert summary.notes("test", 8) == (
        "2 of 4 test rows have a context that is mostly unknown to the student's vocabulary.",
    )


def test_a_run_without_a_longest_input_uses_that_of_the_mixture_and_counts_what_it_reads(project):
    (project.parent / "runs" / "tiny" / "labels.jsonl").unlink()
    project.write_text(
        project.read_text().replace("./backbone}", "./backbone, search: {epochs: [1], learning_rate: [1e-3]}}")
    )
    run = run_of(project)
    run_stages(run, until="evaluate")
    assert run.max_tokens == FEWEST_TOKENS
    assert [row.id for row in run.validation.responses] == ["h8", "h9", "h10", "h11"]
    inputs = run.folder.run_log["stages"]["evaluate"]["inputs"]
    assert inputs["validation"]["rows"] == 4
    assert inputs["test"]["rows"] == 5
    assert inputs["test"]["unknown_share"] == pytest.approx(1 / 3 / 5, abs=1e-6)


def test_test_rows_that_only_the_tokenizer_merges_with_train_rows_are_counted_as_the_same(project):
    (project.parent / "runs" / "tiny" / "labels.jsonl").unlink()
    with (project.parent / "human.csv").open("a", encoding="utf-8") as file:
        file.write("twin,smart now \U0001f680,outcome,train\r\n")
    project.write_text(
        project.read_text().replace("./backbone}", "./backbone, search: {epochs: [1], learning_rate: [1e-3]}}")
    )
    run = run_of(project)
    assert run.records.splits.twins.test_same == ()
    run_stages(run, until="evaluate")
    evaluation = run.evaluation
    assert evaluation.test_texts_also_in_train_or_validation == 1
    assert evaluation.twins.without_same["student"].rows == 4


@pytest.mark.parametrize(
    "section", ["{}", "{human: 4, teacher: 1}", "{teacher: 0}", "{min_consistency: 0.9}", "{human: 0}"]
)
def test_every_row_of_a_source_is_used_or_counted_with_the_reason(project, section):
    project.write_text(project.read_text("utf-8") + f"mix: {section}\n", "utf-8")
    run = run_of(project)
    lines = [json.loads(line) for line in (run.folder / "labels.jsonl").read_text("utf-8").splitlines()]
    lines[3]["consistency"] = 0.6
    run.folder.write_text("labels.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    entry = mix(run)
    assert {source: counts["read"] for source, counts in entry["sources"].items()} == {"human": 9, "teacher": 4}
    for source, counts in entry["sources"].items():
        assert counts["used"] == entry["by_source"].get(source, 0)
        assert counts["read"] == counts["used"] + sum(counts["not_used"].values())
        assert all(n > 0 for n in counts["not_used"].values())
    below = entry["sources"]["teacher"]["not_used"].get("consistency below mix.min_consistency", 0)
    assert below == ("0.9" in section)


@pytest.mark.parametrize(("real", "used"), [(30, 30), (29, 49)])
def test_new_responses_are_compared_with_learners_texts_and_with_synthetic_ones_only_if_there_are_too_few(
    tmp_path, real, used
):
    rows = [
        MixtureRow(
            f"r{number}", {"response": f"text {number}"}, "yes", "teacher" if number % 2 else "human", {"yes": 1.0}
        )
        for number in range(real)
    ]
    rows += [
        MixtureRow(f"s{number}", {"response": f"synthetic {number}"}, "no", "synthetic", {"no": 1.0})
        for number in range(20)
    ]
    write_mixture(RunFolder(tmp_path), rows, ["response"])

    def run_with(review):
        project, task = SimpleNamespace(review=review), SimpleNamespace(inputs=("response",))
        return SimpleNamespace(project=project, folder=RunFolder(tmp_path), task=task)

    assert len(novelty_rows(run_with(None))) == used
    assert novelty_rows(run_with(ReviewSection(novelty=None))) == []
