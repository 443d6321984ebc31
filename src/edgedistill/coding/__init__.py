"""The coding page: people code responses in a browser on this machine; see docs/coding.md.

journal      what happened, one event per line, on disk before it counts
codings      the state after the events: who codes what, codes, disagreements, final labels
table        the file of responses: rows to code, and codes written into its columns
changes      what changed since: codebook, responses, cells
figures      where the codes come from, and how far the coders agree
session      a project that is being coded: every action of the page, as a method
server       the page over HTTP on the loopback address
"""

from edgedistill.coding.figures import CodingSummary, coding_summary
from edgedistill.coding.server import serve_session
from edgedistill.coding.session import CodingOptions, CodingSession

__all__ = ["CodingOptions", "CodingSession", "CodingSummary", "coding_summary", "serve_session"]
