"""The documentation states the rules of the verdict."""

from pathlib import Path

from edgedistill.report.rules import RULES

DOCS = Path(__file__).parents[3] / "docs" / "report.md"


def test_every_rule_is_in_the_documentation_word_for_word():
    text_of_docs = " ".join(DOCS.read_text("utf-8").split())
    for name, text in RULES:
        assert " ".join(f"**{name}.** {text}".split()) in text_of_docs
