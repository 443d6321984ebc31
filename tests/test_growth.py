"""A comparison of costs finds quadratic work however disturbed, and passes linear work once it is undisturbed."""

import random

import pytest

from .growth import (
    REPEATS,
    ROUNDS,
    assert_linear,
    assert_work_is_linear,
    cpu_seconds,
    loop_seconds,
)

ROUND = 2 * REPEATS + 1


def linear(length: int) -> int:
    return length


def quadratic(length: int) -> int:
    return length**2


def disturbed(work, *, seed, share):
    """Count work on a machine that makes a share of the measurements up to 30 times as long."""
    chance = random.Random(seed)
    return lambda length: work(length) * (chance.uniform(1, 30) if chance.random() < share else 1)


@pytest.mark.parametrize("cost", [linear, lambda length: 1000, lambda length: 5000 + length, lambda length: 0])
def test_a_cost_that_grows_at_most_linearly_passes(cost):
    assert_linear(cost, 640)


@pytest.mark.parametrize("cost", [quadratic, lambda length: length**3, lambda length: 10 * length + length**2])
def test_a_cost_that_grows_faster_fails_and_is_named(cost):
    with pytest.raises(AssertionError, match=r"is \d+\.\d times"):
        assert_linear(cost, 640)


def test_linear_work_passes_on_a_machine_that_disturbs_nine_of_ten_measurements():
    for seed in range(100):
        assert_linear(disturbed(linear, seed=seed, share=0.9), 640)


def test_quadratic_work_fails_on_a_machine_that_disturbs_half_of_the_measurements():
    for seed in range(100):
        with pytest.raises(AssertionError):
            assert_linear(disturbed(quadratic, seed=seed, share=0.5), 640)


def test_work_passes_in_the_first_round_that_is_undisturbed_and_measures_no_more():
    asked = []

    def measure(length):
        asked.append(length)
        return length * (1000 if len(asked) <= 2 * ROUND and length == 640 else 1)

    assert_linear(measure, 640)
    assert asked == 3 * [*REPEATS * [40], 640, *REPEATS * [40]]
    asked.clear()
    with pytest.raises(AssertionError):
        assert_linear(lambda length: asked.append(length) or length**2, 640)
    assert len(asked) == ROUNDS * ROUND


def test_time_is_that_of_the_processor():
    assert cpu_seconds(sum, range(100_000)) > 0
    assert loop_seconds(100_000) > 0


def test_a_text_is_compared_with_a_shorter_one_and_its_characters_with_the_steps_of_a_loop():
    assert_work_is_linear(str.upper, lambda length: "a" * length, 160_000)
    with pytest.raises(AssertionError, match="times"):
        assert_work_is_linear(lambda text: [text.count("b") for _ in text], lambda length: "a" * length, 4_000)
    with pytest.raises(AssertionError, match="times"):
        assert_work_is_linear(lambda text: loop_seconds(50 * len(text)), lambda length: "a" * length, 8_000, steps=5)
