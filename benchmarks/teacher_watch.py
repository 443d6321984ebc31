"""How often does teacher watch raise a false alarm, and after how many looks does it notice a change?

    python benchmarks/teacher_watch.py docs/results/teacher_watch.json

Simulates teachers with their own noise: each vote on a response is its usual label, or with the noise's probability
another label drawn by how often the labels occur. A canary set is drawn from 1,000 responses as `edgedistill teacher
watch` does, in proportion to the labels of the stored votes; for comparison, with as many of each label. A change
gives a share of the responses another usual label, before the first look or in the middle. Takes about two minutes.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np

from edgedistill.teacher.canaries import changed_p, level

RESPONSES, LOOKS = 1000, 52
SHARES = (0.65, 0.3, 0.05)
RATE = 0.05


def votes(usual: np.ndarray, noise: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return (responses, count) votes."""
    others = rng.choice(len(SHARES), p=SHARES, size=(len(usual), count))
    return np.where(rng.random((len(usual), count)) < noise, others, usual[:, None])


def draw(stored: np.ndarray, rows: int, rng: np.random.Generator, *, equal: bool) -> np.ndarray:
    """Return the places of the canaries."""
    label = np.array([np.bincount(each, minlength=len(SHARES)).argmax() for each in stored])
    order = rng.permutation(len(stored))
    if equal:
        turns = [order[label[order] == each] for each in range(len(SHARES))]
        dealt = [places[turn] for turn in range(len(stored)) for places in turns if turn < len(places)]
        return np.array(dealt[:rows])
    ordered = order[np.argsort(label[order], kind="stable")]
    step = len(stored) / rows
    return ordered[(rng.random() * step + step * np.arange(rows)).astype(int)]


def first_alarm(
    rng: np.random.Generator,
    *,
    rows: int,
    noise: float,
    before: int,
    now: int,
    changed: float = 0.0,
    at: int = 1,
    equal: bool = False,
    looks: int = LOOKS,
) -> int:
    """Return the look of the first alarm; 0 if there is none."""
    usual = rng.choice(len(SHARES), p=SHARES, size=RESPONSES)
    stored = votes(usual, noise, before, rng)
    places = draw(stored, rows, rng, equal=equal)
    other = np.where(rng.random(RESPONSES) < changed, (usual + 1) % len(SHARES), usual)
    old = stored[places].tolist()
    for look in range(1, looks + 1):
        fresh = votes((other if look >= at else usual)[places], noise, now, rng).tolist()
        if changed_p(old, fresh) <= level(RATE, look):
            return look
    return 0


def main() -> None:
    """Run the simulations and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=500)
    given = parser.parse_args()
    start, false_alarms, detected = time.monotonic(), [], []
    for equal in (False, True):
        for before, now in ((3, 3), (1, 2), (5, 5)):
            for noise in (0.02, 0.2, 0.5):
                rng = np.random.default_rng(1)
                alarms = sum(
                    first_alarm(rng, rows=50, noise=noise, before=before, now=now, equal=equal) > 0
                    for _ in range(given.runs)
                )
                line = {"drawn": "equal" if equal else "in proportion", "stored_votes": before, "new_votes": now}
                false_alarms.append(line | {"noise": noise, "share_with_an_alarm": round(alarms / given.runs, 4)})
                print(false_alarms[-1], flush=True)
    for changed in (0.05, 0.1, 0.2):
        for noise in (0.02, 0.2):
            for at in (1, 26):
                for before, now in ((3, 3), (1, 2)):
                    rng = np.random.default_rng(2)
                    found = [
                        first_alarm(rng, rows=50, noise=noise, before=before, now=now, changed=changed, at=at)
                        for _ in range(given.runs // 5)
                    ]
                    late = [look - at + 1 for look in found if look >= at]
                    detected.append(
                        {
                            "changed_responses": changed,
                            "noise": noise,
                            "changed_before_look": at,
                            "stored_votes": before,
                            "new_votes": now,
                            "at_the_first_look": round(sum(each == 1 for each in late) / len(found), 3),
                            "within_4_looks": round(sum(each <= 4 for each in late) / len(found), 3),
                        }
                    )
                    print(detected[-1], flush=True)
    result = {
        "what": "simulated teachers; 50 canaries of 1,000 responses, 52 looks, false-alarm rate 0.05 over all looks",
        "runs": given.runs,
        "runs_of_a_change": given.runs // 5,
        "label_shares": SHARES,
        "false_alarms": false_alarms,
        "detected": detected,
        "python": platform.python_version(),
        "seconds": round(time.monotonic() - start),
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
