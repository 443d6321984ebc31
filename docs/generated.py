"""Hooks of mkdocs: pages that are generated when the site is built, and links that leave it.

A line `<!-- generated: NAME -->` in a page is replaced by what the function NAME returns. Nothing generated is stored.
"""

import ast
import importlib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from edgedistill.cli.commands import app as toolkit
from edgedistill.project.schema import Project
from edgedistill_serve.cli.main import app as scoring

ROOT = Path(__file__).parents[1]
_GENERATED = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./)+([^)#]+)(?:#[^)]*)?\)")
_PACKAGES = ("edgedistill", "edgedistill_serve", "edgedistill_serve.client", "edgedistill_export")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill generated parts, and write links to files of the repository outside the site as their paths."""
    text = _GENERATED.sub(lambda found: GENERATED[found[1]](), markdown)
    docs = ROOT / "docs"
    folder = (docs / page.file.src_uri).parent

    def outside(found: re.Match[str]) -> str:
        target = folder / found[0].rpartition("](")[2].rstrip(")").partition("#")[0]
        if target.resolve().is_relative_to(docs.resolve()):
            return found[0]
        if not target.exists():
            raise ValueError(f"{page.file.src_uri}: there is no {target}")
        path = f"`{target.resolve().relative_to(ROOT.resolve()).as_posix()}`"
        label = found[1].strip("`")
        return path if label in path else f"{found[1]} ({path})"

    return _OUTSIDE.sub(outside, text)


def commands() -> str:
    """Every command of both programs, from the programs themselves."""
    parts = []
    for name, command in (("edgedistill", typer.main.get_command(toolkit)), ("edgedistill-serve", scoring)):
        parts += _command(name, command, 2)
    return "\n\n".join(parts)


def _command(name: str, command: Any, level: int) -> Iterator[str]:
    if command.hidden:
        return
    yield f"{'#' * level} {name}"
    context = command.context_class(command, info_name=name)
    yield _paragraphs(command.help or "")
    yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```"
    rows = [row for parameter in command.params if (row := _parameter(parameter, context))]
    if rows:
        yield "| | |\n|---|---|\n" + "\n".join(rows)
    if hasattr(command, "list_commands"):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is not None:
                yield from _command(f"{name} {inner}", found, min(level + 1, 4))


def _paragraphs(text: str) -> str:
    return "\n\n".join(
        _escape(" ".join(each.split())) for each in inspect.cleandoc(text.replace("\b", "")).split("\n\n")
    )


def _parameter(parameter: Any, context: Any) -> str | None:
    """A row of a table: an option with its values, and what `--help` says of it."""
    record = parameter.get_help_record(context)
    if record is None or parameter.name == "help":
        return None
    names, text = record
    shown = names.strip().replace("|", "\\|")
    return f"| `{shown}` | {_cell(text)} |"


def _cell(text: str) -> str:
    return _escape(" ".join(text.split())).replace("|", "\\|")


def _escape(text: str) -> str:
    """Escape what Markdown would read, outside of code."""
    parts = text.replace("``", "`").split("`")
    parts[::2] = [each.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_") for each in parts[::2]]
    return "`".join(parts)


def project_file() -> str:
    """Every key of a project file, from the sections themselves."""
    return "\n\n".join(_section("Top level", Project, "", set()))


def _section(title: str, section: type[BaseModel], place: str, seen: set[type[BaseModel]]) -> Iterator[str]:
    seen.add(section)
    yield f"## {title}"
    if place:
        yield _paragraphs(section.__doc__ or "")
    documented = _attribute_docs(section)
    rows = ["| key | value | default | |", "|---|---|---|---|"]
    inner = []
    for name, field in section.model_fields.items():
        if field.exclude:
            continue
        rows.append(
            f"| `{name}` | {_cell(_type(field.annotation))} | {_default(field)} | {_cell(documented.get(name, ''))} |"
        )
        inner += [(f"{place}{name}", each) for each in _sections(field.annotation) if each not in seen]
    yield "\n".join(rows)
    for path, each in inner:
        if each not in seen:
            several = len({model for at, model in inner if at == path}) > 1
            yield from _section(f"{path}: {_called(each)}" if several else path, each, f"{path}.", seen)


def _called(section: type[BaseModel]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", " ", section.__name__.removesuffix("Section")).lower()


def _attribute_docs(section: type[BaseModel]) -> Mapping[str, str]:
    """The docstrings below a section's keys, also those of the classes it inherits from."""
    found: dict[str, str] = {}
    for each in reversed([base for base in section.__mro__ if issubclass(base, BaseModel) and base is not BaseModel]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for before, after in pairwise(statements):
            is_key = isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)
            if is_key and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                found[before.target.id] = str(after.value.value)
    return found


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _sections(part)


def _type(annotation: Any) -> str:
    """An annotation as a reader of YAML would say it."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(parts[0])
    if origin is typing.Literal:
        return ", ".join(f"`{each}`" if isinstance(each, str) else f"`{str(each).lower()}`" for each in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(each) for each in parts))
    if origin in (tuple, list):
        return f"list of {_type(parts[0])}" if parts else "list"
    if origin is not None and issubclass(origin, Mapping):
        return f"mapping of {_type(parts[0])} to {_type(parts[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


_NAMES = {
    type(None): "`null`",
    str: "text",
    int: "integer",
    float: "number",
    bool: "`true` or `false`",
    Path: "file or folder",
}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value in (None, ()) or isinstance(value, BaseModel):
        return "" if value is not None else "`null`"
    shown = str(value).lower() if isinstance(value, bool) else str(value) or '""'
    return f"`[{', '.join(map(str, value))}]`" if isinstance(value, tuple) else f"`{shown}`"


def python_api() -> str:
    """Every public name of the three packages, with its docstring."""
    parts = []
    for name in _PACKAGES:
        module = importlib.import_module(name)
        parts.append(f"## {name}")
        seen: set[int] = set()
        for each in sorted(module.__all__, key=str.lower):
            value = getattr(module, each)
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, types.ModuleType):  # `edgedistill.agreement`, a package that is called like a function
                parts.append(f"::: {value.__name__}.agreement.agreement")
            elif hasattr(value, "__qualname__"):
                parts.append(f"::: {value.__module__}.{value.__qualname__}")
            else:  # an alias of a type
                parts.append(f"::: {name}.{each}")
    return "\n\n".join(dict.fromkeys(parts))


def decisions() -> str:
    """The list of decisions, by number."""
    rows = []
    for file in sorted((ROOT / "docs" / "decisions").glob("0*.md")):
        title = file.read_text("utf-8").splitlines()[0].removeprefix("# ")
        rows.append(f"- [{title}]({file.name})")
    return "\n".join(rows)


_FILES_OF = {"grade_kills_nano": "grade_file", "grade_memory_nano": "grade_file"}
"""Result files that are not named after the script."""


def results() -> str:
    """Which command wrote each result file, and which pages show it."""
    scripts = {file: file.read_text("utf-8") for file in sorted((ROOT / "benchmarks").glob("**/*.py"))}
    docs = ROOT / "docs"
    pages = {
        file: file.read_text("utf-8") for file in (*sorted(docs.glob("*.md")), *sorted(docs.glob("decisions/0*.md")))
    }
    rows = ["| result file | written by | shown on |", "|---|---|---|"]
    for result in sorted((ROOT / "docs" / "results").glob("*.json")):
        stem = _FILES_OF.get(result.stem, result.stem.replace("-", "_"))
        named = [file for file in scripts if stem.startswith(file.stem)]
        by = (
            [max(named, key=lambda file: len(file.stem))]
            if named
            else [file for file, text in scripts.items() if result.name in text]
        )
        shown = [
            f"[{_page_name(file)}]({file.relative_to(docs).as_posix()})"
            for file, text in pages.items()
            if result.name in text
        ]
        names = ", ".join(f"`{file.relative_to(ROOT).as_posix()}`" for file in by)
        rows.append(f"| [{result.name}](results/{result.name}) | {names} | {', '.join(shown)} |")
    return "\n".join(rows)


def _page_name(file: Path) -> str:
    return f"decision {int(file.stem[:4])}" if file.parent.name == "decisions" else file.stem


def changelog() -> str:
    """The file CHANGELOG.md at the root of the repository, without its heading."""
    return (ROOT / "CHANGELOG.md").read_text("utf-8").partition("\n")[2]


def examples() -> str:
    """The table of `examples/README.md`."""
    text = (ROOT / "examples" / "README.md").read_text("utf-8").partition("\n")[2]
    return re.sub(r"\]\((?=[a-z])", "](../examples/", text)


GENERATED: Mapping[str, Callable[[], str]] = {
    each.__name__: each for each in (commands, project_file, python_api, decisions, results, changelog, examples)
}
