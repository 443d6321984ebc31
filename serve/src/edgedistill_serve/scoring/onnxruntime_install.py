"""Import of onnxruntime: exactly one build must be installed, and its telemetry is off.

Since 1.29 the official builds for Linux and macOS send events about sessions and models to their vendor, and store an
id of the machine in the user's cache folder, unless `ORT_DISABLE_TELEMETRY` is set before onnxruntime is loaded.
"""

import os
from collections.abc import Collection
from importlib import metadata
from types import ModuleType

from edgedistill_serve.errors import RuntimeMissing

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

BUILDS = ("onnxruntime", "onnxruntime-gpu")
"""Two distributions that install the same package and overwrite each other."""


def installed_builds() -> tuple[str, ...]:
    """Return the installed `BUILDS`."""
    return tuple(build for build in BUILDS if _is_installed(build))


def check_builds(installed: Collection[str]) -> None:
    """Check that exactly one build is installed.

    Raises:
        RuntimeMissing: No build is installed, or both are. The hint is the command that fixes it.
    """
    if not installed:
        raise RuntimeMissing(
            "onnxruntime is not installed",
            hint='Install it: pip install "edgedistill-serve[cpu]" (or [gpu], never both).',
        )
    if len(installed) > 1:
        raise RuntimeMissing(
            f"{' and '.join(sorted(installed))} are both installed and overwrite each other",
            hint="Remove both and install one: pip uninstall -y onnxruntime onnxruntime-gpu && "
            'pip install "edgedistill-serve[cpu]".',
        )


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime.

    Raises:
        RuntimeMissing: No build or both builds are installed, or the import fails.
    """
    check_builds(installed_builds())
    try:
        import onnxruntime as runtime
    except ImportError as error:
        raise RuntimeMissing(
            f"onnxruntime is installed but cannot be imported ({error})",
            hint="Reinstall it: pip install --force-reinstall onnxruntime.",
        ) from None
    runtime.disable_telemetry_events()  # for Windows, and if onnxruntime was loaded before
    return runtime  # type: ignore[no-any-return]  # onnxruntime has no types


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
