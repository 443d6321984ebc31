"""The report as one HTML page: what was found goes through the templates, and every text is escaped."""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from edgedistill.agreement import Estimate
from edgedistill.report import formatting, plots
from edgedistill.report.inputs import Material
from edgedistill.report.rules import RULES
from edgedistill.report.sections import (
    caveats,
    consistency,
    disagreements,
    listed_disagreements,
    mixture_table,
    stage_costs,
    summarize_trials,
)
from edgedistill.report.verdict import Verdict, verdict

_WRITTEN = (
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
    "plain",
)


def render_page(material: Material) -> tuple[Verdict, str]:
    """Make the report.

    The page holds everything that it needs: no script, no font, no address outside itself. Its Content-Security-Policy
    allows its own style sheet, by hash, and nothing else.

    Args:
        material: What the run folder holds.

    Returns:
        The verdict, and the page as HTML.
    """
    found = verdict(material.evaluation, material.gate)
    style = (files("edgedistill.report") / "templates" / "report.css").read_text("utf-8")
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = _templates().get_template("report.html.j2")
    return found, template.render(
        material=material,
        evaluation=material.evaluation,
        journal=material.journal,
        verdict=found,
        rules=RULES,
        style=Markup(style),  # noqa: S704  # our own style sheet
        style_hash=f"sha256-{hashed}",
        pictures=_pictures(material, found),
        mixture=mixture_table(material.journal, material.evaluation.counted),
        trials=summarize_trials(material.trials),
        consistency=consistency(material.votes, multilabel=material.evaluation.is_multilabel),
        costs=stage_costs(material.journal),
        wrong=disagreements(material),
        listed=listed_disagreements(material, disagreements(material)),
        caveats=caveats(material),
    )


def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("edgedistill.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {name: getattr(formatting, name) for name in _WRITTEN}
    return made


def _pictures(material: Material, found: Verdict) -> Mapping[str, Any]:
    evaluation = material.evaluation
    beside: dict[str, Estimate | None] = {name: each.kappa for name, each in evaluation.agreement.items()}
    for pair in evaluation.ceiling.pairs if evaluation.ceiling else ():
        beside[f"{pair.first}, {pair.second} (human)"] = pair.agreement.kappa if pair.agreement else None
    return {
        "agreement": plots.agreement_plot(beside, found.bar, evaluation.kappa),
        "reliability": plots.reliability_plot(evaluation.probabilities.reliability),
        "risk": plots.risk_plot(evaluation.review),
        "learning": plots.learning_plot(summarize_trials(material.trials)),
        "study": plots.study_plot(material.study),
    }
