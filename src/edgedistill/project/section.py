"""What a section of a project file is, and the types of values that several sections use."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

_log = logging.getLogger(__name__)

Count: TypeAlias = Annotated[int, Field(ge=1, le=10**9)]
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**32)]
"""NumPy takes no other seeds, and says so only when training begins."""
File: TypeAlias = Annotated[Path, Field(strict=False)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Rows: TypeAlias = Literal["all"] | Annotated[int, Field(ge=0, le=10**9)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Learning: TypeAlias = Annotated[float, Field(ge=1e-9, lt=1)]
"""A learning rate. A smaller one changes no weight in 32 bits: the student would silently learn nothing."""


class Section(BaseModel):
    """A section of the project file: frozen, with strict keys and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    old_keys: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier versions and their new names; they are still read, with a deprecation note."""

    @model_validator(mode="before")
    @classmethod
    def _rename_old_keys(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for old in cls.old_keys.keys() & values.keys():
            new = cls.old_keys[old]
            if new in values:
                raise ValueError(f"{old} is the old name of {new}; give only {new}")
            _log.warning("edgedistill: the key %s is deprecated; use %s", old, new)
            values = {new if key == old else key: value for key, value in values.items()}
        return values


def listed(value: object) -> object:
    """A single value as a tuple of one, for keys that take a value or a list."""
    return value if isinstance(value, list | tuple) else (value,)
