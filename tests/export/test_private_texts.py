"""No learner's text, and no name in one, leaves with a bundle or its page, in any encoding."""

import base64
import gzip
import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from tokenizers import Tokenizer

from edgedistill_export import ExportPlan, export_bundle
from edgedistill_export.authors import TEACHER
from edgedistill_export.web import write_scorm, write_single, write_web
from edgedistill_serve.bundle.archive import pack
from edgedistill_serve.scoring.graph_choice import load_encoder
from edgedistill_serve.task.label_decoding import LabelDecoder

from .tiny import GRADING, MAX_TOKENS, PRAISE, ROBERTA, TEXTS, save_student

NAMES = ("Zephyrine", "Quillfeather", "Æthelwyn", "Ярополк", "山田花子", "jordan")
"""The last one is a token of the tiny tokenizer, as names are of real ones."""
OTHERS = tuple(text for text in TEXTS if "Jordan" not in text)
SENTENCES = tuple(f"my friend {name} helped me with the fractions and it worked out fine" for name in NAMES)


def encoded_forms(text: str) -> set[bytes]:
    """The text in the encodings in which it could be inside a file."""
    forms: set[bytes] = set()
    for spelled in {text, text.lower(), text.upper(), text.casefold()}:
        plain = spelled.encode()
        escaped = spelled.encode("ascii", "xmlcharrefreplace")
        forms |= {plain, escaped, json.dumps(spelled)[1:-1].encode(), quote(spelled).encode(), plain.hex().encode()}
        for codec in ("utf-16-le", "utf-16-be", "utf-32-le"):
            forms.add(spelled.encode(codec))
        for content in (plain, spelled.encode("utf-16-le")):
            for shift in range(3):
                # Base64 of the content after 0, 1 or 2 other bytes; the ends depend on the neighbours.
                text64 = base64.b64encode(bytes(shift) + content)
                forms.add(text64[-(-shift * 8 // 6) : len(text64) // 4 * 4 - 4])
    return {form for form in forms if len(form) >= 4}


EMBEDDED = re.compile(rb"[A-Za-z0-9+/]{400,}={0,2}")
"""A file in base64, as in a page of one file. Its characters themselves hold every short text by chance."""


def contents(path: str, content: bytes):
    """Yield a file, and what is packed or embedded in it, by its path."""
    if path.endswith(".html"):
        for place, embedded in enumerate(EMBEDDED.findall(content)):
            yield from contents(f"{path}!{place}", base64.b64decode(embedded[: len(embedded) // 4 * 4]))
        content = EMBEDDED.sub(b"", content)
    yield path, content
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield f"{path}!{name}", name.encode()
                yield from contents(f"{path}!{name}", archive.read(name))
    if content.startswith(b"\x1f\x8b"):
        yield from contents(f"{path}!gzip", gzip.decompress(content))


def found_in(folder: Path, texts) -> list[tuple[str, bytes]]:
    """Return where any form of a text is in a file, or in a file's name."""
    forms = {form for text in texts for form in encoded_forms(text)}
    # Latin letters of tokens are stored in any case; other forms are exact.
    lowered = {text.lower().encode() for text in texts}
    found = []
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            name = file.relative_to(folder).as_posix()
            for place, content in (*contents(name, file.read_bytes()), (name, name.encode())):
                found += [(place, form) for form in forms if form in content]
                found += [(place, form) for form in lowered if form in content.lower()]
    return found


@pytest.mark.parametrize("text", NAMES)
@pytest.mark.parametrize(
    "hide",
    [
        lambda text: f"a {text} b".encode(),
        lambda text: json.dumps({"a": f"x{text}"}).encode(),
        lambda text: base64.b64encode(f"some{text}thing".encode()),
        lambda text: base64.b64encode(f"s{text}thing".encode()),
        lambda text: base64.b64encode(f"so{text}th".encode()),
        lambda text: f"x{text}".encode("utf-16"),
        lambda text: gzip.compress(text.encode()),
        lambda text: quote(f"?a={text}").encode(),
        lambda text: f"<p>{text}".encode("ascii", "xmlcharrefreplace"),
    ],
)
def test_the_search_finds_a_hidden_text(tmp_path, text, hide):
    (tmp_path / "file").write_bytes(hide(text))
    assert found_in(tmp_path, [text])


def test_the_search_looks_into_archives_and_at_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.txt", "x" * 500 + "Quillfeather")
    (tmp_path / "by Zephyrine.txt").touch()
    (tmp_path / "page.html").write_bytes(
        b"<i>" + base64.b64encode(gzip.compress(str([*range(300)]).encode() + b"Quillfeather")) + b"</i>"
    )
    assert {place for place, _ in found_in(tmp_path, NAMES)} == {
        "a.zip!inner.txt",
        "by Zephyrine.txt",
        "page.html!0!gzip",
    }


def _rows(task, texts):
    context = {"question": "Why did bulb A stay on?", "reference_answer": "It is in a closed path."}
    return [{name: context[name] for name in task.inputs if name in context} | {"response": text} for text in texts]


def _plan(task, *, vocabulary: str = "full", by_group: bool = True, **changes) -> ExportPlan:
    """A plan in which every learner's rows have a name, and the teacher repeats some."""
    seen = _rows(task, [*SENTENCES, *OTHERS[:5] * 2, *SENTENCES[:3], "well done, Zephyrine", "a new sentence"])
    learners = [*NAMES, *["m"] * 5, *["n"] * 5]
    authors = [*(learners if by_group else [None] * len(learners)), *[TEACHER] * 5]
    plan = ExportPlan(
        "praise",
        task,
        MAX_TOKENS,
        "int8",
        1.0,
        vocabulary=vocabulary,
        common=0,
        seen=seen,
        seen_authors=authors,
        authors=[*NAMES, *["o"] * 10] if by_group else (),
        groups=[*NAMES, *["o"] * 10],
        codes=[task.names[0]] * (len(NAMES) + 10),
        locked=_rows(task, SENTENCES),
        compare=lambda labels: [{"before": "a", "after": "b", "rows": len(labels["int8"])}],
        measure=lambda labels: {"rows": len(labels), "accuracy": 0.5},
    )
    return replace(plan, **changes)


def _export(folder: Path, task, plan: ExportPlan, kin=None):
    student = save_student(folder / "student", task, kin) if kin else save_student(folder / "student", task)
    validation = _rows(task, [*SENTENCES, *OTHERS[:10]])
    return export_bundle(student, folder / "out" / "bundle", plan, validation).bundle


@pytest.mark.parametrize("by_group", [True, False], ids=["learners are known", "learners are not known"])
@pytest.mark.parametrize("task", [PRAISE, GRADING], ids=["response alone", "three inputs"])
def test_no_name_of_a_learner_leaves_with_a_bundle_its_archive_or_its_page(tmp_path, task, by_group):
    bundle = _export(tmp_path, task, _plan(task, vocabulary="cut", by_group=by_group))
    assert bundle.manifest.provenance["export"]["vocabulary"] is not None
    pack(bundle, tmp_path / "out" / "praise.zip")
    write_web(bundle, tmp_path / "out" / "page")
    write_single(bundle, tmp_path / "out" / "page.html")
    write_scorm(bundle, tmp_path / "out" / "scorm.zip")
    assert found_in(tmp_path / "out", [*NAMES, *SENTENCES, *[text for text in OTHERS if len(text) > 20]]) == []
    tokens = " ".join(Tokenizer.from_file(str(bundle.tokenizer_file)).get_vocab())
    assert "jordan" not in tokens.lower()


def test_with_byte_level_tokens_no_name_leaves_either(tmp_path):
    bundle = _export(tmp_path, PRAISE, _plan(PRAISE, vocabulary="cut"), ROBERTA)
    tokens = Tokenizer.from_file(str(bundle.tokenizer_file)).get_vocab()
    assert not any(name.lower() in token.lower() for token in tokens for name in NAMES)
    assert found_in(tmp_path / "out", NAMES) == []


def test_with_a_full_vocabulary_only_the_pretrained_tokens_remain(tmp_path):
    bundle = _export(tmp_path, PRAISE, _plan(PRAISE))
    assert found_in(tmp_path / "out", NAMES[:-1]) == []
    assert {place for place, _ in found_in(tmp_path / "out", ["jordan"])} == {"bundle/tokenizer.json"}
    assert "jordan" in Tokenizer.from_file(str(bundle.tokenizer_file)).get_vocab()


def test_golden_validation_is_an_explicit_choice_that_the_card_states(tmp_path):
    bundle = _export(tmp_path, PRAISE, _plan(PRAISE, golden="validation"))
    assert {row.inputs["response"] for row in bundle.golden.rows} >= set(SENTENCES)
    assert "validation rows verbatim" in (bundle.folder / "README.md").read_text()


def test_neither_repr_nor_error_shows_a_text(tmp_path):
    bundle = _export(tmp_path, PRAISE, _plan(PRAISE, golden="validation"))
    assert not any(name in shown for name in NAMES for shown in (repr(bundle), bundle._repr_html_(), str(bundle)))


@pytest.mark.parametrize("task", [PRAISE, GRADING], ids=["response alone", "three inputs"])
def test_written_golden_rows_have_every_label_and_every_length(tmp_path, task):
    bundle = _export(tmp_path, task, _plan(task))
    decoder: LabelDecoder = bundle.manifest.label_decoder
    golden = bundle.golden
    notes = bundle.manifest.provenance["export"]["notes"]
    found = {decoder.task.names[max(range(len(row.logits)), key=row.logits.__getitem__)] for row in golden.rows}
    missing = set(task.names) - found
    assert all(any(name in note for note in notes) for name in missing)
    assert len(golden.rows) == 32
    assert len({json.dumps(row.inputs) for row in golden.rows}) == 32
    assert any(not row.inputs["response"] for row in golden.rows)
    encoded = load_encoder(bundle).encode([row.inputs for row in golden.rows])
    lengths = {len(row.ids) for row in encoded}
    assert max(lengths) == MAX_TOKENS
    assert len(lengths) >= 5
    assert any(row.truncated for row in encoded)
    assert not all(row.truncated for row in encoded)
