"""Plots of the report as inline SVG, each with a text alternative."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from statistics import median
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.figure import Figure

from edgedistill.agreement import Estimate, ReliabilityBin
from edgedistill.decisions import RiskCoverageCurve
from edgedistill.decisions.learning_curve import LearningCurve
from edgedistill.evaluation.types import DecisionRule
from edgedistill.report.formatting import count, estimate, figure, percent, rows
from edgedistill.report.inputs import StudyRun
from edgedistill.report.sections import TrialSummary
from edgedistill.sizes import SizeChoice

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_DROPPED = {"font-family"}


def inline(svg: str, name: str, colours: dict[str, str]) -> str:
    """Return an SVG document of matplotlib as an element of an HTML page.

    The page's Content-Security-Policy allows no style attributes, so they become presentation attributes. Text is in
    the fonts of the page.

    Args:
        svg: A document as matplotlib writes it.
        name: Of the plot, unique in the page.
        colours: The replacement of each colour of the drawing, such as ``currentColor`` for ``#010203``.
    """
    root = ET.fromstring(svg)  # noqa: S314  # our own drawing
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        _inline_styles(element, name, colours)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("stroke-linejoin", "round")
    # The enclosing element has the text alternative.
    root.set("aria-hidden", "true")
    return ET.tostring(root, encoding="unicode")


def _inline_styles(element: ET.Element, name: str, colours: dict[str, str]) -> None:
    """Turn style declarations into attributes, and make ids unique to the plot."""
    attributes = dict(element.attrib)
    element.attrib.clear()
    style = attributes.pop("style", "")
    pairs = [part.partition(":") for part in style.split(";") if part.strip()]
    for key, value in [*attributes.items(), *((key.strip(), value.strip()) for key, _, value in pairs)]:
        if key not in _DROPPED:
            element.set("href" if key == _LINK else key, _scoped(key, colours.get(value, value), name))


def _scoped(key: str, value: str, name: str) -> str:
    """The value with the plot's name before every id that it defines or refers to."""
    if key == "id":
        return f"{name}-{value}"
    if key == _LINK:
        return value.replace("#", f"#{name}-", 1)
    return value.replace("url(#", f"url(#{name}-")


