"""Projects are named by file or folder, and hints name the command as it can be typed."""

from types import SimpleNamespace

import pytest

from edgedistill.cli import project_argument
from edgedistill.cli.project_argument import complete_commands, remember_project, typed
from edgedistill.errors import ProjectFileError
from edgedistill.project import read_project
from edgedistill.project.template import write_template

HINT = "Run `edgedistill gate PROJECT`, or `edgedistill cache import PROJECT FILE.jsonl`; PROJECT stays here."


def test_a_hint_names_the_project_as_it_was_typed_quoted_for_the_shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my lesson"
    write_template(tmp_path / "lesson")
    (tmp_path / "lesson").rename(folder)
    remember_project(folder.relative_to(tmp_path))
    assert complete_commands(HINT) == (
        "Run `edgedistill gate 'my lesson'`, or `edgedistill cache import 'my lesson' FILE.jsonl`; PROJECT stays here."
    )
    remember_project(None)
    assert complete_commands(HINT) == HINT


def test_a_folder_stands_for_its_project_file(tmp_path):
    write_template(tmp_path / "praise")
    assert read_project(tmp_path / "praise").path == (tmp_path / "praise" / "project.yaml").resolve()
    (tmp_path / "praise" / "project.yaml").rename(tmp_path / "praise" / "mine.yml")
    assert read_project(tmp_path / "praise").path.name == "mine.yml"


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ((), "the folder has no project file. `edgedistill init NAME` writes a new project."),
        (("a.yaml", "b.yml"), "the folder has several YAML files, none of them project.yaml: a.yaml, b.yml"),
    ],
)
def test_a_folder_without_one_project_file_says_so(tmp_path, files, fault):
    for name in files:
        (tmp_path / name).write_text("name: a\n")
    with pytest.raises(ProjectFileError, match=fault):
        read_project(tmp_path)


def test_an_argument_is_quoted_for_the_shell_of_the_system(monkeypatch):
    assert typed("response=2. Explain why") == "'response=2. Explain why'"
    monkeypatch.setattr(project_argument, "os", SimpleNamespace(name="nt"))
    assert typed("response=2. Explain why") == '"response=2. Explain why"'
