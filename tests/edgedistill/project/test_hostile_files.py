"""A file that is nested, recursive, huge or not text is refused in one line, without using up time or memory."""

import tracemalloc
from pathlib import Path

import pytest

from edgedistill.errors import ProjectFileError
from edgedistill.project.reading import read_project

SOUND = "name: x\ntask: {labels: [{name: a}, {name: b}]}\ndata: {human: h.csv}\n"
TEACHER = SOUND + "teacher: {base_url: 'http://127.0.0.1/v1', model: m, temperature: %s}\n"
LAUGHS = [f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}" if level else "x"] * 10) + "]" for level in range(9)]
MAPS = [
    f"a{level}: &a{level} {{" + ", ".join(f"k{key}: {f'*a{level - 1}' if level else 1}" for key in range(10)) + "}"
    for level in range(9)
]
MERGES = ["a0: &a0 {k0: 1}"]
MERGES += [f"a{level}: &a{level} {{<<: [*a{level - 1}, *a{level - 1}], k{level}: 1}}" for level in range(1, 30)]

HOSTILE = {
    "a billion laughs": ("\n".join([*LAUGHS, "name: *a8"]), "more than 100,000 values"),
    "a billion laughs of mappings": ("\n".join([*MAPS, "name: *a8"]), "more than 100,000 values"),
    "merges of merges": ("\n".join(MERGES), "more than 100,000 values"),
    "an anchor in itself": ("name: &a [*a]", "an anchor contains itself"),
    "an anchor in its own mapping": ("task: &a\n  labels: *a\nname: x", "an anchor contains itself"),
    "an anchor that merges itself": ("task: &a\n  <<: *a\nname: x", "an anchor contains itself"),
    "an anchor two levels above": ("task: &a {labels: [{name: *a}]}", "an anchor contains itself"),
    "lists in lists": ("name: " + "[" * 20_000, "nested more than 50 levels deep"),
    "mappings in mappings": ("{a: " * 20_000, "nested more than 50 levels deep"),
    "ever more indented": ("\n".join(" " * level + "a:" for level in range(500)), "nested more than 50 levels deep"),
    "a long number": ("name: " + "9" * 10_000, "more than 40 digits"),
    "a long hexadecimal number": ("name: 0x" + "f" * 10_000, "more than 40 digits"),
    "a long fraction": ("name: 0." + "9" * 10_000, "more than 40 digits"),
    "not a number": (TEACHER % ".nan", "should be a finite number, not nan"),
    "infinity": (TEACHER % "-.inf", "should be a finite number, not -inf"),
    "beyond the largest number": (TEACHER % "1e999", "should be a finite number, not inf"),
    "NUL": ("name: a\0b", r"the character U\+0000 is not allowed"),
    "NUL as an escape": ('name: "a\\0b"', "has a character that is not allowed there"),
    "half a character": ('name: "\\ud800"', "unicode"),
    "a control character in a label": (SOUND.replace("name: b", 'name: "b\\x1b[2J"'), "has a control character"),
    "a label with nothing visible": (SOUND.replace("name: b", 'name: "\\u200b\\u3164"'), "has no visible character"),
    "a list as a key": ("? [a, b]\n: c", "the key .* is not text"),
    "a key that nothing can be": ("? {a: b}\n: c", "."),
    "a tag of Python": ("name: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
    "an unknown anchor": ("name: *nope", "undefined alias"),
    "two documents": (SOUND + "---\n" + SOUND, "another document"),
    "nothing": ("", "is not a project file"),
    "a list": ("[a, b]", "is not a project file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line_and_little_memory(tmp_path: Path, name: str) -> None:
    text, message = HOSTILE[name]
    file = tmp_path / "project.yaml"
    file.write_text(text, "utf-8")
    tracemalloc.start()
    try:
        with pytest.raises(ProjectFileError, match=message) as refused:
            read_project(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.exit_code == 2
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 500 + len(str(file))
    assert peak < 100_000_000


def test_an_anchor_that_is_used_twice_is_read(tmp_path: Path) -> None:
    file = tmp_path / "project.yaml"
    file.write_text(SOUND + "student: {search: {batch_size: &sizes [8, 16], epochs: *sizes}}\n")
    search = read_project(file).student.search
    assert search.batch_size == search.epochs == (8, 16)


TWINS = [
    ("\u00e9valu\u00e9", "e\u0301value\u0301"), ("A", "\uff21"), ("don't know", "don\u2019t know"), ("a b", "a\u00a0b"),
    ("a", "a\u200b"), ("\u201ca\u201d", '"a"'), ("1-2", "1\u20132"), ("A", "a"), ("a b", "a  b"),
    ("co\u00adop", "coop"),
    ("\u5f3a", "\u5f3a\ufe00"), ("\uff76", "\u30ab"),
]  # fmt: skip
DISTINCT = [
    ("A", "A*"), ("1", "1."), ("?", "??"), ("yes", "'yes'"), ("A", "A+"), ("1", "1.0"), ("m2", "m\u00b2"),
    ("a_b", "a b"),
    ("Ma\u00dfe", "Masse"), ("\U0001f44d", "\U0001f44e"), ("*", "**"), ("none", "None."), ("-1", "1"), ("a-b", "a b"),
]  # fmt: skip


def written(tmp_path: Path, labels: tuple[str, str]) -> Path:
    file = tmp_path / "project.yaml"
    names = ", ".join("{name: " + f"'{label.replace(chr(39), 2 * chr(39))}'" + "}" for label in labels)
    file.write_text(f"name: x\ntask: {{labels: [{names}]}}\ndata: {{human: h.csv}}\n", "utf-8")
    return file


@pytest.mark.parametrize("labels", TWINS)
def test_labels_that_no_reader_can_tell_apart_are_refused(tmp_path: Path, labels: tuple[str, str]) -> None:
    with pytest.raises(ProjectFileError, match="differ only in"):
        read_project(written(tmp_path, labels))


@pytest.mark.parametrize("labels", DISTINCT)
def test_labels_that_differ_visibly_are_accepted(tmp_path: Path, labels: tuple[str, str]) -> None:
    assert tuple(label.name for label in read_project(written(tmp_path, labels)).task.labels) == labels
