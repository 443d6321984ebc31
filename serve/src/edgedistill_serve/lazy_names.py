"""Public names of a package that are imported on first use."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a ``__getattr__`` for a package, which imports each name from its module when it is first used.

    Args:
        package: The package's ``__name__``.
        modules: By public name, the module that defines it.

    Example:
        __getattr__ = lazy_names(__name__, {"Scorer": "edgedistill_serve.scoring.scorer"})
    """

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return load
