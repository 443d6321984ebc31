"""The report's figures as inline SVG, each with its content in words."""

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
from edgedistill.evaluation.types import Review
from edgedistill.report.formatting import count, estimate, figure, percent
from edgedistill.report.inputs import StudyRun
from edgedistill.report.sections import TrialSummary

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_DROPPED = {"font-family"}


def inline(drawn: str, name: str, colours: dict[str, str]) -> str:
    """Return what matplotlib drew as an element of an HTML page.

    The page's Content-Security-Policy allows no style attributes, so they become attributes of their own. Fonts are
    the page's.

    Args:
        drawn: An SVG document as matplotlib writes it.
        name: Of the figure; no other figure of the page has it.
        colours: By a colour as it was drawn, such as ``#010203``, what stands there instead, such as ``currentColor``.
    """
    root = ET.fromstring(drawn)  # noqa: S314  # our own drawing, not somebody's file
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        _plain(element, name, colours)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("stroke-linejoin", "round")
    # The text beside the figure says what it shows.
    root.set("aria-hidden", "true")
    return ET.tostring(root, encoding="unicode")


def _plain(element: ET.Element, name: str, colours: dict[str, str]) -> None:
    """Turn what stands in style attributes into attributes, and names into the figure's own."""
    given = dict(element.attrib)
    element.attrib.clear()
    style = given.pop("style", "")
    pairs = [part.partition(":") for part in style.split(";") if part.strip()]
    for key, value in [*given.items(), *((key.strip(), value.strip()) for key, _, value in pairs)]:
        if key not in _DROPPED:
            element.set("href" if key == _LINK else key, _own(key, colours.get(value, value), name))


def _own(key: str, value: str, name: str) -> str:
    """The value with every name that it defines or refers to made the figure's own."""
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
_MOST_CURVES = 8
_FEW = 10


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure of the page.

    Attributes:
        svg: The drawing.
        told: What it shows, in words, for who cannot see it.
    """

    svg: str
    told: str


def agreement_plot(found: Mapping[str, Estimate | None], bar: float, kappa: str) -> Plot | None:
    """Draw κ of every coding with its interval, and the bar; None where none is defined."""
    shown = {name: each for name, each in found.items() if each}
    if not shown:
        return None

    def draw(axes: Any) -> None:
        for place, each in enumerate(reversed(shown.values())):
            axes.plot([each.low, each.high], [place, place], color=_SERIES[0], linewidth=2, solid_capstyle="round")
            axes.plot(each.value, place, "o", color=_SERIES[0], markersize=6)
        axes.axvline(bar, color=_SERIES[1], linestyle="--", linewidth=1.2)
        axes.text(bar, len(shown) - 0.25, f"bar {bar:g}", ha="center", va="bottom", color=_SERIES[1])
        axes.set_yticks(range(len(shown)), list(reversed(shown)), parse_math=False)
        axes.set_ylim(-0.5, len(shown) - 0.3)
        axes.set_xlim(min(0, *(each.low for each in shown.values())) - 0.02, 1.02)
        axes.set_xlabel(f"{kappa} with 95 % interval: 0 as if by lot, 1 always the same code")

    told = "; ".join(f"{name} {estimate(each)}" for name, each in shown.items())
    drawn = _drawn("agreement", draw, (6.6, 0.8 + 0.36 * len(shown)))
    return Plot(drawn, f"{kappa} with 95 % intervals: {told}. The bar is {bar:g}.")


def reliability_plot(bins: Sequence[ReliabilityBin]) -> Plot:
    """Draw how often the model is right beside how sure it is, a point for each bin that holds rows."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=_FAINT, linestyle="--", linewidth=1)
        for each in bins:
            at, colour = [each.mean_probability] * 2, _FAINT if each.rows < _FEW else _SERIES[0]
            axes.plot(at, [each.accuracy.low, each.accuracy.high], color=colour, linewidth=1.5)
            axes.plot(at[0], each.accuracy.value, "o", color=colour, markersize=5)
            axes.annotate(
                count(each.rows), (at[0], each.accuracy.value), (6, -9), textcoords="offset points", color=_INK
            )
        axes.set_xlim(0, 1.04)
        axes.set_ylim(0, 1.04)
        axes.set_xlabel("how sure the model is (mean probability)")
        axes.set_ylabel("how often it is right")

    told = "; ".join(
        f"{count(each.rows)} rows with mean probability {figure(each.mean_probability, 2)}: right in "
        f"{percent(each.accuracy.value)}"
        for each in bins
    )
    return Plot(_drawn("reliability", draw, (3.3, 3.1)), f"Probability beside share of right codes. {told}.")


