"""How often the lower limit of a percentile bootstrap interval of kappa is above the true kappa, by test rows.

For a 95 % interval this should be 2.5 %. The verdict of the report requires enough rows to come close.

    python benchmarks/verdict_rows.py
"""

import numpy as np

from edgedistill.agreement.confusion import kappas

PRIORS = np.array([0.4, 0.4, 0.2])
"""Shares of three labels; errors are equally distributed over the other two."""
SIMULATED, RESAMPLES = 4000, 500


def too_high(rows: int, accuracy: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return the true kappa, and how often the lower limit is above it."""
    wrong = (1 - accuracy) / 2
    shares = PRIORS[:, None] * np.where(np.eye(3, dtype=bool), accuracy, wrong)
    true = kappas((shares[None] * 1e9).round().astype(np.int64), quadratic=False)[0]
    above = 0
    for _ in range(SIMULATED):
        observed = rng.multinomial(rows, shares.ravel())
        drawn = rng.multinomial(rows, observed / rows, size=RESAMPLES).reshape(-1, 3, 3)
        above += bool(np.nanpercentile(kappas(drawn, quadratic=False), 2.5) > true)
    return float(true), above / SIMULATED


def main() -> None:
    """Print a line for each accuracy and number of rows."""
    rng = np.random.default_rng(0)
    for accuracy in (0.75, 0.9):
        for rows in (20, 50, 100, 200):
            true, share = too_high(rows, accuracy, rng)
            print(f"kappa {true:.2f}, {rows:3d} test rows: lower limit too high in {share:.1%}")


if __name__ == "__main__":
    main()