_INK, _FAINT, _PAPER = "#010203", "#010204", "#010205"
_SERIES = ("#010206", "#010207", "#010208", "#010209")
_COLOURS = {
    _INK: "var(--ink)",
    _FAINT: "var(--faint)",
    _PAPER: "var(--paper)",
    **{colour: f"var(--series-{place})" for place, colour in enumerate(_SERIES, 1)},
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgedistill",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_MARKS = ("o", "s", "^", "D")
_MAX_CURVES = 8
_FEW_ROWS = 10


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot of the page: its SVG and a text alternative."""

    svg: str
    description: str


def agreement_plot(kappas: Mapping[str, Estimate | None], required: float, name: str) -> Plot | None:
    """Draw κ of every coding with its interval, and the required value; None if none is defined.

    Args:
        kappas: By coding.
        required: κ that the model must reach.
        name: Which κ it is, such as ``quadratic weighted κ``.
    """
    shown = {coding: each for coding, each in kappas.items() if each}
    if not shown:
        return None

    def draw(axes: Any) -> None:
        for place, each in enumerate(reversed(shown.values())):
            axes.plot([each.low, each.high], [place, place], color=_SERIES[0], linewidth=2, solid_capstyle="round")
            axes.plot(each.value, place, "o", color=_SERIES[0], markersize=6)
        axes.axvline(required, color=_SERIES[1], linestyle="--", linewidth=1.2)
        axes.text(required, len(shown) - 0.25, f"required: {required:g}", ha="center", va="bottom", color=_SERIES[1])
        axes.set_yticks(range(len(shown)), list(reversed(shown)), parse_math=False)
        axes.set_ylim(-0.5, len(shown) - 0.3)
        axes.set_xlim(min(0, *(each.low for each in shown.values())) - 0.02, 1.02)
        axes.set_xlabel(f"{name} with 95 % confidence interval (0 = chance, 1 = perfect agreement)")

    values = "; ".join(f"{coding} {estimate(each)}" for coding, each in shown.items())
    svg = _svg("agreement", draw, (6.6, 0.8 + 0.36 * len(shown)))
    return Plot(svg, f"{name} with 95 % confidence intervals: {values}. Required: {required:g}.")


def reliability_plot(bins: Sequence[ReliabilityBin]) -> Plot:
    """Draw accuracy by mean predicted probability, a point for each bin with rows."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=_FAINT, linestyle="--", linewidth=1)
        for each in bins:
            at, colour = [each.mean_probability] * 2, _FAINT if each.rows < _FEW_ROWS else _SERIES[0]
            axes.plot(at, [each.accuracy.low, each.accuracy.high], color=colour, linewidth=1.5)
            axes.plot(at[0], each.accuracy.value, "o", color=colour, markersize=5)
            # To the right of its interval, and above the axis.
            axes.annotate(
                count(each.rows),
                (at[0], each.accuracy.value),
                (5, 7 if each.accuracy.value < 0.15 else -8),
                textcoords="offset points",
                color=_INK,
                bbox={"facecolor": _PAPER, "edgecolor": "none", "pad": 0.4},
                zorder=4,
            )
        axes.set_xlim(0, 1.16)  # room for the number of the last bin
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        axes.set_ylim(0, 1.04)
        axes.set_xlabel("mean predicted probability")
        axes.set_ylabel("accuracy")

    values = "; ".join(
        f"{rows(each.rows)} with mean probability {figure(each.mean_probability, 2)}: accuracy "
        f"{percent(each.accuracy.value)}"
        for each in bins
    )
    return Plot(_svg("reliability", draw, (3.3, 3.1)), f"Accuracy by predicted probability. {values}.")


def risk_plot(review: DecisionRule) -> Plot:
    """Draw accuracy by the share of responses that is accepted, and the review rule."""
    test, curve = review.test, review.risk_coverage.test

    def draw(axes: Any) -> None:
        at = [point.coverage for point in curve.points]
        axes.fill_between(
            at,
            [point.accuracy.low for point in curve.points],
            [point.accuracy.high for point in curve.points],
            color=_SERIES[0],
            alpha=0.15,
            linewidth=0,
        )
        axes.plot(at, [point.accuracy.value for point in curve.points], color=_SERIES[0], label="test rows")
        validation = review.risk_coverage.validation.points
        axes.plot(
            [point.coverage for point in validation],
            [point.accuracy.value for point in validation],
            color=_SERIES[2],
            linestyle=":",
            label="validation rows",
        )
        if test.agreement and review.aim:
            axes.plot(
                test.share_accepted.value,
                test.agreement.accuracy.value,
                "D",
                color=_SERIES[1],
                markersize=7,
                label="review rule, test rows",
            )
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("coverage (share accepted without review)")
        axes.set_ylabel("accuracy of accepted responses")
        axes.legend(frameon=False, loc="lower left")

    return Plot(_svg("risk", draw, (3.6, 3.1)), _risk_description(curve))


def _risk_description(curve: RiskCoverageCurve) -> str:
    some = [curve.points[place] for place in sorted({0, len(curve.points) // 2, len(curve.points) - 1})]
    values = "; ".join(f"{percent(point.accuracy.value)} at {percent(point.coverage)} coverage" for point in some)
    return f"Accuracy of the most confident test rows: {values}."


def learning_plot(trials: Sequence[TrialSummary]) -> Plot | None:
    """Draw macro-F1 on validation rows by epoch; None if no trial has two epochs."""
    curves = [each for each in trials if len(each.epochs) > 1]
    if not curves:
        return None
    best = sorted(curves, key=lambda each: (not each.selected, -(each.macro_f1 or 0)))[:_MAX_CURVES]

    def draw(axes: Any) -> None:
        for each in reversed(best):
            colour, width = (_SERIES[0], 2) if each.selected else (_FAINT, 1)
            axes.plot(range(1, len(each.epochs) + 1), each.epochs, color=colour, linewidth=width)
            if each.selected and each.macro_f1 is not None:
                axes.plot(each.best_epoch, each.macro_f1, "o", color=colour, markersize=6)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("epoch")
        axes.set_ylabel("macro-F1, validation rows")

    values = ", ".join(figure(each) for each in best[0].epochs)
    return Plot(_svg("learning", draw, (4.6, 2.6)), f"macro-F1 of the selected trial by epoch: {values}.")


def curve_plot(curve: LearningCurve) -> Plot:
    """Draw κ by number of human train rows, with intervals, and what the fitted curve predicts."""

    def draw(axes: Any) -> None:
        for colour, points in (
            (_SERIES[0], [(each.rows, each.mean) for each in curve.points]),
            (_SERIES[1], [(each.rows, each.kappa) for each in curve.predictions]),
        ):
            for at, each in points:
                axes.plot([at, at], [each.low, each.high], color=colour, linewidth=1.5)
            style = "-" if colour == _SERIES[0] else ":"
            axes.plot([at for at, _ in points], [each.value for _, each in points], f"o{style}", color=colour)
        axes.set_xscale("log")
        shown = [*(each.rows for each in curve.points), *(each.rows for each in curve.predictions)]
        axes.set_xticks(shown, [count(each) for each in shown], rotation=45)
        axes.minorticks_off()
        axes.set_xlabel("human train rows")
        axes.set_ylabel(f"{curve.kappa_name}, validation rows")

    values = "; ".join(f"{rows(each.rows)}: {estimate(each.mean)}" for each in curve.points)
    predicted = "; ".join(f"{rows(each.rows)}: {estimate(each.kappa)}" for each in curve.predictions)
    return Plot(
        _svg("curve", draw, (4.6, 2.8)),
        f"{curve.kappa_name} by number of human train rows. {values}. Predicted: {predicted or 'nothing'}.",
    )


def sizes_plot(choice: SizeChoice) -> Plot:
    """Draw κ on validation rows by the processor time of 1,000 responses, the picked size coloured."""

    def draw(axes: Any) -> None:
        for each in choice.sizes:
            if each.kappa is None:
                continue
            colour = _SERIES[0] if each.name == choice.picked else _FAINT
            at = each.cpu_seconds_per_1000
            axes.plot([at, at], [each.kappa.low, each.kappa.high], color=colour, linewidth=1.5)
            axes.plot([at], [each.kappa.value], "o", color=colour)
            axes.annotate(each.name, (at, each.kappa.value), xytext=(5, 4), textcoords="offset points")
        axes.set_xscale("log")
        axes.set_xlabel("processor seconds for 1,000 responses")
        axes.set_ylabel("κ, validation rows")
        axes.margins(x=0.2)

    values = "; ".join(
        f"{each.name}: κ {estimate(each.kappa)}, {figure(each.cpu_seconds_per_1000)} seconds" for each in choice.sizes
    )
    return Plot(_svg("sizes", draw, (4.6, 2.8)), f"κ by processor seconds for 1,000 responses. {values}.")


def study_plot(runs: Sequence[StudyRun]) -> Plot | None:
    """Draw the median macro-F1 over seeds by share of synthetic rows, a curve for each task and test set."""
    curves: dict[str, dict[float, list[float]]] = {}
    for run in runs:
        if run.synthetic_share is not None and run.learner == "fine-tuned":
            curve = curves.setdefault(f"{run.task}, {run.test} rows", {})
            curve.setdefault(round(run.synthetic_share, 2), []).append(run.macro_f1)
    curves = {name: shares for name, shares in curves.items() if len(shares) > 1}
    if not curves:
        return None

    def draw(axes: Any) -> None:
        for place, (name, shares) in enumerate(curves.items()):
            colour, mark = _SERIES[place % len(_SERIES)], _MARKS[place % len(_MARKS)]
            at = sorted(shares)
            axes.plot(at, [median(shares[share]) for share in at], marker=mark, color=colour, markersize=4)
            axes.annotate(
                name,
                (at[-1], median(shares[at[-1]])),
                (5, 0),
                textcoords="offset points",
                va="center",
                color=colour,
                parse_math=False,
            )
            for share in at:
                axes.plot([share] * len(shares[share]), shares[share], ".", color=colour, markersize=2)
        axes.set_xlabel("share of synthetic training rows")
        axes.set_ylabel("macro-F1, test rows")

    values = "; ".join(
        f"{name}: "
        + ", ".join(f"{percent(share)} synthetic {figure(median(shares[share]))}" for share in sorted(shares))
        for name, shares in curves.items()
    )
    return Plot(_svg("study", draw, (6.0, 3.2)), f"Median macro-F1 over seeds. {values}.")


def _svg(name: str, draw: Callable[[Any], None], size: tuple[float, float]) -> str:
    written = StringIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # The page's fonts render the text; a glyph that matplotlib's fonts lack only shifts it.
        warnings.filterwarnings("ignore", "Glyph")
        drawing = Figure(figsize=size, layout="constrained")
        draw(drawing.subplots())
        drawing.savefig(written, format="svg", metadata={"Date": None})
    return inline(written.getvalue(), name, _COLOURS)
