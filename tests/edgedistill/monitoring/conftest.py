"""A tiny bundle with a reference, and journals of simulated terms."""

import datetime as dt
import json

import msgspec
import numpy as np
import pytest

from edgedistill_serve.bundle.loading import write_bundle
from edgedistill_serve.bundle.reference import REFERENCE_FILE, REFERENCE_VERSION, Reference, reference_cell
from edgedistill_serve.bundle.response_counts import ResponseCounts
from edgedistill_serve.journal.records import AuditedResponse, ScoredCell
from edgedistill_serve.journal.writer import append_lines

from ...promises import promise
from ...serve.conftest import LABELS, make_bundle, parts

__all__ = ["make_bundle", "parts"]

NOW = 1_800_000_000.0  # 2027-01-15
MONDAY = dt.date(2026, 8, 31)
SHARES = (0.5, 0.3, 0.2)
KAPPA = {"value": 0.70, "low": 0.64, "high": 0.76}
PROMISE = promise(accepted=150, bound=0.031, units=150)


def counted(draw, rows, shares=SHARES, *, review=0.1, longer=0, sure=0.0, novelty=1.0):
    """Counts of random responses."""
    counts = ResponseCounts()
    for label in draw.choice(LABELS, size=rows, p=shares):
        reason = "below threshold" if draw.random() < review else None
        probability = min(1.0, 0.6 + sure + 0.35 * draw.random())
        counts.count(str(label), probability, reason, int(draw.integers(3, 30)) + longer, novelty * draw.gamma(8) / 8)
    return counts


def week(number: int) -> str:
    """Return the Monday of a week, counted from 0."""
    return (MONDAY + dt.timedelta(weeks=number)).isoformat()


class JournalOf:
    """Writes the lines of a bundle's journal."""

    def __init__(self, folder, bundle):
        self.folder, self.manifest = folder, bundle.manifest
        folder.mkdir(exist_ok=True)

    def write(self, number, counts, item="", *, hour=10, name="a", version=None, with_id=0):
        """Write the counts of an item in a week."""
        manifest = self.manifest
        line = ScoredCell(
            f"{week(number)}T{hour:02}", manifest.name, version or manifest.version, "int8", item, counts, with_id
        )
        append_lines(self.folder / f"{name}.jsonl", [line])

    def draw(self, ident, label="process", decision="accept", *, probability=0.1, number=0):
        """Write a drawn id."""
        manifest = self.manifest
        line = AuditedResponse(
            f"{week(number)}T10", manifest.name, manifest.version, "", ident, probability, label, decision
        )
        append_lines(self.folder / "audit.jsonl", [line])


@pytest.fixture(scope="session")
def with_reference(make_bundle, tmp_path_factory):
    """Return a bundle with the reference of these rows."""

    def make(rows=400, items=(), *, design_effect=1.0, guarantee=PROMISE):
        draw = np.random.default_rng(5)
        folder = tmp_path_factory.mktemp("monitored")
        plain = make_bundle(folder / "plain", guarantee=guarantee)
        reference = Reference(
            REFERENCE_VERSION,
            "int8",
            design_effect,
            reference_cell("", counted(draw, rows)),
            tuple(reference_cell(item, counted(draw, 60)) for item in items),
        )
        manifest = msgspec.structs.replace(plain.manifest, metrics={"student": {"kappa": KAPPA}})
        files = {name: plain.folder / name for name in manifest.files}
        content = json.dumps(msgspec.to_builtins(reference)).encode()
        return write_bundle(folder / "bundle", manifest, files | {REFERENCE_FILE: content})

    return make


@pytest.fixture(scope="module")
def bundle(with_reference):
    return with_reference()


@pytest.fixture
def journal(tmp_path, bundle):
    return JournalOf(tmp_path / "journal", bundle)
