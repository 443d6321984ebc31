"""Whatever is given for responses is scored as what it is, or refused in one sentence that does not quote it."""

import asyncio
from collections import deque

import numpy as np
import pandas as pd
import pytest

from edgedistill_serve import DataError, Scorer
from edgedistill_serve.client import AsyncClient, Client, ClientError

SECRET = "my name is Ada Lovelace and I live in Ockham"
TEXTS = [f"{SECRET} too", "great job"]
LISTS = {
    "a list": lambda: TEXTS,
    "a tuple": lambda: tuple(TEXTS),
    "a generator": lambda: (text for text in TEXTS),
    "an iterator": lambda: iter(TEXTS),
    "a map": lambda: map(str, TEXTS),
    "a deque": lambda: deque(TEXTS),
    "a Series": lambda: pd.Series(TEXTS, index=[7, 3]),
    "an array of objects": lambda: np.array(TEXTS, dtype=object),
    "an array of strings": lambda: np.array(TEXTS),
    "the values of a dict": lambda: dict(enumerate(TEXTS)).values(),
    "mappings": lambda: [{"response": text} for text in TEXTS],
}
NO_LISTS = {
    "a string": SECRET,
    "bytes": SECRET.encode(),
    "a bytearray": bytearray(SECRET.encode()),
    "one mapping": {"response": SECRET},
    "a DataFrame": pd.DataFrame({"response": [SECRET]}),
    "a set": {SECRET},
    "a matrix": np.array([[SECRET]]),
    "an array without dimensions": np.array(SECRET),
    "None": None,
    "a number": 5,
}
NO_RESPONSES = [None, 5, 1.5, float("nan"), pd.NA, SECRET.encode(), [SECRET], (SECRET,), {SECRET}, {"text": SECRET}]
NO_RESPONSES += [{"response": None}, {"response": 5}, {"response": [SECRET]}, {}, object, True]


@pytest.fixture(scope="module")
def scorer(bundle) -> Scorer:
    return Scorer(bundle, threads=1)


@pytest.mark.parametrize("name", LISTS)
def test_every_kind_of_list_is_scored_in_order(scorer, name):
    assert scorer.score(LISTS[name]()) == scorer.score(TEXTS)


def test_no_response_gives_no_score(scorer):
    assert scorer.score([]) == scorer.score(iter(())) == []


@pytest.mark.parametrize("method", ["score", "score_each"])
@pytest.mark.parametrize("name", NO_LISTS)
def test_what_is_no_list_is_refused_in_one_sentence(scorer, method, name):
    with pytest.raises(DataError) as refused:
        getattr(scorer, method)(NO_LISTS[name])
    assert str(refused.value).startswith("a list of responses is needed, and this is ")
    assert "\n" not in str(refused.value)
    assert "Ada" not in f"{refused.value} {refused.value!r}"


@pytest.mark.parametrize("item", NO_RESPONSES, ids=lambda item: type(item).__name__)
def test_an_item_that_is_no_response_is_refused_with_its_position(scorer, item):
    with pytest.raises(DataError, match=r"^response 2: ") as refused:
        scorer.score(["great job", item])
    assert "Ada" not in f"{refused.value} {refused.value!r}"
    first, second = scorer.score_each(["great job", item])
    assert first == scorer.score(["great job"])[0]
    assert isinstance(second, DataError)


@pytest.mark.parametrize("given", [SECRET, [SECRET], {"response": SECRET}, SECRET.encode(), None, np.array([SECRET])])
def test_what_is_no_frame_is_refused_as_a_frame(scorer, given):
    with pytest.raises(DataError, match="a pandas DataFrame or Series is needed") as refused:
        scorer.score_frame(given)
    assert "Ada" not in str(refused.value)


@pytest.mark.parametrize("name", NO_LISTS)
def test_the_clients_refuse_the_same_before_they_connect(name):
    async def asked() -> None:
        async with AsyncClient("http://127.0.0.1:1") as client:
            with pytest.raises(DataError, match="a list of responses is needed"):
                await client.score_many(NO_LISTS[name])
            with pytest.raises(DataError, match="a list of responses is needed"):
                _ = [each async for each in client.score_stream(NO_LISTS[name])]

    with Client("http://127.0.0.1:1") as client:
        with pytest.raises(DataError, match="a list of responses is needed"):
            client.score_many(NO_LISTS[name])
        with pytest.raises(DataError, match="a list of responses is needed"):
            list(client.score_stream(NO_LISTS[name]))
    asyncio.run(asked())


@pytest.mark.parametrize("item", [item for item in NO_RESPONSES if not isinstance(item, dict)], ids=repr)
def test_the_clients_refuse_an_item_that_is_no_response_before_they_connect(item):
    with Client("http://127.0.0.1:1") as client:
        for ask in (lambda: client.score_many(["a", item]), lambda: list(client.score_stream(["a", item]))):
            with pytest.raises(ClientError, match="response 2: the response is neither") as refused:
                ask()
            assert "Ada" not in f"{refused.value!r}"
        with pytest.raises(ClientError, match="the response is neither"):
            client.score(item)
