"""Puts what the browser page needs from npm into the package, before a wheel is built or by `python hatch_build.py`.

`package-lock.json` pins every npm package by its hash; npm checks it. Nothing fetched is kept in version control.
"""

import json
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
VENDOR = Path("src/edgedistill_export/web/vendor")
INDEX = "index.json"
TAKEN = {
    "onnxruntime-web": (
        "dist/ort.wasm.min.mjs",
        "dist/ort-wasm-simd-threaded.mjs",
        "dist/ort-wasm-simd-threaded.wasm",
    ),
    "@huggingface/tokenizers": ("dist/tokenizers.min.mjs", "LICENSE"),
}
"""By npm package, the files that the page loads, and licences; `web/vendored.py` adds onnxruntime's."""


def vendor(root: Path = ROOT) -> None:
    """Install the pinned packages with npm and copy what is needed.

    Raises:
        SystemExit: npm is missing, or could not install them.
    """
    npm = shutil.which("npm")
    if npm is None:
        sys.exit(
            "The browser page needs files from npm packages: install Node 20 or newer with npm, then run this again."
        )
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=root, check=False)  # noqa: S603  # a fixed command
    if done.returncode:
        sys.exit(f"npm could not install what the browser page needs (exit code {done.returncode}).")
    target = root / VENDOR
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    index: dict[str, Any] = {"packages": {}, "files": {}}
    for package, files in TAKEN.items():
        source = root / "node_modules" / package
        described = json.loads((source / "package.json").read_text(encoding="utf-8"))
        index["packages"][package] = {"version": described["version"], "license": described["license"]}
        for file in files:
            name = f"{package.split('/')[-1]}-{file}" if file == "LICENSE" else Path(file).name
            shutil.copyfile(source / file, target / name)
            index["files"][name] = sha256((target / name).read_bytes()).hexdigest()
    # Written last: where it is, everything is.
    (target / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


class WebAssets(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's parameter says nothing to a custom hook
    """Fills the folder of npm files for a wheel; an editable install is left as it is."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling's signature
        """Fill the folder where it is not filled yet."""
        if version == "editable" or (Path(self.root) / VENDOR / INDEX).exists():
            return
        if shutil.which("npm"):
            vendor(Path(self.root))
        else:
            self.app.display_warning("npm is missing: this wheel cannot write browser pages (edgedistill export --web)")


if __name__ == "__main__":
    vendor()
