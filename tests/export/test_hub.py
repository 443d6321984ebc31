"""A push sends the bundle's own files in one commit, to a stand-in of the Hub on a real socket."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edgedistill_export import ExportPlan, export_bundle
from edgedistill_export.errors import PushFailed
from edgedistill_export.hub import plan_push, push
from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.signing import create_key_pair, sign_bundle

from .tiny import MAX_TOKENS, PRAISE, rows_for, save_student

COMMIT = "https://huggingface.co/school/praise/commit/1"
"""huggingface_hub reads the repository's name from it, and knows no other host there."""


class StandIn(ThreadingHTTPServer):
    """Answers as the Hub does to a first upload of small files, and keeps what it was sent."""

    def __init__(self, refusing: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.refusing = refusing
        self.asked: list[tuple[str, str, bytes]] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:  # huggingface_hub 0.34 asks where large files go
        self._send(self.server.refusing or 200, {"id": "school/praise", "xetEnabled": False})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path, self.headers.get("Authorization", ""), body))
        if self.server.refusing:
            self._send(self.server.refusing, {"error": "no"})
        elif self.path == "/api/repos/create":
            self._send(200, {"url": f"{self.server.url}/school/praise"})
        elif "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._send(200, {"files": files})
        else:
            self._send(200, {"commitUrl": COMMIT, "commitOid": "1"})

    def _send(self, status: int, content: object) -> None:
        message = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(message)))
        self.end_headers()
        self.wfile.write(message)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    server = StandIn(getattr(request, "param", None))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    place = tmp_path_factory.mktemp("hub")
    student = save_student(place / "student", PRAISE)
    plan = ExportPlan("praise", PRAISE, MAX_TOKENS, "fp32", 1.0, vocabulary="cut")
    folder = export_bundle(student, place / "bundle", plan, rows_for(PRAISE)).bundle.folder
    create_key_pair(place / "maker")
    sign_bundle(folder, place / "maker")
    (folder / "notes.txt").write_text("not listed")
    return Bundle.load(folder)


def test_a_plan_lists_the_bundles_files_with_their_sizes_and_no_others(bundle: Bundle):
    plan = plan_push(bundle, "school/praise")
    assert dict(plan.files) == {
        name: (bundle.folder / name).stat().st_size
        for name in (*bundle.manifest.files, "bundle.json", "bundle.json.sig")
    }
    assert plan.bytes == sum(dict(plan.files).values())
    assert plan.responses == 0
    assert not plan.public


def test_a_push_sends_every_file_as_it_is_in_one_commit(bundle: Bundle, hub: StandIn):
    plan = plan_push(bundle, "school/praise")
    assert push(plan, "hf_token", endpoint=hub.url) == COMMIT
    (commit,) = [body for path, _, body in hub.asked if "/commit/" in path]
    lines = [json.loads(line) for line in commit.splitlines()]
    sent = {
        line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
    }
    assert sent == {name: (bundle.folder / name).read_bytes() for name, _ in plan.files}
    assert {token for _, token, _ in hub.asked} == {"Bearer hf_token"}


@pytest.mark.parametrize("public", [False, True])
def test_a_new_repository_is_private_unless_somebody_says_otherwise(bundle: Bundle, hub: StandIn, public: bool):
    push(plan_push(bundle, "school/praise", public=public), "hf_token", endpoint=hub.url)
    created = json.loads(hub.asked[0][2])
    assert hub.asked[0][0] == "/api/repos/create"
    # huggingface_hub 1 and later name the visibility.
    private = created["visibility"] == "private" if "visibility" in created else created["private"]
    assert private is (not public)


@pytest.mark.parametrize("hub", [401, 403, 500], indirect=True)
def test_a_hub_that_refuses_is_an_error_of_ours_without_the_token(bundle: Bundle, hub: StandIn):
    with pytest.raises(PushFailed, match=rf"school/praise: the Hub returned status {hub.refusing}") as refused:
        push(plan_push(bundle, "school/praise"), "hf_secret", endpoint=hub.url)
    assert "hf_secret" not in str(refused.value)
    assert not [path for path, _, _ in hub.asked if "/commit/" in path]


def test_a_hub_that_is_not_there_is_an_error_of_ours(bundle: Bundle):
    with pytest.raises(PushFailed, match="the Hub cannot be reached"):
        push(plan_push(bundle, "school/praise"), "hf_token", endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize("token", [None, ""])
def test_without_a_token_nothing_is_asked(bundle: Bundle, token: str | None, hub: StandIn):
    with pytest.raises(PushFailed, match="HF_TOKEN"):
        push(plan_push(bundle, "school/praise"), token, endpoint=hub.url)
    assert hub.asked == []


@pytest.mark.parametrize("repo", ["", "a b", "a/b/c", "-x/y", "../x"])
def test_a_name_that_no_repository_can_have_is_refused(bundle: Bundle, repo: str):
    with pytest.raises(PushFailed, match="is not a valid repository name"):
        plan_push(bundle, repo)
