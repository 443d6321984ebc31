"""Estimates of what people would have found, from machine codes of all responses and human codes of a few.

estimate    estimate(): shares, means, differences, regression coefficients, by every method
codes       tables of machine and human codes, checked row by row
estimators  the estimating equations of naive, human-only, PPI++ and DSL estimates, and their intervals
results     EstimateTable: a table, CSV, LaTeX, JSON
"""

from edgedistill.estimates.estimate import estimate
from edgedistill.estimates.results import EstimateTable, MethodEstimate

__all__ = ["EstimateTable", "MethodEstimate", "estimate"]
