"""Exports as Label Studio writes them: whole tasks (JSON), or one record per annotation (JSON-MIN)."""

import json
from itertools import count
from pathlib import Path

_NUMBERS = count(1)


def choices(*names, **more):
    return {"from_name": "code", "to_name": "response", "type": "choices", "value": {"choices": list(names)}, **more}


def rating(stars, **more):
    return {"from_name": "code", "to_name": "response", "type": "rating", "value": {"rating": stars}, **more}


def taxonomy(*paths, **more):
    value = {"taxonomy": [list(path) for path in paths]}
    return {"from_name": "code", "to_name": "response", "type": "taxonomy", "value": value, **more}


def annotation(by, *results, minute=0, **more):
    """An annotation as in an export; `by` is a number, an e-mail address, or what `completed_by` holds."""
    who = {"id": 90, "email": by, "first_name": "", "last_name": ""} if isinstance(by, str) else by
    return {
        "id": next(_NUMBERS),
        "completed_by": who,
        "result": [{"id": "x1", "origin": "manual", **each} for each in results],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-11-01T10:00:00.000000Z",
        "updated_at": f"2026-11-01T10:{minute:02}:00.000000Z",
        "draft_created_at": None,
        "lead_time": 3.5,
        "prediction": {},
        "result_count": len(results),
        **more,
    }


def task(ident, *annotations, text=None, **more):
    """A task of the row `rN`, whose text is that of `write_project`."""
    data = {"response_id": ident, "response": text or f"You tried way {ident[1:]}."}
    return {
        "id": next(_NUMBERS),
        "data": data,
        "meta": {},
        "annotations": list(annotations),
        "drafts": [],
        "predictions": [],
        "total_annotations": len(annotations),
        "cancelled_annotations": 0,
        "project": 1,
        **more,
    }


def write_export(folder: Path, *tasks) -> Path:
    file = folder / "project-1.json"
    file.write_text(json.dumps(tasks, ensure_ascii=False))
    return file
