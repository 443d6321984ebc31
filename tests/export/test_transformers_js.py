"""The bundle's folder, as it is, in transformers.js under Node: the same labels as the scorer."""

import json
import subprocess
from pathlib import Path

import pytest

from edgedistill_export import ExportPlan, export_bundle
from edgedistill_export.quantize.vocabulary import tokenize_texts
from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.manifest import Precision
from edgedistill_serve.scoring.scorer import Scorer
from edgedistill_serve.task.task import Task, model_texts

from .tiny import BERT, DISTILBERT, GRADING, MAX_TOKENS, PRAISE, ROBERTA, TEXTS, Kin, rows_for, save_student

SCRIPTS = Path(__file__).parent.parent / "js"
WORDS = " ".join(TEXTS).replace("[SEP]", "").replace("<mask>", "").split()


def _rows(task: Task) -> list[dict[str, str]]:
    """Seventy rows that transformers.js can read.

    It takes marks that a learner typed for marks, where the scorer reads text, and a pair whose second text is empty
    for one text.
    """
    fixed = [row for row in rows_for(task)[:-1] if row["response"] and "[SEP]" not in row["response"]]
    mixed = [" ".join(WORDS[(i * 7 + k * k) % len(WORDS)] for k in range(1 + i % 12)) for i in range(70 - len(fixed))]
    return fixed + [{**fixed[0], "response": text} for text in mixed]


def _classify(folder: Path, dtype: str, rows: list[dict[str, str]]) -> list[dict[str, object]]:
    given = [
        dict(zip(("text", "text_pair"), (part for part in model_texts(row) if part is not None), strict=False))
        for row in rows
    ]
    ended = subprocess.run(
        ["node", "classify.mjs"],
        input=json.dumps({"folder": str(folder), "dtype": dtype, "rows": given}),
        capture_output=True,
        text=True,
        cwd=SCRIPTS,
        timeout=120,
    )
    assert ended.returncode == 0, f"{ended.stderr}\n`make test` installs what this needs into tests/js/node_modules"
    found: list[dict[str, object]] = json.loads(ended.stdout)
    return found


def _tokens(bundle: Bundle, row: dict[str, str]) -> int:
    texts = [text for text in model_texts(row) if text is not None]
    return sum(map(len, tokenize_texts(bundle.tokenizer_file, texts))) + 1 + len(texts)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize(
    ("kin", "task"),
    [(BERT, PRAISE), (BERT, GRADING), (DISTILBERT, PRAISE), (ROBERTA, PRAISE)],
    ids=["bert, response alone", "bert, pair", "distilbert, response alone", "roberta, response alone"],
)
def test_transformers_js_gives_the_scorers_labels(tmp_path: Path, kin: Kin, task: Task, precision: Precision):
    rows = _rows(task)
    plan = ExportPlan("praise", task, MAX_TOKENS, precision, 1.0, vocabulary="cut", novelty_rows=rows)
    student = save_student(tmp_path / "student", task, kin)
    bundle = export_bundle(student, tmp_path / "bundle", plan, rows).bundle
    assert bundle.manifest.novelty is not None, "it must open a graph with a second output"
    scores = Scorer(bundle, threads=1).score(rows)
    # A row that is too long loses its closing mark in transformers.js, and its context is not cut first: not compared.
    whole = [i for i, row in enumerate(rows) if _tokens(bundle, row) <= MAX_TOKENS]
    found = _classify(bundle.folder, {"int8": "q8", "fp32": "fp32"}[precision], rows)
    assert len(whole) >= 50
    assert [found[i]["label"] for i in whole] == [scores[i].label for i in whole]
    assert [found[i]["score"] for i in whole] == pytest.approx([scores[i].probability for i in whole], abs=0.02)
    assert len({score.label for score in scores}) > 1
