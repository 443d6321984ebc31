"""What stops a labelling run: a budget, a key, an address, an endpoint that only fails."""

from pathlib import Path

import pytest

from edgedistill.errors import (
    BudgetReached,
    TeacherRefusedKey,
    TeacherUnknownModel,
    TeacherUnreachable,
)
from edgedistill.project.teacher import BudgetSection
from edgedistill.teacher import AnswerCache, label_responses

from .codings import CODEBOOK, labelled, responses, section
from .stand_in import Reply, StandIn, coded, error


def test_the_budget_stops_the_run_and_saves_the_answers(tmp_path: Path) -> None:
    texts = [str(number) for number in range(50)]
    with StandIn(coded("process")) as teacher:
        with pytest.raises(BudgetReached) as stopped:
            labelled(tmp_path, teacher, *texts, budget=BudgetSection(tokens=3000), concurrency=4)
        spent = len(teacher.bodies)
        done = labelled(tmp_path, teacher, *texts)
    assert stopped.value.exit_code == 3
    assert 0 < spent * 105 <= 3000
    assert (done.usage.cached, done.usage.asked) == (spent, 50 - spent)


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (error(401, "bad key"), TeacherRefusedKey, "MY_KEY"),
        (error(403, "forbidden"), TeacherRefusedKey, "MY_KEY"),
        (error(429, "no credit", "insufficient_quota"), TeacherRefusedKey, "Add credit"),
        (error(404, "unknown", "model_not_found"), TeacherUnknownModel, "Check teacher.model"),
        (error(404, "Invalid URL"), TeacherUnreachable, "Check teacher.base_url"),
        (Reply(body=b"<html>Welcome</html>"), TeacherUnreachable, "Check teacher.base_url"),
    ],
)
def test_a_fatal_error_stops_the_run_with_one_line(
    tmp_path: Path, reply: Reply, kind: type[Exception], message: str
) -> None:
    with StandIn(reply) as teacher, pytest.raises(kind, match=message) as stopped:
        labelled(tmp_path, teacher, "secret text", "b", api_key_env="MY_KEY", api_key="k", concurrency=1)
    assert teacher.base_url in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert "secret text" not in str(stopped.value)


def test_a_missing_key_stops_the_run_before_anything_is_sent(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher, pytest.raises(TeacherRefusedKey, match="EDGEDISTILL_NO_SUCH_KEY"):
        labelled(tmp_path, teacher, "a", api_key_env="EDGEDISTILL_NO_SUCH_KEY")
    assert teacher.bodies == []


@pytest.mark.parametrize("key", ["two\nlines", "accent é"])
def test_a_key_that_cannot_be_sent_is_named_by_its_variable(tmp_path: Path, key: str) -> None:
    with StandIn(coded("process")) as teacher, pytest.raises(TeacherRefusedKey, match="MY_KEY") as stopped:
        labelled(tmp_path, teacher, "a", api_key_env="MY_KEY", api_key=key)
    assert key not in str(stopped.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:99999/v1", "http://[bad/v1"])
def test_an_invalid_address_is_named(tmp_path: Path, address: str) -> None:
    with AnswerCache(tmp_path) as cache, pytest.raises(TeacherUnreachable, match=r"Check teacher\.base_url"):
        label_responses(responses("a"), CODEBOOK, section(address), cache)


def test_if_nothing_listens_the_run_stops_after_the_tries(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        pass
    with pytest.raises(TeacherUnreachable, match="nothing listens there"):
        labelled(tmp_path, teacher, "a", tries=2)


def test_an_endpoint_that_only_fails_stops_the_run_instead_of_setting_everything_aside(tmp_path: Path) -> None:
    with StandIn(error(500)) as teacher, pytest.raises(TeacherUnreachable, match="only answers with HTTP 500"):
        labelled(tmp_path, teacher, *map(str, range(60)), tries=1, concurrency=4)
    assert len(teacher.bodies) < 30
