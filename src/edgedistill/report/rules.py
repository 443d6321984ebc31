"""The rules that the verdict is made by: their numbers, and each in words as report and docs show it."""

from edgedistill.report.formatting import percent

BAR = 0.6
"""κ that the model must reach, unless the gate's bar is higher; also the F1 that a single label must reach."""
FEWEST_TEST_ROWS = 50
"""Test rows below which nothing is shown, whatever the figures are."""
FEWEST_GROUPS = 10
"""Groups (such as learners) below which an interval over whole groups is not to be trusted."""
FEWEST_LABEL_ROWS = 20
"""Test rows with a label below which nothing is shown of that label."""
LARGEST_REPEATED_SHARE = 0.1
"""Share of test rows whose text also stands in training or validation rows, above which nothing is shown."""
MARGIN = 0.1
"""How far below two human coders κ, and how far off a group's mean may be (Williamson, Xi & Breyer 2012)."""

RULES: tuple[tuple[str, str], ...] = (
    (
        "Bar",
        (
            f"The model's κ with the human codes of the test rows must reach the bar with the lower end of its "
            f"95\u202f% interval. The bar is {BAR:g}, or the gate's where that is a higher κ. With the upper end "
            "below the bar the answer is no; in between it is “not shown”. κ is Cohen's, for an ordinal task quadratic "
            "weighted, for a multilabel task the mean over labels."
        ),
    ),
    (
        "Enough rows",
        (
            f"With fewer than {FEWEST_TEST_ROWS} test rows, or where rows come in groups fewer than {FEWEST_GROUPS} "
            "groups, nothing is shown, whatever the figures are. A row whose group is blank counts as a group of its "
            "own."
        ),
    ),
    (
        "Repeated texts",
        (
            f"Where the text of more than {percent(LARGEST_REPEATED_SHARE)} of the test rows also stands in training "
            "or validation rows, nothing is shown; below that there is a warning."
        ),
    ),
    (
        "Labels",
        (
            f"A label counts as shown with at least {FEWEST_LABEL_ROWS} test rows of it and the lower end of its F1 at "
            f"{BAR:g} or above; it fails with the upper end below that; in between, or with fewer rows, it is “not "
            "shown”. In an ordinal task the answer does not depend on single labels, since κ there weighs near misses."
        ),
    ),
    (
        "Review",
        (
            f"Where all test rows together do not reach the bar, the rows that the review rule accepts are judged by "
            f"the same bar (at least {FEWEST_TEST_ROWS} of them). If they reach it, the model may be used with that "
            "rule only, and labels are judged on those rows."
        ),
    ),
    (
        "Human coders",
        (
            f"Where two humans coded the test rows, the model is compared with one of them against the other, on the "
            f"same rows. More than {MARGIN:g} κ below the human (the whole interval) is a warning; the margin is that "
            "of Williamson, Xi & Breyer (2012)."
        ),
    ),
    (
        "Groups",
        (
            f"A group of learners gets a warning where its κ stays below the bar with the whole interval, or where the "
            f"mean of the model's codes differs from that of the human codes by more than {MARGIN:g} standard "
            "deviations with the whole interval."
        ),
    ),
)
"""Name and text of each rule."""
