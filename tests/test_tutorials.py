"""Every code block of the quickstarts and tutorials runs, in order, page by page, as a reader would type it.

A comment above a block says what a reader does besides:

    <!-- data: NAME FOLDER -->       the reader's own files, which `DATA` makes here
    <!-- file: PATH -->              the reader saves the block as this file
    <!-- starts with: PAGE -->       the reader has followed that page before
    <!-- not run: REASON -->         the one exception

What is replaced for speed: the backbone by a tiny one, the number of epochs, most of the example's uncoded rows,
and the address of the teacher by that of a stand-in on this machine.

On the other pages, the programs themselves parse every command, every name that Python blocks import is there, and the
sections of YAML blocks are valid.
"""

import ast
import contextlib
import csv
import importlib
import json
import random
import re
import shlex
import shutil
import socket
import subprocess
import typing
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel
from ruamel.yaml import YAML

import edgedistill
from edgedistill.classifier import StudentClassifier
from edgedistill.cli.commands import app as toolkit
from edgedistill.project.schema import Project
from edgedistill_serve.cli.main import app as scoring

from .e2e.lessons import judge, responses
from .edgedistill.student.conftest import FILLERS
from .edgedistill.student.test_cut_backbone import write_word_pieces
from .edgedistill.teacher.stand_in import StandIn, coded
from .processes import PROGRAMS, Process, run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TUTORIALS = [
    "quickstart.md",
    "quickstart-python.md",
    *sorted(f"tutorials/{each.name}" for each in DOCS.glob("tutorials/*.md")),
]
MARK = re.compile(r"<!-- (not run|data|file|starts with): (.*?) -->")
RUN_BY_BASH = {"cp", "curl", "mkdir", "ls", "cat"}


@dataclass(frozen=True)
class Step:
    """A block of a page, or a comment that stands alone.

    Attributes:
        line: Its line on the page.
        marks: The comments above it.
        language: Of the block; empty for a comment that stands alone.
        code: The block.
    """

    line: int
    marks: dict[str, str]
    language: str = ""
    code: str = ""


def steps_of(page: str):
    """The blocks and comments of a page; a block without a language, or an unknown mark, is an error."""
    lines = (DOCS / page).read_text("utf-8").splitlines()
    marks, place = {}, 0
    while place < len(lines):
        line = lines[place]
        if found := MARK.fullmatch(line.strip()):
            marks[found[1]] = found[2]
        elif line.startswith("```"):
            end = next(n for n in range(place + 1, len(lines)) if lines[n] == "```")
            assert line[3:], f"{page}, line {place + 1}: the block has no language"
            yield Step(place + 1, marks, line[3:], "\n".join(lines[place + 1 : end]) + "\n")
            marks, place = {}, end
        elif line.strip() and marks:
            assert not {"file", "not run"} & marks.keys(), f"{page}, line {place + 1}: the comment has no block"
            yield Step(place, marks)
            marks = {}
        place += 1
    if marks:
        yield Step(place, marks)


def words(count, seed):
    return " ".join(random.Random(seed).choices(FILLERS, k=count))


