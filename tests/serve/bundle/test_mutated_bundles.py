"""Every damaged bundle is refused with our own error: a hundred of the thousand mutants of the benchmark."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "mutated_bundles.py"


def test_no_mutant_crashes_and_no_changed_file_is_loaded(bundle):
    command = [sys.executable, str(BENCHMARK), str(bundle.folder), "--count", "100", "--seed", "7", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    message = json.loads(ended.stdout)
    assert message["examples"] == []
    assert (message["mutants"], message["crashes"], message["accepted_though_covered"]) == (100, 0, 0)
    assert ended.returncode == 0
    assert message["outcomes"]["loaded: BundleDamaged"] > 30
