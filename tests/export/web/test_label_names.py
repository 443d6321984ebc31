"""Labels, columns and words may have the names that every JavaScript object has; labels keep the codebook's order."""

import csv
import io
import re
from collections import Counter
from pathlib import Path

import pytest

from edgedistill_export.web import browser_scores
from edgedistill_serve import Scorer
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.grading.grade import grade
from edgedistill_serve.task.task import Label

from .tiny_page import make_bundle, make_page
from .using import GRADED, choose, score

NAMES = [
    ("constructor", "10", "2"),
    ("__proto__", "toString", "hasOwnProperty"),
    ("valueOf", "1", "0"),
    ("10", "02", "2"),
]
WORDS = (
    "you",
    "worked",
    "hard",
    "great",
    "job",
    "smart",
    "the",
    "answer",
    "why",
    "constructor",
    "__proto__",
    "toString",
)
TEXTS = [" ".join(WORDS[(place * 5 + step) % len(WORDS)] for step in range(1 + place % 7)) for place in range(80)]


def settings_of(kind, names):
    """Rules that send some rows of every label to a person; the last label of a nominal task has no threshold."""
    if kind == "multilabel":
        thresholds = dict(zip(names, (0.7, 0.2, 0.55), strict=True))
        return {"thresholds": thresholds, "review": ReviewRule(least_certainty=0.53)}
    return {"review": ReviewRule(thresholds=dict.fromkeys(names[:-1], 0.45))}


@pytest.mark.parametrize("kind", ["nominal", "multilabel"])
@pytest.mark.parametrize("names", NAMES)
def test_the_page_s_scripts_give_pythons_scores_for_any_names(tmp_path, kind, names):
    labels = [Label(name) for name in names]
    bundle = make_bundle(tmp_path / "bundle", kind=kind, labels=labels, **settings_of(kind, names))
    rows = [{"response": text} for text in TEXTS]
    expected, found = Scorer(bundle).score(rows), browser_scores(bundle, rows)
    assert {one.decision for one in expected} == {"accept", "review"}
    for one, other in zip(expected, found, strict=True):
        assert (other.label, other.decision, other.reason) == (one.label, one.decision, one.reason)
        assert list(other.probabilities) == list(names)
        assert list(other.probabilities.values()) == pytest.approx(list(one.probabilities.values()), abs=1e-5)


@pytest.mark.parametrize("kind", ["nominal", "multilabel"])
@pytest.mark.parametrize("names", NAMES[:2])
def test_a_response_and_a_file_are_shown_with_any_names(visit, serve, saved, tmp_path, kind, names):
    labels = [Label(name) for name in names]
    bundle, written = make_page(tmp_path, kind=kind, labels=labels, name="constructor", **settings_of(kind, names))
    page = visit(serve(written.folder).url)
    assert page.text("#name") == "constructor"
    score(page, TEXTS[3])
    bars = page.run("return [...document.querySelectorAll('#bars th')].map(each => each.innerText.trim())")
    assert bars == list(names)
    (one,) = Scorer(bundle).score(TEXTS[3:4])
    assert page.text("#verdict .chip") == ("Accepted" if one.decision == "accept" else "Review by a person")
    source, target = tmp_path / "responses.csv", tmp_path / "python.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("__proto__", "constructor", "response"), *(("1", "2", text) for text in TEXTS)])
    grade(Scorer(bundle), source, target)
    choose(page, source)
    page.click("#grade")
    page.until(GRADED)
    ours, python = (list(csv.reader(io.StringIO(each.decode(), newline=""))) for each in (saved(), target.read_bytes()))
    assert ours[0] == python[0]
    exact = [python[0].index(name) for name in ("__proto__", "constructor", "response", "label", "decision", "reason")]
    assert [[row[at] for at in exact] for row in ours] == [[row[at] for at in exact] for row in python]
    counts = Counter(label for row in python[1:] for label in row[3].split(";"))
    order = [*names, "none"]
    expected = ", ".join(f"{label} {counts[label]}" for label in order if counts[label])
    assert page.text("#summary").endswith(f" for human review. {expected}.")
    assert not page.complaints()


ROOT = Path(__file__).parents[3]
SCRIPTS = [
    *(ROOT / "serve/src/edgedistill_serve").glob("*/*.js"),
    *(ROOT / "export/src/edgedistill_export/web/page").glob("*.mjs"),
    *(ROOT / "export/src/edgedistill_export/web/page/texts").glob("*.mjs"),
    *(ROOT / "src/edgedistill/coding/page").glob("*.js"),
    *(ROOT / "clients/js/src").glob("*.js"),
    *(ROOT / "examples/javascript").glob("*.js"),
    *(ROOT / "tests/js").glob("*.mjs"),
]
FIXED_KEYS = {
    "score[name]": "the columns that READING lists",
    "parts[name]": "the files of a page, by purpose",
    "page.files[name]": "the files of a page, by purpose",
    "inputs[name]": "question, reference_answer and response",
    "read[name]": "question, reference_answer and response",
    "column[name]": "question, reference_answer and response",
    "chosen[name]": "question, reference_answer and response",
    "scored[name]": "question, reference_answer and response",
    "asked[name]": "question, reference_answer and response",
    "given[name]": "the inputs of a graph",
    "kinds[name]": "the kinds of errors",
    "script[data-path]": "a selector of elements",
    "examples[index]": "places in a list",
    "schemas[name]": "the schemas of our OpenAPI document",
    "KEPT.files[path]": "the files of a page, after Object.hasOwn",
    "tasks[data.task]": "the tasks of a worker",
    "tasks[asked.task]": "the tasks of a test",
    "texts[name]": "question, reference_answer and response, or words of our own",
    "TITLES[name]": "question, reference_answer, rubric and response",
    "CONTEXT[name]": "question and reference_answer",
    "fields[name]": "question, reference_answer and response",
    "this[name]": "the properties of our element",
    "texts[score.reason]": "the reasons of a decision",
    "probabilities[label]": "its own keys: Object.hasOwn or Object.keys",
    "DISPUTE_KEYS)[key]": "the keys of a keyboard",
    "th[scope=row]": "a selector of elements",
}
"""Objects with keys of our own; see the reason of each."""
PLACES = re.compile(
    r"(?:at|place|best|point|first|last|part\.text|letter\.codePointAt\(0\)|\w+\.length)(?: [+-] \d+)?"
    r"|start|end|id|model\.unk_id|kind|OUTPUT|NOVELTY|\d+"
    r"|a|b|page\.(?:at|dispute)|Number\(key\) - 1|connection\.question\.value|.* % \w+\.length"
)
"""Numbers, and constants of the module."""


def test_no_script_uses_a_plain_object_as_a_map_with_keys_of_users():
    assert len(SCRIPTS) > 20
    found = []
    for script in SCRIPTS:
        code = re.sub(
            r"//.*|/\*.*?\*/|/(?![*/ ])(?:\\.|\[(?:\\.|[^\]\n])*\]|[^/\n\\\[])+/[a-z]*", "", script.read_text("utf-8")
        )
        for access in re.finditer(r"([\w.]*[\w)\]])\[([^\[\]]+)\]", code):
            name, key = access[0], access[2].strip()
            short = ".".join(name.split(".")[-2:])
            is_place = PLACES.fullmatch(key) or key.startswith('"')
            if not is_place and short not in FIXED_KEYS and short.split(".")[-1] not in FIXED_KEYS:
                found.append(f"{script.name}: {name}")
        found += [f"{script.name}: {each}" for each in re.findall(r"[\w.]+ in [\w.]+\)", code) if "Symbol" not in each]
    assert not found, "\n".join(found)