def write(file, header, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def praise(folder):
    write(folder / "human.csv", ["id", "response", "label"], responses(0, 200))
    write(folder / "responses.csv", ["id", "response"], [row[:2] for row in responses(200, 20)])


def existing(folder):
    praise(folder)
    write(folder / "gpt4.csv", ["id", "label"], [(ident, label) for ident, _, label in responses(0, 220)])


def ordinal(folder):
    signs = ("page", "battery", "tried", "smart")
    rows = [
        (
            f"r{n}",
            f"What is {n % 3}?",
            f"{words(9, n)} {signs[n % 4]} {words(4, -n - 1)}",
            n % 4,
            n % 4 if n % 7 else (n + 1) % 4,
        )
        for n in range(120)
    ]
    write(folder / "human.csv", ["id", "question", "response", "label", "coder_2"], rows)


def multilabel(folder):
    signs = {"cause": "tried", "effect": "smart", "example": "page"}
    rows = []
    for n in range(120):
        labels = [label for place, label in enumerate(signs) if n >> place & 1]
        rows.append((f"r{n}", f"{words(10, n)} {' '.join(signs[each] for each in labels)}", ";".join(labels) or "none"))
    write(folder / "human.csv", ["id", "response", "label"], rows)


def questions(folder):
    rows = [
        (
            f"r{n}",
            f"q{n % 12}",
            f"Why {FILLERS[n % 12]} {n % 12}?",
            f"because {FILLERS[n % 12]}",
            f"{words(9, n)} {'tried' if n % 2 else 'page'} {n}",
            "correct" if n % 2 else "incorrect",
        )
        for n in range(144)
    ]
    write(folder / "human.csv", ["id", "item", "question", "reference_answer", "response", "label"], rows)


def spanish(folder):
    rows = [
        (
            f"r{n}",
            f"{'lo intentaste otra vez' if n % 2 else 'eres muy lista'} {words(8, n)}",
            "proceso" if n % 2 else "resultado",
        )
        for n in range(100)
    ]
    write(folder / "human.csv", ["id", "response", "label"], rows)


def sheet_is_coded(folder):
    """People fill the code of every row of the sheet."""
    with (folder / "to-code.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    labels = ("process", "outcome", "no_praise")
    coded_rows = [{**row, "human_code": labels[n % 3]} for n, row in enumerate(rows)]
    write(folder / "to-code.csv", list(rows[0]), [list(row.values()) for row in coded_rows])


def term(folder):
    """Two schools' responses, like those that the student has seen."""
    with (ROOT / "examples" / "praise" / "responses.csv").open(encoding="utf-8", newline="") as stream:
        rows = [(row["id"], row["response"]) for row in csv.DictReader(stream)]
    for place, school in enumerate(("north", "south")):
        write(folder / f"{school}.csv", ["id", "response"], rows[place:80:2])


DATA = {
    "praise": praise,
    "existing": existing,
    "ordinal": ordinal,
    "multilabel": multilabel,
    "questions": questions,
    "spanish": spanish,
    "coded": sheet_is_coded,
    "term": term,
}


def teach(body, before):
    """The stand-in codes the lesson as people do, and knows the third label of the example."""
    labels = json.dumps(body.get("response_format") or {})
    return (
        judge(body, before)
        if "no_praise" not in labels or random.Random(str(body)).random() < 0.6
        else coded("no_praise")
    )


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    return write_word_pieces(tmp_path_factory.mktemp("pieces"))


class Reader:
    """Follows a page in a folder.

    Args:
        folder: Where the reader works; it has the folder `examples` of the repository.
        backbone: The tiny backbone.
        teacher: The address of the stand-in.
    """

    def __init__(self, folder: Path, backbone: Path, teacher: str) -> None:
        self.folder, self._backbone, self._teacher = folder, backbone, teacher
        self._names: dict[str, object] = {}
        self._server: Process | None = None
        self._port = 0
        shutil.copytree(
            ROOT / "examples" / "praise",
            folder / "examples" / "praise",
            ignore=shutil.ignore_patterns("runs", "teacher-cache"),
        )
        responses_file = folder / "examples" / "praise" / "responses.csv"
        first = responses_file.read_text("utf-8").splitlines(keepends=True)[:81]
        responses_file.write_text("".join(first), "utf-8")

    def follow(self, page: str) -> None:
        """Do every step of a page."""
        for step in steps_of(page):
            where = f"docs/{page}, line {step.line}"
            if "data" in step.marks:
                name, folder = step.marks["data"].split()
                DATA[name](self.folder / folder)
            if "file" in step.marks:
                file = self.folder / step.marks["file"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(step.code, "utf-8")
            elif "not run" in step.marks or step.language in ("", "html", "text"):
                continue
            elif step.language == "python":
                exec(compile(self._in_this_test(step.code), where, "exec"), self._names)
            else:
                assert step.language == "sh", where
                for line in step.code.replace("\\\n", " ").splitlines():
                    self._type(line, where)

    def _in_this_test(self, code: str) -> str:
        here = f'ed.Teacher("gpt-4o", base_url="{self._teacher}", api_key_env="OPENAI_API_KEY", '
        return code.replace('ed.Teacher("gpt-4o", ', here).replace(".head(100)", ".head(20)")

    def _type(self, line: str, where: str) -> None:
        command = shlex.split(line, comments=True)
        self._shorten()
        if command[:2] == ["edgedistill-serve", "serve"]:
            self._port = free_port()
            self._server = Process(
                PROGRAMS / command[0], *command[1:], "--port", self._port, cwd=self.folder, like=command[0]
            )
            assert "listening" in self._server.stdout.readline(), "".join(self._server.communicate())
            return
        if command[0] in ("edgedistill", "edgedistill-serve"):
            command, appended = (command[:-2], command[-1]) if command[-2] == ">>" else (command, None)
            done = run(*command, cwd=self.folder)
            if appended:
                with (self.folder / appended).open("a", encoding="utf-8") as file:
                    file.write(done.stdout)
        else:
            assert command[0] in RUN_BY_BASH, f"{where}: {line}"
            here = line.replace("127.0.0.1:8000", f"127.0.0.1:{self._port}").replace(
                "curl -s", "curl -sf --retry 50 --retry-all-errors --retry-delay 0"
            )
            done = subprocess.run(["bash", "-c", here], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{where}: {line}\n{done.stdout[-2000:]}{done.stderr}"

    def _shorten(self) -> None:
        """Use the tiny backbone, few epochs and the stand-in in every project."""
        for file in self.folder.glob("*/project.yaml"):
            yaml = YAML()
            project = yaml.load(file)
            student = project.setdefault("student", {})
            teacher = project.get("teacher") or {}
            if student.get("backbone") == str(self._backbone):
                continue
            student.pop("preset", None)
            student.update(backbone=str(self._backbone), max_tokens=48)
            student["search"] = {"learning_rate": [5e-3], "batch_size": [16], "epochs": [2]}
            if "model" in teacher and "labels" not in teacher and teacher["model"] != "recorded":
                teacher["base_url"] = self._teacher
            yaml.dump(project, file)

    def close(self) -> None:
        """End the server, if one was started."""
        if self._server is not None:
            self._server.kill()
            self._server.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def stand_in():
    with StandIn(teach) as teacher:
        yield teacher


@pytest.fixture(scope="session")
def finished(tmp_path_factory, backbone, stand_in):
    """Folders of pages that others start with, followed once."""
    folders = {}

    def follow(page):
        if page not in folders:
            folder = tmp_path_factory.mktemp("finished")
            with contextlib.closing(Reader(folder, backbone, stand_in.base_url)) as reader:
                reader.follow(page)
            folders[page] = folder
        return folders[page]

    return follow


@pytest.mark.parametrize("page", TUTORIALS)
def test_every_block_of_the_page_runs(page, finished, backbone, stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    monkeypatch.setitem(StudentClassifier.__init__.__kwdefaults__, "backbone", str(backbone))
    monkeypatch.setitem(StudentClassifier.__init__.__kwdefaults__, "epochs", 1)
    before = next((step.marks["starts with"] for step in steps_of(page) if "starts with" in step.marks), None)
    if page == "quickstart.md":
        finished(page)  # the page is followed once, here or before
        return
    if before:
        shutil.copytree(finished(before), tmp_path, dirs_exist_ok=True)
        shutil.rmtree(tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    with contextlib.closing(Reader(tmp_path, backbone, stand_in.base_url)) as reader:
        reader.follow(page)


OTHERS = sorted(
    page
    for page in (file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.md"))
    if page not in TUTORIALS and not page.startswith("decisions/")
) + [f"../examples/{each.parent.name}/README.md" for each in sorted(DOCS.glob("../examples/*/README.md"))]
PROGRAM_LINE = re.compile(r"^(?:    )?(edgedistill(?:-serve)? .*)$")


def commands_of(page):
    """The lines of a page's blocks, fenced or indented, that call one of the programs, each with its number."""
    text = (DOCS / page).read_text("utf-8").replace("\\\n", "  ")
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            inside = not inside
        elif (inside or line.startswith("    ")) and (found := PROGRAM_LINE.match(line)):
            yield number, found[1]


@pytest.mark.parametrize("page", [page for page in OTHERS if [*commands_of(page)]])
def test_every_command_of_the_page_is_one_that_the_programs_know(page):
    faults = []
    for number, line in commands_of(page):
        words = [word.strip("[]\N{HORIZONTAL ELLIPSIS}") for word in shlex.split(line, comments=True)]
        program, *arguments = [word.split("|")[0] for word in words if word]
        fault = parse(PARSERS[program], [each for each in arguments if each not in (">", "||", "&&")])
        if fault:
            faults.append(f"{page}, line {number}: {line}: {fault}")
    assert faults == []


PARSERS = {"edgedistill": typer.main.get_command(toolkit), "edgedistill-serve": scoring}


def parse(command, arguments):
    """Follow the names of commands, then look for each option; the fault, or nothing."""
    context = command.context_class(command, info_name=command.name or "")
    while hasattr(command, "list_commands"):
        if not arguments or arguments[0].startswith("-"):
            return "" if not arguments or arguments[0] in ("--version", "--help") else f"no command in {arguments}"
        found = command.get_command(context, arguments[0])
        if found is None:
            return f"there is no command {arguments[0]}"
        command, arguments = found, arguments[1:]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}
    unknown = [each for each in arguments if each.startswith("--") and each.partition("=")[0] not in known]
    return f"there is no option {', '.join(unknown)}" if unknown else ""


def fenced(page, language):
    text = (DOCS / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in OTHERS if fenced(page, "python")])
def test_python_blocks_of_the_page_import_what_is_there(page):
    for block in fenced(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("edgedistill"):
                module = importlib.import_module(node.module)
                assert [each.name for each in node.names if not hasattr(module, each.name)] == []
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ed":
                assert hasattr(edgedistill, node.attr), node.attr


@pytest.mark.parametrize("page", [page for page in OTHERS if fenced(page, "yaml")])
def test_yaml_blocks_of_the_page_have_keys_that_the_project_file_knows(page):
    for block in fenced(page, "yaml"):
        content = YAML(typ="safe").load(block)
        assert isinstance(content, dict), block
        if page != "studies.md":  # a study's file has keys of its own
            assert set(content) <= set(Project.model_fields), block
            for name, value in content.items():
                validate_keys(Project.model_fields[name].annotation, value, name)


def validate_keys(annotation, value, place):
    """Every key of a section is one of its fields, at any depth."""
    for part in (annotation, *typing.get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            break
    else:
        return
    if isinstance(value, dict):
        unknown = set(value) - set(part.model_fields) - set(part.old_keys)
        assert unknown == set(), f"{place}: {unknown}"
        for name, inner in value.items():
            if name in part.model_fields:
                validate_keys(part.model_fields[name].annotation, inner, f"{place}.{name}")
