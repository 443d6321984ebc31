"""Redaction: what is replaced, what stays, and that scoring does it as training does."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve import Bundle, BundleError, Scorer
from edgedistill_serve.task.redaction import Redaction, redact_text
from edgedistill_serve.task.task import Label, Task

STUDENTS = Redaction(("S[0-9]{6}",))


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("write to jo.smith+x@school.edu.", "write to [EMAIL]."),
        ("see https://youtu.be/abc?x=1, ok", "see [URL], ok"),
        ("(www.x.org/a) and youtube.com/watch?v=1.", "([URL]) and [URL]."),
        ("http://x.org/?to=a@b.org", "[URL]"),
        ("call 412-555-0100 or (412) 555-0100", "call [PHONE] or [PHONE]"),
        ("+49 30 1234567!", "[PHONE]!"),
        ("020 7946 0958", "[PHONE]"),
        ("01.23.45.67.89", "[PHONE]"),
        ("4125550100", "[PHONE]"),
        ("I am S123456, hi", "I am [ID], hi"),
    ],
)
def test_personal_data_is_replaced(typed, read):
    assert redact_text(typed, STUDENTS) == read


@pytest.mark.parametrize(
    "typed",
    ["3.14159265358", "1/2 + 3/4 = 5/4", "1,000,000", "2024-01-02", "Well done. You tried!", "x = 42", "e.g. 12 345"],
)
def test_ordinary_numbers_are_not_redacted(typed):
    assert redact_text(typed, STUDENTS) == typed


TYPED = st.lists(
    st.sampled_from(["S123456", "a@b.org", "[ID]", "[", "]", "0", "412-555-0100", " ", "www.x.org", ".", "@", "word"])
).map("".join)


@given(TYPED | st.text(), st.sampled_from([STUDENTS, Redaction(), Redaction(("[A-Z]+", "word.", "(?=0)0"))]))
def test_a_redacted_text_is_redacted_to_itself(typed, redaction):
    once = redact_text(typed, redaction)
    assert redact_text(once, redaction) == once


@pytest.mark.parametrize(
    ("pattern", "message"), [("S[0-9", "not a valid regular expression"), ("S*", "matches the empty string")]
)
def test_a_pattern_that_cannot_be_used_is_named(pattern, message):
    with pytest.raises(ValueError, match=message):
        Redaction((pattern,))


def with_redaction(bundle, redact):
    """Write a bundle's manifest anew with other settings; the manifest itself is under no checksum."""
    file = bundle.folder / "bundle.json"
    manifest = json.loads(file.read_text())
    manifest["task"] |= {"redact": redact}
    file.write_text(json.dumps(manifest))


def test_a_raw_text_scores_as_its_redacted_form(make_bundle, tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    plain = Scorer(bundle)
    with_redaction(bundle, {"ids": ["S[0-9]{6}"]})
    scorer = Scorer(Bundle.load(tmp_path / "bundle"))
    raw, read = "great job S123456, mail jo@school.edu", "great job [ID], mail [EMAIL]"
    assert scorer.score([raw]) == scorer.score([read]) == plain.score([read])
    assert plain.score([raw]) != plain.score([read])


def test_a_bundle_whose_pattern_cannot_be_used_is_refused(make_bundle, tmp_path):
    with_redaction(make_bundle(tmp_path / "bundle"), {"ids": ["S[0-9"]})
    with pytest.raises(BundleError, match="not a valid regular expression"):
        Bundle.load(tmp_path / "bundle")


def test_a_bundle_without_redaction_does_not_name_it():
    task = Task("nominal", (Label("a"), Label("b")), ("response",))
    assert "redact" not in msgspec.to_builtins(task)
    assert msgspec.convert(msgspec.to_builtins(task), Task).redact is None
