"""Which questions a package counts as independent for a promise about new questions."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from edgedistill.data.types import CodedResponse, Response, ValidationRows
from edgedistill.decisions import ValidationScores
from edgedistill.pipeline.replicated_claims import promise_columns
from edgedistill_serve.task.task import Label, Task

from ...promises import promise
from ..report.runs import scores_of

TASK = Task("nominal", (Label("yes"), Label("no")), ("question", "response"))


@pytest.mark.parametrize(
    ("held_out", "expected"), [(True, ["question-1", "question-1", "question-2"]), (False, ["question-1"] * 3)]
)
def test_held_out_questions_count_by_their_name_and_others_by_their_text(held_out, expected):
    names = ("a", "a", "b")
    rows = tuple(
        CodedResponse(Response(f"r{n}", {"question": "Why?", "response": f"text {n}"}, "h.csv", n, None, name), "yes")
        for n, name in enumerate(names)
    )
    scores = replace(scores_of(ValidationScores, 3, TASK), questions=names if held_out else ())
    guarantee = promise(
        share=0.5,
        confidence=0.9,
        rows=3,
        accepted=3,
        wrong=0,
        bound=0.4,
        unit="questions",
        units=2,
        scope="new questions",
        questions=2,
        graphs=(),
    )
    run = SimpleNamespace(task=TASK, records=SimpleNamespace(splits=SimpleNamespace(validation=ValidationRows(rows))))
    report = SimpleNamespace(served=SimpleNamespace(review=SimpleNamespace(guarantee=guarantee)))
    found = promise_columns(run, report, scores, dict.fromkeys(("r0", "r1", "r2"), "accept"))
    assert [found["question"][f"r{n}"] for n in range(3)] == expected
