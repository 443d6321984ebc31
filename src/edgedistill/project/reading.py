"""Reads project files: strict YAML 1.2; every error names the file, the key and the fix."""

import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, Tag, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from edgedistill.errors import ArgumentError, ProjectFileError
from edgedistill.project.schema import Project

M = TypeVar("M", bound=BaseModel)
_Details: TypeAlias = Mapping[str, Any]
"""One of pydantic's errors."""


class _Constructor(SafeConstructor):
    """Builds plain values from YAML 1.2; duplicate keys are errors."""

    def construct_document(self, node: Any) -> Any:
        _refuse_repeated_keys(node)
        _refuse_expansion(node)
        return super().construct_document(node)


# YAML 1.2's core schema has no dates: a label or a column named 2025-01-31 is text, and so is `=`.
for _tag in ("timestamp", "value"):
    _Constructor.add_constructor(f"tag:yaml.org,2002:{_tag}", SafeConstructor.construct_yaml_str)

_MAX_DEPTH = 50  # no section nests deeper than 6; beyond some hundreds Python itself gives up


def _refuse_repeated_keys(root: Node) -> None:
    # ruamel.yaml checks too, but names only the second line, and leaves out mappings that merge another by `<<`.
    open_nodes, seen = [root], {id(root)}
    while open_nodes:
        node = open_nodes.pop()
        children = _children(node)
        if isinstance(node, MappingNode):
            lines: dict[tuple[str | None, str], int] = {}
            for key in (key for key, _ in node.value if isinstance(key, ScalarNode)):
                if before := lines.get((key.tag, key.value)):
                    fault = f"the key {key.value!r} was already given on line {before}"
                    raise ConstructorError(None, None, fault, key.start_mark)
                lines[key.tag, key.value] = key.start_mark.line + 1
        open_nodes += [child for child in children if id(child) not in seen]
        seen.update(map(id, children))


_MAX_NODES = 100_000  # values of a file, those of an anchor counted wherever it is used
_MAX_DIGITS = 40


def _refuse_expansion(root: Node) -> None:
    """Refuse anchors that contain themselves, or that stand for more values than any file needs."""
    sizes: dict[int, int] = {}
    open_nodes: list[tuple[Node, bool]] = [(root, False)]
    inside: set[int] = set()
    while open_nodes:
        node, done = open_nodes.pop()
        children = _children(node)
        if done:
            inside.discard(id(node))
            sizes[id(node)] = size = 1 + sum(sizes[id(child)] for child in children)
            if size > _MAX_NODES:
                raise ConstructorError(None, None, f"it stands for more than {_MAX_NODES:,} values", node.start_mark)
        elif id(node) in inside:
            raise ConstructorError(None, None, "an anchor contains itself", node.start_mark)
        elif id(node) not in sizes:
            _refuse_long_number(node)
            inside.add(id(node))
            open_nodes.append((node, True))
            open_nodes += [(child, False) for child in children]


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _refuse_long_number(node: Node) -> None:
    number = isinstance(node, ScalarNode) and str(node.tag).endswith((":int", ":float"))
    if number and len(node.value) > _MAX_DIGITS:
        raise ConstructorError(None, None, f"a number has more than {_MAX_DIGITS} digits", node.start_mark)


PROJECT_FILE = "project.yaml"
"""The project file's name in a folder that `edgedistill init` writes."""
_SUFFIXES = (".yaml", ".yml")


def find_project_file(path: Path) -> Path:
    """Return a project file: the path itself, or in a folder ``project.yaml`` or the only YAML file.

    Raises:
        ProjectFileError: The folder has none, or several of other names.
    """
    if not path.is_dir():
        return path
    if (path / PROJECT_FILE).is_file():
        return path / PROJECT_FILE
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())
    if len(found) == 1:
        return found[0]
    names = ", ".join(file.name for file in found)
    what = (
        f"the folder has several YAML files, none of them {PROJECT_FILE}: {names}"
        if found
        else "the folder has no project file"
    )
    raise ProjectFileError(
        what,
        where=str(path),
        hint="Name the project file." if found else "`edgedistill init NAME` writes a new project.",
    )


def names_a_project(path: Path) -> bool:
    """Return whether a path is that of a YAML file, or of a folder with one."""
    if path.is_dir():
        return any(file.suffix.lower() in _SUFFIXES for file in path.iterdir())
    return path.suffix.lower() in _SUFFIXES


def read_project(path: Path) -> Project:
    """Read and check a project file.

    Args:
        path: The YAML file, or its folder. Relative paths in it start from that folder.

    Raises:
        ProjectFileError: The file does not exist or is not valid YAML, or a key is unknown, missing or invalid.
    """
    return read_checked(find_project_file(path), Project, "`edgedistill init NAME` writes a new one.")


def read_checked(path: Path, model: type[M], hint: str) -> M:
    """Read a YAML file and validate it; the model's field ``path`` is set to the file's path.

    Args:
        path: The file.
        model: The pydantic model that its keys must fit.
        hint: The hint of the error where the file does not exist.

    Raises:
        ProjectFileError: As `read_project`.
    """
    given = read_yaml(path, hint)
    if not isinstance(given, dict) or "path" in given:
        keys = ", ".join(name for name, field in model.model_fields.items() if field.is_required())
        raise ProjectFileError(f"is not a {model.__name__.lower()} file; required keys: {keys}", where=str(path))
    try:
        return model.model_validate({**given, "path": path.resolve()})
    except ValidationError as error:
        raise ProjectFileError(_message(error, model), where=str(path)) from None


