"""Rows of a single group say nothing of how groups differ: the intervals of their figures hold every value."""

from dataclasses import replace

from edgedistill.agreement.types import Agreement, Averages, Estimate, LabelAgreement


def of_one_group(found: Agreement) -> Agreement:
    """Return the agreement with every interval as wide as its figure's range.

    Drawing the only group again and again would give intervals without width; drawing its rows, intervals of that group
    alone. So accuracy, precision, recall and F1 get [0, 1], and κ, Matthews' correlation and alpha [-1, 1].
    """
    return replace(
        found,
        accuracy=Estimate(found.accuracy.value, 0.0, 1.0),
        macro_f1=_share(found.macro_f1),
        kappa=_correlation(found.kappa),
        mcc=_correlation(found.mcc),
        alpha=_correlation(found.alpha),
        averages={
            name: Averages(_share(each.precision), _share(each.recall), _share(each.f1))
            for name, each in found.averages.items()
        },
        per_label={name: _label(label) for name, label in found.per_label.items()},
    )


def _label(label: LabelAgreement) -> LabelAgreement:
    intervals = dict.fromkeys(label.intervals, (0.0, 1.0))
    return replace(label, intervals=intervals, kappa=_correlation(label.kappa), alpha=_correlation(label.alpha))


def _share(found: Estimate | None) -> Estimate | None:
    return found and Estimate(found.value, 0.0, 1.0)


def _correlation(found: Estimate | None) -> Estimate | None:
    return found and Estimate(found.value, -1.0, 1.0)
