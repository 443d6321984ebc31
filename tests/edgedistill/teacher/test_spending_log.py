"""What a project has spent outlives its runs, however they end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgedistill.errors import BudgetReached, CacheDamaged
from edgedistill.project.schema import BudgetSection, PricesSection
from edgedistill.teacher import AnswerCache, Budget, Labelling, Ledger, Spent, label_responses
from edgedistill.teacher.spending import SPENDING, Amount

from .codings import AT_ONCE, CODEBOOK, responses, section
from .stand_in import Reply, StandIn, coded

PRICES = PricesSection(input_usd_per_million=1.0, output_usd_per_million=2.0)


def read(folder: Path, project: str = "p") -> dict[str, Spent]:
    ledger = Ledger(folder, project)
    ledger.catch_up()
    return dict(ledger.stages())


def labelled(folder: Path, teacher: StandIn, *texts: str, **fields: object) -> Labelling:
    given = section(teacher.base_url, **fields)
    with AnswerCache(folder) as cache:
        budget = Budget.of(given, Ledger(folder, "p"), "label")
        return label_responses(responses(*texts), CODEBOOK, given, cache, budget=budget, patience=AT_ONCE)


def test_what_is_held_is_spent_once_it_is_settled(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "p")
    name = ledger.hold("label", "m", Amount(100, 50, 300))
    assert read(tmp_path)["label"].held.nano_dollars == 300
    ledger.settle(name, Amount(80, 5, 90))
    ledger.close()
    spent = read(tmp_path)["label"]
    assert (spent.held.requests, spent.held.nano_dollars) == (0, 0)
    assert (spent.known.requests, spent.known.input_tokens, spent.known.nano_dollars) == (1, 80, 90)


def test_a_request_that_is_never_settled_stays_at_its_worst_case(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "p")
    ledger.hold("label", "m", Amount(100, 50, 300))
    ledger.close()
    assert read(tmp_path)["label"].held.nano_dollars == 300


def test_each_stage_and_each_project_has_its_own_sum(tmp_path: Path) -> None:
    for project, stage in (("p", "gate"), ("p", "label"), ("q", "label")):
        ledger = Ledger(tmp_path, project)
        ledger.settle(ledger.hold(stage, "m", Amount(9, 9)), Amount(1, 1))
        ledger.close()
    assert set(read(tmp_path)) == {"gate", "label"}
    assert set(read(tmp_path, "q")) == {"label"}


def test_a_line_that_was_torn_costs_no_other_line(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "p")
    ledger.hold("label", "m", Amount(1, 1))
    ledger.close()
    with (tmp_path / SPENDING).open("ab") as file:
        file.write(b'{"id": "to')
    ledger = Ledger(tmp_path, "p")
    ledger.hold("label", "m", Amount(2, 2))
    ledger.close()
    again = Ledger(tmp_path, "p")
    again.catch_up()
    assert again.stages()["label"].held.input_tokens == 3
    assert again.unreadable == 1


def test_the_budget_holds_over_runs(tmp_path: Path) -> None:
    texts = [str(number) for number in range(30)]
    with StandIn(coded("process")) as teacher:
        for _ in range(3):
            with pytest.raises(BudgetReached, match="earlier runs among them"):
                labelled(tmp_path, teacher, *texts, budget=BudgetSection(tokens=3000), concurrency=1)
        assert 0 < len(teacher.bodies) * 105 <= 3000
        asked = len(teacher.bodies)
        labelled(tmp_path, teacher, *texts, budget=BudgetSection(tokens=30_000))
    assert len(teacher.bodies) == 30
    known = read(tmp_path)["label"].known
    assert (known.requests, known.input_tokens) == (30, 3000)
    assert asked < 30


def test_a_budget_smaller_than_one_request_is_one_line_and_asks_nothing(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        with pytest.raises(BudgetReached, match="more than the whole budget of 10 tokens") as stopped:
            labelled(tmp_path, teacher, "a", budget=BudgetSection(tokens=10))
        assert teacher.bodies == []
    assert "\n" not in str(stopped.value)


def test_what_was_asked_without_a_price_counts_at_todays_price(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        labelled(tmp_path, teacher, "a", "b")
        given = section(teacher.base_url, prices=PRICES, budget=BudgetSection(usd=1.0))
    ledger = Ledger(tmp_path, "p")
    ledger.catch_up()
    assert Budget.of(given, ledger, "label").taken == 200 * 1000 + 10 * 2000


def test_a_lost_connection_counts_with_its_worst_case(tmp_path: Path) -> None:
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
from edgedistill.teacher import Budget, Ledger, TeacherRequest
from edgedistill.teacher.spending import Amount
ledger = Ledger(Path(sys.argv[1]), "p")
budget = Budget(100_000, None, ledger, "label")
print("ready", flush=True)
sys.stdin.readline()
async def spend():
    spent = 0
    try:
        while True:
            held = await budget.reserve(TeacherRequest("u", "m", (), None, {}, 100, 0))
            budget.settle(held, held.worst)
            spent += held.worst.input + held.worst.output
    except BudgetReached:
        return spent
print(asyncio.run(spend()))
ledger.close()
"""


def test_processes_that_spend_at_once_keep_to_one_budget(tmp_path: Path) -> None:
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


def test_a_ledger_that_cannot_be_written_stops_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / SPENDING).mkdir()
    with StandIn(coded("process")) as teacher:
        with pytest.raises(CacheDamaged, match=r"spending\.jsonl: what is spent cannot be written down"):
            labelled(tmp_path, teacher, "a")
        assert teacher.bodies == []


def test_no_response_is_written_into_the_ledger(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        labelled(tmp_path, teacher, "secret text")
    lines = [json.loads(line) for line in (tmp_path / SPENDING).read_text().splitlines()]
    assert len(lines) == 2
    assert "secret" not in str(lines)
