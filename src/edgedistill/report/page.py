"""The report as one HTML page, rendered by templates that escape every text."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from edgedistill.agreement import Estimate
from edgedistill.report import formatting
from edgedistill.report.inputs import Material
from edgedistill.report.plots import Plot, agreement_plot, learning_plot, reliability_plot, risk_plot, study_plot
from edgedistill.report.rules import RULES
from edgedistill.report.sections import (
    TrialSummary,
    caveats,
    consistency,
    disagreements,
    listed_disagreements,
    mixture_table,
    stage_costs,
    summarize_trials,
)
from edgedistill.report.verdict import Verdict, verdict

_FILTERS = (
    "figure",
    "estimate",
    "interval",
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


def render_page(material: Material) -> tuple[Verdict, str]:
    """Render the report.

    The page is self-contained: no script, no font, no external address. Its Content-Security-Policy allows its own
    style sheet, by hash, and nothing else.

    Args:
        material: The contents of the run folder.

    Returns:
        The verdict, and the page as HTML.
    """
    evaluation = material.evaluation
    decision = verdict(evaluation, material.gate, material.fidelity)
    trials = summarize_trials(material.trials)
    misclassified = disagreements(material)
    style = (files("edgedistill.report") / "templates" / "report.css").read_text("utf-8")
    style_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return decision, _environment().get_template("report.html.j2").render(
        material=material,
        evaluation=evaluation,
        journal=material.journal,
        verdict=decision,
        rules=RULES,
        style=Markup(style),  # noqa: S704  # our own style sheet
        style_hash=f"sha256-{style_hash}",
        plots=_plots(material, decision, trials),
        mixture=mixture_table(material.journal, evaluation.counted),
        trials=trials,
        consistency=consistency(material.votes, multilabel=evaluation.is_multilabel),
        costs=stage_costs(material.journal),
        misclassified=misclassified,
        listed=listed_disagreements(material, misclassified),
        caveats=caveats(material),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("edgedistill.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(formatting, name) for name in _FILTERS}
    return environment


def _plots(material: Material, decision: Verdict, trials: Sequence[TrialSummary]) -> Mapping[str, Plot | None]:
    evaluation = material.evaluation
    kappas: dict[str, Estimate | None] = {name: each.kappa for name, each in evaluation.agreement.items()}
    for pair in evaluation.ceiling.pairs if evaluation.ceiling else ():
        kappas[f"{pair.first}, {pair.second} (human)"] = pair.agreement.kappa if pair.agreement else None
    return {
        "agreement": agreement_plot(kappas, decision.required_kappa, evaluation.kappa),
        "reliability": reliability_plot(evaluation.probabilities.reliability),
        "risk": risk_plot(evaluation.review),
        "learning": learning_plot(trials),
        "study": study_plot(material.study),
    }
