"""The documentation tells the rules as they are."""

from pathlib import Path

from edgedistill.report.rules import RULES

DOCS = Path(__file__).parents[3] / "docs" / "report.md"


def test_every_rule_stands_in_the_documentation_word_for_word():
    told = " ".join(DOCS.read_text("utf-8").split())
    for name, text in RULES:
        assert " ".join(f"**{name}.** {text}".split()) in told
