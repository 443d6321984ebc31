"""The mixture: which human, teacher-labelled and synthetic rows the student is trained on.

sources.py   human_rows(), teacher_rows(): what each source has to give
quotas.py    quotas(): how many rows each source gives, and of which label
drawing.py   draw_mixture(): the rows themselves
"""

from edgedistill.mixture.drawing import draw_mixture, drawn_ids
from edgedistill.mixture.quotas import Quota, quotas
from edgedistill.mixture.sources import human_rows, teacher_rows

__all__ = ["Quota", "draw_mixture", "drawn_ids", "human_rows", "quotas", "teacher_rows"]
