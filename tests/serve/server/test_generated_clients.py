"""Clients that generators make from the OpenAPI document: they are made without warnings, compile, and score.

The generators are development tools with dependencies of their own: `make generators` installs them.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PYTHON_GENERATOR = ROOT / ".venv-generators/bin/openapi-python-client"
NODE_PROGRAMS = ROOT / "clients/js/node_modules/.bin"
CONFIG = "content_type_overrides:\n  application/x-ndjson: application/json\n"
"""openapi-python-client knows no NDJSON; without this line it leaves `score_bulk` out."""
USE_PYTHON = """
import sys
from edgedistill_serve_client import Client
from edgedistill_serve_client.api.open_inference_protocol import get_model_metadata
from edgedistill_serve_client.api.scoring import explain, list_models, score
from edgedistill_serve_client.models import (
    ExplainedResponse, ManyResponses, Models, OneResponse, Problem, ScoredResponse, ScoredResponses
)

client = Client(base_url=sys.argv[1])
one = score.sync(client=client, body=OneResponse(response="great job"))
assert isinstance(one, ScoredResponse) and one.decision == "accept"
many = score.sync(client=client, body=ManyResponses(responses=["great job", "why"]))
assert isinstance(many, ScoredResponses) and len(many.scores) == 2
assert isinstance(explain.sync(client=client, body=OneResponse(response="great job")), ExplainedResponse)
models = list_models.sync(client=client)
assert isinstance(models, Models) and models.models[0].labels == ["process", "outcome", "person"]
refused = score.sync_detailed(client=client, body=OneResponse(response="x", model="other"))
assert refused.status_code == 404 and isinstance(refused.parsed, Problem)
assert get_model_metadata.sync("praise", client=client).name == "praise"
print(one.label)
"""
USE_TYPESCRIPT = """
import type { components, operations, paths } from "./schema";

type Schemas = components["schemas"];
const one: Schemas["OneResponse"] = { response: "great job", id: 17 };
const many: operations["score"]["requestBody"]["content"]["application/json"] = { responses: ["great job", one] };
// @ts-expect-error: a response is required
const none: Schemas["OneResponse"] = { question: "why" };
// @ts-expect-error: there is no such decision
const decision: Schemas["ScoredResponse"]["decision"] = "reject";

export function read(answer: operations["score"]["responses"][200]["content"]["application/json"]): string[] {
  if ("scores" in answer) return answer.scores.map((each) => ("error" in each ? each.error : each.label));
  return [answer.label, answer.reason ?? "", String(answer.probabilities["process"])];
}

export function explain(answer: Schemas["ExplainedResponse"]): number {
  return answer.words.reduce((sum, word) => sum + word.changes[answer.label], 0);
}

export type Limits = Schemas["Models"]["limits"]["items"];
export type Bulk = paths["/v1/score/bulk"]["post"]["parameters"]["query"];
export { decision, many, none };
"""


def generator(program: Path) -> str:
    found = str(program) if program.exists() else shutil.which(program.name)
    return found or pytest.skip(f"{program.name} is not installed: make generators")


def run(*command: object, **settings) -> str:
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=280, **settings)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def server(start, bundle):
    with start(str(bundle.folder)) as server:
        yield server


@pytest.fixture(scope="module")
def document(server, tmp_path_factory):
    file = tmp_path_factory.mktemp("openapi") / "openapi.json"
    file.write_bytes(server.client.get("/openapi.json").content)
    return file


def test_a_python_client_is_generated_without_warnings_and_scores(server, document, tmp_path):
    made = generator(PYTHON_GENERATOR)
    (tmp_path / "config.yaml").write_text(CONFIG)
    target = tmp_path / "client"
    environment = {**os.environ, "PATH": f"{Path(made).parent}{os.pathsep}{os.environ['PATH']}"}
    said = run(
        made, "generate", "--path", document, "--config", tmp_path / "config.yaml", "--output-path", target,
        cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert "warning" not in said.lower()
    api = target / "edgedistill_serve_client/api"
    assert {file.stem for file in (api / "scoring").glob("[a-z]*.py")} == {
        "score",
        "score_bulk",
        "explain",
        "list_models",
    }
    assert {folder.name for folder in api.glob("[a-z]*")} == {
        "health", "open_inference_protocol", "scoring", "text_embeddings_inference",
    }  # fmt: skip
    run(sys.executable, "-W", "error", "-m", "compileall", "-q", target)
    python = Path(made).parent / "python"
    label = run(python, "-c", USE_PYTHON, server.url, cwd=target).strip()
    assert label == server.client.post("/v1/score", json={"response": "great job"}).json()["label"]


def test_typescript_types_are_generated_and_compile_with_a_use_of_them(document, tmp_path):
    run(generator(NODE_PROGRAMS / "openapi-typescript"), document, "-o", tmp_path / "schema.d.ts", cwd=tmp_path)
    (tmp_path / "use.ts").write_text(USE_TYPESCRIPT)
    options = {"strict": True, "noEmit": True, "target": "es2022", "module": "nodenext", "types": []}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["use.ts"]}))
    (tmp_path / "package.json").write_text('{"type": "commonjs"}')
    assert run(generator(NODE_PROGRAMS / "tsc"), "-p", tmp_path) == ""
