"""Which scripts the training texts are written in, and when a response is judged by its letters."""

import pytest

from edgedistill.decisions.familiar_scripts import FamiliarScripts, familiar_scripts
from edgedistill_serve.task.scripts import count_letters


def found(*texts):
    return familiar_scripts([count_letters(text) for text in texts])


def test_the_scripts_of_the_training_texts_are_named_and_a_rare_one_is_not():
    assert found(*["you worked hard"] * 198, "ja ты", "ok") == FamiliarScripts(("Latin",), 0.5)
    assert found(*["you worked hard"] * 190, *["ты молодец"] * 10).names == ("Cyrillic", "Latin")


@pytest.mark.parametrize(
    "texts",
    [["3 + 4 = 7"] * 100, ["you did it"] * 98 + ["42"] * 2, ["you did it"] * 29, ["..."] * 50, []],
    ids=["arithmetic", "two in a hundred", "few", "punctuation", "none"],
)
def test_nothing_is_judged_where_training_texts_have_few_letters_themselves_or_are_few(texts):
    assert found(*texts) == FamiliarScripts()
