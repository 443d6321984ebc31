"""McNemar's test: is one of two codings of the same rows right more often than chance allows?"""

from dataclasses import dataclass

from scipy.stats import binom, binomtest

from edgedistill.errors import DataError


@dataclass(frozen=True, slots=True)
class McNemar:
    """Two-sided p-values of the hypothesis that both codings are right equally often, in [0, 1].

    Attributes:
        exact_p: The exact conditional test's; never too small, on few rows larger than need be.
        mid_p: The mid-p test's, which Fagerland, Lydersen & Laake (2013) recommend.
    """

    exact_p: float
    mid_p: float


def mcnemar(only_first: int, only_second: int) -> McNemar:
    """Test the two counts of rows on which exactly one coding is right (McNemar 1947, doi:10.1007/BF02295996).

    The rows must be independent: with several rows of one learner the p-values are too small. Mid-p is the exact value
    less the probability of the counts themselves, or one less half of it where they are equal (Fagerland, Lydersen &
    Laake 2013, doi:10.1186/1471-2288-13-91).

    Args:
        only_first: Rows on which the first coding alone is right.
        only_second: Rows on which the second alone is.

    Raises:
        DataError: A count below 0.
    """
    if min(only_first, only_second) < 0:
        raise DataError("a count of rows is below 0", where=f"McNemar's test of {only_first} and {only_second}")
    rows = only_first + only_second
    if not rows:
        return McNemar(1.0, 1.0)
    exact = float(binomtest(only_first, rows, 0.5).pvalue)
    here = float(binom.pmf(only_first, rows, 0.5))
    return McNemar(exact, 1 - here / 2 if only_first == only_second else exact - here)
