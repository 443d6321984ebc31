"""An endpoint that evidently ignores the requested answer format gets the next one, once, as if it had refused it."""

from pathlib import Path
from typing import Any

import pytest

from .codings import labelled
from .stand_in import Reply, StandIn, coded, completion


def formats(teacher: StandIn) -> list[str]:
    return [(body.get("response_format") or {"type": "text"})["type"] for body in teacher.bodies]


@pytest.mark.parametrize("ignored", ["I praise it all.", '{"code": "process"}', '{"label": "sarcasm"}'])
def test_first_answers_in_another_form_lead_to_the_next_format_for_the_rest_of_the_run(
    tmp_path: Path, ignored: str
) -> None:
    def script(body: dict[str, Any], _before: int) -> Reply:
        plain = "response_format" not in body
        return completion("process") if plain else completion(ignored)

    with StandIn(script) as teacher:
        done = labelled(tmp_path, teacher, *"abcdefgh", concurrency=1, tries=9)
    assert len(done.labels) == 8
    assert formats(teacher) == ["json_schema"] * 2 + ["json_object"] * 2 + ["text"] * 8


def test_an_endpoint_that_has_followed_the_format_keeps_it(tmp_path: Path) -> None:
    def script(_body: dict[str, Any], _before: int) -> Reply:
        return coded("process") if len(teacher.bodies) == 1 else completion("I praise it all.")

    with StandIn(script) as teacher:
        done = labelled(tmp_path, teacher, *"abc", concurrency=1, tries=3)
    assert (len(done.labels), len(done.set_aside)) == (1, 2)
    assert set(formats(teacher)) == {"json_schema"}
