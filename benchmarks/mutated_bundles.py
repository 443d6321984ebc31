"""Break a bundle in many ways and count what is accepted, and what ends in anything but an error of ours.

    python benchmarks/mutated_bundles.py BUNDLE [--count 1000] [--seed 0] [--json]

Each mutant is loaded as a folder without and with the public key of its maker, and, where it is accepted, scored; each
packed mutant is unpacked. Two things must never happen: a *crash*, which is any exception that is not an
`EdgeDistillError` (or the end of this process), and a *covered* acceptance: a bundle that is read although a byte that
a checksum covers was changed. Without a key that is every listed file; with a key `bundle.json` too. The exit code is 1
where either happened.
"""

import argparse
import hashlib
import json
import logging
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle_mutations import FOLDER_MUTATIONS, MANIFEST, Mutation, change_packed

from edgedistill_serve import Bundle, EdgeDistillError, Scorer
from edgedistill_serve.bundle.archive import pack, unpack
from edgedistill_serve.bundle.signing import create_key_pair, sign_bundle


def main() -> int:
    """Run the mutants and print what became of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # a graph that falls back to fp32 says so
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        message = _run(Bundle.load(given.bundle), Path(place).resolve(), given.count, given.seed)
    message["seconds"] = round(time.perf_counter() - start, 1)
    print(json.dumps(message, indent=None if given.json else 2))
    return 1 if message["crashes"] or message["accepted_though_covered"] else 0


@dataclass
class Tally:
    """What became of the mutants.

    Attributes:
        outcomes: How many were refused with which error, accepted and scored, by the way they were read.
        crashes: Where something else than an error of ours was raised.
        covered: Where a bundle was read although a byte that a checksum covers was changed.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    covered: list[str] = field(default_factory=list)


def _run(bundle: Bundle, place: Path, count: int, seed: int) -> dict[str, Any]:
    signed = place / "signed"
    shutil.copytree(bundle.folder, signed)
    create_key_pair(place / "maker")
    sign_bundle(signed, place / "maker")
    pack(Bundle.load(signed), place / "packed.zip")
    before = {name: (signed / name).read_bytes() for name in (*bundle.manifest.files, MANIFEST)}
    tally = Tally()
    mutations = (*FOLDER_MUTATIONS, change_packed)
    for number in range(count):
        mutation = mutations[number % len(mutations)]
        scene = place / "scenes" / str(number)
        scene.mkdir(parents=True)
        ways = _mutant(place, scene, mutation, random.Random(f"{seed}/{number}"))  # noqa: S311  to be repeated
        for way, load in ways.items():
            _try(f"{mutation.__name__}, {number}, {way}", way, load, before, tally)
        shutil.rmtree(scene)
    return {
        "mutants": count,
        "crashes": len(tally.crashes),
        "accepted_though_covered": len(tally.covered),
        "outcomes": dict(sorted(tally.outcomes.items())),
        "examples": [*tally.crashes[:5], *tally.covered[:5]],
    }


def _mutant(place: Path, scene: Path, mutation: Mutation, draw: random.Random) -> dict[str, Callable[[], Bundle]]:
    """Make one mutant, and return the ways to read it."""
    key = place / "maker.pub"
    if mutation is change_packed:
        file = scene / "mutant.zip"
        shutil.copyfile(place / "packed.zip", file)
        mutation(file, draw)
        return {
            "unpacked": lambda: unpack(file, scene / "mutant"),
            "unpacked with a key": lambda: unpack(file, scene / "keyed", public_key=key),
        }
    folder = shutil.copytree(place / "signed", scene / "mutant")
    mutation(folder, draw)
    return {
        "loaded": lambda: Bundle.load(folder),
        "loaded with a key": lambda: Bundle.load(folder, public_key=key),
    }


def _try(name: str, way: str, load: Callable[[], Bundle], before: dict[str, bytes], tally: Tally) -> None:
    with_key = "key" in way
    try:
        loaded = load()
    except EdgeDistillError as error:
        tally.outcomes[f"{way}: {type(error).__name__}"] += 1
        return
    except Exception:  # noqa: BLE001  any is a crash, which is what is counted
        tally.crashes.append(f"{name}: {traceback.format_exc(limit=-2)}")
        return
    tally.outcomes[f"{way}: accepted"] += 1
    if _covered_change(loaded, before, with_key=with_key):
        tally.covered.append(name)
    if not with_key:
        _score(loaded, name, tally)


def _covered_change(loaded: Bundle, before: dict[str, bytes], *, with_key: bool) -> bool:
    """Whether a bundle that was accepted has other bytes than those that were signed, or than its checksums say."""
    for name, entry in loaded.manifest.files.items():
        content = (loaded.folder / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != entry.sha256 or (with_key and content != before.get(name)):
            return True
    return with_key and (loaded.folder / MANIFEST).read_bytes() != before[MANIFEST]


def _score(loaded: Bundle, name: str, tally: Tally) -> None:
    row = dict.fromkeys(loaded.task.inputs, "You worked hard on this, and tried again.")
    try:
        (score,) = Scorer(loaded, threads=1).score([row])
        possible = score.label in loaded.task.names and 0 <= score.probability <= 1
        tally.outcomes["scored"] += possible
        tally.crashes += [] if possible else [f"{name}: the score is {score.label}, {score.probability}"]
    except EdgeDistillError as error:
        tally.outcomes[f"scoring: {type(error).__name__}"] += 1
    except Exception:  # noqa: BLE001  any is a crash, which is what is counted
        tally.crashes.append(f"{name}, scored: {traceback.format_exc(limit=-2)}")


if __name__ == "__main__":
    sys.exit(main())
