"""The plan of an epoch's batches."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.student.data import LengthGroupedBatches, plan_batches

LENGTHS = st.lists(st.integers(1, 128), min_size=1, max_size=300)
SIZES = st.integers(1, 12)
SEEDS = st.integers(0, 2**32 - 1)
EPOCHS = st.integers(0, 20)


def padded(batches, lengths):
    """Tokens that are computed, padding included."""
    return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)


@given(LENGTHS, SIZES, SEEDS, EPOCHS)
def test_every_row_is_in_exactly_one_batch(lengths, size, seed, epoch):
    batches = plan_batches(lengths, size, seed, epoch)
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))


@given(LENGTHS, SIZES, SEEDS, EPOCHS)
def test_every_batch_except_one_is_full(lengths, size, seed, epoch):
    sizes = sorted(len(batch) for batch in plan_batches(lengths, size, seed, epoch))
    assert sizes[1:] == [size] * (len(sizes) - 1)
    assert 0 < sizes[0] <= size


@given(LENGTHS, SIZES, SEEDS, EPOCHS)
def test_the_same_seed_and_epoch_give_the_same_plan(lengths, size, seed, epoch):
    assert plan_batches(lengths, size, seed, epoch) == plan_batches(lengths, size, seed, epoch)


@given(LENGTHS, SIZES, SEEDS, EPOCHS)
def test_full_batches_never_need_more_padding_than_randomly_ordered_rows(lengths, size, seed, epoch):
    lengths = lengths * size
    shuffled = np.random.default_rng([seed, epoch]).permutation(len(lengths)).tolist()
    by_chance = [shuffled[first : first + size] for first in range(0, len(shuffled), size)]
    assert padded(plan_batches(lengths, size, seed, epoch), lengths) <= padded(by_chance, lengths)


def test_responses_of_typical_lengths_need_less_than_a_tenth_of_padding():
    lengths = np.clip(np.random.default_rng(0).lognormal(3.2, 0.5, 2000), 3, 128).astype(int).tolist()
    assert sum(lengths) / padded(plan_batches(lengths, 16, seed=0, epoch=0), lengths) > 0.9


def test_another_epoch_has_other_batches():
    lengths = [row % 40 + 1 for row in range(400)]
    first, second = ({frozenset(batch) for batch in plan_batches(lengths, 8, 0, epoch)} for epoch in (0, 1))
    assert len(first & second) < 5


def test_short_and_long_batches_are_shuffled():
    lengths = list(range(1, 401))
    longest = [max(batch) for batch in plan_batches(lengths, 8, seed=0, epoch=0)]
    assert abs(np.corrcoef(longest, range(len(longest)))[0, 1]) < 0.5


def test_the_sampler_yields_the_plan_of_its_epoch():
    lengths = [row % 40 + 1 for row in range(100)]
    sampler = LengthGroupedBatches(lengths, 8, seed=3)
    sampler.set_epoch(2)
    assert list(sampler) == plan_batches(lengths, 8, seed=3, epoch=2)
    assert len(sampler) == len(list(sampler)) == 13
