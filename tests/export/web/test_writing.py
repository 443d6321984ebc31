"""A page's folder: whole or not there, held to its sums, and nothing in it that asks another machine."""

import base64
import json
import os
import re
import subprocess
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import pytest

from edgedistill_export.errors import ExportFailed, WebFailed
from edgedistill_export.web import (
    Vendored,
    browser_check,
    browser_scores,
    browser_step,
    load_vendored,
    record_browser_step,
    write_web,
)
from edgedistill_export.web.vendored import INDEX
from edgedistill_serve import Bundle, Scorer
from edgedistill_serve.scoring.score import Score
from edgedistill_serve.task.contexts import shown_contexts

from .tiny_page import CONTEXT, make_bundle, make_page, under_node


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def kept_by(folder: Path) -> dict:
    script = (folder / "sw.mjs").read_text("utf-8")
    return json.loads(script.removeprefix("const KEPT = ").split(";\n", 1)[0])


def test_every_file_but_the_licences_is_kept_for_offline_use_with_its_sum(bundle, tmp_path):
    page = write_web(bundle, tmp_path / "page")
    kept = kept_by(page.folder)
    assert files_of(page.folder) - set(kept["files"]) == {
        "sw.mjs",
        "vendor/tokenizers-LICENSE",
        "vendor/onnxruntime-LICENSE",
        "vendor/onnxruntime-ThirdPartyNotices.txt",
    }
    for name, said in kept["files"].items():
        digest = sha256((page.folder / name).read_bytes()).digest()
        assert said["integrity"] == f"sha256-{base64.b64encode(digest).decode()}", name
    assert bundle.manifest.version in kept["cache"]


def test_one_changed_byte_gives_another_cache(bundle, tmp_path):
    page = write_web(bundle, tmp_path / "page")
    npm = load_vendored()
    changed = Vendored({**npm.files, "tokenizers.min.mjs": npm.files["tokenizers.min.mjs"] + b"\n"}, npm.packages)
    other = write_web(bundle, tmp_path / "other", changed)
    assert kept_by(page.folder)["cache"] != kept_by(other.folder)["cache"]


def test_the_same_bundle_gives_the_same_bytes(bundle, tmp_path):
    one, other = (write_web(bundle, tmp_path / name).folder for name in ("one", "other"))
    assert files_of(one) == files_of(other)
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files_of(one))


def test_no_script_or_style_of_the_page_names_another_machine_or_stands_inline(bundle, tmp_path):
    page = write_web(bundle, tmp_path / "page").folder
    own = [page / "index.html", page / "sw.mjs", *(file for file in (page / "page").rglob("*") if file.is_file())]
    for file in own:
        addresses = set(re.findall(r"https?://[^\s\"'<`,.]+", file.read_text("utf-8")))
        assert addresses <= {"http://127", "http://localhost", "http://www", "https://workbook/${folder}"}, file.name
    html = (page / "index.html").read_text("utf-8")
    assert re.findall(r"<script(?![^>]*src=)|<style|\son\w+=|style=", html) == []


def test_a_page_replaces_a_page_and_nothing_else(bundle, tmp_path):
    (tmp_path / "page").mkdir()
    write_web(bundle, tmp_path / "page")
    (tmp_path / "page" / "left-over").write_text("old")
    write_web(bundle, tmp_path / "page")
    assert "left-over" not in files_of(tmp_path / "page")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.txt").write_text("mine")
    with pytest.raises(WebFailed, match="does not contain a page"):
        write_web(bundle, tmp_path / "papers")
    assert files_of(tmp_path / "papers") == {"thesis.txt"}
    assert {path.name for path in tmp_path.iterdir()} == {"page", "papers"}


def test_missing_npm_files_are_named_with_what_fetches_them(tmp_path):
    with pytest.raises(WebFailed, match="make web"):
        load_vendored(tmp_path)


def test_an_npm_file_that_was_changed_is_refused(tmp_path):
    (tmp_path / "a.mjs").write_text("other")
    (tmp_path / INDEX).write_text(json.dumps({"packages": {}, "files": {"a.mjs": sha256(b"this").hexdigest()}}))
    with pytest.raises(WebFailed, match=r"a\.mjs: the file is missing or was changed"):
        load_vendored(tmp_path)


def test_under_node_the_pages_scripts_give_pythons_scores(tmp_path):
    bundle, _ = make_page(tmp_path, inputs=(*CONTEXT, "response"))
    rows = [CONTEXT | {"response": text} for text in ("you worked hard", "", "great job " * 40, "smart!")]
    native, browser = Scorer(bundle).score(rows), browser_scores(bundle, rows)
    assert [(one.label, one.decision, one.reason, one.tokens) for one in browser] == [
        (one.label, one.decision, one.reason, one.tokens) for one in native
    ]
    step = browser_step("ONNX fp32", native, browser)
    assert (step.before, step.after, step.rows, step.flips) == ("ONNX fp32", "ONNX fp32 in the browser", 4, 0)
    assert step.max_probability_difference < 1e-5