def checked_section(model: type[M], given: Mapping[str, Any], where: str) -> M:
    """Validate settings given in Python as a section of the project file.

    Args:
        model: The section.
        given: Its keys and values.
        where: Its name in error messages.

    Raises:
        ArgumentError: A key is unknown, missing or invalid.
    """
    if not isinstance(given, Mapping):
        raise ArgumentError(f"a mapping of keys to values is needed, not {given!r}", where=where)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise ArgumentError(_message(error, model), where=where) from None


def read_yaml(path: Path, hint: str) -> Any:
    """Read a YAML 1.2 file.

    Numbers and booleans follow YAML 1.2: `010` is 10, `2e-5` is a number, and `yes`, `no`, `on` and dates are text.

    Raises:
        ProjectFileError: The file does not exist, is not UTF-8 or not valid YAML, or has a duplicate key.
    """
    yaml = YAML(typ="safe", pure=True)  # the C parser reads YAML 1.1
    yaml.Constructor = _Constructor
    yaml.max_depth = _MAX_DEPTH
    text = ""
    try:
        text = path.read_text("utf-8-sig")
        return yaml.load(text)
    except OSError as error:
        raise ProjectFileError(f"cannot be read ({error.strerror})", where=str(path), hint=hint) from None
    except UnicodeDecodeError as error:
        raise ProjectFileError(f"byte {error.start} is not UTF-8", where=str(path), hint="Save it as UTF-8.") from None
    except MaxDepthExceededError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ProjectFileError(f"is nested more than {_MAX_DEPTH} levels deep", where=f"{path}{line}") from None
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ProjectFileError(f"{error.problem}", where=f"{path}{line}") from None
    except ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        fault = f"the character U+{error.character:04X} is not allowed in YAML"
        raise ProjectFileError(fault, where=f"{path}, line {number}") from None
    except (YAMLError, ValueError) as error:
        raise ProjectFileError(f"is not valid YAML: {error}", where=str(path)) from None


def _message(error: ValidationError, model: type[BaseModel]) -> str:
    """All of pydantic's errors in one line; the branches of a union become one message."""
    details = error.errors(include_url=False)
    places = [_keys(detail) for detail in details]
    messages: dict[str, list[_Details]] = {}
    for keys, detail in zip(places, details, strict=True):
        # A list that is too short only because one of its items is invalid needs no message of its own.
        if detail["type"] == "too_short" and any(other[: len(keys)] == keys and other != keys for other in places):
            continue
        messages.setdefault(".".join(keys), []).append(detail)
    return "; ".join(_message_for(place, alternatives, model) for place, alternatives in messages.items())


def _keys(detail: _Details) -> list[str]:
    # The location includes the union's branch (`constrained-int`, `literal['all']`), which is not a key of the file.
    return [str(part) for part in detail["loc"] if re.fullmatch(r"\w+", str(part)) and part != "int"]


def _message_for(place: str, alternatives: list[_Details], model: type[BaseModel]) -> str:
    detail = alternatives[0]
    match detail["type"]:
        case "extra_forbidden":
            last = place.rpartition(".")[2]
            known = list(_fields(model, detail["loc"][:-1]))
            near = difflib.get_close_matches(last, known, n=1, cutoff=0.5)
            return f"unknown key {place}" + (
                f"; did you mean {near[0]}?" if near else f"; keys here: {', '.join(known)}"
            )
        case "missing":
            return f"the key {place} is missing"
        case "invalid_key":
            return f"the key {_short(detail['input'])} is not text"
        case "string_type" if isinstance(detail["input"], bool):
            return f"{place} is the value {str(detail['input']).lower()} and not text; put it in quotes"
        case "string_type" if isinstance(detail["input"], int | float):
            return f"{place} is the number {detail['input']!r}; put it in quotes"
        case "value_error":
            return f"{place}: {detail['ctx']['error']}".removeprefix(": ")
        case _:
            texts = [_PLAIN.get(each["type"], each["msg"].removeprefix("Input ")) for each in alternatives]
            return f"{place} {' or '.join(texts)}, not {_short(detail['input'])}"


_PLAIN = {
    "tuple_type": "should be a list",
    "model_type": "should be a mapping of keys to values",
    "model_attributes_type": "should be a mapping of keys to values",
    "string_pattern_mismatch": "has a character that is not allowed there",
    "too_short": "has too few items",
}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _fields(model: type[BaseModel], location: tuple[int | str, ...]) -> Iterator[str]:
    """The keys of the section at this place of the file; pydantic's location has the tags of unions, too."""
    found = [(model, frozenset[str]())]
    for part in location:
        field = found[0][0].model_fields.get(str(part))
        found = list(_models(field.annotation)) if field else [each for each in found if part in each[1]] or found
    return (name for name, field in found[0][0].model_fields.items() if not field.exclude)


def _models(annotation: Any, tags: frozenset[str] = frozenset()) -> Iterator[tuple[type[BaseModel], frozenset[str]]]:
    """The section types inside an annotation, such as `X | None` or `tuple[X, ...]`, and the tags of unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, tags
    elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation):
        parts = typing.get_args(annotation)
        tags |= {part.tag for part in parts if isinstance(part, Tag)}
        for part in parts:
            yield from _models(part, tags)
