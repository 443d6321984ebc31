"""What the mixture's file says."""

from edgedistill.data.types import MixtureRow
from edgedistill.pipeline.folder import RunFolder
from edgedistill.pipeline.mix import read_mixture, write_mixture


def test_a_mixture_comes_back_from_its_file_unchanged(tmp_path):
    rows = (
        MixtureRow("h\n1", {"response": 'a "quote",\r\nאב 🎉\ttab'}, "yes", "human", {"yes": 1.0}),
        MixtureRow("u", {"response": "new"}, "no", "teacher", {"no": 2 / 3, "yes": 1 / 3}, {"consistency": "0.666667"}),
    )
    write_mixture(RunFolder(tmp_path), rows, ["response"])
    assert read_mixture(RunFolder(tmp_path), ["response"]) == rows