def test_under_node_a_new_question_goes_to_a_person_as_in_python(tmp_path):
    rows = [CONTEXT | {"response": "you worked hard"} for _ in range(3)]
    task = make_bundle(tmp_path / "task", inputs=(*CONTEXT, "response")).task
    bundle = make_bundle(tmp_path / "bundle", inputs=(*CONTEXT, "response"), contexts=shown_contexts(rows, task))
    others = [
        *rows[:1],
        rows[0] | {"question": "WHY is  it"},
        rows[0] | {"question": "who is it"},
        rows[0] | {"question": ""},
    ]
    native, browser = Scorer(bundle).score(others), browser_scores(bundle, others)
    assert [one.reason for one in native] == [None, None, "new question", "new question"]
    assert [one.reason for one in browser] == [one.reason for one in native]


def test_a_page_that_drifts_fails_the_export(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", off=1.0)
    with pytest.raises(ExportFailed, match=r"The probabilities differ by up to 0\.\d+"):
        browser_scores(bundle, [{"response": "great job"}])


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (b"#!/bin/sh\necho no page >&2; exit 1", "no page"),
        (b"#!/bin/sh\nexec sleep 60", "it does not end"),
        (b"#!/bin/sh\necho welcome", "its answer is no JSON"),
        (b"\0", "Exec format error"),
    ],
)
def test_a_program_named_node_that_does_not_run_the_page_is_one_message(bundle, node, reason, tmp_path, monkeypatch):
    (tmp_path / "node").write_bytes(node)
    (tmp_path / "node").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(browser_check, "_TIMEOUT_SECONDS", 0.5)
    with pytest.raises(WebFailed, match=rf"Node cannot run the page \(.*{reason}.*\)\. Install Node 20 or newer"):
        browser_scores(bundle, [{"response": "great job"}])


ALWAYS = {"blank": True, "truncated": True, "max_unknown_share": 0.5}
PAGE = {"labels": [{"name": "yes"}, {"name": "no"}]}
NOMINAL = PAGE | {"kind": "nominal", "review": ALWAYS | {"thresholds": {"yes": 0.6}}}
MULTILABEL = PAGE | {"kind": "multilabel", "thresholds": {"yes": 0.5, "no": 0.5}}
MULTILABEL["review"] = ALWAYS | {"least_certainty": 0.6}


@pytest.mark.parametrize("page", [NOMINAL, MULTILABEL])
def test_the_page_accepts_nothing_that_is_not_a_number(page):
    missing = [page | {"review": page["review"] | {"max_unknown_share": None}}]
    if page["kind"] == "nominal":
        missing.append(page | {"review": page["review"] | {"thresholds": {"yes": "x"}}})
    else:
        missing.append(page | {"review": page["review"] | {"least_certainty": "x"}})
        missing.append(page | {"thresholds": {"yes": "x", "no": 0.5}})
    rows = [{"shares": shares} for shares in ([0.9, 0.05], [None, 0.1], [0.1, None], [None, None])]
    rows += [{"shares": [0.9, 0.05], "page": each} for each in missing]
    good, *others = under_node("judge", page=page, rows=rows)
    assert good == "accept"
    assert others[:3] == ["the probabilities of this response are not finite"] * 3
    assert "accept" not in others


def test_a_page_without_golden_responses_or_with_a_tolerance_that_is_none_refuses_to_score(tmp_path):
    _, written = make_page(tmp_path)
    golden = json.loads((written.folder / "model" / "golden.json").read_text())
    changes = (
        {"rows": []},
        {"tolerance": None},
        {"tolerance": "nan"},
        {"rows": [golden["rows"][0] | {"logits": golden["rows"][0]["logits"][:2]}]},
        {"rows": [golden["rows"][0] | {"logits": [None, 1, "x"]}]},
    )
    for change in changes:
        (written.folder / "model" / "golden.json").write_text(json.dumps(golden | change))
        ended = subprocess.run(
            ["node", str(files("edgedistill_export") / "web" / "page" / "score_rows.mjs"), str(written.folder)],
            input=b'[{"response": "great job"}]',
            capture_output=True,
            timeout=60,
        )
        assert "refused" in json.loads(ended.stdout), change


def test_a_hop_counts_flips_and_the_largest_change():
    def score(share: float) -> Score:
        shares = {"yes": share, "no": 1 - share}
        label = max(shares, key=shares.__getitem__)
        return Score(label, shares[label], shares, "accept", None, False, 3)

    step = browser_step("int8", [score(0.9), score(0.45)], [score(0.8), score(0.55)])
    assert (step.flips, step.flip_rate) == (1, 0.5)
    assert step.max_probability_difference == pytest.approx(0.1)


def test_the_hop_goes_into_the_bundle_and_its_card_once(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    one = Scorer(bundle).score(["great job"])
    step = browser_step("ONNX fp32", one, one)
    locked = [{"before": step.before, "after": step.after, "rows": 7, "flips": 0}]
    again = record_browser_step(record_browser_step(bundle, step, locked), step, locked)
    assert again.manifest.provenance["export"]["steps_on_test_rows"] == locked
    assert again.manifest.provenance["export"]["browser"]["flips"] == 0
    card = (again.folder / "README.md").read_text("utf-8")
    assert card.startswith("# Tiny\n")
    assert card.count("## In a browser") == 1
    assert "0 of 1 validation rows, 0 of 7 test rows" in card
