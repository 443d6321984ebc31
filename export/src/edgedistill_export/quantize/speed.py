"""Measure how many responses graphs score per second of processor time."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from edgedistill_serve.scoring.batching import token_batches
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.session import Session

ROUNDS = 3
TIMED_ROWS = 64


@dataclass(slots=True)
class Speed:
    """Responses per second by number of callers, as on an otherwise idle machine.

    Attributes:
        alone: Each response scored alone.
        batched: In batches of similar length.
    """

    alone: dict[int, float] = field(default_factory=dict)
    batched: dict[int, float] = field(default_factory=dict)


def measure_speeds(
    sessions: Mapping[str, Session], rows: Sequence[Encoded], callers: Sequence[int] = (1, 2), rounds: int = ROUNDS
) -> dict[str, Speed]:
    """Time all graphs in several rounds; the fastest round of each counts, since other load only slows it down.

    Processor time is measured, so that waiting for other processes does not count: responses times callers, divided by
    the total processor seconds of all callers.

    Args:
        sessions: By name.
        rows: At most 64 of them are scored, evenly spaced.
        callers: Numbers of threads that score at the same time.
        rounds: Number of rounds, at least 1.
    """
    some = rows[:: -(-len(rows) // TIMED_ROWS)]
    alone = [[row] for row in some]
    batched = [[some[place] for place in batch] for batch in token_batches([len(row.ids) for row in some])]
    best = {name: Speed() for name in sessions}
    for _ in range(rounds):
        for count in callers:
            with ThreadPoolExecutor(count) as pool:
                for name, session in sessions.items():
                    for work, found in ((alone, best[name].alone), (batched, best[name].batched)):
                        speed = len(some) * count / _seconds(pool, session, work)
                        found[count] = max(speed, found.get(count, 0.0))
    return best


def _seconds(pool: ThreadPoolExecutor, session: Session, work: Sequence[Sequence[Encoded]]) -> float:
    start = time.process_time()
    list(pool.map(session.batch_logits, work))
    return max(time.process_time() - start, 1e-6)
