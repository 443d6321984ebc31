"""The report as one HTML page, rendered by templates that escape every text."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from edgedistill.agreement import Estimate
from edgedistill.evaluation.comparison import describe_verdict
from edgedistill.report import formatting
from edgedistill.report.inputs import ReportInputs
from edgedistill.report.next_steps import next_steps
from edgedistill.report.plots import (
    Plot,
    agreement_plot,
    curve_plot,
    learning_plot,
    reliability_plot,
    risk_plot,
    sizes_plot,
    study_plot,
)
from edgedistill.report.rules import RULES
from edgedistill.report.sections import (
    TrialSummary,
    best_trials,
    caveats,
    consistency,
    disagreements,
    listed_disagreements,
    mixture_table,
    reported_estimates,
    stage_costs,
    summarize_trials,
)
from edgedistill.report.verdict import Verdict, verdict
from edgedistill.sizes import size_coding

_FILTERS = (
    "figure",
    "estimate",
    "interval",
    "ends",
    "difference",
    "percent",
    "percent_estimate",
    "count",
    "rows",
    "pluralize",
    "p_value",
    "seconds",
    "megabytes",
    "dollars",
    "setting",
)


def render_page(inputs: ReportInputs, date: str = "") -> tuple[Verdict, str]:
    """Render the report.

    The page is self-contained: no script, no font, no external address. Its Content-Security-Policy allows its own
    style sheet, by hash, and nothing else.

    Args:
        inputs: The contents of the run folder.
        date: The day of the report, such as ``2026-11-30``; empty for none.

    Returns:
        The verdict, and the page as HTML.
    """
    evaluation = inputs.served
    decision = verdict(inputs.evaluation, inputs.gate, inputs.fidelity, inputs.sizes, inputs.comparison)
    trials = summarize_trials(inputs.trials, inputs.run_log)
    misclassified = disagreements(inputs)
    style = (files("edgedistill.report") / "templates" / "report.css").read_text("utf-8")
    style_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return decision, _environment().get_template("report.html.j2").render(
        inputs=inputs,
        evaluation=evaluation,
        run_log=inputs.run_log,
        verdict=decision,
        date=date,
        next_steps=next_steps(inputs, decision),
        rules=RULES,
        style=Markup(style),  # noqa: S704  # our own style sheet
        style_hash=f"sha256-{style_hash}",
        plots=_plots(inputs, decision, trials),
        size_codings=_size_codings(inputs),
        mixture=mixture_table(inputs.run_log, evaluation.counted),
        trials=trials,
        best_trials=best_trials(trials),
        consistency=consistency(inputs.votes, multilabel=evaluation.is_multilabel),
        costs=stage_costs(inputs.run_log),
        misclassified=misclassified,
        listed=listed_disagreements(inputs, misclassified),
        caveats=caveats(inputs),
        comparison_sentence=describe_verdict(inputs.comparison) if inputs.comparison else "",
        reported=reported_estimates(inputs.estimates) if inputs.estimates else (),
    )


def _size_codings(inputs: ReportInputs) -> Mapping[str, str]:
    """The name in the evaluation of each size's coding of the test rows."""
    sizes = inputs.sizes
    names = [size.name for size in sizes.sizes] if sizes else []
    return {name: "student" if sizes and name == sizes.picked else size_coding(name) for name in names}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("edgedistill.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(formatting, name) for name in _FILTERS}
    environment.filters["commands"] = _commands
    return environment


def _commands(text: str) -> Markup:
    """Return a text whose commands, between backticks, are marked up as code."""
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )


def _plots(inputs: ReportInputs, decision: Verdict, trials: Sequence[TrialSummary]) -> Mapping[str, Plot | None]:
    evaluation = inputs.served
    kappas: dict[str, Estimate | None] = {name: each.kappa for name, each in inputs.columns.items()}
    for pair in evaluation.human_agreement.pairs if evaluation.human_agreement else ():
        kappas[f"{pair.first}, {pair.second} (human)"] = pair.agreement.kappa if pair.agreement else None
    return {
        "agreement": agreement_plot(kappas, decision.required_kappa, evaluation.kappa),
        "reliability": reliability_plot(evaluation.probabilities.reliability),
        "risk": risk_plot(evaluation.review),
        "learning": learning_plot(trials),
        "curve": curve_plot(inputs.learning_curve) if inputs.learning_curve else None,
        "sizes": sizes_plot(inputs.sizes) if inputs.sizes else None,
        "study": study_plot(inputs.study),
    }
