"""Sizes of a bundle's page as a folder, as one file and as a SCORM package, and the time until one file can score.

    python benchmarks/page_sizes.py BUNDLE... [--out docs/results/page_sizes.json]

The time is that of a real Chromium from opening the file to the form, the self-check included: the best of three. It
depends on the machine and on what else runs on it. Needs Chromium and its driver.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from edgedistill_export.web import write_scorm, write_single, write_web
from edgedistill_serve import Bundle

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "serve" / "server" / "page"))
from browser import Browser

READY = "!document.querySelector('main').hidden || document.getElementById('fault').textContent"
ROUNDS = 3


def measure(bundle: Bundle, folder: Path) -> dict[str, Any]:
    """Return the sizes in bytes, and the seconds until the page of one file can score."""
    single = write_single(bundle, folder / "page.html")
    seconds = []
    with closing(Browser(folder)) as browser:
        for _ in range(ROUNDS):
            browser.open("about:blank")
            started = time.monotonic()
            browser.open(single.file.as_uri())
            browser.until(READY)
            seconds.append(time.monotonic() - started)
            if fault := browser.text("#fault"):
                sys.exit(f"{bundle.manifest.name}: {fault}")
    return {
        "model": bundle.manifest.name,
        "precision": single.precision,
        "golden_responses": len(bundle.golden.rows),
        "folder_bytes": write_web(bundle, folder / "page").bytes,
        "single_bytes": single.bytes,
        "scorm_bytes": write_scorm(bundle, folder / "page.zip").bytes,
        "seconds_until_ready": round(min(seconds), 2),
    }


def main() -> None:
    """Measure each bundle and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", metavar="BUNDLE", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/page_sizes.json"))
    options = parser.parse_args()
    found = []
    for path in options.bundles:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(Bundle.load(path), Path(folder)))
            print(found[-1])
    options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
