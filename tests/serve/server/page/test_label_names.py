"""The page at `/` with labels that are names of every JavaScript object, or numbers."""

import msgspec
import pytest

from edgedistill_serve import Label, Scorer, Task
from edgedistill_serve.bundle.loading import write_bundle
from edgedistill_serve.bundle.manifest import ReviewRule

from .teaching import EXPLAINED, SCORED, TEXT

NAMES = [("constructor", "10", "2"), ("__proto__", "toString", "hasOwnProperty")]


@pytest.fixture(params=NAMES, ids=",".join)
def names(request):
    return request.param


@pytest.fixture(params=["nominal", "multilabel"])
def renamed(request, bundle, names, tmp_path):
    """The tiny bundle with other labels; of a nominal task only the last one has a threshold."""
    is_multilabel = request.param == "multilabel"
    changes = {
        "name": "constructor",
        "task": Task(request.param, tuple(Label(name, f"Is {name}.") for name in names), ("response",)),
        "thresholds": dict(zip(names, (0.6, 0.68, 0.91), strict=True)) if is_multilabel else {},
        "review": ReviewRule(least_certainty=0.99) if is_multilabel else ReviewRule(thresholds={names[-1]: 1.0}),
        "metrics": {},
        "temperature": 4.0,
    }
    files = {name: bundle.folder / name for name in bundle.manifest.files}
    return write_bundle(tmp_path / "renamed", msgspec.structs.replace(bundle.manifest, **changes), files)


def test_a_score_is_shown_with_the_codebook_s_order_and_the_right_figures(start, visit, renamed, names):
    (found,) = Scorer(renamed).score([TEXT])
    with start(str(renamed.folder)) as server:
        page = visit(server.url)
        definitions = page.run("return [...document.querySelectorAll('#definitions dd')].map(each => each.innerText)")
        assert [each.split(".")[0] for each in definitions] == [f"Is {name}" for name in names]
        assert ["from" in each for each in definitions] == (
            [True] * 3 if renamed.task.kind == "multilabel" else [False, False, True]
        )
        page.type("#response", TEXT)
        page.click("#score")
        page.until(SCORED)
        bars = page.run(
            "return [...document.querySelectorAll('#bars tr')].map(each => each.innerText.trim().split(/\\s+/))"
        )
        assert [(bar[0], bar[-2]) for bar in bars] == [
            (name, f"{100 * found.probabilities[name]:.1f}") for name in names
        ]
        assert page.text("#verdict .chip") == ("Accepted" if found.decision == "accept" else "Review by a person")
        page.click("#explain")
        page.until(EXPLAINED)
        words = server.client.post("/v1/explain", json={"response": TEXT}).json()["words"]
        label = page.run("return document.getElementById('words-label').value")
        strongest = max(words, key=lambda word: abs(word["changes"][label]))
        assert page.text("#words-rows th") == strongest["word"]
        assert not page.complaints()
