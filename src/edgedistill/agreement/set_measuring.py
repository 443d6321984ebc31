"""From two codings of a multilabel task to their agreement."""

from collections.abc import Sequence

import numpy as np

from edgedistill.agreement.bootstrap import defined, estimate, row_weights
from edgedistill.agreement.label_sets import (
    Held,
    SetStatistic,
    Tallies,
    all_rows,
    by_label,
    exact_matches,
    figure_of,
    label_kappas,
    macro_of,
    mean_kappas,
    micro_of,
    tallies,
    together,
    weighted_of,
)
from edgedistill.agreement.masi import masi_alphas
from edgedistill.agreement.statistics import Counts, Statistic, Values, alphas, f1s, precisions, recalls
from edgedistill.agreement.types import Agreement, Averages, Estimate, LabelAgreement
from edgedistill_serve.task import Task

KAPPA_NAME = "mean kappa over labels"
_FIGURES = {"precision": precisions, "recall": recalls, "f1": f1s}


def set_agreement(
    reference: Held,
    coded: Held,
    task: Task,
    groups: Sequence[str] | None,
    positive: str | None,
    resamples: int,
    seed: int,
) -> Agreement:
    """Compare two codings of which labels hold; `agreement` says what the arguments are."""
    own = all_rows(reference, coded)
    parts = [
        (tallies(reference, coded, weights), masi_alphas(reference, coded, weights))
        for weights in row_weights(len(reference), groups, resamples, np.random.default_rng(seed))
    ]
    drawn = together([counted for counted, _ in parts])
    alpha = masi_alphas(reference, coded, np.ones((1, len(reference)), dtype=np.int64))[0]

    def told(statistic: SetStatistic) -> Estimate | None:
        return defined(float(statistic(own)[0]), statistic(drawn))

    averages = {
        "macro": Averages(*(told(macro_of(each)) for each in _FIGURES.values())),
        "micro": Averages(*(told(micro_of(each)) for each in _FIGURES.values())),
        "weighted": Averages(*(told(weighted_of(each)) for each in _FIGURES.values())),
    }
    if positive is not None:
        place = task.names.index(positive)
        averages["binary"] = Averages(*(told(figure_of(each, place)) for each in _FIGURES.values()))
    return Agreement(
        rows=len(reference),
        accuracy=estimate(float(exact_matches(own)[0]), exact_matches(drawn)),
        macro_f1=told(macro_of(f1s)),
        kappa=told(mean_kappas),
        kappa_name=KAPPA_NAME,
        per_label=_per_label(own, drawn, task),
        confusion=(),
        resamples=resamples,
        groups=None if groups is None else len(set(groups)),
        alpha=defined(float(alpha), np.concatenate([of_block for _, of_block in parts])),
        averages=averages,
    )


def _per_label(own: Tallies, drawn: Tallies, task: Task) -> dict[str, LabelAgreement]:
    def both(statistic: Statistic) -> tuple[Values, Values]:
        return by_label(statistic, own)[0], by_label(statistic, drawn)

    figures = {name: both(statistic) for name, statistic in _FIGURES.items()}
    kappas, label_alphas = both(label_kappas), both(_nominal_alphas)
    per_label = {}
    for place, name in enumerate(task.names):
        found = {figure: defined(float(value[place]), of[:, place]) for figure, (value, of) in figures.items()}
        table = own.tables[0, place]
        precision, recall, f1 = (each.value if each else None for each in found.values())
        per_label[name] = LabelAgreement(
            precision,
            recall,
            f1,
            support=int(table[1].sum()),
            intervals={figure: (each.low, each.high) for figure, each in found.items() if each},
            kappa=defined(float(kappas[0][place]), kappas[1][:, place]),
            alpha=defined(float(label_alphas[0][place]), label_alphas[1][:, place]),
            table=((int(table[0, 0]), int(table[0, 1])), (int(table[1, 0]), int(table[1, 1]))),
        )
    return per_label


def _nominal_alphas(tables: Counts) -> Values:
    return alphas(tables, ordinal=False)
