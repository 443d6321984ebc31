"""The two tested sets of dependencies differ in what hangs on transformers' version, and in nothing else."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
MOVED = {"huggingface_hub", "tokenizers", "transformers"}
OPTIMUM = {"optimum", "optimum-onnx"}


def _pins(name: str) -> dict[str, str]:
    return dict(line.split("==") for line in (REPOSITORY / name).read_text().splitlines())


def test_both_sets_pin_the_same_versions_but_of_transformers_and_what_goes_with_it():
    default, five = _pins("constraints.txt"), _pins("constraints-transformers5.txt")
    assert set(default) - set(five) == OPTIMUM
    assert set(five) - set(default) == set()
    assert {name for name in five if five[name] != default[name]} == MOVED
    assert default["transformers"].startswith("4.")
    assert five["transformers"].startswith("5.")
