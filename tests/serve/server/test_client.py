"""The clients against a real server."""

import asyncio

import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.client import AsyncClient, Client, NotScored, Refused, Unreachable

TEXTS = [f"you worked {'hard ' * (number % 7)}on {number}" for number in range(130)]
POISON = "poisonous"


@pytest.fixture(scope="module")
def server(start, bundle):
    with start(str(bundle.folder), "--max-items", "50", "--max-body-bytes", "1000") as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.url) as client:
        yield client


@pytest.fixture(scope="module")
def expected(bundle):
    return Scorer(bundle).score(TEXTS)


def test_a_score_over_the_wire_is_the_scorers_to_the_last_bit(client, bundle, expected):
    scored = client.score(TEXTS[0])
    assert (scored.model, scored.version, scored.score) == ("praise", bundle.manifest.version, expected[0])


def test_a_list_is_split_by_the_servers_own_limits(client, expected):
    assert [result.score for result in client.score_many(TEXTS)] == expected


def test_a_stream_of_any_length_keeps_its_order_and_has_its_model(client, bundle, expected):
    results = list(client.score_stream(TEXTS[number % 130] for number in range(1300)))
    assert [result.score for result in results] == expected * 10
    assert {(result.model, result.version) for result in results} == {("praise", bundle.manifest.version)}


def test_one_bad_response_fails_alone_in_a_list_and_in_a_stream(client, expected):
    for results in (client.score_many([TEXTS[0], POISON, TEXTS[1]]), client.score_stream([TEXTS[0], POISON, TEXTS[1]])):
        first, failed, last = results
        assert (first.score, last.score) == tuple(expected[:2])
        assert isinstance(failed, NotScored)
        assert "the model failed" in failed.error


def test_a_response_longer_than_the_server_takes_fails_alone(client, expected):
    for results in (client.score_many([TEXTS[0], "x " * 600]), client.score_stream([TEXTS[0], "x " * 600])):
        first, failed = results
        assert first.score == expected[0]
        assert "longer than 1000 bytes" in failed.error


def test_models_are_listed_with_what_their_responses_come_with(client):
    (model,) = client.models()
    assert (model.name, model.labels, model.inputs) == ("praise", ("process", "outcome", "person"), ("response",))


def test_the_async_client_scores_side_by_side(server, expected):
    async def ask():
        async with AsyncClient(server.url) as client:
            many = await client.score_many(TEXTS)
            alone = await asyncio.gather(*(client.score(text) for text in TEXTS))
            stream = [result async for result in client.score_stream(iter(TEXTS))]
            return many, alone, stream

    for results in asyncio.run(ask()):
        assert [result.score for result in results] == expected


def test_a_model_is_selected_by_name_in_every_method(start, bundle, answers_bundle):
    row = {"question": "why", "reference_answer": "because", "response": "great job"}
    with start(str(bundle.folder), str(answers_bundle.folder)) as server, Client(server.url, model="answers") as client:
        results = [client.score(row), *client.score_many([row]), *client.score_stream([row])]
        assert {result.model for result in results} == {"answers"}
        with Client(server.url, model="other") as stranger, pytest.raises(Refused, match=r"\(404\)"):
            list(stranger.score_stream([row]))


def test_the_key_is_sent_to_a_server_that_requires_it(start, bundle, tmp_path):
    from edgedistill_serve.server.middleware.api_keys import create_key

    made = create_key("school")
    (tmp_path / "keys").write_text(made.entry.line() + "\n")
    with start(str(bundle.folder), "--keys", str(tmp_path / "keys")) as server:
        with Client(server.url, key=made.key) as client:
            assert client.score("great job").model == "praise"
            assert len(client.score_many(["great job"])) == 1
        with Client(server.url) as client, pytest.raises(Refused, match="requires an API key") as caught:
            client.score("great job")
        assert caught.value.status == 401


def test_a_server_that_went_away_is_named(start, bundle):
    with start(str(bundle.folder)) as server, Client(server.url, sleep=lambda _: None) as client:
        assert client.score("great job").model == "praise"
        server.stop()
        with pytest.raises(Unreachable, match=f"{server.url}/v1/score: there was no answer"):
            client.score("great job")
