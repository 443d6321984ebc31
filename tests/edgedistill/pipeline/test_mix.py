"""What the mixture's file says."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.data.types import MixtureRow, TeacherLabel
from edgedistill.errors import RunError
from edgedistill.pipeline.folder import RunFolder
from edgedistill.pipeline.generate import read_synthetic
from edgedistill.pipeline.label import read_labels
from edgedistill.pipeline.mix import read_mixture, write_mixture


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
