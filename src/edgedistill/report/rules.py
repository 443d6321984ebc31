"""The rules of the verdict: their thresholds, and each rule in the words of the report and of docs/report.md."""

from edgedistill.report.formatting import percent

REQUIRED_KAPPA = 0.6
"""κ that the model must reach, unless the gate requires a higher κ."""
REQUIRED_F1 = 0.6
"""F1 that a label must reach."""
MIN_TEST_ROWS = 50
"""With fewer test rows the verdict is inconclusive."""
MIN_GROUPS = 10
"""With fewer groups (such as learners) a cluster bootstrap interval is unreliable, and the verdict inconclusive."""
MIN_LABEL_ROWS = 20
"""With fewer test rows of a label the result for it is inconclusive."""
MAX_REPEATED_SHARE = 0.1
"""Share of test rows whose text also occurs in training or validation rows above which the verdict is inconclusive."""
MARGIN = 0.1
"""Tolerated difference in κ from a human coder, and standardised mean difference (Williamson, Xi & Breyer 2012)."""

RULES: tuple[tuple[str, str], ...] = (
    (
        "Required agreement",
        (
            "The lower limit of the 95\u202f% confidence interval of κ between the model and the human codes of the "
            f"test rows must be at least {REQUIRED_KAPPA:g}, or the κ that the gate requires if that is higher. If the "
            "upper limit is below this value, the verdict is no; if the interval contains it, the verdict is "
            "inconclusive. κ is Cohen's κ; for ordinal tasks it is quadratic weighted, "
            "for multilabel tasks it is the mean over labels."
        ),
    ),
    (
        "Sample size",
        (
            f"With fewer than {MIN_TEST_ROWS} different test rows, or fewer than {MIN_GROUPS} groups if rows are "
            "grouped, the verdict is inconclusive, unless even the upper limit is below the required value: then it is "
            "no. A row with an empty group cell counts as its own group."
        ),
    ),
    (
        "Failed training",
        (
            "If the model gives every test row the same label and the human coders do not, its training failed, and "
            "the verdict is no."
        ),
    ),
    (
        "Known and unknown questions",
        (
            "Where whole questions are held out (data.questions: held_out), the verdict and the confirmation of a "
            "promise rest on the test rows of questions without training rows, with intervals over questions: with "
            f"fewer than {MIN_GROUPS} such questions the verdict is inconclusive. If only known questions were "
            "validated and test rows have others, there is a warning."
        ),
    ),
    (
        "Overlap baseline",
        (
            "If the task has reference answers, the model is compared with a logistic regression on nine numbers that "
            "compare response and reference answers. The model gets a warning unless the whole interval of the "
            "difference in κ is above 0, on unknown and on known questions if both are there."
        ),
    ),
    (
        "The bundle in use",
        (
            "If the project names the bundle in use (report.compare_with), both score the same test rows. The new one "
            "is better if the whole 95\u202f% interval of the paired difference in κ is above 0, worse if all of it is "
            "below 0, and otherwise it is undecided. The verdict does not depend on it; a worse bundle gets a warning."
        ),
    ),
    (
        "Repeated texts",
        (
            f"If the texts of more than {percent(MAX_REPEATED_SHARE)} of the test rows also occur in training or "
            "validation rows, the verdict is inconclusive, unless it is no; a smaller overlap gives a warning."
        ),
    ),
    (
        "Labels",
        (
            f"A label meets the requirement if it has at least {MIN_LABEL_ROWS} test rows and the lower limit of its "
            f"F1 interval is at least {REQUIRED_F1:g}. It fails the requirement if the upper limit is below that "
            "value, however many rows it has. Otherwise, or with fewer rows, the result is inconclusive. For ordinal "
            "tasks the verdict does not depend on individual labels, because κ already weights near misses."
        ),
    ),
    (
        "Human review",
        (
            "If the test rows as a whole do not meet the requirement, the rows that the review rule accepts are "
            f"evaluated against the same requirement (at least {MIN_TEST_ROWS} of them). If they meet it, the model "
            "may be used only with that rule, and labels are evaluated on the accepted rows."
        ),
    ),
    (
        "Promise about accepted responses",
        (
            "With the aim at_most_wrong and a share S, the report promises that at most the share S of the accepted "
            "codes is wrong, if a test on the validation rows shows it for the graph that is served (fixed-sequence "
            "tests, Angelopoulos et al. 2021). The test rows do not establish the promise; if the lower limit of their "
            "error rate is above S, they contradict it."
        ),
    ),
    (
        "Human coders",
        (
            "If two people coded the test rows, the model and one coder are each compared with the other coder on the "
            f"same rows. The model gets a warning if its κ is more than {MARGIN:g} lower than the human coder's over "
            "the whole interval of the difference; the margin is that of Williamson, Xi & Breyer (2012). With three or "
            "more coders, the alternative annotator test (Calderon, Reichart & Dror 2025) is reported, too."
        ),
    ),
    (
        "Groups of learners",
        (
            "A group of learners gets a warning if the whole interval of its κ is below the required value, or if the "
            "whole interval of the standardised mean difference between the model's and the human codes is beyond "
            f"±{MARGIN:g}."
        ),
    ),
)
"""Name and text of each rule."""