def risk_plot(review: Review) -> Plot:
    """Draw the share of right codes for every share that could be accepted, and where the rule stands."""
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
        chose = review.risk_coverage.validation.points
        axes.plot(
            [point.coverage for point in chose],
            [point.accuracy.value for point in chose],
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
                label="the rule, on test rows",
            )
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("share of responses that no person sees")
        axes.set_ylabel("share of these coded right")
        axes.legend(frameon=False, loc="lower left")

    return Plot(_drawn("risk", draw, (3.6, 3.1)), _risk_told(curve))


def _risk_told(curve: RiskCoverageCurve) -> str:
    some = [curve.points[place] for place in sorted({0, len(curve.points) // 2, len(curve.points) - 1})]
    told = "; ".join(
        f"of the surest {percent(point.coverage)} of the test rows {percent(point.accuracy.value)} are coded right"
        for point in some
    )
    return f"Share of right codes by the share accepted: {told}."


def learning_plot(trials: Sequence[TrialSummary]) -> Plot | None:
    """Draw macro-F1 on validation rows after each epoch; None where no trial has two of them."""
    pluralize = [each for each in trials if len(each.epochs) > 1]
    if not pluralize:
        return None
    best = sorted(pluralize, key=lambda each: (not each.chosen, -(each.macro_f1 or 0)))[:_MOST_CURVES]

    def draw(axes: Any) -> None:
        for each in reversed(best):
            colour, width = (_SERIES[0], 2) if each.chosen else (_FAINT, 1)
            axes.plot(range(1, len(each.epochs) + 1), each.epochs, color=colour, linewidth=width)
            if each.chosen and each.macro_f1 is not None:
                axes.plot(each.best_epoch, each.macro_f1, "o", color=colour, markersize=6)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("epoch")
        axes.set_ylabel("macro-F1, validation rows")

    chosen = best[0]
    told = ", ".join(figure(each) for each in chosen.epochs)
    return Plot(_drawn("learning", draw, (4.6, 2.6)), f"macro-F1 of the chosen trial after each epoch: {told}.")


def study_plot(runs: Sequence[StudyRun]) -> Plot | None:
    """Draw the median macro-F1 over seeds along the share of synthetic rows, a curve for each task and set of rows."""
    curves: dict[str, dict[float, list[float]]] = {}
    for run in runs:
        if run.synthetic_share is not None and run.learner == "fine-tuned":
            of_share = curves.setdefault(f"{run.task}, {run.test} rows", {})
            of_share.setdefault(round(run.synthetic_share, 2), []).append(run.macro_f1)
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
        axes.set_xlabel("share of synthetic rows in the training set")
        axes.set_ylabel("macro-F1, test rows")

    told = "; ".join(
        f"{name}: "
        + ", ".join(f"{percent(share)} synthetic {figure(median(shares[share]))}" for share in sorted(shares))
        for name, shares in curves.items()
    )
    return Plot(_drawn("study", draw, (6.0, 3.2)), f"Median macro-F1 over seeds. {told}.")


def _drawn(name: str, draw: Callable[[Any], None], size: tuple[float, float]) -> str:
    written = StringIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # The page's own fonts write the text; what matplotlib's lack only shifts it.
        warnings.filterwarnings("ignore", "Glyph")
        drawing = Figure(figsize=size, layout="constrained")
        draw(drawing.subplots())
        drawing.savefig(written, format="svg", metadata={"Date": None})
    return inline(written.getvalue(), name, _COLOURS)
