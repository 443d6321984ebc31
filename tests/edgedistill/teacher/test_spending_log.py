"""What a project has spent outlives its runs, however they end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgedistill.errors import BudgetReached, CacheDamaged
from edgedistill.project.teacher import BudgetSection, PricesSection
from edgedistill.teacher import AnswerCache, Budget, Labelling, SpendingLog, StageSpending, label_responses
from edgedistill.teacher.spending import SPENDING, Amount

from .codings import CODEBOOK, NO_WAIT, responses, section
from .stand_in import Reply, StandIn, coded

PRICES = PricesSection(input_usd_per_million=1.0, output_usd_per_million=2.0)


def read(folder: Path, project: str = "p") -> dict[str, StageSpending]:
    spending_log = SpendingLog(folder, project)
    spending_log.catch_up()
    return dict(spending_log.stages())


def labelled(folder: Path, teacher: StandIn, *texts: str, **fields: object) -> Labelling:
    given = section(teacher.base_url, **fields)
    with AnswerCache(folder) as cache:
        budget = Budget.from_section(given, SpendingLog(folder, "p"), "label")
        return label_responses(responses(*texts), CODEBOOK, given, cache, budget=budget, retry_policy=NO_WAIT)


def test_a_settled_reservation_counts_as_spent(tmp_path: Path) -> None:
    spending_log = SpendingLog(tmp_path, "p")
    name = spending_log.reserve("label", "m", Amount(100, 50, 300))
    assert read(tmp_path)["label"].held.nano_dollars == 300
    spending_log.settle(name, Amount(80, 5, 90))
    spending_log.close()
    spent = read(tmp_path)["label"]
    assert (spent.held.requests, spent.held.nano_dollars) == (0, 0)
    assert (spent.known.requests, spent.known.input_tokens, spent.known.nano_dollars) == (1, 80, 90)


def test_a_request_that_is_never_settled_counts_with_its_maximum_cost(tmp_path: Path) -> None:
    spending_log = SpendingLog(tmp_path, "p")
    spending_log.reserve("label", "m", Amount(100, 50, 300))
    spending_log.close()
    assert read(tmp_path)["label"].held.nano_dollars == 300


def test_each_stage_and_each_project_has_its_own_sum(tmp_path: Path) -> None:
    for project, stage in (("p", "gate"), ("p", "label"), ("q", "label")):
        spending_log = SpendingLog(tmp_path, project)
        spending_log.settle(spending_log.reserve(stage, "m", Amount(9, 9)), Amount(1, 1))
        spending_log.close()
    assert set(read(tmp_path)) == {"gate", "label"}
    assert set(read(tmp_path, "q")) == {"label"}


def test_an_incomplete_line_damages_no_other_line(tmp_path: Path) -> None:
    spending_log = SpendingLog(tmp_path, "p")
    spending_log.reserve("label", "m", Amount(1, 1))
    spending_log.close()
    with (tmp_path / SPENDING).open("ab") as file:
        file.write(b'{"id": "to')
    spending_log = SpendingLog(tmp_path, "p")
    spending_log.reserve("label", "m", Amount(2, 2))
    spending_log.close()
    again = SpendingLog(tmp_path, "p")
    again.catch_up()
    assert again.stages()["label"].held.input_tokens == 3
    assert again.unreadable == 1


def a_line(folder: Path) -> bytes:
    spending_log = SpendingLog(folder, "p")
    spending_log.settle(spending_log.reserve("label", "m", Amount(1, 1)), Amount(1, 1))
    spending_log.close()
    return (folder / SPENDING).read_bytes()


GARBLED = {
    "no JSON": b"spent a lot\n",
    "another encoding": '{"id": "x"}\n'.encode("utf-16"),
    "not an object": b"[1, 2]\n",
    "a missing key": b'{"id": "x"}\n',
    "no numbers": b'{"id":"x","project":"p","stage":"s","requests":1,"worst":{"dollars":3}}\n',
    "cost as text": b'{"id":"x","project":"p","stage":"s","requests":"many","worst":{"input":"a","output":1}}\n',
}


@pytest.mark.parametrize("garbled", GARBLED.values(), ids=GARBLED)
@pytest.mark.parametrize("place", ["before", "after"])
def test_a_garbled_log_is_an_error_and_not_a_budget_that_starts_again(
    tmp_path: Path, garbled: bytes, place: str
) -> None:
    good = a_line(tmp_path)
    (tmp_path / SPENDING).write_bytes(garbled + good if place == "before" else good + garbled)
    with StandIn(coded("process")) as teacher, pytest.raises(CacheDamaged, match=r"line \d of the spending log"):
        labelled(tmp_path, teacher, "a", budget=BudgetSection(tokens=30_000))
    assert teacher.bodies == []


def test_an_emptied_log_is_an_error_and_not_a_budget_that_starts_again(tmp_path: Path) -> None:
    (tmp_path / SPENDING).touch()
    with StandIn(coded("process")) as teacher, pytest.raises(CacheDamaged, match="spending log is empty"):
        labelled(tmp_path, teacher, "a", budget=BudgetSection(tokens=30_000))
    assert teacher.bodies == []


@pytest.mark.parametrize("lost", [b"\0\0\0", b'{"id":"x","cos', b"{", b"\n\n"])
def test_what_a_power_cut_leaves_of_the_last_lines_is_no_damage(tmp_path: Path, lost: bytes) -> None:
    (tmp_path / SPENDING).write_bytes(a_line(tmp_path) + lost)
    a_line(tmp_path)
    assert read(tmp_path)["label"].known.requests == 2


def test_the_budget_limits_all_runs_together(tmp_path: Path) -> None:
    texts = [str(number) for number in range(30)]
    with StandIn(coded("process")) as teacher:
        for _ in range(3):
            with pytest.raises(BudgetReached, match="including earlier runs"):
                labelled(tmp_path, teacher, *texts, budget=BudgetSection(tokens=3000), concurrency=1)
        assert 0 < len(teacher.bodies) * 105 <= 3000
        asked = len(teacher.bodies)
        labelled(tmp_path, teacher, *texts, budget=BudgetSection(tokens=30_000))
    assert len(teacher.bodies) == 30
    known = read(tmp_path)["label"].known
    assert (known.requests, known.input_tokens) == (30, 3000)
    assert asked < 30


def test_a_budget_smaller_than_one_request_is_a_one_line_error_and_sends_nothing(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        with pytest.raises(BudgetReached, match="more than the whole budget of 10 tokens") as stopped:
            labelled(tmp_path, teacher, "a", budget=BudgetSection(tokens=10))
        assert teacher.bodies == []
    assert "\n" not in str(stopped.value)


def test_requests_without_a_price_count_at_the_current_price(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        labelled(tmp_path, teacher, "a", "b")
        given = section(teacher.base_url, prices=PRICES, budget=BudgetSection(usd=1.0))
    spending_log = SpendingLog(tmp_path, "p")
    spending_log.catch_up()
    assert Budget.from_section(given, spending_log, "label").used == 200 * 1000 + 10 * 2000


def test_a_lost_connection_counts_with_its_maximum_cost(tmp_path: Path) -> None:
    with StandIn(lambda _body, before: coded("process") if before else Reply(drop=True)) as teacher:
        usage = labelled(tmp_path, teacher, "a", prices=PRICES).usage
    spent = read(tmp_path)["label"]
    assert (spent.known.requests, spent.held.requests) == (1, 1)
    assert spent.known.nano_dollars == usage.nano_dollars == 100 * 1000 + 5 * 2000
    assert spent.held.nano_dollars > 300 * 2000


HOLDER = """
import asyncio, sys
from pathlib import Path
from edgedistill.errors import BudgetReached
from edgedistill.teacher import Budget, SpendingLog, TeacherRequest
from edgedistill.teacher.spending import Amount
spending_log = SpendingLog(Path(sys.argv[1]), "p")
budget = Budget(100_000, None, spending_log, "label")
print("ready", flush=True)
sys.stdin.readline()
async def spend():
    spent = 0
    try:
        while True:
            reservation = await budget.reserve(TeacherRequest("u", "m", (), None, {}, 100, 0))
            budget.settle(reservation, reservation.max_cost)
            spent += reservation.max_cost.input + reservation.max_cost.output
    except BudgetReached:
        return spent
print(asyncio.run(spend()))
spending_log.close()
"""


def test_processes_that_spend_at_the_same_time_share_one_budget(tmp_path: Path) -> None:
    command, pipe = [sys.executable, "-c", HOLDER, str(tmp_path)], subprocess.PIPE
    children = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    spent = [int(child.communicate(timeout=60)[0]) for child in children]
    assert 99_000 < sum(spent) <= 100_000


def test_a_spending_log_that_cannot_be_written_stops_the_run_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / SPENDING).mkdir()
    with StandIn(coded("process")) as teacher:
        with pytest.raises(CacheDamaged, match=r"spending\.jsonl: the spending log cannot be written"):
            labelled(tmp_path, teacher, "a")
        assert teacher.bodies == []


def test_the_spending_log_contains_no_response(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        labelled(tmp_path, teacher, "secret text")
    lines = [json.loads(line) for line in (tmp_path / SPENDING).read_text().splitlines()]
    assert len(lines) == 2
    assert "secret" not in str(lines)
