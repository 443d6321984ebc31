"""Reading a project file: YAML, strictly, every error with its key and its fix."""

import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from edgedistill.errors import ArgumentError, ProjectFileError
from edgedistill.project.schema import Project

M = TypeVar("M", bound=BaseModel)


class _Constructor(SafeConstructor):
    """Builds plain values from YAML 1.2; a key that is given twice in one mapping is an error."""

    def construct_document(self, node: Any) -> Any:
        _refuse_repeated_keys(node)
        return super().construct_document(node)


# YAML 1.2's core schema has no dates: a label, a column or a name such as 2025-01-31 stays text, and so does `=`.
for _tag in ("timestamp", "value"):
    _Constructor.add_constructor(f"tag:yaml.org,2002:{_tag}", SafeConstructor.construct_yaml_str)

_MAX_DEPTH = 50  # no section nests deeper than 6; beyond some hundreds Python itself gives up


def _refuse_repeated_keys(root: Node) -> None:
    # ruamel.yaml checks too, but names only the second line, and leaves out mappings that merge another by `<<`.
    open_nodes, seen = [root], {id(root)}
    while open_nodes:
        node = open_nodes.pop()
        children = node.value if isinstance(node, SequenceNode) else []
        if isinstance(node, MappingNode):
            lines: dict[tuple[str | None, str], int] = {}
            for key in (key for key, _ in node.value if isinstance(key, ScalarNode)):
                if before := lines.get((key.tag, key.value)):
                    fault = f"the key {key.value!r} was already given on line {before}"
                    raise ConstructorError(None, None, fault, key.start_mark)
                lines[key.tag, key.value] = key.start_mark.line + 1
            children = [child for pair in node.value for child in pair]
        open_nodes += [child for child in children if id(child) not in seen]
        seen.update(map(id, children))


def read_project(path: Path) -> Project:
    """Read and check a project file.

    Args:
        path: The YAML file. Relative paths in it start from its folder.

    Raises:
        ProjectFileError: There is no such file, it is no YAML, or a key is unknown, missing or impossible.
    """
    return read_checked(path, Project, "`edgedistill init NAME` writes a new one.")


def read_checked(path: Path, model: type[M], hint: str) -> M:
    """Read a YAML file whose keys are a model's; the model's own key `path` is filled in.

    Args:
        path: The file.
        model: What it holds.
        hint: What helps where there is no such file.

    Raises:
        ProjectFileError: As `read_project`.
    """
    given = read_yaml(path, hint)
    if not isinstance(given, dict) or "path" in given:
        keys = ", ".join(name for name, field in model.model_fields.items() if field.is_required())
        raise ProjectFileError(f"holds no {model.__name__.lower()}: its first keys are {keys}", where=str(path))
    try:
        return model.model_validate({**given, "path": path.resolve()})
    except ValidationError as error:
        raise ProjectFileError(_told(error, model), where=str(path)) from None


def checked_section(model: type[M], given: Mapping[str, Any], where: str) -> M:
    """Check settings that were given in Python as those of a project file's section are.

    Args:
        model: The section.
        given: Its keys and values.
        where: What a message calls it.

    Raises:
        ArgumentError: A key is unknown, missing or impossible.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise ArgumentError(_told(error, model), where=where) from None


def read_yaml(path: Path, hint: str) -> Any:
    """Read a YAML 1.2 file.

    Numbers and truth values are those of YAML 1.2: `010` is 10, `2e-5` a number, and `yes`, `no`, `on` and dates are
    text.

    Raises:
        ProjectFileError: No such file, not UTF-8, not YAML, or a key is given twice in one mapping.
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
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ProjectFileError(f"{error.problem}", where=f"{path}{line}") from None
    except ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        fault = f"the character U+{error.character:04X} is not allowed in YAML"
        raise ProjectFileError(fault, where=f"{path}, line {number}") from None
    except (YAMLError, ValueError) as error:
        raise ProjectFileError(f"is not valid YAML: {error}", where=str(path)) from None


def _told(error: ValidationError, model: type[BaseModel]) -> str:
    """Every complaint of pydantic as one plain line; the branches of a union become one complaint."""
    details = error.errors(include_url=False)
    places = [_keys(detail) for detail in details]
    complaints: dict[str, list[ErrorDetails]] = {}
    for keys, detail in zip(places, details, strict=True):
        # A list that is too short only because one of its items is wrong is no complaint of its own.
        if detail["type"] == "too_short" and any(other[: len(keys)] == keys and other != keys for other in places):
            continue
        complaints.setdefault(".".join(keys), []).append(detail)
    return "; ".join(_complaint(place, alternatives, model) for place, alternatives in complaints.items())


def _keys(detail: ErrorDetails) -> list[str]:
    # A union's branch (`constrained-int`, `literal['all']`) stands in the location but is no key of the file.
    return [str(part) for part in detail["loc"] if re.fullmatch(r"\w+", str(part)) and part != "int"]


def _complaint(place: str, alternatives: list[ErrorDetails], model: type[BaseModel]) -> str:
    detail = alternatives[0]
    match detail["type"]:
        case "extra_forbidden":
            *above, last = place.split(".")
            known = list(_fields(model, above))
            near = difflib.get_close_matches(last, known, n=1, cutoff=0.5)
            return f"unknown key {place}" + (
                f"; did you mean {near[0]}?" if near else f"; keys here: {', '.join(known)}"
            )
        case "missing":
            return f"the key {place} is missing"
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


def _fields(model: type[BaseModel], keys: list[str]) -> Iterator[str]:
    """The keys that a section of the file knows."""
    for key in keys:
        if not key.isdigit():
            model = next(_models(model.model_fields[key].annotation), model)
    return (name for name, field in model.model_fields.items() if not field.exclude)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The section types inside an annotation such as `TeacherSection | None` or `tuple[LabelSection, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation):
        for part in typing.get_args(annotation):
            yield from _models(part)
