"""The model card reports what was measured, and escapes the codebook's text."""

from typing import Any

import pytest
from ruamel.yaml import YAML

from edgedistill_export import ConversionStep
from edgedistill_export.card import format_card
from edgedistill_serve.bundle.manifest import Golden, GoldenRow, Manifest
from edgedistill_serve.task.task import Label, Task

AGREEMENT = {
    "rows": 120,
    "accuracy": {"value": 0.8, "low": 0.7312, "high": 0.8689},
    "macro_f1": {"value": 0.75, "low": 0.7, "high": 0.81},
    "kappa": {"value": 0.625, "low": 0.5, "high": 0.7},
    "kappa_name": "Cohen's kappa",
    "per_label": {"process": {"precision": None, "recall": 0.5, "f1": 0.25, "support": 40}},
}
GOLDEN = Golden(rows=(GoldenRow({"response": "a learner's own words"}, (1.0, 0.0)),), tolerance={"fp32": 0.001})
STEPS = (
    ConversionStep("PyTorch", "ONNX fp32", 200, 0, 0.0, 3e-7),
    ConversionStep("ONNX fp32", "int8", 200, 3, 0.015, 0.21),
)


def _card(notes: tuple[str, ...] = (), **changes: Any) -> str:
    task = Task("nominal", (Label("process", "praises effort"), Label("outcome")), ("response",))
    about: dict[str, Any] = {
        "name": "praise",
        "version": "",
        "task": task,
        "max_tokens": 64,
        "precision": "int8",
        "files": {},
    }
    draft = Manifest(**(about | changes))
    return format_card(draft, GOLDEN, STEPS, {"fp32": 90_967_721, "int8": 23_116_680}, notes)


def _front_matter(text: str) -> Any:
    return YAML(typ="safe").load(text.split("---\n")[1])


def test_the_front_matter_has_the_hubs_metadata():
    found = _front_matter(_card(provenance={"license": "mit"}))
    assert (found["license"], found["pipeline_tag"]) == ("mit", "text-classification")
    assert "onnx" in found["tags"]


def test_a_missing_licence_is_other():
    assert _front_matter(_card())["license"] == "other"


def test_agreement_is_reported_with_intervals_for_each_coder():
    text = _card(metrics={"student": AGREEMENT, "teacher": AGREEMENT | {"kappa": None}})
    assert "| against human codes | student | teacher |" in text
    assert r"| accuracy | 0.800 \[0.731, 0.869\] | 0.800 \[0.731, 0.869\] |" in text
    assert r"| Cohen's kappa | 0.625 \[0.500, 0.700\] | undefined |" in text
    assert "| process | undefined | 0.500 | 0.250 | 40 |" in text


@pytest.mark.parametrize("rows", [0, 3])
def test_test_rows_that_repeat_training_rows_are_stated_beside_the_figures(rows):
    text = _card(metrics={"student": AGREEMENT}, provenance={"test_texts_also_in_train_or_validation": rows})
    assert (f"{rows} of the test rows are the same to the student as a row that trained or selected it" in text) == (
        rows > 0
    )


def test_the_card_of_a_model_without_agreement_warns():
    assert "Not measured. Do not score learners' responses" in _card()


def test_conversion_steps_sizes_and_notes_are_reported():
    text = _card(notes=("int8 changes the label of 3 rows.",))
    assert "| ONNX fp32 | int8 | 200 | 3 | 1.50% | 0.21 |" in text
    assert r"| onnx/model\_quantized.onnx | 23.1 |" in text
    assert "\nint8 changes the label of 3 rows.\n" in text


def test_the_card_says_that_golden_rows_were_written_for_the_purpose():
    text = _card()
    assert "The 1 texts of `golden.json`" not in text
    assert "No learner's text is in the bundle." in text
    assert "verbatim" not in text


def test_the_card_warns_of_golden_rows_that_are_responses_and_does_not_repeat_them():
    text = _card(provenance={"export": {"golden_rows": "validation"}})
    assert "`golden.json` contains the texts of 1 validation row verbatim" in text
    assert "a learner's own words" not in text


def test_only_int8_rows_must_be_scored_alone():
    assert "one at a time" in _card()
    assert "one at a time" not in _card(precision="fp32")


def test_codebook_text_is_escaped_in_table_cells():
    label = Label("a|b", "first line\n# not a heading | not a cell\n<script>")
    text = _card(task=Task("nominal", (label, Label("c")), ("response",)))
    assert r"| a\|b | first line \# not a heading \| not a cell &lt;script> |" in text


def test_a_name_cannot_end_the_front_matter():
    text = _card(name="x\n---\nlicense: apache-2.0", provenance={"license": "mit\n---"})
    assert _front_matter(text)["license"] == "mit\n---"
    assert "\nlicense: apache-2.0" not in text


def test_provenance_stays_in_its_code_block():
    text = _card(provenance={"teacher": {"model": "```\n# heading"}})
    assert "\n# heading" not in text
    assert '        "model": "```\\n# heading"' in text


def _multilabel(**changes: Any) -> str:
    task = Task("multilabel", (Label("asks", "asks a question"), Label("praises")), ("response",))
    return _card(task=task, thresholds={"asks": 0.25, "praises": 0.5}, **changes)


def test_a_multilabel_card_lists_the_threshold_of_each_code():
    text = _multilabel(temperature=2.0)
    assert "with any number of 2 codes, or none" in text
    # The logit of 0.25 is -ln 3; at temperature 2 the graph's own is twice that, whose sigmoid is 1 / 10.
    assert "| asks | asks a question | 0.250 | 0.100 |" in text
    assert "| praises |  | 0.500 | 0.500 |" in text
    assert "`top_k: null`" in text


def test_a_multilabel_card_reports_agreement_per_code():
    kappa = {"value": 0.5, "low": 0.4, "high": 0.6}
    per_label = {"asks": {"kappa": kappa, "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 7}}
    named = {"kappa_name": "mean kappa over labels", "per_label": per_label}
    student = {"rows": 9, "accuracy": kappa, "macro_f1": kappa, "kappa": kappa}
    text = _multilabel(metrics={"student": student | named})
    assert r"| accuracy (all codes of a response correct) | 0.500 \[0.400, 0.600\] |" in text
    assert r"| mean kappa over labels | 0.500 \[0.400, 0.600\] |" in text
    assert r"| asks | 0.500 \[0.400, 0.600\] | 0.500 | 0.500 | 0.500 | 7 |" in text
