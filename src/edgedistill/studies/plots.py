"""SVG plots with one panel per task and set of test rows: means over seeds with intervals, single seeds as dots."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from edgedistill.studies.estimates import ConditionSummary

_STYLE: Any = {"svg.hashsalt": "edgedistill", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
_PANEL = (4.2, 3.2)


@dataclass(frozen=True, slots=True)
class Curves:
    """Settings of a plot with a numeric horizontal axis.

    Attributes:
        label: Label of this axis.
        x: The value of a condition; None to draw the condition as a horizontal line.
        series: The curves that a condition belongs to.
    """

    label: str
    x: Callable[[ConditionSummary], float | None]
    series: Callable[[ConditionSummary], Sequence[str]]


def curve_plot(found: Sequence[ConditionSummary], curves: Curves, title: str) -> str:
    """Return a plot of macro-F1 with one curve per series."""

    def draw(axes: Any, panel: Sequence[ConditionSummary]) -> None:
        for summary in panel:
            if curves.x(summary) is None and summary.macro_f1:
                axes.axhline(summary.macro_f1.value, color="0.6", linestyle=":", label=summary.first.plan.condition)
        for name, members in _by_series(panel, curves).items():
            xs = [x for each in members if (x := curves.x(each)) is not None]
            shown = [each.macro_f1 for each in members if each.macro_f1]
            (line,) = axes.plot(xs, [each.value for each in shown], marker="o", markersize=3, label=name)
            axes.fill_between(
                xs, [each.low for each in shown], [each.high for each in shown], color=line.get_color(), alpha=0.12
            )
            for each, x in zip(members, xs, strict=True):
                dots = _scores(each)
                axes.plot([x] * len(dots), dots, ".", color=line.get_color(), markersize=2, alpha=0.6)
        axes.set_xlabel(curves.label)
        axes.set_ylabel("macro-F1")
        axes.legend(frameon=False, fontsize=6)

    return _panels(found, draw, title)


def condition_plot(found: Sequence[ConditionSummary], title: str) -> str:
    """Return a plot of the macro-F1 of each condition, one per line."""

    def draw(axes: Any, panel: Sequence[ConditionSummary]) -> None:
        shown = [each for each in panel if each.macro_f1]
        for place, each in enumerate(reversed(shown)):
            value = each.macro_f1
            if value is None:
                continue
            dots = _scores(each)
            axes.plot([value.low, value.high], [place, place], color="0.5", linewidth=1)
            axes.plot(dots, [place] * len(dots), ".", color="tab:blue", markersize=3, alpha=0.6)
            axes.plot(value.value, place, "o", color="black", markersize=4)
        axes.set_yticks(range(len(shown)), [each.first.plan.condition for each in reversed(shown)])
        axes.set_xlabel("macro-F1")

    return _panels(found, draw, title)


def diversity_plot(found: Sequence[ConditionSummary], title: str) -> str:
    """Return a plot of macro-F1 against self-BLEU, with each student labelled by temperature."""

    def draw(axes: Any, panel: Sequence[ConditionSummary]) -> None:
        for each in panel:
            for line in each.lines:
                facts, score = line.plan.facts, line.metrics.agreement.macro_f1
                if facts.get("self_bleu") is not None and score:
                    axes.plot(facts["self_bleu"], score.value, "o", color="tab:blue", markersize=3)
                    axes.annotate(f"{facts['temperature']:g}", (facts["self_bleu"], score.value), fontsize=6)
        axes.set_xlabel("self-BLEU of the synthetic rows (lower: more diverse)")
        axes.set_ylabel("macro-F1")

    return _panels(found, draw, title)


def _scores(summary: ConditionSummary) -> list[float]:
    """The macro-F1 of each seed's student."""
    found = [line.metrics.agreement.macro_f1 for line in summary.lines]
    return [each.value for each in found if each]


def _by_series(panel: Sequence[ConditionSummary], curves: Curves) -> Mapping[str, list[ConditionSummary]]:
    series: dict[str, list[ConditionSummary]] = {}
    for each in panel:
        if each.macro_f1 and curves.x(each) is not None:
            for name in curves.series(each):
                series.setdefault(name, []).append(each)
    return {name: sorted(members, key=lambda each: curves.x(each) or 0.0) for name, members in series.items()}


def _panels(
    found: Sequence[ConditionSummary], draw: Callable[[Any, Sequence[ConditionSummary]], None], title: str
) -> str:
    panels: dict[str, list[ConditionSummary]] = {}
    for each in found:
        panels.setdefault(f"{each.first.plan.task}, {each.first.predictions.test} rows", []).append(each)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_PANEL[0] * len(panels), _PANEL[1]), layout="constrained")
        for axes, (name, members) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            axes.set_title(name, fontsize=8)
            draw(axes, members)
        figure.suptitle(title, fontsize=9)
        written = StringIO()
        # Without a date, the same values give the same file.
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()
