"""What the processes of a server share: connections, the served models, and the rates of keys."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve import TooMany
from edgedistill_serve.server.middleware.api_keys import KeyAccess, TokenBucket, create_key
from edgedistill_serve.server.shared_state import SharedRates, SharedState

HASH = hashlib.sha256(b"key").hexdigest()


def test_a_process_with_the_fewest_connections_is_known_to_all():
    descriptor = SharedState.create(3)
    one, two = SharedState(descriptor), SharedState(descriptor)
    assert one.has_fewest(0)
    one.set_connections(0, 2)
    two.set_connections(1, 1)
    assert (one.has_fewest(0), two.has_fewest(0), two.has_fewest(1)) == (False, False, True)
    two.set_connections(1, None)
    assert one.has_fewest(0)


def test_the_generation_of_the_models_is_seen_by_all():
    descriptor = SharedState.create(2)
    one, two = SharedState(descriptor), SharedState(descriptor)
    assert two.generation == 0
    one.generation = 7
    assert two.generation == 7
    assert one.has_fewest(0)


@given(st.integers(1, 50), st.lists(st.floats(0, 0.5), max_size=200))
def test_shared_rates_allow_what_a_token_bucket_allows(rate, pauses):
    rates, bucket, now = SharedRates(memoryview(bytearray(160))), TokenBucket(rate, float(rate), 100.0), 100.0
    for pause in pauses:
        now += pause
        if abs(bucket.available + pause * rate - 1) < 1e-6:  # allowed or not by rounding only
            return
        assert (rates.take(HASH, rate, now) == 0) == (bucket.take(now) == 0)


def test_the_rate_of_a_key_holds_over_all_processes():
    descriptor = SharedState.create(2)
    key, other = create_key("one"), create_key("two")
    entries = (key.entry, other.entry)
    accesses = [KeyAccess(entries, rate=3, clock=lambda: 50.0, shared=SharedState(descriptor).rates) for _ in range(2)]
    refused = []
    for number in range(6):
        try:
            accesses[number % 2].check(key.key)
        except TooMany as error:
            refused.append(str(error))
    assert refused == ["more than 3 requests per second with this key. Try again later."] * 3
    accesses[1].check(other.key)


def test_keys_of_one_place_do_not_share_a_rate():
    rates = SharedRates(memoryview(bytearray(160)))
    hashes = [f"{number:016x}" + "0" * 48 for number in (3, 13, 23)]
    assert [rates.take(each, 1, 100.0) for each in hashes] == [0, 0, 0]
    assert all(rates.take(each, 1, 100.0) > 0.9 for each in hashes)
    assert [rates.take(each, 1, 101.5) for each in hashes] == [0, 0, 0]
