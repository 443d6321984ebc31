"""The report and the model card agree: every figure of the card is in the report."""

import re

from edgedistill.report.page import render_page
from edgedistill_export import ConversionStep
from edgedistill_export.card import format_card
from edgedistill_serve.bundle.manifest import Golden, GoldenRow, Manifest
from edgedistill_serve.task.task import Label, Task

from .runs import LABELS, evaluation_of, inputs_of_run, write_run
from .test_page import Seen


def _card(values):
    task = Task("nominal", tuple(map(Label, LABELS)), ("response",))
    draft = Manifest(
        name="praise",
        version="",
        task=task,
        max_tokens=64,
        precision="int8",
        files={},
        temperature=values["calibration"]["temperature"],
        metrics=values["agreement"],
    )
    golden = Golden(rows=(GoldenRow({"response": "x"}, (1.0, 0.0, 0.0)),), tolerance={"fp32": 0.001})
    return format_card(draft, golden, (ConversionStep("PyTorch", "int8", 60, 0, 0.0, 0.1),), {"int8": 1_000_000}, ())


def _cells(text, name):
    """The figures in the card's line of that name: each with the ends of its interval, where it has one."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [[float(number) for number in re.findall(r"\d+\.\d+|\d+", cell)] for cell in line.split("|")[2:-1]]


def _figure(value):
    return f"{value:.3f}".removeprefix("0")


def test_every_headline_figure_of_the_card_is_in_the_report_with_the_same_interval(tmp_path):
    values, lines = evaluation_of()
    write_run(tmp_path, values, lines)
    words = Seen(render_page(inputs_of_run(tmp_path))[1]).words
    for name in ("accuracy", "macro-F1", "Cohen's kappa"):
        line = words.partition(f" {name} .")[2][:120]
        shown = [[float(number) for number in re.findall(r"\d*\.\d+", cell)] for cell in f".{line}".split("]")[:3]]
        del shown[1]  # the student before the export, which the card does not state
        for of_card, of_report in zip(_cells(_card(values), name), shown, strict=True):
            assert of_report[0] == of_card[0]
            # The card has three decimals of an end where the report has two.
            assert all(abs(one - other) <= 0.0055 for one, other in zip(of_card[1:], of_report[1:], strict=True))


def test_every_label_of_the_card_has_the_same_figures_in_the_report(tmp_path):
    values, lines = evaluation_of()
    write_run(tmp_path, values, lines)
    words = Seen(render_page(inputs_of_run(tmp_path))[1]).words
    singles = words.partition("Precision and recall per label")[2]
    for name in LABELS:
        (precision,), (recall,), (f1,), (support,) = _cells(_card(values).partition("Per code, student")[2], name)
        told_line = rf"{name} {support:g} {re.escape(_figure(precision))} \[[^]]*\] {re.escape(_figure(recall))} "
        assert re.search(told_line + rf"\[[^]]*\] {re.escape(_figure(f1))} ", singles), name


def test_neither_calls_probabilities_uncalibrated_that_the_other_calls_calibrated(tmp_path):
    values, lines = evaluation_of()
    write_run(tmp_path, values, lines)
    assert "not calibrated" not in _card(values)
    assert "not calibrated" not in render_page(inputs_of_run(tmp_path))[1]
    values["calibration"] |= {"method": "none", "temperature": 1.0}
    write_run(tmp_path, values, lines)
    assert "not calibrated" in _card(values)
    assert "not calibrated" in render_page(inputs_of_run(tmp_path))[1]
