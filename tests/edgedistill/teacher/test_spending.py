import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from edgedistill.errors import BudgetReached
from edgedistill.project.teacher import BudgetSection, PricesSection
from edgedistill.teacher.spending import Amount, Budget, Price, estimate_tokens, max_input_tokens

from .codings import request, section

PRICES = PricesSection(input_usd_per_million=2.5, output_usd_per_million=10.0)


def test_a_price_is_exact_in_nano_dollars() -> None:
    assert Price.from_section(PRICES).cost(1_000_000, 1_000_000) == 12_500_000_000
    assert Price.from_section(PricesSection(input_usd_per_million=0.0375, output_usd_per_million=0.0)).cost(3, 0) == 113


def test_a_request_that_does_not_fit_the_budget_is_never_sent() -> None:
    async def run() -> None:
        budget = Budget.from_section(section("http://x/v1", budget=BudgetSection(tokens=1000)))
        first = await budget.reserve(request())
        budget.settle(first, Amount(800, 100))
        with pytest.raises(BudgetReached, match=r"teacher.budget: .* 100 tokens of 1,000 tokens are left"):
            await budget.reserve(request())

    asyncio.run(run())


def test_the_unused_part_of_a_reservation_is_free_for_the_next_request() -> None:
    async def run() -> None:
        budget = Budget(max_input_tokens(request()) + 300, None)
        first = await budget.reserve(request())
        second = asyncio.ensure_future(budget.reserve(request()))
        await asyncio.sleep(0.01)
        assert not second.done()
        budget.settle(first, Amount(0, 0))
        assert (await second).max_cost == first.max_cost

    asyncio.run(run())


def test_a_budget_can_be_used_in_several_event_loops() -> None:
    budget = Budget(max_input_tokens(request()) + 300, None)

    async def wait() -> None:
        first = await budget.reserve(request())
        second = asyncio.ensure_future(budget.reserve(request()))
        await asyncio.sleep(0)
        budget.settle(first, Amount(0, 0))
        budget.settle(await second, Amount(0, 0))

    asyncio.run(wait())
    asyncio.run(wait())
    assert budget.used == 0


def test_without_a_budget_every_request_is_allowed() -> None:
    budget = Budget.from_section(section("http://x/v1", prices=PRICES))
    assert asyncio.run(budget.reserve(request())).max_cost.nano


def test_a_budget_in_dollars_counts_nano_dollars() -> None:
    budget = Budget.from_section(section("http://x/v1", prices=PRICES, budget=BudgetSection(usd=0.1)))
    assert budget.cap == 100_000_000
    assert budget.amount(1000, 100).nano == 3_500_000


@given(st.text())
def test_no_byte_level_tokenizer_makes_more_tokens_of_a_prompt_than_are_reserved(text: str) -> None:
    asked = request(messages=({"role": "user", "content": text},))
    unmerged = sum(len(piece) for piece, _ in ByteLevel(add_prefix_space=False).pre_tokenize_str(text))
    assert max_input_tokens(asked) >= unmerged >= estimate_tokens(text)


def test_a_lone_surrogate_is_reserved_like_the_replacement_character() -> None:
    broken, replaced = (request(messages=({"role": "user", "content": text},)) for text in ("\ud800", "\ufffd"))
    assert max_input_tokens(broken) == max_input_tokens(replaced)
