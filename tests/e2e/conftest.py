"""One run of the small lesson, which the tests look at."""

import re

import pytest

from ..edgedistill.teacher.stand_in import StandIn
from .lessons import command, judge, write_lesson

PROGRESS = re.compile(r": [\d,]+ of [\d,]+($|, (done in|about) )")


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """A project that has run from its first row to its bundle: its file, and how often the teacher was asked."""
    with StandIn(judge) as teacher:
        project = write_lesson(tmp_path_factory.mktemp("lesson"), teacher.base_url)
        done = command("edgedistill", "run", project, anew=True)
        # Neither the imports nor the work complain; on a slow machine, lines say how far a long step is.
        assert [line for line in done.stderr.splitlines() if not PROGRESS.search(line)] == []
        return project, sum(teacher.asked.values()), done.stdout
