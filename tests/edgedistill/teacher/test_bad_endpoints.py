"""Endpoints with faults: a one-line error, and no paid answer is lost."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgedistill.errors import EdgeDistillError, TeacherError
from edgedistill.teacher import AnswerCache, Codebook, Labelling, label_responses
from edgedistill_serve.task.task import Label

from .codings import CODEBOOK, NO_WAIT, responses, section
from .stand_in import Reply, Script, StandIn, coded, completion, error, text_of

STREAM = Reply(body=b'data: {"choices": [{"delta": {"content": "process"}}]}\n\ndata: [DONE]\n\n')
ERROR_BODY = Reply(body=json.dumps({"error": {"message": "overloaded", "code": 503}}).encode())
PAGE = Reply(body=b"<!doctype html><title>Portal</title><p>Please sign in.</p>")


def labelled(folder: Path, teacher: StandIn, *texts: str, book: Codebook = CODEBOOK, **fields: Any) -> Labelling:
    with AnswerCache(folder) as cache:
        settings = section(teacher.base_url, concurrency=1, **fields)
        return label_responses(responses(*texts), book, settings, cache, retry_policy=NO_WAIT)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (STREAM, "streams its answers"),
        (ERROR_BODY, "HTTP 503"),
        (PAGE, "HTTP 200, a web page"),
        (Reply(502, b"<html><h1>502 Bad Gateway</h1></html>"), "HTTP 502"),
        (Reply(504, b"upstream request timeout"), "HTTP 504"),
        (error(400, "Unknown parameter: 'logprobs'."), "logprobs"),
    ],
)
def test_an_endpoint_that_always_fails_stops_the_run_with_a_one_line_error(
    tmp_path: Path, reply: Reply, message: str
) -> None:
    with StandIn(reply) as teacher, pytest.raises(TeacherError) as stopped:
        labelled(tmp_path, teacher, *map(str, range(30)), tries=1, logprobs=True)
    assert message in str(stopped.value)
    assert teacher.base_url in str(stopped.value)
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize("reply", [ERROR_BODY, PAGE, Reply(502, b"<html>502</html>")])
def test_a_temporary_fault_is_retried_and_nothing_is_paid_twice(tmp_path: Path, reply: Reply) -> None:
    def script(body: dict[str, Any], before: int) -> Reply:
        return reply if text_of(body) == "b" and before == 0 else coded("process")

    with StandIn(script) as teacher:
        done = labelled(tmp_path, teacher, "a", "b", "c")
    assert len(done.labels) == 3
    assert sorted(teacher.answered.values()) in ([1, 1, 1], [1, 1, 2])  # the fault itself may have status 200
    assert done.usage.asked == 4


def test_answers_before_the_endpoint_failed_are_saved(tmp_path: Path) -> None:
    def failing_later(body: dict[str, Any], _before: int) -> Reply:
        return coded("process") if int(text_of(body)) < 5 else error(401)

    texts = [str(number) for number in range(10)]
    with StandIn(failing_later) as teacher:
        with pytest.raises(EdgeDistillError):
            labelled(tmp_path, teacher, *texts)
        port = int(teacher.base_url.split(":")[2].removesuffix("/v1"))
    with StandIn(coded("process"), port=port) as teacher:
        done = labelled(tmp_path, teacher, *texts)
    assert (done.usage.cached, done.usage.asked) == (5, 5)


IGNORING: dict[str, Script] = {
    "prose": lambda _body, _before: completion("I would say this praises the process."),
    "another key": lambda _body, _before: completion('{"code": "process"}'),
    "another label": lambda _body, _before: completion('{"label": "effort"}'),
}


@pytest.mark.parametrize("how", IGNORING)
def test_unusable_answers_of_an_endpoint_that_ignores_the_schema_are_logged_with_their_text(
    tmp_path: Path, how: str
) -> None:
    with StandIn(IGNORING[how]) as teacher:
        done = labelled(tmp_path, teacher, "a", tries=2)
    (row,) = done.set_aside
    assert row.reason in (
        "the teacher's answer could not be read",
        "the teacher's answer is not a label of the codebook",
    )
    assert len(teacher.bodies) == 2
    kept = json.loads((tmp_path / "failures.jsonl").read_text().splitlines()[-1])
    assert json.loads(kept["raw"])["choices"]


def test_a_bare_label_is_parsed_although_the_schema_was_ignored(tmp_path: Path) -> None:
    with StandIn(completion("Outcome.")) as teacher:
        assert [label.label for label in labelled(tmp_path, teacher, "a").labels] == ["outcome"]


ALIKE = Codebook("", (Label("process"), Label("process praise"), Label("no process")), ("response",))


@pytest.mark.parametrize("given", ALIKE.names)
@pytest.mark.parametrize("written", ['{{"label": "{}"}}', "{}"])
def test_a_label_that_is_part_of_another_is_distinguished_from_it(tmp_path: Path, given: str, written: str) -> None:
    with StandIn(completion(written.format(given))) as teacher:
        (label,) = labelled(tmp_path, teacher, "a", book=ALIKE).labels
    assert label.label == given


@pytest.mark.parametrize("status", [201, 202, 203, 206])
def test_every_status_of_success_may_carry_an_answer(tmp_path: Path, status: int) -> None:
    with StandIn(Reply(status, coded("process").body)) as teacher:
        assert len(labelled(tmp_path, teacher, "a").labels) == 1


SILENT = {
    "a broken connection": (Reply(drop=True), "breaks the connection before its answer is complete"),
    "half an answer": (Reply(200, b"{", {"content-length": "500"}), "breaks the connection before its answer"),
    "no answer in time": (Reply(200, b"", delay=1.5), "does not answer within timeout_seconds"),
    "no content": (Reply(204), "only answers with HTTP 204, no chat completion"),
}


@pytest.mark.parametrize("what", SILENT)
def test_a_server_that_does_not_answer_is_not_called_absent(tmp_path: Path, what: str) -> None:
    reply, sentence = SILENT[what]

    class Closing(StandIn):
        """Closes the connection after each reply, so that half an answer ends."""

        def serve(self, request: Any) -> None:
            """Answer and close."""
            super().serve(request)
            request.close_connection = True

    with Closing(reply) as teacher, pytest.raises(EdgeDistillError, match=sentence):
        labelled(tmp_path, teacher, "a", "b", "c", timeout_seconds=1, tries=1)


@pytest.mark.parametrize(
    "content", [None, b"\0\xff\n[1]\n5\n" + b"[" * 100_000, b'{"key": ["a"], "cause": "the endpoint failed"}']
)
def test_a_failure_log_that_cannot_be_read_loses_no_answer(tmp_path: Path, content: bytes | None) -> None:
    log = tmp_path / "failures.jsonl"
    log.mkdir() if content is None else log.write_bytes(content)
    with StandIn(coded("process")) as teacher:
        if content is None:
            with pytest.raises(EdgeDistillError, match="the failure log cannot be read"):
                labelled(tmp_path, teacher, "a")
        else:
            assert len(labelled(tmp_path, teacher, "a").labels) == 1
