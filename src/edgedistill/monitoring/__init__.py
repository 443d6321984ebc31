"""Watches a bundle in use: what changed since its release, by the journals of `serve` and `grade`.

monitor     monitor(): compares a journal with the reference of the bundle; write_sheet(): a sheet for people
sequential  evidence that is valid however often one looks
changes     which quantities of which items changed
codes       human codes of the audit slice: κ, and the promise
results     MonitorReport and its parts
text        the report in words, and as a page
"""

from edgedistill.monitoring.monitor import monitor
from edgedistill.monitoring.results import MonitorReport

__all__ = ["MonitorReport", "monitor"]
